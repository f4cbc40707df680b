"""What a kernel calls: register a path, get its URL."""

from __future__ import annotations

import os
import stat
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union, cast

from hub.errors import (
    InvalidOption,
    MissingPath,
    NoArchive,
    NotAFile,
    NotATree,
    UnservedWarning,
    UnusablePath,
    UnusableURL,
)
from hub.filesystems import holds_files
from hub.keys import check_chosen_key
from hub.locations import DatabaseLocation
from hub.object_urls import is_object_url, normalise_object_url, split_root
from hub.registrar import Claim, LocalRegistrar, Registrar
from hub.registration import (
    Kind,
    Registration,
    check_audience,
    check_extension,
    check_headers,
    check_trusted,
    check_ttl,
)
from hub.registries import registry_at
from hub.servers import find_servers
from hub.settings import (
    check_route,
    find_base_url,
    find_hub_token,
    find_registry,
    find_route,
    find_service,
    is_kernel,
    is_registry_named,
)
from hub.version import VERSION

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from hub.publications import Publications
    from hub.service import ServiceRegistrar

#: How long after the text of a URL its HTML may be made of the same facts.
_SHOWN_SECONDS = 1.0

STATIC_DIRECTORY = Path(__file__).with_name("static")

AnyPath = Union[str, bytes, "os.PathLike[str]", "os.PathLike[bytes]"]


class PublishedURL(str):
    """The partial URL of a registration: a `str` that knows its key and can end what it names.

    A partial URL has neither scheme nor host; the browser adds those of the
    page that uses it.

    Attributes
    ----------
    key : str
        The key that names the registration.
    """

    key: str
    _registrar: Registrar

    def __new__(cls, url: str, key: str, registrar: Registrar) -> PublishedURL:
        """Return `url` with what it knows beside its text."""
        published = super().__new__(cls, url)
        published.key = key
        published._registrar = registrar
        return published

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        # What another process gets (a Dask worker, a pickle) is the URL, without the power to revoke.
        return str, (str(self),)

    def revoke(self) -> bool:
        """End the registration; requests for it answer 404 from now on.

        Returns
        -------
        bool
            False if the key was not registered any more.

        Raises
        ------
        RegistryError
            The registry cannot be written.
        ServiceError
            The shared relay server cannot be reached.
        """
        return self._registrar.revoke(self.key)

    def _repr_pretty_(self, printer: Any, _is_cycle: bool) -> None:
        """Show IPython in a terminal the facts, too; within a list, say, the text alone."""
        if len(printer.stack) > 1:
            printer.text(repr(self))
            return
        # Here, since a program that shows nothing needs none of it.
        from hub.card import find_facts, show_text

        facts = find_facts(self, self._registrar)
        # In a notebook IPython wants the HTML right after this, and files are not to be counted twice.
        self._found = time.monotonic(), facts
        printer.text(show_text(self, facts))

    def _repr_html_(self) -> str:
        from hub.card import find_facts, show_card

        found_at, facts = self.__dict__.pop("_found", (0.0, None))
        if facts is None or time.monotonic() - found_at > _SHOWN_SECONDS:
            facts = find_facts(self, self._registrar)
        return show_card(self, facts)


