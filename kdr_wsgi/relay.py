"""The way of a request: a WSGI callable in front of the Flask application, which answers all that is no file."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_to_bytes

from hub.errors import RegistryError
from hub.registration import Registration
from kdr_wsgi.acceleration import Acceleration
from kdr_wsgi.answers import Answer, answer_error, answer_file, answer_missing_slash, answer_preflight
from kdr_wsgi.beneath import split_entry
from kdr_wsgi.catalog import Catalog, Publication
from kdr_wsgi.contents import Contents
from kdr_wsgi.errors import (
    HubUnavailable,
    InternalError,
    IsDirectory,
    ManifestUnavailable,
    MethodNotAllowed,
    NoSuchEntry,
    RegistryUnavailable,
    RelayError,
)
from kdr_wsgi.files import AnyFile
from kdr_wsgi.listing import MAX_ROWS, Folder, answer_listing, list_on_disk, list_promised
from kdr_wsgi.locations import location_finder
from kdr_wsgi.made import MadeFiles
from kdr_wsgi.representations import Representations, is_negotiated
from kdr_wsgi.settings import Settings
from kdr_wsgi.store import FileStore
from kdr_wsgi.targets import Target, find_target
from kdr_wsgi.viewers import Viewers

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_log = logging.getLogger(__name__)


class FileRelay:
    """Answers requests for registered files, and passes the others on.

    Parameters
    ----------
    catalog : Catalog
    contents : Contents
    store : FileStore
    viewers : Viewers
    settings : Settings
    other : WSGI application
        What answers the paths that name no registration.
    """

    def __init__(
        self,
        catalog: Catalog,
        contents: Contents,
        store: FileStore,
        viewers: Viewers,
        settings: Settings,
        other: WSGIApplication,
    ) -> None:
        self._catalog = catalog
        self._contents = contents
        self._store = store
        self._made = MadeFiles(store)
        self._representations = Representations(store)
        self._viewers = viewers
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
            target = find_target(environ, self._route)
            if target is None:
                return self._other(environ, start_response)
            answer = self._answer(environ, target)
        except (HubUnavailable, ManifestUnavailable) as error:
            _log.error("%s", error.reason)
            answer = answer_error(environ, error)
        except RelayError as error:
            answer = answer_error(environ, error)
        except RegistryError as error:
            _log.error("%s", error)
            answer = answer_error(environ, RegistryUnavailable())
        except Exception:  # noqa: BLE001  # The edge to the client: what nobody foresaw goes to the log, whole.
            # A query may hold a token.
            _log.exception("failed on %s", str(environ.get("RAW_URI", environ["PATH_INFO"])).partition("?")[0])
            answer = answer_error(environ, InternalError())
        start_response(answer.status, answer.headers)
        return answer.body

    def _answer(self, environ: WSGIEnvironment, target: Target) -> Answer:
        method = environ["REQUEST_METHOD"]
        if method == "OPTIONS":
            return answer_preflight()
        if method not in ("GET", "HEAD"):
            raise MethodNotAllowed
        publication = self._viewers.admit(environ, self._catalog.find(target.key))
        if target.entry is None:
            if publication.registration.kind == "file":
                raise NoSuchEntry
            return answer_missing_slash(environ, target.key.encode())
        try:
            return self._answer_entry(environ, publication, target.entry)
        except IsDirectory:
            return self._answer_directory(environ, publication, target.entry)

    def _answer_entry(self, environ: WSGIEnvironment, publication: Publication, entry: bytes) -> Answer:
        registration = publication.registration
        file: AnyFile
        is_made = False
        try:
            file = self._store.open(registration, entry, in_parts="HTTP_RANGE" in environ)
        except NoSuchEntry:
            if not self._made.has_recipe(registration, entry):
                raise
            file = self._made.open(registration, entry, self._url_of(environ, registration, entry))
            is_made = True
        with file:
            if not is_negotiated(registration, file.media_type):
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
            folder = self._list(publication.registration, entry)
            return answer_listing(publication, folder, with_body=environ["REQUEST_METHOD"] == "GET")

    def _list(self, registration: Registration, entry: bytes) -> Folder:
        if registration.content:
            return list_promised(entry, *self._contents.list_folder(registration, entry, MAX_ROWS))
        return list_on_disk(registration.root, entry)
