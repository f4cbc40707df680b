"""The counts of what was read, as `kdr_wsgi.usage` keeps them beside a registry in SQLite."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from hub.locations import DatabaseLocation
from hub.postgres.connections import Connection, Row, database_at
from hub.postgres.schema import checked

_ADD = """
INSERT INTO kdr.usage AS u (key, hits, body_bytes, last_at)
SELECT * FROM unnest(%s::text[], %s::bigint[], %s::bigint[], %s::double precision[]) ORDER BY 1
ON CONFLICT (key) DO UPDATE SET
"""

#: Servers count together.
_SUM = _ADD + "hits = u.hits + excluded.hits, body_bytes = u.body_bytes + excluded.body_bytes, "
#: What is copied twice is there once.
_MAX = _ADD + "hits = greatest(u.hits, excluded.hits), body_bytes = greatest(u.body_bytes, excluded.body_bytes), "
_LAST = "last_at = greatest(u.last_at, excluded.last_at)"


def read_counts(location: DatabaseLocation, keys: Sequence[str] | None) -> list[Row]:
    """Return key, hits, bytes and time of the last access of some keys, or of all.

    Raises
    ------
    RegistryError
    """
    select = "SELECT key, hits, body_bytes, last_at FROM kdr.usage"
    with checked(database_at(location)) as (connection, _):
        if keys is None:
            return connection.execute(select).fetchall()
        return connection.execute(f"{select} WHERE key = ANY(%s)", (list(keys),)).fetchall()


def add_counts(location: DatabaseLocation, rows: Iterable[tuple[str, int, int, float | None]]) -> None:
    """Add to what was counted of some keys.

    Raises
    ------
    RegistryError
        Nothing was added.
    """
    with checked(database_at(location)) as (connection, _):
        # The sum is not worth waiting for a disk; who loses power loses counts.
        connection.execute("SET LOCAL synchronous_commit = off")
        _write(connection, _SUM, rows)


def copy_counts(connection: Connection, rows: Iterable[tuple[str, int, int, float | None]]) -> None:
    """Store counts as they are; more of the same key stay."""
    _write(connection, _MAX, rows)


def _write(connection: Connection, statement: str, rows: Iterable[tuple[str, int, int, float | None]]) -> None:
    columns = [list(column) for column in zip(*rows, strict=True)]
    if columns:
        connection.execute(statement + _LAST, columns)


def forget_counts(location: DatabaseLocation, keys: Collection[str]) -> int:
    """Remove the counts of all but these keys; return how many are gone.

    Raises
    ------
    RegistryError
    """
    with checked(database_at(location)) as (connection, _):
        return connection.execute("DELETE FROM kdr.usage WHERE key <> ALL(%s)", (list(keys),)).rowcount
