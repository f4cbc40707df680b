"""``kdr revoke``."""

from __future__ import annotations

import argparse
import sys

from kdr_wsgi.commands.common import Command, CommandError, find_hub, is_terminal, printable
from kdr_wsgi.commands.keys import SHORT_DIGITS, add_key, find_hash, keys_of


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_key(parser, f"as kdr list shows it; of a hash at least {SHORT_DIGITS} digits are enough, a word must be whole")


def _run(options: argparse.Namespace) -> int:
    hub = find_hub(options)
    key = find_hash(options.key, keys_of(hub))
    if not hub.registrar.revoke(key):
        raise CommandError(
            f"the key {options.key!r} is not registered; kdr list shows what is, whole, or 8 digits of a hash"
        )
    if is_terminal(sys.stderr):
        print(f"revoked {printable(key)}", file=sys.stderr)
    return 0


COMMAND = Command(
    description="End a registration at once: nobody can read it any more. The files stay.",
    examples=(("kdr revoke cube", ""),),
    add_arguments=_add_arguments,
    run=_run,
)
