"""A registry in PostgreSQL, to read and to write, as `hub.registry` is one in SQLite."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

from hub.errors import LimitReached
from hub.locations import DatabaseLocation
from hub.postgres.connections import Connection, Row, database_at, in_turn
from hub.postgres.schema import CHANNEL, checked
from hub.registration import Registration, Source
from hub.rows import COLUMNS, MAX_NAMES, MAX_OTHER_SOURCES, from_row, last_key, to_row

_COLUMNS = ", ".join(COLUMNS)


def _insert_into(table: str, columns: Sequence[str], keys: int, condition: str = "") -> str:
    """Return what inserts a row, or takes the place of the one with the same key."""
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns[keys:])
    return (
        f"INSERT INTO kdr.{table} ({', '.join(columns)}) VALUES ({', '.join(['%s'] * len(columns))}) "
        f"ON CONFLICT ({', '.join(columns[:keys])}) DO UPDATE SET {changes} {condition}"
    )


_SOURCE_COLUMNS = ("key", "root", "signature", "is_kept", "claimed_at")
_INSERT = _insert_into("registration", COLUMNS, 1)
_INSERT_NAME = "INSERT INTO kdr.name (key, name) VALUES (%s, %s) ON CONFLICT DO NOTHING"
_INSERT_SOURCE = _insert_into("source", _SOURCE_COLUMNS, 2)
_INSERT_HASH = _insert_into("hashed", ("path", "signature", "content"), 1)

_SOURCES = (
    "FROM kdr.source s WHERE s.key = r.key AND s.root <> r.root "
    f"ORDER BY s.claimed_at DESC NULLS LAST, s.root LIMIT {MAX_OTHER_SOURCES}"
)
#: With what was claimed for the same content before.
_SELECT = f"""
SELECT {_COLUMNS},
    CASE WHEN content <> '' THEN ARRAY(SELECT n.name FROM kdr.name n WHERE n.key = r.key AND n.name <> r.name) END,
    CASE WHEN content <> '' THEN ARRAY(SELECT s.root {_SOURCES}) END,
    CASE WHEN content <> '' THEN ARRAY(SELECT s.signature {_SOURCES}) END,
    CASE WHEN content <> '' THEN ARRAY(SELECT s.is_kept {_SOURCES}) END
