"""The short way of a request: what a URL that was asked for before has led to."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from kdr_wsgi.catalog import Publication
from kdr_wsgi.files import AnyFile
from kdr_wsgi.targets import is_quoted

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

#: Of so many URLs, at about 1 kB each. Past that all are forgotten.
CAPACITY = 4096

#: An entry has any number of spellings (``a//./b``), which are not to fill the memory.
MAX_CHARACTERS = 1024


class Shortcut(NamedTuple):
    """What a path leads to.

    Attributes
    ----------
    key : str
    publication : Publication
        As which it was answered; under another one it may lead elsewhere.
    entry : bytes
        The file's, which a folder's path does not name.
    is_negotiated : bool
        Whether other clients may get another representation of the file.
    find_file : callable
        Finds the file again in memory; returns None where it has changed, or is not kept any more.
    """

    key: str
    publication: Publication
    entry: bytes
    is_negotiated: bool
    find_file: Callable[[], AnyFile | None]


class Shortcuts:
    """Maps the paths of plain targets to where they lead."""

    def __init__(self) -> None:
        self._by_path: dict[str, Shortcut] = {}

    def find(self, environ: WSGIEnvironment) -> Shortcut | None:
        """Return where the request leads, if that is known."""
        shortcut = self._by_path.get(environ["PATH_INFO"])
        return None if shortcut is None or is_quoted(environ) else shortcut

    def add(self, environ: WSGIEnvironment, shortcut: Shortcut) -> None:
        """Remember where the request has led."""
        path = environ["PATH_INFO"]
        if len(path) > MAX_CHARACTERS or is_quoted(environ) or not path.isascii():
            return
        if len(self._by_path) >= CAPACITY:
            self._by_path.clear()
        self._by_path[path] = shortcut
