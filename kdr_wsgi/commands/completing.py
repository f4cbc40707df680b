"""What a shell completes; nothing here is imported from argcomplete before a shell asks."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable
from typing import Any

#: What a shell that asks sets: https://kislyuk.github.io/argcomplete
_ASKED = "_ARGCOMPLETE"

Completer = Callable[..., Iterable[str]]


def set_completer(action: argparse.Action, completer: Completer) -> None:
    """Have `completer` called for an argument, as argcomplete does: with ``prefix`` and ``parsed_args``."""
    action.completer = completer  # type: ignore[attr-defined]  # argcomplete looks there


def one_of(*choices: str) -> Completer:
    """Return a completer for what is usual, where more is possible."""

    def complete(prefix: str, **_: Any) -> list[str]:
        return [choice for choice in choices if choice.startswith(prefix)]

    return complete


def complete_nothing(**_: Any) -> list[str]:
    """Complete nothing, where argcomplete would complete files."""
    return []


def is_asked() -> bool:
    """Whether a shell asks what may follow."""
    return _ASKED in os.environ


def words() -> list[str]:
    """Return what stands on the command line that a shell asks about."""
    return os.environ.get("COMP_LINE", "").split()


def answer_shell(parser: argparse.ArgumentParser) -> None:
    """Answer a shell that asks what may follow, and end."""
    import argcomplete

    # Options only where a dash is typed: mostly it is a key that is looked for.
    argcomplete.autocomplete(parser, always_complete_options=False)