FROM kdr.registration r
"""
SELECT_BY_KEY = f"{_SELECT} WHERE key = %s"

#: Registers all that there is, as it stands; what was claimed later in the database stays.
_IS_LATER = "WHERE COALESCE(excluded.claimed_at, 0) >= COALESCE({table}.claimed_at, 0)"
_COPY: Mapping[str, str] = {
    "registration": _insert_into("registration", COLUMNS, 1, _IS_LATER.format(table="registration")),
    "name": _INSERT_NAME,
    "source": _insert_into("source", _SOURCE_COLUMNS, 2, _IS_LATER.format(table="source")),
    "hashed": _INSERT_HASH,
}


class PostgresRegistry:
    """The registry as a kernel, a service and the command line use it: to read and to write.

    All threads of a process share some connections, which are opened when
    they are needed, and again after a fork.

    Parameters
    ----------
    location : DatabaseLocation

    Attributes
    ----------
    generation : int
        Grows when other tables are found there, which need not have what was stored before.
    """

    def __init__(self, location: DatabaseLocation) -> None:
        self.location = location
        self.generation = 0
        self._identity = b""
        self._database = database_at(location)

    def open(self) -> None:
        """Make the tables, or migrate them, where that is needed; the other calls do so too.

        Raises
        ------
        RegistryError
        """
        with self._connected():
            pass

    def claim(self, registration: Registration, limit: int | None = None) -> None:
        """Store `registration`; see `hub.registry.Registry.claim`."""
        with self._connected() as connection:
            if limit is not None:
                # Claims of one user follow each other, so that none passes the limit beside another.
                connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (registration.owner,))
                _remove_expired(connection, "expires_at <= %s AND owner = %s", (time.time(), registration.owner))
                _check_limit(connection, registration, limit)
            connection.execute(_INSERT, to_row(registration))
            _insert_place(connection, registration)

    def restore(self, registrations: Iterable[Registration]) -> None:
        """Store what a registry that is gone had; where a key was claimed later, that claim stays."""
        with self._connected() as connection:
            # In one order, so that two processes that restore do not wait for each other.
            for registration in sorted(registrations, key=lambda each: each.key):
                row = connection.execute(
                    "SELECT claimed_at FROM kdr.registration WHERE key = %s FOR UPDATE", (registration.key,)
                ).fetchone()
                if row is None or (row[0] or 0.0) <= (registration.claimed_at or 0.0):
                    connection.execute(_INSERT, to_row(registration))
                _insert_place(connection, registration)

    def in_turn(self) -> AbstractContextManager[object]:
        """Let no other thread register while the block lasts, nor fork."""
        return in_turn

    def revoke(self, key: str) -> bool:
        """Remove the registration of `key`; False if there was none."""
        with self._connected() as connection:
            # The registration first, as a claim does: who is second waits for the first.
            was_there = connection.execute("DELETE FROM kdr.registration WHERE key = %s", (key,)).rowcount > 0
            for table in ("name", "source"):
                connection.execute(f"DELETE FROM kdr.{table} WHERE key = %s", (key,))
        return was_there

    def remove_expired(self, now: float) -> list[Registration]:
        """Remove the registrations that ended before `now` (seconds since the epoch) and return them."""
        with self._connected() as connection:
            return [from_row(row) for row in _remove_expired(connection, "expires_at <= %s", (now,))]

    def remember_hash(self, path: bytes, signature: bytes, content: str) -> None:
        """Keep what the file at `path` hashed to when a stat said `signature` of it."""
        with self._connected() as connection:
            connection.execute(_INSERT_HASH, (path, signature, content))

    def recall_hash(self, path: bytes, signature: bytes) -> str | None:
        """Return what the file at `path` hashed to, if a stat said the same of it then."""
        with self._connected() as connection:
            row = connection.execute(
                "SELECT content FROM kdr.hashed WHERE path = %s AND signature = %s", (path, signature)
            ).fetchone()
        return row[0] if row else None

    def forget_hashes(self, is_missing: Callable[[bytes], bool]) -> None:
        """Forget what files hashed to that are not there any more."""
        with self._connected() as connection:
            paths = connection.execute("SELECT path FROM kdr.hashed").fetchall()
        gone = [path for (path,) in paths if is_missing(path)]
        if gone:
            with self._connected() as connection:
                connection.execute("DELETE FROM kdr.hashed WHERE path = ANY(%s)", (gone,))

    def find(self, key: str) -> Registration | None:
        """Return the registration of `key`, expired or not."""
        with self._connected() as connection:
            return find(connection, key)

    def keys_beginning(self, beginning: str, limit: int) -> list[str]:
        """Return the first `limit` keys that begin so, in their order."""
        with self._connected() as connection:
            return _select_keys(connection, beginning, limit)

    def registrations(self) -> list[Registration]:
        """Return all registrations, expired ones too, in the order of their keys."""
        with self._connected() as connection:
            return [_complete(row) for row in connection.execute(f"{_SELECT} ORDER BY key")]

    def registrations_of(self, owner: str) -> list[Registration]:
        """Return the registrations of one of the users; see `hub.registry.Registry.registrations_of`."""
        with self._connected() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM kdr.registration WHERE owner = %s ORDER BY key", (owner,)
            ).fetchall()
        return [from_row(row) for row in rows]

    def count_by_owner(self) -> dict[str, int]:
        """Return how many registrations each user has, expired ones too."""
        with self._connected() as connection:
            return dict(
                connection.execute("SELECT owner, count(*) FROM kdr.registration GROUP BY owner ORDER BY owner")
            )

    def kept_contents(self, folder: bytes) -> frozenset[str]:
        """Return what is served from a folder of snapshots."""
        with self._connected() as connection:
            rows = connection.execute(
                "SELECT content FROM kdr.registration "
                "WHERE key IN (SELECT key FROM kdr.source WHERE root = %s AND is_kept)",
                (folder,),
            ).fetchall()
        return frozenset(content for (content,) in rows)

    def check(self) -> None:
        """Look whether all tables can be read; raise RegistryError if not."""
        with self._connected() as connection:
            for table in ("registration", "name", "source", "hashed", "secret", "usage", "manifest", "manifest_chunk"):
                connection.execute(f"SELECT 1 FROM kdr.{table} LIMIT 1")

    def close(self) -> None:
        """Close the connections; the next use opens one again."""
        self._database.close()

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        with checked(self._database) as (connection, identity):
            if identity != self._identity:
                self._identity = identity
                self.generation += 1
            yield connection


class PostgresGlance:
    """A look at the registry that changes nothing; a context manager.

    Parameters
    ----------
    location : DatabaseLocation

    Raises
    ------
    RegistryError
    """

    def __init__(self, location: DatabaseLocation) -> None:
        self._database = database_at(location)

    def __enter__(self) -> PostgresGlance:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def keys_beginning(self, beginning: str, limit: int) -> list[str]:
        """Return the first `limit` keys that begin so, in their order."""
        with self._database.connection() as connection:
            return _select_keys(connection, beginning, limit)

    def find_root(self, key: str) -> bytes | None:
        """Return what is published under `key`; None if nothing is."""
        with self._database.connection() as connection:
            row = connection.execute("SELECT root FROM kdr.registration WHERE key = %s", (key,)).fetchone()
        return row[0] if row else None


def find(connection: Connection, key: str) -> Registration | None:
    """Return the registration of `key`, in one question."""
    if "\0" in key:  # No text of PostgreSQL's has one.
        return None
    row = connection.execute(SELECT_BY_KEY, (key,)).fetchone()
    return _complete(row) if row else None


def copy_in(connection: Connection, tables: Mapping[str, Iterable[Row]]) -> None:
    """Store rows as `hub.registry.Registry.tables` gives them; servers are told once, at the end."""
    connection.execute("SET LOCAL kdr.is_quiet = 'on'")
    with connection.cursor() as cursor:
        for table, rows in tables.items():
            cursor.executemany(_COPY[table], rows)
    connection.execute(f"SELECT pg_notify('{CHANNEL}', '')")


def _select_keys(connection: Connection, beginning: str, limit: int) -> list[str]:
    rows = connection.execute(
        "SELECT key FROM kdr.registration WHERE key BETWEEN %s AND %s ORDER BY key LIMIT %s",
        (beginning, last_key(beginning), limit),
    )
    return [key for (key,) in rows]


def _complete(row: Row) -> Registration:
    registration = from_row(row[: len(COLUMNS)])
    if not registration.content:
        return registration
    names, *sources = row[len(COLUMNS) :]
    return replace(
        registration,
        other_names=frozenset(names),
        other_sources=tuple(Source(*source) for source in zip(*sources, strict=True)),
    )


def _insert_place(connection: Connection, registration: Registration) -> None:
    """Store under what name, and where, the bytes of a content key are; of another key nothing."""
    if registration.content:
        connection.execute(_INSERT_NAME, (registration.key, registration.name))
        connection.execute(
            _INSERT_SOURCE,
            (
                registration.key,
                registration.root,
                registration.signature,
                registration.is_kept,
                registration.claimed_at,
            ),
        )


def _remove_expired(connection: Connection, condition: str, values: tuple[object, ...]) -> list[Row]:
    """Remove the registrations that fulfil a condition, and return their rows in the order of their keys."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM kdr.registration WHERE {condition} ORDER BY key FOR UPDATE", values
    ).fetchall()
    if rows:
        keys = [row[0] for row in rows]
        for table in ("registration", "name", "source"):
            connection.execute(f"DELETE FROM kdr.{table} WHERE key = ANY(%s)", (keys,))
    return rows


