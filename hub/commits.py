"""Whether anything was committed to the registry, without a system call."""

from __future__ import annotations

import mmap
import os
import threading
from pathlib import Path

#: The first copy of the header of SQLite's WAL index, which each commit changes; SQLite itself tells by these bytes
#: whether what it has cached is still true (https://www.sqlite.org/walformat.html, 2.1.1).
_HEADER_BYTES = 48

_maps: dict[tuple[int, int], mmap.mmap] = {}
_mapping = threading.Lock()


def map_commits(registry: Path) -> mmap.mmap:
    """Return bytes that change as soon as a process commits to a registry that has a write-ahead log.

    Parameters
    ----------
    registry : Path
        This process has it open, and has read from it.

    Raises
    ------
    FileNotFoundError
        It has no such log.
    OSError
        The log's index cannot be read.
    """
    index = f"{os.path.realpath(registry)}-shm"
    with _mapping:
        found = _maps.get(_identify(os.stat(index)))
        if found is None:
            # Neither this descriptor nor the map's is ever closed: to close one of them would end the locks that
            # SQLite has on the file (https://www.sqlite.org/howtocorrupt.html, 2.2).
            descriptor = os.open(index, os.O_RDONLY)
            found = mmap.mmap(descriptor, _HEADER_BYTES, access=mmap.ACCESS_READ)
            _maps[_identify(os.fstat(descriptor))] = found
        return found


def _identify(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