class JupyterRelayHub:
    """Registers files and trees, so that the relay server serves them to a browser.

    It works in a kernel and in any other Python process. What is registered
    stays so when the process ends.

    Parameters
    ----------
    kernel : object, optional
        Accepted because pywwt's hub has it; the kernel takes no part in serving.
    key_prefix : str
        Goes in front of each key that a caller gives.
    registry : path or URL, optional
        The registry's file, or ``postgresql://USER@HOST/DATABASE``. Default: ``KDR_REGISTRY``, else
        ``kdr/registry.sqlite`` below Jupyter's runtime directory.
    base_url : str, optional
        The path under which the browser reaches the relay. Default:
        ``KDR_BASE_URL``, ``JUPYTERHUB_SERVICE_PREFIX``, what the running
        Jupyter servers say, else ``/``.
    route : str, optional
        The word between that and a key. Default: ``KDR_ROUTE``, what the
        running Jupyter server says, else ``wwtkdr``.
    service : str, optional
        Where the shared relay server of a JupyterHub is, which is registered
        with then; empty: nowhere. Default: nowhere if `registry` is given,
        else ``KDR_SERVICE_URL``.
    """

    def __init__(
        self,
        kernel: object | None = None,  # noqa: ARG002  # pywwt's hub has it
        key_prefix: str = "pywwt_",
        *,
        registry: str | os.PathLike[str] | DatabaseLocation | None = None,
        base_url: str | None = None,
        route: str | None = None,
        service: str | None = None,
    ) -> None:
        self.key_prefix = key_prefix
        self.base_url = find_base_url(base_url)
        self.registry = registry_at(find_registry(registry))
        self.route = find_route(self.registry.location) if route is None else check_route(route)
        self.service = find_service(service, is_registry_given=registry is not None)
        self.registrar: Registrar
        if self.service:
            from hub.service import ServiceRegistrar  # Here, since HTTP would slow `import hub` down for all others.

            self.registrar = ServiceRegistrar(self.service, find_hub_token(), self.registry.location)
        else:
            self.registrar = LocalRegistrar(self.registry, self.base_url, self.route)
        # Jupyter's relay tells its kernels where to register; and who names a registry knows what reads it.
        self._may_be_unserved = is_kernel() and not (self.service or is_registry_named(registry))

    def get_static_files_url(self) -> PublishedURL:
        """Publish the static files that this package bundles, and return their partial URL.

        The key is predictable, ``{key_prefix}static{version}``, since equal
        versions hold equal files. A shared relay server has its own, of its
        own version, under the key ``pywwt_static{version}``.

        Returns
        -------
        PublishedURL
            It ends with ``/``.
        """
        if self.service:
            key, url = cast("ServiceRegistrar", self.registrar).static_files()
            return PublishedURL(url, key, self.registrar)
        return self.serve_tree(STATIC_DIRECTORY, key=f"static{VERSION}", visibility="public", trusted=True)

    def serve_file(
        self,
        path: AnyPath,
        extension: str = "",
        key: str | None = None,
        *,
        content: bool = False,
        snapshot: str | os.PathLike[str] | None = None,
        executor: Executor | None = None,
        upload: bool = False,
        visibility: str | Sequence[str] = "private",
        trusted: bool = False,
        ttl: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> PublishedURL:
        """Publish one file.

        Parameters
        ----------
        path : path
            A regular file, or a link to one (resolved now). Or the address of
            an object in a store that the relay server's administrator allows:
            ``s3://bucket/cube.fits``, ``gs://...``, ``az://...``.
        extension : str
            Appended to the name in the URL; decides the media type.
        key : str, optional
            The key in the URL, behind `key_prefix`; a claim takes it over.
            Default: a hash of the path, the same in every kernel of the user.
        content : bool
            Use a content key: the hash of what is published. What such a URL
            names never changes, and browsers never ask for it again; once the
            file has changed, the URL answers 410. Nothing is read a second
            time that has not changed since. Of an object nothing is read: the
            hash is of its store's checksum.
        snapshot : path, optional
            With `content`: a folder that keeps a copy, so that the URL goes on
            working when the original changes. Equal files are kept once.
        executor : concurrent.futures.Executor, optional
            With `content`: what hashes, on this machine or others that see the
            same files. Default: processes on this one.
        upload : bool
            With the shared relay server of a JupyterHub that takes uploads:
            send it what it lacks, so that it need not see the file, nor the
            kernel stay. It implies `content`. What was interrupted goes on
            where it was.
        visibility : {"private", "users", "public"} or list of str
            Who may read: the owner, whoever is logged in, or whoever can
            reach the server. With the shared relay server of a JupyterHub
            also those of a list: ``["user:NAME", "group:NAME"]``.
        trusted : bool
            Let HTML, SVG and XML act with the login of the viewer. Only for
            files that you would run as programs.
        ttl : float, optional
            Seconds until the registration ends by itself.
        headers : mapping of str to str, optional
            Further response headers, ``{"Content-Encoding": "gzip"}`` for instance.

        Returns
        -------
        PublishedURL
            Ends with the URL-quoted name of the file and `extension`.

        Raises
        ------
        MissingPath, NotAFile, InvalidKey, InvalidOption, UnhashableEntry, SnapshotError, ServiceError
        UnusableURL
            Of an object.
        """
        ending = check_extension(extension)
        if is_object_url(path):
            root = _check_object(path, content, key, snapshot, executor, upload)
            name = split_root(root)[2].rpartition("/")[2].encode()
            if not name or os.fspath(path)[-1:] in ("/", b"/"):
                raise NotAFile(os.fsdecode(path), is_directory=True)
            registration = _describe("file", root, name + ending, visibility, trusted, headers)
            return self._publish_object(Claim(registration, root, ending, check_ttl(ttl)), key, content=content)
        root, status = _resolve(path)
        if not stat.S_ISREG(status.st_mode):
            raise NotAFile(os.fsdecode(path), is_directory=stat.S_ISDIR(status.st_mode))
        place = _locate(path)
        name = os.path.basename(place) + ending
        registration = _describe("file", root, name, visibility, trusted, headers)
        claim = Claim(registration, place, ending, check_ttl(ttl))
        content = self._check_upload(upload, snapshot) or content
        if _check_content(content, key, snapshot, executor):
            published = self._publish_by_content(claim, snapshot, executor, upload=upload)
        else:
            published = self._publish(claim, key)
        self._warn_if_unserved()
        return published

    def serve_tree(
        self,
        path: AnyPath,
        key: str | None = None,
        *,
        content: bool = False,
        snapshot: str | os.PathLike[str] | None = None,
        executor: Executor | None = None,
        upload: bool = False,
        visibility: str | Sequence[str] = "private",
        trusted: bool = False,
        ttl: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> PublishedURL:
        """Publish a directory with all below it, or the members of a zip archive, which is not unpacked.

        Links are followed as long as they stay inside. The options are those
        of `serve_file`; those of content keys are for directories alone.

        The address of a prefix in an object store, ``s3://bucket/tiles/``,
        publishes the objects whose keys begin with it.

        Returns
        -------
        PublishedURL
            Ends with ``/``; a file of the tree is reached by appending its quoted path.

        Raises
        ------
        MissingPath, NotATree, InvalidKey, InvalidOption, UnhashableEntry, EndlessTree, SnapshotError, ServiceError
        ArchiveError
            The members of the archive cannot be served.
        UnusableURL
            Of a prefix.
        """
        if is_object_url(path):
            root = _check_object(path, content, key, snapshot, executor, upload)
            if root.lower().endswith(b".zip") and os.fspath(path)[-1:] not in ("/", b"/"):
                raise UnusableURL(
                    os.fsdecode(path),
                    "the members of an archive are served from a disk alone; publish the archive itself, with "
                    "serve_file, or its members as objects of their own. If it is a folder, end it with a slash",
                )
            registration = _describe("tree", root, b"", visibility, trusted, headers)
            return self._publish_object(Claim(registration, root, b"", check_ttl(ttl)), key, content=content)
        root, status = _resolve(path)
        is_archive = stat.S_ISREG(status.st_mode)
        if not (is_archive or stat.S_ISDIR(status.st_mode)):
            raise NotATree(os.fsdecode(path))
        registration = _describe("archive" if is_archive else "tree", root, b"", visibility, trusted, headers)
        claim = Claim(registration, _locate(path), b"", check_ttl(ttl))
        content = self._check_upload(upload, snapshot) or content
        is_by_content = _check_content(content, key, snapshot, executor)
        if is_archive:
            self._index(root, path, content=is_by_content)
            published = self._publish(claim, key)
        elif is_by_content:
            published = self._publish_by_content(claim, snapshot, executor, upload=upload)
        else:
            published = self._publish(claim, key)
        self._warn_if_unserved()
        return published

    def list(self) -> Publications:
        """Return what the user has published, in this process and in others, the latest first.

        A notebook shows it as a table, a terminal as aligned text.

        Returns
        -------
        Publications
            A sequence; ``hub.list()["KEY"]`` is the publication of a key.

        Raises
        ------
        RegistryError
            The registry cannot be read.
        ServiceError
            The shared relay server cannot be reached.
        """
        from hub.publications import Publication, Publications  # Here, since who only publishes needs none of it.

        found = [
            Publication(PublishedURL(url, registration.key, self.registrar), registration)
            for registration, url in self.registrar.registrations()
            if not registration.is_expired()
        ]
        return Publications(sorted(found, key=lambda one: one.registration.claimed_at or 0, reverse=True))

    def _publish(self, claim: Claim, key: str | None = None) -> PublishedURL:
        if key is not None:
            claim = replace(claim, registration=replace(claim.registration, key=self._given_key(key)))
        registered = self.registrar.register(claim)
        return PublishedURL(registered.url, registered.key, self.registrar)

    def _publish_object(self, claim: Claim, key: str | None, *, content: bool) -> PublishedURL:
        if content and self.service:
            claim = replace(claim, is_by_content=True)
        elif content:
            from hub.content.objects import hash_objects  # Here, since most kernels hash nothing.

            self.registry.open()
            claim = replace(claim, registration=hash_objects(claim.registration, self.registry.location))
        published = self._publish(claim, key)
        self._warn_if_unserved(stacklevel=4)
        return published

    def _warn_if_unserved(self, stacklevel: int = 3) -> None:
        if self._may_be_unserved and not find_servers(self.registry.location):
            warnings.warn(UnservedWarning(str(self.registry.location)), stacklevel=stacklevel)

    def _publish_by_content(
        self, claim: Claim, snapshot: str | os.PathLike[str] | None, executor: Executor | None, *, upload: bool
    ) -> PublishedURL:
        # Here, since most kernels hash nothing, and what it takes would slow `import hub` down.
        from hub.content.publishing import content_key_given

        folder = None if snapshot is None else _find_folder(snapshot)
        with content_key_given(claim.registration, self.registry, executor, folder) as hashed:
            if upload:
                from hub.content.manifests import ManifestStore
                from hub.content.uploading import publish_upload

                store, service = ManifestStore(self.registry.location), cast("ServiceRegistrar", self.registrar)
                uploaded = replace(claim, registration=hashed, is_upload=True)
                return publish_upload(hashed, store, service, lambda: self._publish(uploaded))
            return self._publish(replace(claim, registration=hashed))

    def _check_upload(self, upload: bool, snapshot: object) -> bool:  # as it was given
        """Return whether the files are to be sent; raise InvalidOption where they cannot be."""
        if not isinstance(upload, bool):
            raise InvalidOption("upload", upload, "give True or False")
        if upload and not self.service:
            raise InvalidOption(
                "upload",
                upload,
                "only the shared relay server of a JupyterHub takes files (KDR_SERVICE_URL); here they are served from "
                "where they lie: leave it out",
            )
        if upload and snapshot is not None:
            raise InvalidOption("snapshot", snapshot, "what is uploaded is a copy already; leave one of the two out")
        return upload

    def _index(self, root: bytes, path: AnyPath, *, content: bool) -> None:
        """See to it that there is an index of an archive, unless a shared relay server makes its own."""
        if content:
            raise InvalidOption(
                "content",
                content,
                "no content key can be made of an archive's members; publish the archive itself, with serve_file, or "
                "unpack it and publish the directory",
            )
        if self.service:
            return
        from hub.content.archives import index_archive  # Here, since most kernels publish none.
        from hub.content.manifests import ManifestStore

        self.registry.open()
        try:
            index_archive(ManifestStore(self.registry.location), root)
        except NoArchive:
            raise NotATree(os.fsdecode(path)) from None

    def _given_key(self, key: str) -> str:
        # The prefix would hide that there is nothing behind it.
        return check_chosen_key(self.key_prefix + key if key and isinstance(key, str) else key)


def get_relay_hub(kernel: object | None = None) -> JupyterRelayHub:
    """Return the hub of this process.

    Parameters
    ----------
    kernel : object, optional
        Accepted because pywwt's function has it.
    """
    global _relay_hub
    with _relay_hub_lock:
        if _relay_hub is None:
            _relay_hub = JupyterRelayHub(kernel)
        return _relay_hub


def list_publications() -> Publications:
    """Return what the user has published, in this process and in others: `JupyterRelayHub.list` of this process's hub.

    Raises
    ------
    RegistryError, ServiceError
    """
    return get_relay_hub().list()


_relay_hub: JupyterRelayHub | None = None
_relay_hub_lock = threading.Lock()
if hasattr(os, "register_at_fork"):
    # A child must not inherit the lock as taken by a thread that it does not have.
    os.register_at_fork(
        before=_relay_hub_lock.acquire, after_in_parent=_relay_hub_lock.release, after_in_child=_relay_hub_lock.release
    )


def _describe(
    kind: Kind,
    root: bytes,
    name: bytes,
    visibility: str | Sequence[str],
    trusted: bool,
    headers: Mapping[str, str] | None,
) -> Registration:
    """Return a registration that has no key yet, its options checked."""
    known, audience = check_audience(visibility)
    return Registration(
        key="",
        kind=kind,
        root=root,
        name=name,
        visibility=known,
        audience=audience,
        trusted=check_trusted(trusted),
        headers=check_headers(headers, trusted=trusted),
    )


def _find_folder(snapshot: str | os.PathLike[str]) -> Path:
    """Return the folder of snapshots, without links; raise InvalidOption if it can be none."""
    try:
        named = os.path.expanduser(os.fspath(snapshot))
    except TypeError:
        raise InvalidOption("snapshot", snapshot, "give the path of a folder") from None
    if not isinstance(named, str) or not named or "\0" in named:
        raise InvalidOption("snapshot", snapshot, "give the path of a folder, as a str or a Path")
    if named.startswith("~"):
        raise InvalidOption("snapshot", snapshot, "there is no such user")
    return Path(os.path.realpath(named))


def _check_content(content: bool, key: str | None, snapshot: object, executor: object) -> bool:
    """Return whether a content key is asked for; raise InvalidOption where the options contradict each other."""
    if not isinstance(content, bool):
        raise InvalidOption("content", content, "give True or False")
    if content and key is not None:
        raise InvalidOption("key", key, "a content key is the hash of what is published; leave one of the two out")
    for option, value in (("snapshot", snapshot), ("executor", executor)):
        if value is not None and not content:
            raise InvalidOption(option, value, "it needs content=True")
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise InvalidOption("executor", executor, "give a concurrent.futures.Executor")
    return content


def _check_object(
    path: AnyPath, content: bool, key: str | None, snapshot: object, executor: object, upload: bool
) -> bytes:
    """Return the root that an address of an object store names; raise InvalidOption for what is for files on disk."""
    if upload:
        raise InvalidOption("upload", upload, "it is in an object store already; publish it without")
    _check_content(content, key, snapshot, executor)
    if snapshot is not None:
        raise InvalidOption("snapshot", snapshot, "what is in an object store is not copied; publish it without")
    if executor is not None:
        raise InvalidOption("executor", executor, "what is in an object store is not read for its key; leave it out")
    return normalise_object_url(cast("str | bytes", path))


def _resolve(path: AnyPath) -> tuple[bytes, os.stat_result]:
    """Return what `path` names now, without links, and its status."""
    try:
        named = os.fsencode(path)
    except (TypeError, UnicodeEncodeError):
        raise UnusablePath(repr(path), "it is no path") from None
    if not named or b"\0" in named:
        raise UnusablePath(os.fsdecode(named), "it is empty or holds a NUL character")
    try:
        root = os.path.realpath(named, strict=True)
        status = os.stat(root)
    except (FileNotFoundError, NotADirectoryError):
        raise MissingPath(os.fsdecode(named)) from None
    except OSError as error:
        raise UnusablePath(os.fsdecode(named), os.strerror(error.errno or 0)) from error
    if (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)) and not holds_files(root):
        raise UnusablePath(os.fsdecode(named), "there the system shows itself or its devices; copy what you need")
    return root, status


def _locate(path: AnyPath) -> bytes:
    """Return the absolute path that `path` spells, its links left as they are."""
    named = os.fsencode(path)
    if b".." in named.split(b"/"):
        # Behind a link, ".." is not where the spelling says.
        folder, name = os.path.split(named.rstrip(b"/"))
        return os.path.realpath(named) if name in (b"..", b".") else os.path.join(os.path.realpath(folder), name)
    return os.path.abspath(named)
