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

#: The same for one that was left alone for as long. The system writes what was stored through a map to disk within
#: half of it, and gives the next store a new time (vm.dirty_expire_centisecs, admin-guide/sysctl/vm.rst of Linux).
MAX_AGE_OF_OLD_SECONDS = 60.0

#: What those may take of the capacity that nobody has asked for a second time.
_NEW_SHARE = 0.1


class FileCache:
    """Maps a place to the small file that was read there.

    Files that have been asked for again stay for as long as there is room for
    what is new beside them, in a tenth of the capacity: a walk over a large
    tree does not push them out. (S3-FIFO without its ghosts: Yang et al., SOSP
    2023, https://doi.org/10.1145/3600006.3613147.) Equal bodies are held once.

    Parameters
    ----------
    capacity_bytes : int
        What bodies and places may take together.
    """

    #: What Python's objects take around a body, measured on CPython 3.11.
    OVERHEAD_BYTES = 1500

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity_bytes = capacity_bytes
        self._entries: dict[CacheKey, _Entry] = {}
        # Of the same entries, each in one of the two, the oldest first.
        self._new = _Queue()
        self._proven = _Queue()
        self._bodies: dict[bytes, _Body] = {}
        self._bodies_bytes = 0
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
        self.add_made(place, file)

    def find_made(self, place: CacheKey, etag: str) -> SmallFile | None:
        """Return the file at `place`, which was made of another one, if it has this entity tag."""
        entry = self._entries.get(place)
        if entry is None or time.monotonic() > entry.ends_at or entry.file.etag != etag:
            return None
        entry.was_asked_for = True
        return entry.file

    def find_any(self, place: CacheKey) -> SmallFile | None:
        """Return the file at `place`, whatever its version, which the caller finds out about."""
        entry = self._entries.get(place)
        return None if entry is None or time.monotonic() > entry.ends_at else entry.file

    def add_made(self, place: CacheKey, file: SmallFile, for_seconds: float | None = None) -> None:
        """Keep a file that was made of another one, by the same rules or for so long."""
        if not file.version.is_settled:
            return
        if for_seconds is None:
            is_old = time.time() - file.version.changed_ns / 1e9 > MAX_AGE_OF_OLD_SECONDS
            for_seconds = MAX_AGE_OF_OLD_SECONDS if is_old else MAX_AGE_SECONDS
        entry = _Entry(file, sum(map(len, place)) + self.OVERHEAD_BYTES, time.monotonic() + for_seconds)
        with self._lock:
            is_proven = place in self._proven
            self._remove(place)
            self._share_body(file)
            self._entries[place] = entry
            (self._proven if is_proven else self._new).add(place, entry)
            while self._size_bytes > self._capacity_bytes:
                self._evict()

    @property
    def _size_bytes(self) -> int:
        return self._new.size_bytes + self._proven.size_bytes + self._bodies_bytes

    def _evict(self) -> None:
        """Let one file go, or one that has been asked for again have its second chance."""
        is_new = self._new.weight_bytes > _NEW_SHARE * self._capacity_bytes or not self._proven
        queue = self._new if is_new else self._proven
        place, entry = queue.oldest()
        if entry.was_asked_for:
            entry.was_asked_for = False
            queue.remove(place)
            self._proven.add(place, entry)
        else:
            self._remove(place)

    def _remove(self, place: CacheKey) -> None:
        entry = self._entries.pop(place, None)
        if entry is None:
            return
        (self._proven if place in self._proven else self._new).remove(place)
        body = self._bodies[entry.file.body]
        body.owners -= 1
        if not body.owners:
            del self._bodies[entry.file.body]
            self._bodies_bytes -= len(entry.file.body)

    def _share_body(self, file: SmallFile) -> None:
        body = self._bodies.get(file.body)
        if body is None:
            self._bodies[file.body] = _Body(file.body)
            self._bodies_bytes += len(file.body)
        else:
            file.body = body.data
            body.owners += 1


class _Queue:
    def __init__(self) -> None:
        self._entries: dict[CacheKey, _Entry] = {}
        self.size_bytes = 0
        self.weight_bytes = 0

    def __contains__(self, place: CacheKey) -> bool:
        return place in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def oldest(self) -> tuple[CacheKey, _Entry]:
        return next(iter(self._entries.items()))

    def add(self, place: CacheKey, entry: _Entry) -> None:
        self._entries[place] = entry
        self.size_bytes += entry.size_bytes
        self.weight_bytes += entry.size_bytes + len(entry.file.body)

    def remove(self, place: CacheKey) -> None:
        entry = self._entries.pop(place)
        self.size_bytes -= entry.size_bytes
        self.weight_bytes -= entry.size_bytes + len(entry.file.body)


class _Body:
    __slots__ = ("data", "owners")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.owners = 1


class _Entry:
    """A kept file; `size_bytes` is what it takes beside its body."""

    __slots__ = ("ends_at", "file", "size_bytes", "was_asked_for")

    def __init__(self, file: SmallFile, size_bytes: int, ends_at: float) -> None:
        self.file = file
        self.ends_at = ends_at
        self.size_bytes = size_bytes
        self.was_asked_for = False
