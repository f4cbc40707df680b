"""What a kernel calls: register a path, get its URL."""

from __future__ import annotations

import os
import stat
import threading
import time
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Union

from hub.errors import InvalidOption, MissingPath, NotAFile, NotATree, UnservedWarning, UnusablePath
from hub.keys import check_chosen_key, path_key
from hub.registration import (
    Kind,
    Registration,
    check_extension,
    check_headers,
    check_trusted,
    check_ttl,
    check_visibility,
)
from hub.registry import Registry
from hub.secret import read_secret
from hub.servers import find_servers
from hub.settings import check_route, find_base_url, find_registry_path, find_route, is_kernel, is_registry_named
from hub.version import VERSION

if TYPE_CHECKING:
    from concurrent.futures import Executor

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
    _registry: Registry

    def __new__(cls, url: str, key: str, registry: Registry) -> PublishedURL:
        """Return `url` with what it knows beside its text."""
        published = super().__new__(cls, url)
        published.key = key
        published._registry = registry
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
        """
        return self._registry.revoke(self.key)

    def _repr_html_(self) -> str:
        from html import escape  # Here, since its tables would slow `import hub` down.

        # An href that begins with a slash is made absolute by the browser that shows the notebook.
        url = escape(str(self), quote=True)
        return f'<a href="{url}" target="_blank" rel="noopener">{url}</a>'


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
    registry : path, optional
        The registry's file. Default: ``KDR_REGISTRY``, else
        ``kdr/registry.sqlite`` below Jupyter's runtime directory.
    base_url : str, optional
        The path under which the browser reaches the relay. Default:
        ``KDR_BASE_URL``, ``JUPYTERHUB_SERVICE_PREFIX``, what the running
        Jupyter servers say, else ``/``.
    route : str, optional
        The word between that and a key. Default: ``KDR_ROUTE``, what the
        running Jupyter server says, else ``wwtkdr``.
    """

    def __init__(
        self,
        kernel: object | None = None,  # noqa: ARG002  # pywwt's hub has it
        key_prefix: str = "pywwt_",
        *,
        registry: str | os.PathLike[str] | None = None,
        base_url: str | None = None,
        route: str | None = None,
    ) -> None:
        self.key_prefix = key_prefix
        self.base_url = find_base_url(base_url)
        self.registry = Registry(find_registry_path(registry))
        self.route = find_route(self.registry.path) if route is None else check_route(route)
        # Jupyter's relay tells its kernels where to register; and who names a registry knows what reads it.
        self._may_be_unserved = is_kernel() and not is_registry_named(registry)

    def get_static_files_url(self) -> PublishedURL:
        """Publish the static files that this package bundles, and return their partial URL.

        The key is predictable, ``{key_prefix}static{version}``, since equal
        versions hold equal files.

        Returns
        -------
        PublishedURL
            It ends with ``/``.
        """
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
        visibility: str = "private",
        trusted: bool = False,
        ttl: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> PublishedURL:
        """Publish one file.

        Parameters
        ----------
        path : path
            A regular file, or a link to one (resolved now).
        extension : str
            Appended to the name in the URL; decides the media type.
        key : str, optional
            The key in the URL, behind `key_prefix`; a claim takes it over.
            Default: a hash of the path, the same in every kernel of the user.
        content : bool
            Use a content key: the hash of what is published. What such a URL
            names never changes, and browsers never ask for it again; once the
            file has changed, the URL answers 410. Nothing is read a second
            time that has not changed since.
        snapshot : path, optional
            With `content`: a folder that keeps a copy, so that the URL goes on
            working when the original changes. Equal files are kept once.
        executor : concurrent.futures.Executor, optional
            With `content`: what hashes, on this machine or others that see the
            same files. Default: processes on this one.
        visibility : {"private", "users", "public"}
            Who may read: the owner, whoever is logged in, or whoever can
            reach the server.
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
        MissingPath, NotAFile, InvalidKey, InvalidOption, UnhashableEntry, SnapshotError
        """
        ending = check_extension(extension)
        root, status = _resolve(path)
        if not stat.S_ISREG(status.st_mode):
            raise NotAFile(os.fsdecode(path), is_directory=stat.S_ISDIR(status.st_mode))
        place = _locate(path)
        name = os.path.basename(place) + ending
        registration = _describe("file", root, name, visibility, trusted, headers)
        ttl = check_ttl(ttl)
        if _check_content(content, key, snapshot, executor):
            published = self._publish_by_content(registration, ttl, snapshot, executor)
        else:
            key = self._path_key(place, ending) if key is None else self._given_key(key)
            published = self._publish(replace(registration, key=key), ttl)
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
        visibility: str = "private",
        trusted: bool = False,
        ttl: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> PublishedURL:
        """Publish a directory with all below it.

        Links are followed as long as they stay inside. The options are those
        of `serve_file`.

        Returns
        -------
        PublishedURL
            Ends with ``/``; a file of the tree is reached by appending its quoted path.

        Raises
        ------
        MissingPath, NotATree, InvalidKey, InvalidOption, UnhashableEntry, EndlessTree, SnapshotError
        """
        root, status = _resolve(path)
        if not stat.S_ISDIR(status.st_mode):
            raise NotATree(os.fsdecode(path))
        registration = _describe("tree", root, b"", visibility, trusted, headers)
        ttl = check_ttl(ttl)
        if _check_content(content, key, snapshot, executor):
            published = self._publish_by_content(registration, ttl, snapshot, executor)
        else:
            key = self._path_key(_locate(path), b"") if key is None else self._given_key(key)
            published = self._publish(replace(registration, key=key), ttl)
        self._warn_if_unserved()
        return published

    def _publish(self, registration: Registration, ttl: float | None) -> PublishedURL:
        now = time.time()
        self.registry.claim(replace(registration, claimed_at=now, expires_at=None if ttl is None else now + ttl))
        url = f"{self.base_url}{self.route}/{registration.target}"
        return PublishedURL(url, registration.key, self.registry)

    def _warn_if_unserved(self) -> None:
        if self._may_be_unserved and not find_servers(self.registry.path):
            warnings.warn(UnservedWarning(str(self.registry.path)), stacklevel=3)

    def _publish_by_content(
        self,
        registration: Registration,
        ttl: float | None,
        snapshot: str | os.PathLike[str] | None,
        executor: Executor | None,
    ) -> PublishedURL:
        # Here, since most kernels hash nothing, and what it takes would slow `import hub` down.
        from hub.content.publishing import content_key_given

        folder = None if snapshot is None else _find_folder(snapshot)
        with content_key_given(registration, self.registry, executor, folder) as hashed:
            return self._publish(hashed, ttl)

    def _given_key(self, key: str) -> str:
        # The prefix would hide that there is nothing behind it.
        return check_chosen_key(self.key_prefix + key if key and isinstance(key, str) else key)

    def _path_key(self, place: bytes, extension: bytes) -> str:
        # First, so that no secret is left beside what is no registry.
        self.registry.open()
        return path_key(place, extension, read_secret(self.registry.path))


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


