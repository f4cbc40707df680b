"""The way of a request: a WSGI callable in front of the Flask application, which answers all that is no file."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_to_bytes

from hub.errors import RegistryError
from hub.object_urls import is_object_root
from hub.registration import Registration
from kdr_wsgi.acceleration import Acceleration
from kdr_wsgi.answers import Answer, answer_error, answer_file, answer_missing_slash, answer_preflight, answer_redirect
from kdr_wsgi.archives import Archives
from kdr_wsgi.beneath import explain, split_entry
from kdr_wsgi.catalog import Catalog, Publication
from kdr_wsgi.contents import Contents
from kdr_wsgi.errors import (
    HubUnavailable,
    IndexUnavailable,
    InternalError,
    IsDirectory,
    ManifestUnavailable,
    MethodNotAllowed,
    NoSuchEntry,
    ObjectChanged,
    RegistryUnavailable,
    RelayError,
    StorageFailing,
    StoreFailing,
)
from kdr_wsgi.files import AnyFile
from kdr_wsgi.folders import Folder, FolderOnDisk, SortedFolder
from kdr_wsgi.listing import answer_listing
from kdr_wsgi.locations import location_finder
from kdr_wsgi.made import MadeFiles
from kdr_wsgi.objects.files import RedirectedObject
from kdr_wsgi.objects.folders import FolderOfObjects
from kdr_wsgi.objects.opening import Objects
from kdr_wsgi.representations import Representations, is_negotiated
from kdr_wsgi.settings import Settings
from kdr_wsgi.shortcuts import Shortcut, Shortcuts
from kdr_wsgi.store import FileStore
from kdr_wsgi.targets import Target, find_target
from kdr_wsgi.usage import UsageCounter
from kdr_wsgi.viewers import Viewers

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_log = logging.getLogger(__name__)

_METHODS = ("GET", "HEAD")


class FileRelay:
    """Answers requests for registered files, and passes the others on.

    Parameters
    ----------
    catalog : Catalog
    contents : Contents
    archives : Archives
    store : FileStore
    objects : Objects
    viewers : Viewers
    usage : UsageCounter
    settings : Settings
    other : WSGI application
        What answers the paths that name no registration.
    """

    def __init__(
        self,
        catalog: Catalog,
        contents: Contents,
        archives: Archives,
        store: FileStore,
        objects: Objects,
        viewers: Viewers,
        usage: UsageCounter,
        settings: Settings,
        other: WSGIApplication,
    ) -> None:
        self._catalog = catalog
        self._contents = contents
        self._archives = archives
        self._store = store
        self._objects = objects
        self._made = MadeFiles(store)
        self._representations = Representations(store)
        self._shortcuts = Shortcuts()
        self._viewers = viewers
        self._usage = usage
        self._find_location = location_finder(settings.proxies)
        self._hand_over = (
            Acceleration(settings.nginx_prefix, settings.proxies).hand_over if settings.nginx_prefix else None
        )
        self._route = f"/{settings.route}/"
        # As PATH_INFO has it (PEP 3333).
        self._mount = unquote_to_bytes(settings.base_url).decode("latin-1").rstrip("/")
        self._other = other

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        if self._mount and environ["PATH_INFO"].startswith(self._mount + "/"):
            environ["SCRIPT_NAME"] = environ.get("SCRIPT_NAME", "") + self._mount
            environ["PATH_INFO"] = environ["PATH_INFO"][len(self._mount) :]
        try:
            answer = self._answer_shortly(environ)
            if answer is None:
                target = find_target(environ, self._route)
                if target is None:
                    return self._other(environ, start_response)
                answer = self._answer(environ, target)
        except (HubUnavailable, IndexUnavailable, ManifestUnavailable, StorageFailing, StoreFailing) as error:
            _log.error("%s", error.reason)
            answer = answer_error(environ, error)
        except RelayError as error:
            answer = answer_error(environ, error)
        except RegistryError as error:
            _log.error("%s", error)
            answer = answer_error(environ, RegistryUnavailable())
        except OSError as error:
            answer = self._answer_failure(environ, explain(error))
        except Exception as error:  # noqa: BLE001  # The edge to the client: what nobody foresaw goes to the log, whole.
            answer = self._answer_failure(environ, error)
        start_response(answer.status, answer.headers)
        return answer.body

    def _answer_failure(self, environ: WSGIEnvironment, error: Exception) -> Answer:
        """Tell of what happened while a file was read, or of what nobody foresaw, which goes to the log, whole."""
        if isinstance(error, StorageFailing):
            _log.error("%s", error.reason)
        if isinstance(error, RelayError):
            return answer_error(environ, error)
        # A query may hold a token.
        place = str(environ.get("RAW_URI", environ["PATH_INFO"])).partition("?")[0]
        _log.error("failed on %s", place, exc_info=error)
        return answer_error(environ, InternalError())

    def _answer_shortly(self, environ: WSGIEnvironment) -> Answer | None:
        """Return the answer if the URL leads where it has led before, and what is there is in memory."""
        shortcut = self._shortcuts.find(environ)
        if shortcut is None or environ["REQUEST_METHOD"] not in _METHODS:
            return None
        publication = self._admit(environ, shortcut.key)
        if publication is not shortcut.publication:
            return None
        file = shortcut.find_file()
        if file is None:
            return None
        if shortcut.is_negotiated:
            answer = self._answer_with(environ, publication, shortcut.entry, file)
        else:
            answer = answer_file(environ, publication, file)
        self._usage.count(shortcut.key, answer)
        return answer

    def _answer(self, environ: WSGIEnvironment, target: Target) -> Answer:
        method = environ["REQUEST_METHOD"]
        if method == "OPTIONS":
            return answer_preflight()
        if method not in _METHODS:
            raise MethodNotAllowed
        publication = self._admit(environ, target.key)
        if target.entry is None:
            if publication.registration.kind == "file":
                raise NoSuchEntry
            return answer_missing_slash(environ, target.key.encode())
        try:
            answer = self._answer_entry(environ, publication, target.entry)
        except IsDirectory:
            answer = self._answer_directory(environ, publication, target.entry)
        if not answer.status.startswith("308"):
            self._usage.count(target.key, answer)
        return answer

    def _admit(self, environ: WSGIEnvironment, key: str) -> Publication:
        return self._viewers.admit(environ, self._catalog.find(key))

    def _answer_entry(self, environ: WSGIEnvironment, publication: Publication, entry: bytes) -> Answer:
        try:
            return self._answer_found(environ, publication, entry)
        except ObjectChanged:
            # What its store has said a moment ago does not hold any more; asked again, it tells what does.
            self._objects.forget(publication.registration, entry)
            return self._answer_found(environ, publication, entry)

    def _answer_found(self, environ: WSGIEnvironment, publication: Publication, entry: bytes) -> Answer:
        registration = publication.registration
        try:
            file = self._store.open(registration, entry, in_parts="HTTP_RANGE" in environ, environ=environ)
        except NoSuchEntry:
            if not self._made.has_recipe(registration, entry):
                raise
            made = self._made.open(registration, entry, self._url_of(environ, registration, entry))
            return self._answer_with(environ, publication, entry, made, is_made=True)
        if isinstance(file, RedirectedObject):
            return answer_redirect(publication.headers, file.sign(environ["REQUEST_METHOD"]))
        find_file = self._store.finder(registration, entry, file)
        if find_file is not None:
            may_vary = is_negotiated(registration, file.media_type, is_packed=file.is_packed)
            self._shortcuts.add(environ, Shortcut(registration.key, publication, entry, may_vary, find_file))
        return self._answer_with(environ, publication, entry, file)

    def _answer_with(
        self, environ: WSGIEnvironment, publication: Publication, entry: bytes, file: AnyFile, *, is_made: bool = False
    ) -> Answer:
        registration = publication.registration
        with file:
            if not is_negotiated(registration, file.media_type, is_packed=file.is_packed):
                return answer_file(environ, publication, file, hand_over=self._hand_over)
            chosen = self._representations.choose(environ, registration, entry, file, is_made=is_made)
            with chosen:
                return answer_file(environ, publication, chosen, is_negotiated=True, hand_over=self._hand_over)

    def _url_of(self, environ: WSGIEnvironment, registration: Registration, entry: bytes) -> str:
        """Return the URL of `entry` as the browser sees it, in the one spelling that it has without detours."""
        names = b"/".join(split_entry(entry))
        return f"{self._find_location(environ)}{self._route}{quote(registration.key, safe='')}/{quote(names)}"

    def _answer_directory(self, environ: WSGIEnvironment, publication: Publication, entry: bytes) -> Answer:
        if entry and not entry.endswith(b"/"):
            return answer_missing_slash(environ, entry[entry.rfind(b"/") + 1 :])
        try:
            return self._answer_entry(environ, publication, entry + b"index.html")
        except (NoSuchEntry, IsDirectory):
            folder = self._find_folder(publication.registration, entry)
            return answer_listing(environ, publication, entry, folder)

    def _find_folder(self, registration: Registration, entry: bytes) -> Folder:
        if is_object_root(registration.root) and not registration.content:
            return FolderOfObjects(*self._objects.locate(registration, entry))
        known: Contents | Archives
        if registration.content:
            known = self._contents
        elif registration.kind == "archive":
            known = self._archives
        else:
            return FolderOnDisk(registration.root, entry)
        return SortedFolder(
            partial(known.list_folder, registration, entry), lambda name: known.has_file(registration, entry + name)
        )
