"""Directives that make the reference of commands and settings from the program itself."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_id

from kdr_wsgi import cli
from kdr_wsgi.settings import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sphinx.application import Sphinx


def find_parser() -> argparse.ArgumentParser:
    """Return the parser of the command `kdr`: the only place that knows where it is made."""
    return cli.make_parser()


class Commands(SphinxDirective):
    """``kdr-commands``: a section for each command, with its usage and its options."""

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        return [self._describe(name, parser, help_) for name, help_, parser in _subcommands(find_parser())]

    def _describe(self, name: str, parser: argparse.ArgumentParser, help_: str) -> nodes.section:
        title = f"kdr {name}"
        section = nodes.section(names=[nodes.fully_normalize_name(title)])
        section["ids"].append(make_id(self.env, self.state.document, "", title))
        section += nodes.title("", "", nodes.literal(text=title))
        section += nodes.paragraph(text=_sentence(parser.description or help_))
        section += nodes.literal_block(text=_usage(parser), language="text")
        rows = [(nodes.literal(text=_spell(action)), _inline(_help(action, parser))) for action in _told(parser)]
        section += _table(("argument", "meaning"), rows, (30, 70))
        if parser.epilog:
            section += nodes.literal_block(text=parser.epilog, language="text")
        for deeper, help_deeper, inner in _subcommands(parser):
            section += self._describe(f"{name} {deeper}", inner, help_deeper)
        return section


class SettingsTable(SphinxDirective):
    """``kdr-settings``: a table of the variables that the server reads."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        rows = [(nodes.literal(text=setting.name), _inline(setting.help)) for setting in SETTINGS]
        return [_table(("variable", "meaning"), rows, (30, 70))]


def _subcommands(parser: argparse.ArgumentParser) -> list[tuple[str, str, argparse.ArgumentParser]]:
    """Return the name, the line of help and the parser of each command below `parser`."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {told.dest: told.help or "" for told in action._choices_actions}
            return [(name, helps[name], found) for name, found in action.choices.items() if name in helps]
    return []


def _told(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [
        action
        for action in parser._actions
        if action.help != argparse.SUPPRESS
        and not isinstance(action, (argparse._HelpAction, argparse._SubParsersAction))
    ]


def _spell(action: argparse.Action) -> str:
    value = "" if action.nargs == 0 else _value(action)
    return " ".join(filter(None, (", ".join(action.option_strings), value)))


def _value(action: argparse.Action) -> str:
    if isinstance(action.metavar, str):
        return action.metavar
    if action.choices is not None:
        return "|".join(map(str, action.choices))
    return action.dest.upper()


def _help(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    return (action.help or "") % {**vars(action), "prog": parser.prog}


def _usage(parser: argparse.ArgumentParser) -> str:
    # Its lines are as wide as the terminal of whoever builds, which must not change the page.
    formatter = argparse.HelpFormatter(prog=parser.prog, width=88)
    formatter.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups, prefix="")
    return formatter.format_help().strip()


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith(".") else f"{text}."


def _inline(text: str) -> nodes.Node:
    return nodes.inline(text=text)


def _table(head: Sequence[str], rows: Iterable[tuple[nodes.Node, nodes.Node]], widths: tuple[int, int]) -> nodes.table:
    table = nodes.table(classes=["kdr-definitions"])
    group = nodes.tgroup(cols=len(widths))
    table += group
    for width in widths:
        group += nodes.colspec(colwidth=width)
    heads = nodes.thead()
    heads += _row([nodes.Text(text) for text in head])
    body = nodes.tbody()
    for row in rows:
        body += _row(row)
    group += heads
    group += body
    return table


def _row(cells: Iterable[nodes.Node]) -> nodes.row:
    row = nodes.row()
    for cell in cells:
        entry = nodes.entry()
        entry += nodes.paragraph("", "", cell)
        row += entry
    return row


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directives."""
    app.add_directive("kdr-commands", Commands)
    app.add_directive("kdr-settings", SettingsTable)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
