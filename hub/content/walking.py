"""Walk a tree: the files that it has, in the order of their entries, each with what a stat says."""

from __future__ import annotations

import os
import stat
import time
from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

from hub.content.opening import GONE
from hub.content.signatures import SIGNATURE_BYTES, make_signature, seconds_until_settled
from hub.errors import EndlessTree, UnhashableEntry

#: A file's entry (its path below the root), a NUL, its signature. So many of one folder are sorted as fast as bytes,
#: and a run of them is compared with an index in one step.
Record = bytes

#: Of one yield; what is compared, or looked through, at a time.
RUN_RECORDS = 1024

#: How often a folder that changes under our eyes is read before we give up.
_ATTEMPTS = 3

#: Links to folders can lead to the same files along more paths than anybody could walk.
MAX_FILES_BEHIND_LINKS = 1_000_000


def entry_of(record: Record) -> bytes:
    """Return the entry that a record is of."""
    return record[: -SIGNATURE_BYTES - 1]


def signature_of(record: Record) -> bytes:
    """Return the signature that a record holds."""
    return record[-SIGNATURE_BYTES:]


def split_records(records: bytes) -> Iterator[Record]:
    """Yield the records that follow each other in `records`."""
    start = 0
    while start < len(records):
        stop = records.index(0, start) + 1 + SIGNATURE_BYTES
        yield records[start:stop]
        start = stop


class _Folder(NamedTuple):
    """A folder to walk.

    Attributes
    ----------
    path : bytes
        Free of links.
    prefix : bytes
        What the entries in it begin with: empty for the root, else it ends with a slash.
    came_from : tuple of bytes
        The folders, free of links, where a link was followed on the way.
    """

    path: bytes
    prefix: bytes
    came_from: tuple[bytes, ...]


def walk(root: bytes) -> Iterator[list[Record]]:
    """Yield the records of all files below `root`, in ascending order, some thousand at a time.

    Links are followed as the relay server follows them, inside the root. A link
    that leads outside, nowhere, or to a folder that holds it, has no record;
    nor has what is neither a file nor a folder, nor what is removed meanwhile.

    Parameters
    ----------
    root : bytes
        A folder's absolute path, free of links.

    Raises
    ------
    UnhashableEntry
        A folder cannot be read, or changes all the time.
    EndlessTree
        Links to folders lead to more than `MAX_FILES_BEHIND_LINKS` files.
    """
    run: list[Record] = []
    behind_links = 0
    # Not by recursion: folders can be deeper than Python's stack.
    on_the_way = [_read_folder(root, _Folder(root, b"", ()))]
    while on_the_way:
        step = next(on_the_way[-1], None)
        if step is None:
            on_the_way.pop()
            continue
        if isinstance(step, _Folder):
            on_the_way.append(_read_folder(root, step))
            behind_links += bool(step.came_from)
        else:
            run += step.records
            behind_links += len(step.records) if step.folder.came_from else 0
        if behind_links > MAX_FILES_BEHIND_LINKS:
            raise EndlessTree(os.fsdecode(root), MAX_FILES_BEHIND_LINKS)
        if len(run) >= RUN_RECORDS:
            yield run
            run = []
    if run:
        yield run


class _Files(NamedTuple):
    folder: _Folder
    records: list[Record]


def _read_folder(root: bytes, folder: _Folder) -> Iterator[_Files | _Folder]:
    """Yield what is in one folder: its files, and the folders between them, in the order of their entries."""
    records, folders = _scan(root, folder)
    records.sort()
    folders.sort(key=lambda below: below.prefix)
    start = 0
    for below in (*folders, None):
        # A slash follows the name of a folder in all entries below it, and sorts as it does there.
        stop = len(records) if below is None else bisect_left(records, below.prefix, start)
        for first in range(start, stop, RUN_RECORDS):
            yield _Files(folder, records[first : min(first + RUN_RECORDS, stop)])
        if below is not None:
            yield below
        start = stop


def _scan(root: bytes, folder: _Folder) -> tuple[list[Record], list[_Folder]]:
    """Return the files and the folders in a folder, in no order.

    Raises
    ------
    UnhashableEntry
        It cannot be read, or names are added and removed all the time.
    """
    try:
        for _ in range(_ATTEMPTS):
            before = os.stat(folder.path).st_mtime_ns
            time.sleep(seconds_until_settled(before))
            found = _scan_once(root, folder)
            # Some file systems leave a name out that was replaced meanwhile, though it was there all the time.
            if os.stat(folder.path).st_mtime_ns == before:
                return found
    except OSError as error:
        if error.errno in GONE and folder.prefix:
            return [], []
        raise UnhashableEntry(os.fsdecode(folder.path), error.strerror or str(error)) from error
    raise UnhashableEntry(
        os.fsdecode(folder.path),
        "names are added or removed each time that it is read; try again when nobody does that",
    )


def _scan_once(root: bytes, folder: _Folder) -> tuple[list[Record], list[_Folder]]:
    records: list[Record] = []
    folders: list[_Folder] = []
    prefix = folder.prefix
    with os.scandir(folder.path) as found:
        for item in found:
            if item.is_file(follow_symlinks=False):
                try:
                    status = item.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
            elif item.is_dir(follow_symlinks=False):
                folders.append(_Folder(item.path, b"%b%b/" % (prefix, item.name), folder.came_from))
                continue
            else:
                followed = _follow(root, folder, item) if item.is_symlink() else None
                if isinstance(followed, _Folder):
                    folders.append(followed)
                if not isinstance(followed, os.stat_result):
                    continue
                status = followed
            records.append(b"%b%b\0%b" % (prefix, item.name, make_signature(status)))
    return records, folders


def _follow(root: bytes, folder: _Folder, item: os.DirEntry[bytes]) -> os.stat_result | _Folder | None:
    """Return the status of the file, or the folder, that the link `item` leads to; None if that is not served."""
    try:
        target = os.path.realpath(item.path, strict=True)
        status = os.stat(target, follow_symlinks=False)
    except OSError:  # It leads nowhere, in a circle, or where nobody may look; the relay server does not get there.
        return None
    if not target.startswith(root.rstrip(b"/") + b"/"):
        return None
    if stat.S_ISREG(status.st_mode):
        return status
    if not stat.S_ISDIR(status.st_mode):
        return None
    came_from = (*folder.came_from, folder.path)
    if any(place == target or place.startswith(target + b"/") for place in came_from):
        return None
    return _Folder(target, b"%b%b/" % (folder.prefix, item.name), came_from)
