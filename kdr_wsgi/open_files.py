"""Large files, kept open for a while: viewers ask for one small part after another."""

from __future__ import annotations

import os
import threading
import time

from kdr_wsgi.cache import CacheKey
from kdr_wsgi.files import KeptFile

#: How many of a worker's descriptors they may take.
CAPACITY = 64

#: So long a file stays open, and up to twice as long where nobody asks any more; what was removed takes up its room on
#: disk until then.
OPEN_SECONDS = 5.0


class OpenFiles:
    """Maps a place to the large file that was opened there.

    A file is closed when it is neither kept nor read any more.
    """

    def __init__(self) -> None:
        self._files: dict[CacheKey, tuple[KeptFile, float]] = {}
        self._lock = threading.Lock()
        self._is_swept = False

    def find(self, place: CacheKey, status: os.stat_result) -> KeptFile | None:
        """Return the file at `place` if `status`, taken just now, is of the version that is open."""
        file, ends_at = self._files.get(place, (None, 0.0))
        if file is None or time.monotonic() > ends_at or not file.version.is_of(status):
            return None
        return file

    def add(self, place: CacheKey, file: KeptFile) -> None:
        """Keep `file` open."""
        with self._lock:
            self._files.pop(place, None)
            self._files[place] = (file, time.monotonic() + OPEN_SECONDS)
            if len(self._files) > CAPACITY:
                del self._files[next(iter(self._files))]
            if not self._is_swept:
                threading.Thread(target=self._sweep, name="kdr-open-files", daemon=True).start()
                self._is_swept = True

    def _sweep(self) -> None:
        """Close what has been open long enough, until nothing is left."""
        while True:
            time.sleep(OPEN_SECONDS)
            with self._lock:
                now = time.monotonic()
                for place in [place for place, (_, ends_at) in self._files.items() if now > ends_at]:
                    del self._files[place]
                if not self._files:
                    self._is_swept = False
                    return
