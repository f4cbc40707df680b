"""What was measured, as columns of tables: one column per question, one row per server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.common import Sample, median


@dataclass
class Row:
    """What one server did in all rounds.

    Attributes
    ----------
    values : list of float
        One of each round, in the column's unit.
    p50s_ms, p99s_ms : list of float or None
    failed : int
        Wrong answers, and connections that broke.
    failure : str
        Why there are no more values; empty, if there are all.
    """

    values: list[float] = field(default_factory=list)
    p50s_ms: list[float | None] = field(default_factory=list)
    p99s_ms: list[float | None] = field(default_factory=list)
    failed: int = 0
    failure: str = ""

    def add(self, sample: Sample) -> None:
        """Add what wrk has measured."""
        self.values.append(sample.per_second)
        self.p50s_ms.append(sample.p50_ms)
        self.p99s_ms.append(sample.p99_ms)
        self.failed += sample.failed

    @property
    def median(self) -> float | None:
        """The median of the rounds; None, if there is none."""
        return median(self.values)

    @property
    def p99_ms(self) -> float | None:
        """The median of the rounds."""
        return median(self.p99s_ms)


@dataclass
class Column:
    """The answers to one question.

    Attributes
    ----------
    name : str
        Unique.
    tables : tuple of str
        In which it stands.
    title : str
        What stands at its head.
    unit : str
    digits : int
        After the point.
    rows : dict of str to Row
    """

    name: str
    tables: tuple[str, ...]
    title: str
    unit: str = "requests/s"
    digits: int = 0
    rows: dict[str, Row] = field(default_factory=dict)

    def row(self, name: str) -> Row:
        """Return a row, which is made where there is none."""
        return self.rows.setdefault(name, Row())


class Figures:
    """All columns, in the order in which they were begun."""

    def __init__(self) -> None:
        self._columns: dict[str, Column] = {}

    def __iter__(self) -> Iterator[Column]:
        return iter(self._columns.values())

    def add(self, column: Column) -> Column:
        """Begin a column."""
        return self._columns.setdefault(column.name, column)

    def median(self, name: str, row: str) -> float | None:
        """Return what one server did, or None if that was not measured."""
        column = self._columns.get(name)
        return column.rows[row].median if column and row in column.rows else None

    def row_names(self, name: str) -> list[str]:
        """Return the rows of a column; none, if it was not measured."""
        return list(self._columns[name].rows) if name in self._columns else []

    def as_json(self) -> dict[str, Any]:
        """Return all of it, every round too."""
        told: dict[str, Any] = {}
        for column in self:
            rows = {name: {"median": row.median, **asdict(row)} for name, row in column.rows.items()}
            told[column.name] = {"title": column.title, "unit": column.unit, "rows": rows}
        return told
