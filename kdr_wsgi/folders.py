"""Folders, as they are listed: one page of what is in them, or all of it, one by one."""

from __future__ import annotations

import heapq
import os
import stat
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple, Protocol

from hub.previews import MARKS
from kdr_wsgi.beneath import open_directory, split_entry, stat_entry
from kdr_wsgi.contents import Child
from kdr_wsgi.errors import NoSuchEntry, NotReadable
from kdr_wsgi.made import find_made_name


class Page(NamedTuple):
    """Some of what is in a folder, in the order of the names.

    Attributes
    ----------
    children : list of Child
    next : bytes or None
        What the next page comes after; None: there is none.
    total : int or None
        How many there are in the folder; None where only a walk could tell.
    marks : list of str
        Which of the files are there that say what the folder is (`hub.previews.MARKS`).
    """

    children: list[Child]
    next: bytes | None
    total: int | None
    marks: list[str]


class Folder(Protocol):
    """What is in a folder; each method may raise NoSuchEntry, NotReadable or ManifestUnavailable."""

    def check(self) -> None:
        """Find out whether the folder is there."""

    def find_page(self, after: bytes, limit: int) -> Page:
        """Return about `limit` of what is in it, behind the name `after`; an empty one is before all."""

    def open(self) -> Children:
        """Return all that is in it."""


class Children:
    """All that is in a folder, one by one; to be closed.

    Parameters
    ----------
    children : iterator of Child
    close : callable
        Gives back what they are read from.
    """

    def __init__(self, children: Iterator[Child], close: Callable[[], None] = lambda: None) -> None:
        self._children = children
        self.close = close

    def __iter__(self) -> Iterator[Child]:
        return self._children


class SortedFolder:
    """A folder of which somebody knows in order what is in it.

    Parameters
    ----------
    find_children : callable
        Returns an iterator of what is behind a name in it, which ends with a slash if it is that of a folder.
        It raises what it raises when it is called.
    has_file : callable
        Whether a file of that name is in it.
    """

    def __init__(self, find_children: Callable[[bytes], Iterator[Child]], has_file: Callable[[bytes], bool]) -> None:
        self._find_children = find_children
        self._has_file = has_file

    def check(self) -> None:
        """Find out whether the folder is there."""
        self._find_children(b"")

    def find_page(self, after: bytes, limit: int) -> Page:
        """Return about `limit` of what is in it."""
        found = [*islice(self._find_children(after), limit + 1)]
        shown = found[:limit]
        following = None
        if len(found) > limit:
            last = shown[-1]
            following = last.name + b"/" if last.is_folder else last.name
        children = [*with_made(iter(shown), self._has_file)]
        is_whole = following is None and not after
        return Page(children, following, len(children) if is_whole else None, find_marks(self._has_file))

    def open(self) -> Children:
        """Return all that is in it, in order."""
        return Children(with_made(self._find_children(b""), self._has_file))


class FolderOnDisk:
    """A directory beneath a root.

    Parameters
    ----------
    root, entry : bytes
    """

    def __init__(self, root: bytes, entry: bytes) -> None:
        self._root = root
        self._names = split_entry(entry)

    def check(self) -> None:
        """Find out whether the directory is there."""
        os.close(open_directory(self._root, self._names))

    def find_page(self, after: bytes, limit: int) -> Page:
        """Return about `limit` of what is in it; of all others no more than the names are looked at, none is kept."""
        directory = _Directory(self._root, self._names)
        try:
            after = after.rstrip(b"/")
            found = heapq.nsmallest(limit + 1, (name for name in directory.names() if name > after))
            shown = found[:limit]
            described = (child for child in map(directory.describe, shown) if child is not None)
            children = [*with_made(described, directory.has_file)]
            marks = find_marks(directory.has_file)
        finally:
            directory.close()
        return Page(children, shown[-1] if len(found) > limit else None, directory.count, marks)

    def open(self) -> Children:
        """Return all that is in it, in the directory's own order."""
        directory = _Directory(self._root, self._names)
        described = (child for child in map(directory.describe, directory.names()) if child is not None)
        return Children(with_made(described, directory.has_file), directory.close)


class _Directory:
    """A directory that is open."""

    def __init__(self, root: bytes, names: list[bytes]) -> None:
        self._root = root
        self._names = names
        #: How many names have been read.
        self.count = 0
        self._descriptor = open_directory(root, names)
        try:
            self._scan = os.scandir(self._descriptor)
        except BaseException:  # Ctrl-C too leaves no descriptor.
            os.close(self._descriptor)
            raise

    def close(self) -> None:
        """Close it; again, that does nothing."""
        if self._descriptor >= 0:
            self._scan.close()
            os.close(self._descriptor)
            self._descriptor = -1

    def names(self) -> Iterator[bytes]:
        """Yield what is in it, as the system has it."""
        for item in self._scan:
            self.count += 1
            yield os.fsencode(item.name)

    def has_file(self, name: bytes) -> bool:
        try:
            status = os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
        except OSError:  # Whatever the reason, nobody can read it.
            return False
        return stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)

    def describe(self, name: bytes) -> Child | None:
        """Return what a stat says of what is called `name`; None if it has been removed."""
        try:
            status = os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                status = stat_entry(self._root, [*self._names, name])
        except FileNotFoundError:
            return None
        except (NoSuchEntry, NotReadable):  # The link leads outside, or nowhere.
            return Child(name, is_folder=False, is_served=False)
        if stat.S_ISDIR(status.st_mode):
            return Child(name, is_folder=True, modified_ns=status.st_mtime_ns)
        if stat.S_ISREG(status.st_mode):
            return Child(name, is_folder=False, size_bytes=status.st_size, modified_ns=status.st_mtime_ns)
        return Child(name, is_folder=False, is_served=False)


def with_made(children: Iterator[Child], has_file: Callable[[bytes], bool]) -> Iterator[Child]:
    """Yield `children`, and before each from which another file is made on request, that file."""
    for child in children:
        made = None if child.is_folder or not child.is_served else find_made_name(child.name)
        if made is not None and not has_file(made):
            yield Child(made, is_folder=False, modified_ns=child.modified_ns)
        yield child


def find_marks(has_file: Callable[[bytes], bool]) -> list[str]:
    """Return which of the files are there that say what a folder is."""
    return [mark for mark in MARKS if has_file(mark.encode())]
