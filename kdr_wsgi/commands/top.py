"""``kdr top``."""

from __future__ import annotations

import argparse
import math
import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import FrameType
from typing import TYPE_CHECKING

from kdr_wsgi.commands import completing
from kdr_wsgi.commands.common import Command, find_hub, is_terminal, printable, printable_path
from kdr_wsgi.commands.rows import Row, Rows, read_rows

if TYPE_CHECKING:
    from rich.console import RenderableType

#: Lines of the screen that are no rows: what stands above the table, its head, and what stands below it.
_OTHER_LINES = 4


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    interval = parser.add_argument(
        "--interval",
        metavar="S",
        type=_parse_interval,
        default=1.0,
        help="seconds from one look to the next (default: 1)",
    )
    completing.set_completer(interval, completing.complete_nothing)


def _parse_interval(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0.1 <= seconds <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 0.1 to 86400")
    return seconds


def _run(options: argparse.Namespace) -> int:
    hub = find_hub(options)
    if not is_terminal(sys.stdout) or os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
        for row in read_rows(hub).rows:
            print(_to_line(row))
        return 0
    _watch(lambda: read_rows(hub), options.interval)
    return 0


def _to_line(row: Row) -> str:
    """Return what is told of a row where there is no terminal to tell it again and again."""
    use = "-  -  -"
    if row.usage is not None:
        read_at = row.usage.last_at
        use = f"{row.usage.hits}  {row.usage.body_bytes}  {'-' if read_at is None else f'{read_at:.0f}'}"
    return f"{printable(row.registration.key)}  {use}  {printable_path(row.registration.root)}"


def _watch(read: Callable[[], Rows], interval_seconds: float) -> None:
    """Show what is registered, again and again, until somebody types q.

    Raises
    ------
    KeyboardInterrupt, SystemExit
        A signal has ended it; the terminal is as it was.
    """
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False, markup=False, emoji=False)
    rates = Rates()
    rows = read()
    rates.learn(rows.rows, time.monotonic())
    with (
        Attention() as attention,
        Live(_screen(rows, rates, console.size), console=console, screen=True, auto_refresh=False) as live,
    ):
        while not attention.is_called_within(interval_seconds):
            rows = read()
            rates.learn(rows.rows, time.monotonic())
            live.update(_screen(rows, rates, console.size), refresh=True)
    if attention.signal == signal.SIGINT:
        raise KeyboardInterrupt
    if attention.signal is not None:
        sys.exit(128 + attention.signal)


class Attention:
    """Waits for somebody who types q, or for a signal to end; a context manager.

    As long as it lasts keys are read as they are typed, and are not shown,
    and a signal interrupts nothing: rich would leave the terminal half drawn.

    Attributes
    ----------
    signal : int or None
        The one that has come.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Attention:
        with ExitStack() as stack:
            self._woken, wakes = os.pipe()
            os.set_blocking(wakes, False)
            for descriptor in (self._woken, wakes):
                stack.callback(os.close, descriptor)
            stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(wakes))
            for number in (signal.SIGINT, signal.SIGTERM):
                stack.callback(signal.signal, number, signal.signal(number, self._take))
            self._listened = [self._woken]
            if is_terminal(sys.stdin):
                stack.callback(termios.tcsetattr, sys.stdin, termios.TCSADRAIN, termios.tcgetattr(sys.stdin))
                tty.setcbreak(sys.stdin)
                self._listened.append(sys.stdin.fileno())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _take(self, number: int, _: FrameType | None) -> None:
        self.signal = number

    def is_called_within(self, seconds: float) -> bool:
        """Wait; return True as soon as somebody types q, a signal comes, or the terminal has gone."""
        until = time.monotonic() + seconds
        while self.signal is None and (left := until - time.monotonic()) > 0:
            for descriptor in select.select(self._listened, [], [], left)[0]:
                read = os.read(descriptor, 64)
                if descriptor != self._woken and (not read or b"q" in read.lower()):
                    return True
        return self.signal is not None


class Rates:
    """How fast registrations are used, from one look to the next."""

    def __init__(self) -> None:
        self._seen: Mapping[str, tuple[int, int]] = {}
        self._seen_at = math.nan
        self._rates: dict[str, tuple[float, float]] = {}

    def learn(self, rows: Sequence[Row], now: float) -> None:
        """Compare what has been used by `now`, in seconds, with what had been the last time."""
        used = {row.registration.key: (row.usage.hits, row.usage.body_bytes) for row in rows if row.usage}
        seconds = now - self._seen_at
        self._rates = {
            # Counts begin anew where a key was revoked and claimed again.
            key: (max(0, hits - self._seen[key][0]) / seconds, max(0, sent - self._seen[key][1]) / seconds)
            for key, (hits, sent) in used.items()
            if key in self._seen and seconds > 0
        }
        self._seen, self._seen_at = used, now

    def of(self, row: Row) -> tuple[float, float]:
        """Return hits and bytes per second."""
        return self._rates.get(row.registration.key, (0.0, 0.0))

    def total(self) -> tuple[float, float]:
        """Return hits and bytes per second of all."""
        return sum(hits for hits, _ in self._rates.values()), sum(sent for _, sent in self._rates.values())


def _screen(looked_at: Rows, rates: Rates, size: tuple[int, int]) -> RenderableType:
    """Return what a terminal of this size shows: what is used most comes first."""
    from rich.console import Group
    from rich.text import Text

    from kdr_wsgi.commands import keys, tables

    rows, trouble = looked_at
    width, height = size
    columns = tables.columns_of(rows)[::-1]
    head = Text(f"{len(rows):,} registered", style="bold", no_wrap=True, overflow="crop")
    if any(row.usage for row in rows):
        hits, sent_bytes = rates.total()
        head.append(f", {hits:,.1f} requests/s, {tables.describe_bytes(sent_bytes)}/s")
        columns[:0] = [
            tables.Column("REQ/S", lambda row: Text(f"{rates.of(row)[0]:,.1f}"), is_number=True),
            tables.Column("SENT/S", lambda row: Text(f"{tables.describe_bytes(rates.of(row)[1])}/s"), is_number=True),
        ]
    short = keys.shorten([row.registration.key for row in rows])
    order = sorted(rows, key=lambda row: (rates.of(row), row.usage.last_at or 0.0 if row.usage else 0.0), reverse=True)
    room = max(1, height - _OTHER_LINES)
    shown = order[:room]
    table = tables.make_lines(shown, columns, short.__getitem__, width)
    rest = f"and {len(rows) - room:,} more; " if len(rows) > room else ""
    foot = Text(f"{rest}q: end", style="dim")
    return Group(head, Text(trouble, style="red"), table, foot)


COMMAND = Command(
    description="Watch what is registered, and how it is used, what is used most first. q ends it. Without a terminal "
    "it prints one line for each and ends: key, requests, bytes, the time of the last (seconds since 1970), path.",
    examples=(("kdr top", ""), ("kdr top --interval 5", "with a look every 5 seconds")),
    add_arguments=_add_arguments,
    run=_run,
)
