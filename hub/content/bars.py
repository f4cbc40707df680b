"""Bars that show how far work is: in a terminal by rich, in a kernel by tqdm. Imported when there is one to show."""

from __future__ import annotations

import os
import sys
import threading
import time
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from tqdm import tqdm

#: Beside what is told there is room for a bar.
_BAR_COLUMNS = 80

#: How often a terminal is written to.
_REFRESH_SECONDS = 0.1


class Bar(Protocol):
    """Shows how far work is."""

    def show(self, done_bytes: int, total_bytes: int | None, files: int) -> None:
        """Show so many bytes of a total, None while that is not known, and so many files."""

    def close(self) -> None:
        """Show what was told last, and nothing more."""


def make_bar(what: str, done_bytes: int) -> Bar | None:
    """Return a bar where somebody looks: in a kernel, whose stderr is no terminal, and in a terminal."""
    if is_in_kernel():
        return _TqdmBar(what, done_bytes) if find_spec("tqdm") is not None else None
    can_move = os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
    if sys.stderr is None or not sys.stderr.isatty() or not can_move:
        return None
    return _RichBar(what, done_bytes)


class _TqdmBar:
    def __init__(self, what: str, done_bytes: int) -> None:
        name = "tqdm.notebook" if find_spec("ipywidgets") is not None else "tqdm"
        # tqdm's own lock is shared with processes, and a child that is killed while it holds it stops them all. Its
        # thread that watches would be one more to mind in a fork.
        own = {"_lock": threading.RLock(), "monitor_interval": 0}
        kind: type[tqdm[Any]] = type("Bar", (import_module(name).tqdm,), own)
        self._bar = kind(desc=what, initial=done_bytes, unit="B", unit_scale=True)

    def show(self, done_bytes: int, total_bytes: int | None, files: int) -> None:
        self._bar.total = total_bytes
        self._bar.set_postfix_str(f"{files:,} files" if files else "", refresh=False)
        self._bar.update(done_bytes - self._bar.n)

    def close(self) -> None:
        self._bar.close()


class _RichBar:
    def __init__(self, what: str, done_bytes: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        # What the command prints meanwhile goes above the bar, in lines as long as they are.
        console = Console(file=sys.stderr, soft_wrap=True)
        words = TextColumn("{task.description}"), TextColumn("{task.fields[told]}")
        has_room = console.width >= _BAR_COLUMNS
        self._progress = Progress(
            *((words[0], BarColumn(), words[1], TimeRemainingColumn()) if has_room else words),
            console=console,
            redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
            # A thread that does that would be one more to mind in a fork.
            auto_refresh=False,
        )
        self._task = self._progress.add_task(what, total=None, completed=done_bytes, told="")
        self._told: tuple[int, int | None, int] = (done_bytes, None, 0)
        self._shows_again_at = 0.0

    def show(self, done_bytes: int, total_bytes: int | None, files: int) -> None:
        self._told = (done_bytes, total_bytes, files)
        now = time.monotonic()
        if now >= self._shows_again_at:
            self._shows_again_at = now + _REFRESH_SECONDS
            self._update()
            if self._progress.live.is_started:
                self._progress.refresh()
            else:
                self._progress.start()

    def close(self) -> None:
        self._update()
        self._progress.stop()

    def _update(self) -> None:
        from rich.filesize import decimal

        done_bytes, total_bytes, files = self._told
        told = []
        if total_bytes:
            told.append(f"{done_bytes * 100 // total_bytes}% of {decimal(total_bytes)}")
        elif done_bytes:
            told.append(decimal(done_bytes))
        if files:
            told.append(f"{files:,} files")
        self._progress.update(self._task, total=total_bytes, completed=done_bytes, told=", ".join(told))


def is_in_kernel() -> bool:
    """Whether this process itself is a kernel; what a notebook starts with ``!`` is none, and its stdout is read."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None
