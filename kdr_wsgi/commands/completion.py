"""``kdr completion``."""

from __future__ import annotations

import argparse

from kdr_wsgi.commands.common import Command

#: Where each shell takes it from.
SHELLS = {
    "bash": 'eval "$(kdr completion bash)"',
    "zsh": 'eval "$(kdr completion zsh)"',
    "fish": "kdr completion fish | source",
    "tcsh": "eval `kdr completion tcsh`",
}

_FILES = {"bash": "~/.bashrc", "zsh": "~/.zshrc", "fish": "~/.config/fish/config.fish", "tcsh": "~/.tcshrc"}


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", metavar="SHELL", choices=tuple(SHELLS), help=", ".join(SHELLS))


def _run(options: argparse.Namespace) -> int:
    from argcomplete.shell_integration import shellcode

    print(shellcode(["kdr"], shell=options.shell))
    return 0


COMMAND = Command(
    description="Print the lines by which a shell completes commands, options, keys and paths. A key is completed "
    "from the registry on this machine, which is only read.",
    examples=tuple((line, f"in {_FILES[shell]}") for shell, line in SHELLS.items()),
    add_arguments=_add_arguments,
    run=_run,
    notes="In zsh these come first: autoload -U compinit && compinit",
)
