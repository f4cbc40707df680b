"""``kdr doctor``."""

from __future__ import annotations

import argparse
import sys

from kdr_wsgi.commands.common import Command, is_terminal, printable, registry_location

_STYLES = {"ok": "green", "note": "yellow", "bad": "bold red"}


def _add_arguments(_parser: argparse.ArgumentParser) -> None:
    pass


def _run(options: argparse.Namespace) -> int:
    from kdr_wsgi.doctor import examine

    is_bad = False
    for finding in examine(registry_location(options)):
        _print_finding(finding.level, printable(finding.text))
        is_bad |= finding.level == "bad"
    return 1 if is_bad else 0


def _print_finding(level: str, text: str) -> None:
    """Print a finding in one line, which a terminal may fold, so that what it says to run can be copied."""
    if not is_terminal(sys.stdout):
        print(f"{level:5} {text}")
        return
    from rich.text import Text

    from kdr_wsgi.commands.tables import make_console

    make_console().print(Text().append(f"{level:5}", style=_STYLES[level]).append(f" {text}"), soft_wrap=True)


COMMAND = Command(
    description="Examine the Jupyter extension, registry, permissions, servers and paths: a line for each, with ok, "
    "note or bad, and what to do; exit code 1 if anything is bad.",
    examples=(("kdr doctor", ""),),
    add_arguments=_add_arguments,
    run=_run,
)
