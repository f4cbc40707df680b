"""Files that were touched after they were hashed: whether they still have the bytes that their content key promises."""

from __future__ import annotations

import threading
import time

from kdr_wsgi.errors import ContentChanged, FileBeingHashed
from kdr_wsgi.files import OpenFile
from kdr_wsgi.versions import FileVersion

#: A larger file is not read for a request: to publish it again is quicker, and shows how far it is.
MAX_FILE_BYTES = 256 << 20

#: What a worker reads a minute. Somebody may touch files all the time.
MAX_BYTES_PER_MINUTE = 1 << 30

#: How long a request waits while another one has a file read.
_PATIENCE_SECONDS = 10.0

#: Verdicts that are kept.
_CAPACITY = 10_000


class Rehasher:
    """Reads files again, one at a time, each version of a file once, and not more than so much a minute."""

    def __init__(self) -> None:
        self._verdicts: dict[tuple[FileVersion, bytes], bool] = {}
        self._reading = threading.Lock()
        self._allowance_bytes = float(MAX_BYTES_PER_MINUTE)
        self._counted_at = time.monotonic()

    def check(self, file: OpenFile, digest: bytes) -> None:
        """Return if `file` has the BLAKE3 hash `digest`.

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
            verdict = self._read(file, question)
        if not verdict:
            raise ContentChanged

    def _read(self, file: OpenFile, question: tuple[FileVersion, bytes]) -> bool:
        if not self._reading.acquire(timeout=_PATIENCE_SECONDS):
            raise FileBeingHashed
        try:
            if question in self._verdicts:
                return self._verdicts[question]
            self._spend(file.version.size_bytes)
            verdict = file.has_hash(question[1])
            if file.version.is_settled:
                if len(self._verdicts) >= _CAPACITY:
                    self._verdicts.clear()
                self._verdicts[question] = verdict
            return verdict
        finally:
            self._reading.release()

    def _spend(self, size_bytes: int) -> None:
        now = time.monotonic()
        earned = (now - self._counted_at) / 60 * MAX_BYTES_PER_MINUTE
        self._allowance_bytes = min(MAX_BYTES_PER_MINUTE, self._allowance_bytes + earned)
        self._counted_at = now
        if size_bytes > self._allowance_bytes:
            raise FileBeingHashed
        self._allowance_bytes -= size_bytes
