"""A progress bar for work that lasts, where somebody may look."""

from __future__ import annotations

import math
import sys
import threading
import time
from importlib import import_module
from importlib.util import find_spec
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm

#: Work that is over by then shows no bar.
_DELAY_SECONDS = 1.0


class Progress:
    """Tells how much has been hashed, from any thread; a context manager.

    It tells a terminal and a notebook, by tqdm where that is installed.

    Parameters
    ----------
    what : str
        What is being done.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._bar: tqdm[Any] | None = None
        # Not before: a notebook keeps all that is made for a bar, shown or not, for as long as its kernel lives.
        self._makes_bar_at = time.monotonic() + _DELAY_SECONDS
        self._files = 0
        self._hashed_bytes = 0
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
        """Tell of bytes that are to be hashed."""
        self._expected_bytes += size_bytes

    def expect_no_more(self) -> None:
        """Tell that all has been seen; only now it can be said how much is left."""
        with self._lock:
            self._total_bytes = self._expected_bytes
            self._show()

    def add(self, size_bytes: int) -> None:
        """Tell of bytes that have been hashed."""
        with self._lock:
            self._hashed_bytes += size_bytes
            self._show()

    def _show(self) -> None:
        if self._bar is None:
            if time.monotonic() < self._makes_bar_at:
                return
            self._makes_bar_at = math.inf
            self._bar = _make_bar(self._what, self._hashed_bytes)
            if self._bar is None:
                return
        self._bar.total = self._total_bytes
        self._bar.set_postfix_str(f"{self._files:,} files" if self._files else "", refresh=False)
        self._bar.update(self._hashed_bytes - self._bar.n)


def _make_bar(what: str, hashed_bytes: int) -> tqdm[Any] | None:
    """Return a bar where somebody looks: in a kernel, whose stderr is no terminal, and in a terminal."""
    in_kernel = _is_in_kernel()
    in_terminal = sys.stderr is not None and sys.stderr.isatty()
    if not (in_kernel or in_terminal) or find_spec("tqdm") is None:
        return None
    name = "tqdm.notebook" if in_kernel and find_spec("ipywidgets") is not None else "tqdm"
    # tqdm's own lock is shared with processes, and a child that is killed while it holds it stops them all. Its thread
    # that watches would be one more to mind in a fork.
    own = {"_lock": threading.RLock(), "monitor_interval": 0}
    kind: type[tqdm[Any]] = type("Bar", (import_module(name).tqdm,), own)
    return kind(desc=what, initial=hashed_bytes, unit="B", unit_scale=True)


def _is_in_kernel() -> bool:
    """Whether this process itself is a kernel; what a notebook starts with ``!`` is none, and its stdout is read."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None
