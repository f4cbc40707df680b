"""The command `kdr`."""

from __future__ import annotations

import argparse
import difflib
import io
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from importlib import import_module

from hub import HubError, __version__
from kdr_wsgi.commands import COMMANDS, GROUPS, completing
from kdr_wsgi.commands.common import Command, CommandError, parse_registry

_DESCRIPTION = "Publish files of this machine to a browser, by byte ranges."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 told why not on stderr, 2 wrong usage, 130 interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A key or a path may hold what the terminal's encoding cannot express.
            stream.reconfigure(errors="backslashreplace")
    if completing.is_asked():
        completing.answer_shell(make_parser(completing.words()))
    parser = make_parser(arguments[:1])
    _check_command(parser, arguments)
    options = parser.parse_args(arguments)
    try:
        code = int(options.run(options))
        # Here, where a failure is still told; Python's own flush at exit only complains.
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except (HubError, CommandError) as error:
        print(f"kdr: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # `kdr list | head`: nobody reads on. What is left in the buffer must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"kdr: {error}", file=sys.stderr)
        return 1


def make_parser(names: Iterable[str] = COMMANDS) -> argparse.ArgumentParser:
    """Return a parser that knows all commands, and of those in `names` what they take."""
    width = shutil.get_terminal_size().columns - 2
    parser = argparse.ArgumentParser(
        prog="kdr",
        usage="kdr [--help] [--version] COMMAND ...",
        # With the list of commands, in groups, which argparse does not know.
        description=f"{_fill(_DESCRIPTION, width)}\n\n{_describe_commands(width)}",
        epilog=_fill("kdr COMMAND --help tells more, with examples.", width),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"kdr {__version__}")
    subparsers = parser.add_subparsers(prog="kdr", metavar="COMMAND", required=True, help=argparse.SUPPRESS)
    for name in COMMANDS:
        command = _load(name) if name in names else None
        subparser = subparsers.add_parser(
            name,
            help=COMMANDS[name],
            description=_fill(command.description, width) if command else None,
            epilog=_describe_examples(command, width) if command else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if command:
            _add_arguments(command, subparser)
    return parser


def _load(name: str) -> Command:
    """Import a command: not before, so that none waits for what another one needs."""
    command = import_module(f"kdr_wsgi.commands.{name}").COMMAND
    assert isinstance(command, Command)
    return command


def _add_arguments(command: Command, parser: argparse.ArgumentParser) -> None:
    command.add_arguments(parser)
    parser.add_argument(
        "--registry",
        metavar="PATH",
        type=parse_registry,
        help="the registry's file, or postgresql://USER@HOST/DATABASE (default: KDR_REGISTRY, else kdr/registry.sqlite "
        "below Jupyter's runtime directory); publish, list, open, top and revoke use a hub's shared relay server "
        "instead where KDR_SERVICE_URL names one",
    )
    parser.set_defaults(run=command.run)


def _check_command(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """End with the help where no command is given, and with what is meant where one is misspelt."""
    if not arguments:
        parser.print_help(sys.stderr)
        parser.exit(2)
    name = arguments[0]
    if not name.startswith("-") and name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        parser.error(f"there is no command {name!r}; " + (f"did you mean {near[0]}?" if near else "see kdr --help"))


def _describe_commands(width: int) -> str:
    """Return the list of commands, in groups."""
    indent = max(map(len, COMMANDS)) + 4
    lines = []
    for title, commands in GROUPS.items():
        lines.append(f"{title}:")
        lines += [_fill(f"  {name:{indent - 2}}{told}", width, indent) for name, told in commands.items()]
        lines.append("")
    return "\n".join(lines).rstrip()


def _describe_examples(command: Command, width: int) -> str:
    """Return what stands at the end of a command's help."""
    column = max(len(line) for line, _ in command.examples) + 4
    has_room = all(column + len(f"# {purpose}") <= width for _, purpose in command.examples)
    lines = ["examples:"]
    for line, purpose in command.examples:
        if has_room or not purpose:
            lines.append(f"  {line:{column - 2}}{purpose and f'# {purpose}'}".rstrip())
        else:
            lines += [textwrap.indent(_fill(purpose, width - 4), "  # "), f"  {line}"]
    if command.notes:
        lines += ["", *(_fill(note, width, 4) for note in command.notes.splitlines())]
    return "\n".join(lines)


def _fill(text: str, width: int, indent: int = 0) -> str:
    return textwrap.fill(
        text, max(width, 20), subsequent_indent=" " * indent, break_on_hyphens=False, break_long_words=False
    )
