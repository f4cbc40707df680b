"""A progress bar for work that lasts, where somebody may look."""

from __future__ import annotations

import sys
import threading
from importlib.util import find_spec
from types import TracebackType
from typing import TYPE_CHECKING, Any

from hub.settings import is_kernel

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
        self._bar = _make_bar(what)
        self._files = 0
        self._size_bytes = 0
        self._lock = threading.Lock()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def expect(self, size_bytes: int) -> None:
        """Tell of bytes that are to be hashed."""
        if self._bar is not None:
            self._size_bytes += size_bytes
            self._bar.total = self._size_bytes

    def pass_files(self, files: int) -> None:
        """Tell of files that have been seen."""
        if self._bar is not None:
            self._files += files
            self._bar.set_postfix_str(f"{self._files:,} files", refresh=False)
            self.add(0)

    def add(self, size_bytes: int) -> None:
        """Tell of bytes that have been hashed."""
        if self._bar is not None:
            with self._lock:
                self._bar.update(size_bytes)


def _make_bar(what: str) -> tqdm[Any] | None:
    if find_spec("tqdm") is None:
        return None
    options: dict[str, Any] = {"desc": what, "total": 0, "unit": "B", "unit_scale": True, "delay": _DELAY_SECONDS}
    if is_kernel():
        if find_spec("ipywidgets") is not None:
            from tqdm.notebook import tqdm as notebook_bar

            return notebook_bar(**options)
        # A kernel's stderr is no terminal, and yet somebody looks.
        options["disable"] = False
    else:
        options["disable"] = not sys.stderr.isatty()
    from tqdm import tqdm as text_bar

    return text_bar(**options)
