"""Small files, kept in memory for as long as a stat finds them unchanged."""

from __future__ import annotations

import os
import threading
import time
from typing import Union

from kdr_wsgi.files import SmallFile

#: A root, an entry below it, and as what it is exposed: a name, or with a content key a hash and a media type.
CacheKey = tuple[bytes, bytes, Union[bytes, tuple[bytes, str]]]

#: After this long a file is read again, whatever its status says: stores through a memory map change no times at
#: once (mmap(2), msync(2)), and a folder that was moved away may be reached through a link now.
MAX_AGE_SECONDS = 5.0


class FileCache:
    """Maps a place to the small file that was read there.

    What is evicted is the oldest that nobody has asked for since its turn
    last came, so that one walk over a large tree does not push out what is
    read again and again.

    Parameters
    ----------
    capacity_bytes : int
        What bodies and places may take together.
    """

    #: What Python's objects take around a body, measured on CPython 3.11.
    OVERHEAD_BYTES = 1500

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity_bytes = capacity_bytes
        self._size_bytes = 0
        self._entries: dict[CacheKey, _Entry] = {}
        self._lock = threading.Lock()

    def find(self, place: CacheKey, status: os.stat_result) -> SmallFile | None:
        """Return the file at `place` if `status`, taken just now, is of the version that is kept."""
        entry = self._entries.get(place)
        if entry is None or time.monotonic() > entry.ends_at or not entry.file.version.is_of(status):
            return None
        entry.was_asked_for = True
        return entry.file

    def add(self, place: CacheKey, file: SmallFile) -> None:
        """Keep `file`, unless a later change might not show in its version."""
        if not file.version.is_settled:
            return
        entry = _Entry(file, sum(map(len, place)) + file.version.size_bytes + self.OVERHEAD_BYTES)
        with self._lock:
            self._remove(place)
            self._entries[place] = entry
            self._size_bytes += entry.size_bytes
            while self._size_bytes > self._capacity_bytes:
                self._evict()

    def _evict(self) -> None:
        place, entry = next(iter(self._entries.items()))
        self._remove(place)
        if entry.was_asked_for:
            entry.was_asked_for = False
            self._entries[place] = entry
            self._size_bytes += entry.size_bytes

    def _remove(self, place: CacheKey) -> None:
        entry = self._entries.pop(place, None)
        if entry is not None:
            self._size_bytes -= entry.size_bytes


class _Entry:
    __slots__ = ("ends_at", "file", "size_bytes", "was_asked_for")

    def __init__(self, file: SmallFile, size_bytes: int) -> None:
        self.file = file
        self.ends_at = time.monotonic() + MAX_AGE_SECONDS
        self.size_bytes = size_bytes
        self.was_asked_for = False
