"""Tables for a terminal, by rich; imported only where there is one."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from typing import IO, NamedTuple

from rich.console import Console, JustifyMethod, OverflowMethod
from rich.table import Table
from rich.text import Text

from hub.registration import Registration
from kdr_wsgi.commands.common import describe_readers, printable, printable_path
from kdr_wsgi.commands.keys import shorten
from kdr_wsgi.commands.rows import Row

#: In fewer columns a table has no room for paths.
TABLE_COLUMNS = 60

_UNITS = ("B", "kB", "MB", "GB", "TB")


class Column(NamedTuple):
    """A column of a table: its head, and what it says of a row.

    Attributes
    ----------
    head : str
    cell : callable
    is_number : bool
        It stands at the right.
    folds : bool
        Where it has no room it goes on in the next line.
    explains_itself : bool
        Whether its cells can be understood without the head.
    """

    head: str
    cell: Callable[[Row], Text]
    is_number: bool = False
    folds: bool = False
    explains_itself: bool = True


def make_console(file: IO[str] | None = None) -> Console:
    """Return a console that writes text as it is, on stdout or `file`."""
    # Of a dumb terminal rich takes 80 columns for granted.
    width = shutil.get_terminal_size().columns
    return Console(file=file, width=width, highlight=False, markup=False, emoji=False)


def columns_of(rows: Sequence[Row]) -> list[Column]:
    """Return what there is to tell of registrations, but for key and path; of their use where that is counted."""
    columns = [
        Column("KIND", lambda row: Text(row.registration.kind)),
        Column("WHO MAY READ", lambda row: _readers(row.registration), folds=True),
        Column("ENDS", lambda row: _end(row.registration)),
    ]
    if any(row.usage for row in rows):
        columns += [
            Column("HITS", _hits, is_number=True, explains_itself=False),
            Column("SENT", _sent, is_number=True, explains_itself=False),
            Column("LAST READ", lambda row: Text(describe_access(row)), explains_itself=False),
        ]
    return columns


def make_table(
    rows: Sequence[Row], columns: Sequence[Column], keys: Callable[[str], str], *, is_cut: bool = False
) -> Table:
    """Return a table of `rows`, with each key as `keys` has it, and the path at the end of each line.

    Where a cell has no room it goes on in the next line; with `is_cut` it ends, and each row is a line.
    """
    overflow: OverflowMethod = "crop" if is_cut else "fold"
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("KEY", overflow=overflow)
    for column in columns:
        justify: JustifyMethod = "right" if column.is_number else "left"
        table.add_column(column.head, overflow=overflow, no_wrap=not column.folds, justify=justify)
    table.add_column("PATH", overflow=overflow)
    for row in rows:
        # The columns may become narrower than that, the widest first, which those may not whose cells cannot wrap.
        key = Text(printable(keys(row.registration.key)), style="cyan", no_wrap=is_cut)
        path = _path(row)
        path.no_wrap = is_cut
        table.add_row(key, *(column.cell(row) for column in columns), path)
    return table


def print_rows(console: Console, rows: Sequence[Row], *, is_wide: bool) -> None:
    """Print registrations; hashed keys as short as they still are one's own, where the whole ones have no room.

    With `is_wide` all is whole, and each row a line.
    """
    columns = columns_of(rows)
    table = make_table(rows, columns, lambda key: key)
    width = console.measure(table, options=console.options.update(width=1 << 20)).maximum
    if is_wide or width <= console.width:
        console.width = max(width, console.width)
        console.print(table, soft_wrap=is_wide)
        return
    short = shorten([row.registration.key for row in rows])
    if console.width >= TABLE_COLUMNS:
        console.print(make_table(rows, columns, short.__getitem__))
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
    return Text("missing: ", style="red").append_text(path) if row.published.is_missing else path


def _readers(registration: Registration) -> Text:
    style = "" if registration.visibility == "private" else "yellow"
    return Text(printable(describe_readers(registration)), style=style)


def _end(registration: Registration) -> Text:
    if registration.expires_at is None:
        return Text("never", style="dim")
    if registration.is_expired():
        return Text("expired", style="red")
    return Text(f"in {describe_span(registration.expires_at - time.time())}")
