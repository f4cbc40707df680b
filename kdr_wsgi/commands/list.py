"""``kdr list``."""

from __future__ import annotations

import argparse
import json
import sys

from kdr_wsgi.commands.common import (
    Command,
    describe_end,
    describe_readers,
    find_hub,
    is_terminal,
    printable,
    printable_path,
)
from kdr_wsgi.commands.rows import Row, read_rows
from kdr_wsgi.overview import tell


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="print JSON, with the URLs and headers")
    shape.add_argument("--wide", action="store_true", help="on a terminal: whole keys, each registration on one line")


def _run(options: argparse.Namespace) -> int:
    rows, trouble = read_rows(find_hub(options))
    if trouble:
        print(f"kdr: warning: {trouble}", file=sys.stderr)
    if options.json:
        print(json.dumps([_to_json(row) for row in rows], indent=1))
    elif not rows:
        print("nothing is registered; publish something with: kdr publish PATH", file=sys.stderr)
    elif is_terminal(sys.stdout):
        from kdr_wsgi.commands import tables

        tables.print_rows(tables.make_console(), rows, is_wide=options.wide)
    else:
        for row in rows:
            print(_to_line(row))
    return 0


def _to_line(row: Row) -> str:
    """Return what scripts read; it stays as it is."""
    registration = row.registration
    key, root = printable(registration.key), printable_path(registration.root)
    return f"{key}  {registration.kind}  {describe_readers(registration)}  {describe_end(registration)}  {root}"


def _to_json(row: Row) -> dict[str, object]:
    return {**tell(row.published, row.url), "headers": dict(row.registration.headers)}


COMMAND = Command(
    description="Show what is registered: key, kind, who may read (and whether it is trusted), end, path. On a "
    "terminal it is a table; elsewhere a line each, whose parts have two spaces between them.",
    examples=(
        ("kdr list", ""),
        ("kdr list --wide", "whole keys, for copying"),
        ("kdr list --json", "for programs"),
    ),
    add_arguments=_add_arguments,
    run=_run,
)
