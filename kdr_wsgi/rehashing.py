"""Files that were touched after they were hashed: whether they still have the bytes that their content key promises."""

from __future__ import annotations

import threading
import time

from kdr_wsgi.errors import ContentChanged, FileBeingHashed
from kdr_wsgi.files import OpenFile
from kdr_wsgi.versions import AnyVersion

#: A larger file is not read for a request: to publish it again is quicker, and shows how far it is.
MAX_FILE_BYTES = 256 << 20

#: What a worker reads a minute for each owner. Somebody may touch files all the time.
MAX_BYTES_PER_MINUTE = 1 << 30

#: Owners whose reading is counted; beyond that those who have read nothing for longest have all again.
_OWNERS = 10_000

#: How long a request waits while another one has a file read.
_PATIENCE_SECONDS = 10.0

#: Verdicts that are kept.
_CAPACITY = 10_000


class Rehasher:
    """Reads files again, one at a time, each version of a file once, and not more than so much a minute.

    Parameters
    ----------
    bytes_per_minute : int
        For each owner.
    """

    def __init__(self, bytes_per_minute: int = MAX_BYTES_PER_MINUTE) -> None:
        self._bytes_per_minute = bytes_per_minute
        self._verdicts: dict[tuple[AnyVersion, bytes], bool] = {}
        self._reading = threading.Lock()
        #: What each owner had left, and when.
        self._allowances: dict[str, tuple[float, float]] = {}

    def check(self, file: OpenFile, digest: bytes, owner: str = "") -> None:
        """Return if `file`, which `owner` has published, has the BLAKE3 hash `digest`.

        Raises
        ------
        ContentChanged
            It has another one, or is too large to know.
        FileBeingHashed
            There are too many such files.
        """
        question = (file.version, digest)
        if file.version.size_bytes > MAX_FILE_BYTES:
            raise ContentChanged
        verdict = self._verdicts.get(question)
        if verdict is None:
            verdict = self._read(file, question, owner)
        if not verdict:
            raise ContentChanged

    def _read(self, file: OpenFile, question: tuple[AnyVersion, bytes], owner: str) -> bool:
        if not self._reading.acquire(timeout=_PATIENCE_SECONDS):
            raise FileBeingHashed
        try:
            if question in self._verdicts:
                return self._verdicts[question]
            if file.version.size_bytes > self._bytes_per_minute:
                raise FileBeingHashed
            self.spend(owner, file.version.size_bytes)
            verdict = file.has_hash(question[1])
            if file.version.is_settled:
                if len(self._verdicts) >= _CAPACITY:
                    self._verdicts.clear()
                self._verdicts[question] = verdict
            return verdict
        finally:
            self._reading.release()

    def spend(self, owner: str, size_bytes: int) -> None:
        """Count that so many bytes are read for `owner`; raise FileBeingHashed if that is more than is left.

        What is more than a minute's takes all of it.
        """
        size_bytes = min(size_bytes, self._bytes_per_minute)
        now = time.monotonic()
        left, counted_at = self._allowances.pop(owner, (float(self._bytes_per_minute), now))
        left = min(self._bytes_per_minute, left + (now - counted_at) / 60 * self._bytes_per_minute)
        if len(self._allowances) >= _OWNERS:
            del self._allowances[next(iter(self._allowances))]
        is_enough = size_bytes <= left
        self._allowances[owner] = (left - size_bytes if is_enough else left, now)
        if not is_enough:
            raise FileBeingHashed