def _check_limit(connection: Connection, registration: Registration, limit: int) -> None:
    """Raise LimitReached if the owner has as many as are allowed besides this one."""
    key = registration.key
    others: list[tuple[str, str, str, tuple[object, ...]]] = [
        ("registrations", "kdr.registration r", "r.key <> %s", (key,))
    ]
    if registration.content:
        # The same content under many names, or at many places, is one registration.
        others += [
            (
                "names of content keys",
                "kdr.name n JOIN kdr.registration r USING (key)",
                "(n.key, n.name) <> (%s, %s)",
                (key, registration.name),
            ),
            (
                "places of content keys",
                "kdr.source s JOIN kdr.registration r USING (key)",
                "(s.key, s.root) <> (%s, %s)",
                (key, registration.root),
            ),
        ]
        names = _count(connection, "kdr.name WHERE key = %s AND name <> %s", (key, registration.name))
        if names >= MAX_NAMES:
            raise LimitReached(f"one content may have {MAX_NAMES} names; revoke {key!r} first")
    for what, tables, condition, values in others:
        count = _count(connection, f"{tables} WHERE r.owner = %s AND {condition}", (registration.owner, *values))
        if count >= limit:
            raise LimitReached(f"you have {count:,} {what}, and may have {limit:,}; revoke what you need no more")


def _count(connection: Connection, tables: str, values: tuple[object, ...]) -> int:
    row = connection.execute(f"SELECT count(*) FROM {tables}", values).fetchone()
    assert row is not None
    return int(row[0])
