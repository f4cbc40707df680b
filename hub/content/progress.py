"""A progress bar for work that lasts, where somebody may look."""

from __future__ import annotations

import math
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hub.content.bars import Bar

#: Work that is over by then shows no bar.
_DELAY_SECONDS = 1.0


class Progress:
    """Tells how much has been done, from any thread; a context manager.

    It tells a terminal, and where tqdm is installed a notebook.

    Parameters
    ----------
    what : str
        What is being done.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._bar: Bar | None = None
        # Not before: a notebook keeps all that is made for a bar, shown or not, for as long as its kernel lives.
        self._makes_bar_at = time.monotonic() + _DELAY_SECONDS
        self._files = 0
        self._done_bytes = 0
        self._expected_bytes = 0
        self._total_bytes: int | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._makes_bar_at = math.inf
            if self._bar is not None:
                self._bar.close()
                self._bar = None

    def pass_files(self, files: int) -> None:
        """Tell of files that have been seen."""
        with self._lock:
            self._files += files
            self._show()

    def expect(self, size_bytes: int) -> None:
        """Tell of bytes that are to be hashed, or copied."""
        self._expected_bytes += size_bytes

    def expect_no_more(self) -> None:
        """Tell that all has been seen; only now it can be said how much is left."""
        with self._lock:
            self._total_bytes = self._expected_bytes
            self._show()

    def add(self, size_bytes: int) -> None:
        """Tell of bytes that have been."""
        with self._lock:
            self._done_bytes += size_bytes
            self._show()

    def _show(self) -> None:
        if self._bar is None:
            if time.monotonic() < self._makes_bar_at:
                return
            self._makes_bar_at = math.inf
            from hub.content.bars import make_bar  # Here, since most work is over before.

            self._bar = make_bar(self._what, self._done_bytes)
            if self._bar is None:
                return
        self._bar.show(self._done_bytes, self._total_bytes, self._files)
