"""The figures as tables in Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.common import shown, write_figures
from benchmarks.figures import Column, Figures, Row
from benchmarks.targets import TARGETS


def as_markdown(figures: Figures, about: dict[str, Any], notes: dict[str, str]) -> str:
    """Return all tables, the targets last.

    Parameters
    ----------
    about : dict
        How it was measured.
    notes : dict of str to str
        By table: what its reader needs to know.
    """
    tables = list(dict.fromkeys(table for column in figures for table in column.tables))
    parts = ["# Benchmarks", _sentence(about)]
    for table in tables:
        columns = [column for column in figures if table in column.tables]
        parts += [f"## {table}", *filter(None, [notes.get(table)]), _table(columns), *_failures(columns)]
    parts += ["## Targets", _targets(figures)]
    return "\n\n".join(parts) + "\n"


def _sentence(about: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in about["packages"].items())
    return (
        f"{about['cores']} cores, Python {about['python']}, {versions}. Medians of {about['rounds']} x "
        f"{about['seconds']} s; every server had its turn in every round. In brackets: the p99 in ms. Only ratios "
        "within one run mean something."
    )


def _table(columns: list[Column]) -> str:
    names = list(dict.fromkeys(name for column in columns for name in column.rows))
    heads = [f"{column.title}, {column.unit}" for column in columns]
    rows = [[name, *(_cell(column, column.rows.get(name)) for column in columns)] for name in names]
    return _lines(["", *heads], rows)


def _cell(column: Column, row: Row | None) -> str:
    if row is None:
        return ""
    if row.median is None:
        return "failed" if row.failure else "-"
    text = shown(row.median, f",.{column.digits}f")
    # A server that answers one question in a second has no percentiles to speak of.
    p99 = f" ({shown(row.p99_ms, ',.1f')})" if row.p99_ms is not None else ""
    wrong = f", {row.failed:,} failed" if row.failed else ""
    return f"{text}{p99}{wrong}"


def _failures(columns: Iterable[Column]) -> list[str]:
    reasons: dict[tuple[str, str], list[str]] = {}
    for column in columns:
        for name, row in column.rows.items():
            if row.failure:
                reasons.setdefault((name, row.failure), []).append(column.title)
    lines = [f"- {name} ({'; '.join(titles)}): {reason}" for (name, reason), titles in reasons.items()]
    return ["\n".join(lines)] if lines else []


def _targets(figures: Figures) -> str:
    rows = [
        [target.title, f"{target.at_least:.2f}", shown(target.ratio(figures), ".2f"), target.verdict(figures)]
        for target in TARGETS
    ]
    return _lines(["kdr-wsgi", "at least", "measured", ""], rows)


def _lines(heads: list[str], rows: list[list[str]]) -> str:
    """Return a table whose columns are as wide as they need to be, for a terminal."""
    widths = [max(map(len, cells)) for cells in zip(heads, *rows, strict=True)]

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([line(heads), rule, *map(line, rows)])


def write(figures: Figures, about: dict[str, Any], notes: dict[str, str], folder: Path) -> str:
    """Write ``benchmarks.md`` and ``benchmarks.json``; return the first."""
    folder.mkdir(parents=True, exist_ok=True)
    text = as_markdown(figures, about, notes)
    (folder / "benchmarks.md").write_text(text)
    targets = [
        {**asdict(target), "ratio": target.ratio(figures), "verdict": target.verdict(figures)} for target in TARGETS
    ]
    write_figures(folder / "benchmarks.json", {"columns": figures.as_json(), "targets": targets}, about)
    return text