_relay_hub: JupyterRelayHub | None = None
_relay_hub_lock = threading.Lock()
if hasattr(os, "register_at_fork"):
    # A child must not inherit the lock as taken by a thread that it does not have.
    os.register_at_fork(
        before=_relay_hub_lock.acquire, after_in_parent=_relay_hub_lock.release, after_in_child=_relay_hub_lock.release
    )


def _describe(
    kind: Kind, root: bytes, name: bytes, visibility: str, trusted: bool, headers: Mapping[str, str] | None
) -> Registration:
    """Return a registration that has no key yet, its options checked."""
    return Registration(
        key="",
        kind=kind,
        root=root,
        name=name,
        visibility=check_visibility(visibility),
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
        return root, os.stat(root)
    except (FileNotFoundError, NotADirectoryError):
        raise MissingPath(os.fsdecode(named)) from None
    except OSError as error:
        raise UnusablePath(os.fsdecode(named), os.strerror(error.errno or 0)) from error


def _locate(path: AnyPath) -> bytes:
    """Return the absolute path that `path` spells, its links left as they are."""
    named = os.fsencode(path)
    if b".." in named.split(b"/"):
        # Behind a link, ".." is not where the spelling says.
        folder, name = os.path.split(named.rstrip(b"/"))
        return os.path.realpath(named) if name in (b"..", b".") else os.path.join(os.path.realpath(folder), name)
    return os.path.abspath(named)
