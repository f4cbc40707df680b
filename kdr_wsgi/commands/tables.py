"""Tables for a terminal, by rich; imported only where there is one."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from typing import IO, NamedTuple

from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from hub.registration import Registration
from kdr_wsgi.commands.common import describe_readers, printable, printable_path
from kdr_wsgi.commands.keys import shorten
from kdr_wsgi.commands.rows import Row

#: So much of a path tells it from others.
PATH_COLUMNS = 24

#: Between two columns.
_GAP = 2

_MISSING = "missing: "

_UNITS = ("B", "kB", "MB", "GB", "TB")


class Column(NamedTuple):
    """A column of a table: its head, and what it says of a row.

    Attributes
    ----------
    head : str
    cell : callable
    is_number : bool
        It stands at the right.
    explains_itself : bool
        Whether its cells can be understood without the head.
    """

    head: str
    cell: Callable[[Row], Text]
    is_number: bool = False
    explains_itself: bool = True

    @property
    def justify(self) -> JustifyMethod:
        """At which side its cells stand."""
        return "right" if self.is_number else "left"


def make_console(file: IO[str] | None = None) -> Console:
    """Return a console that writes text as it is, on stdout or `file`."""
    # Of a dumb terminal rich takes 80 columns for granted, unless both are given.
    width, height = shutil.get_terminal_size()
    return Console(file=file, width=width, height=height, highlight=False, markup=False, emoji=False)


def columns_of(rows: Sequence[Row]) -> list[Column]:
    """Return what there is to tell of registrations, but for key and path; of their use where that is counted."""
    columns = [
        Column("KIND", lambda row: Text(row.registration.kind)),
        Column("WHO MAY READ", lambda row: _readers(row.registration)),
        Column("ENDS", lambda row: _end(row.registration)),
    ]
    if any(row.usage for row in rows):
        columns += [
            Column("HITS", _hits, is_number=True, explains_itself=False),
            Column("SENT", _sent, is_number=True, explains_itself=False),
            Column("LAST READ", lambda row: Text(describe_access(row)), explains_itself=False),
        ]
    return columns


def make_table(rows: Sequence[Row], columns: Sequence[Column], keys: Callable[[str], str]) -> Table:
    """Return a table of `rows`, with each key as `keys` has it, and the path at the end of each line."""
    table = _empty_table()
    table.add_column("KEY", no_wrap=True)
    for column in columns:
        table.add_column(column.head, no_wrap=True, justify=column.justify)
    table.add_column("PATH", no_wrap=True)
    for row in rows:
        key = Text(printable(keys(row.registration.key)), style="cyan")
        table.add_row(key, *(column.cell(row) for column in columns), _path(row))
    return table


def _empty_table() -> Table:
    return Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")


def make_lines(rows: Sequence[Row], columns: Sequence[Column], keys: Callable[[str], str], width: int) -> Table:
    """Return a table whose rows are a line each in a terminal of `width` columns.

    Parameters
    ----------
    rows : sequence of Row
    columns : sequence of Column
        As many of them are shown, the first first, as leave room for what tells paths apart.
    keys : callable
        Gives each key as it is shown.
    width : int

    Returns
    -------
    Table
        Paths that have no room have their ends.
    """
    longest = max((_path(row).cell_len for row in rows), default=0)
    head = Column("KEY", lambda row: Text(printable(keys(row.registration.key)), style="cyan"))
    shown: list[tuple[Column, int]] = []
    left = width
    for column in (head, *columns):
        taken = max(len(column.head), *(column.cell(row).cell_len for row in rows), 0) + _GAP
        if shown and left - taken < min(longest, PATH_COLUMNS):
            break
        shown.append((column, taken - _GAP))
        left -= taken
    table = _empty_table()
    for column, room in shown:
        table.add_column(
            column.head, overflow="crop", no_wrap=True, justify=column.justify, max_width=max(1, min(room, width))
        )
    # Of columns without room rich would make all narrower.
    if left > len("PATH"):
        table.add_column("PATH", overflow="crop", no_wrap=True)
    for row in rows:
        cells = [column.cell(row) for column, _ in shown]
        table.add_row(*cells, *([_end_of(_path(row), left)] if left > len("PATH") else []))
    return table


def _end_of(path: Text, width: int) -> Text:
    """Return what there is room for of a path, whose end tells it from others; that it is missing stays."""
    if path.cell_len <= width:
        return path
    kept = len(_MISSING) if path.plain.startswith(_MISSING) and width > 2 * len(_MISSING) else 0
    start = kept + 1
    while path[start:].cell_len > width - kept - 1:
        start += 1
    return path[:kept].append("\N{HORIZONTAL ELLIPSIS}").append_text(path[start:])


def print_rows(console: Console, rows: Sequence[Row], *, is_wide: bool) -> None:
    """Print registrations; hashed keys as short as they still are one's own, where the whole ones have no room.

    Where a table has no room for its paths each has a line of its own. With `is_wide` all is whole, each row a line.
    """
    columns = columns_of(rows)
    table = make_table(rows, columns, lambda key: key)
    width = _width(console, table)
    if is_wide or width <= console.width:
        console.width = max(width, console.width)
        console.print(table, soft_wrap=is_wide)
        return
    short = shorten([row.registration.key for row in rows])
    table = make_table(rows, columns, short.__getitem__)
    if _width(console, table) <= console.width:
        console.print(table)
    else:
        for row in rows:
            head = Text().append(printable(short[row.registration.key]), style="cyan")
            for column in columns:
                cell = column.cell(row)
                head.append("  ").append("" if column.explains_itself else f"{column.head.lower()} ").append_text(cell)
            console.print(head, soft_wrap=True)
            console.print(Text("  ").append_text(_path(row)), soft_wrap=True)
    if any(short[key] != key for key in short):
        hint = "Hashed keys are cut: kdr open, revoke and verify take them so; kdr list --wide has them whole."
        console.print(Text(hint, style="dim"))


def _width(console: Console, table: Table) -> int:
    """Return the columns that a table takes, if it may."""
    return console.measure(table, options=console.options.update(width=1 << 20)).maximum


def describe_bytes(size_bytes: float) -> str:
    """Return a number of bytes as people read it."""
    size = float(size_bytes)
    for unit in _UNITS:
        if size < 999.5 or unit == _UNITS[-1]:
            break
        size /= 1000
    return f"{size:,.0f} {unit}" if unit == "B" or size >= 99.95 else f"{size:.1f} {unit}"


def describe_span(seconds: float) -> str:
    """Return a span of time as people read it."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.0f} s"


def describe_access(row: Row) -> str:
    """Return when a registration was read last, seen from now."""
    if row.usage is None or row.usage.last_at is None:
        return "never"
    return f"{describe_span(max(0.0, time.time() - row.usage.last_at))} ago"


def _hits(row: Row) -> Text:
    return Text(f"{row.usage.hits:,}" if row.usage else "")


def _sent(row: Row) -> Text:
    return Text(describe_bytes(row.usage.body_bytes) if row.usage else "")


def _path(row: Row) -> Text:
    path = Text(printable_path(row.registration.root))
    return Text(_MISSING, style="red").append_text(path) if row.published.is_missing else path


def _readers(registration: Registration) -> Text:
    style = "" if registration.visibility == "private" else "yellow"
    return Text(printable(describe_readers(registration)), style=style)


def _end(registration: Registration) -> Text:
    if registration.expires_at is None:
        return Text("when revoked", style="dim")
    if registration.is_expired():
        return Text("expired", style="red")
    return Text(f"in {describe_span(registration.expires_at - time.time())}")
