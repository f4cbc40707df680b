"""How often each registration was read: counted by every worker, and added up in a small SQLite file.

The file lies beside the registry and is not part of it: each write to the
registry makes all its readers forget what they know. What is counted belongs
to a key, so that who publishes the same path again goes on with its numbers.
A registry in a database has a table of its own for it.
"""

from __future__ import annotations

import atexit
import logging
import os
import sqlite3
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from hub.errors import RegistryError
from hub.locations import DatabaseLocation, Location
from hub.rescue import is_damage, move_aside

if TYPE_CHECKING:
    from kdr_wsgi.answers import Answer

_log = logging.getLogger(__name__)

#: How long counts stay in memory: so much a worker that is killed loses.
WRITE_SECONDS = 1.0

#: How long they stay there after they could not be written.
RETRY_SECONDS = 10.0

#: How long a process waits for another one that writes.
_BUSY_SECONDS = 5.0

SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE usage (
    key TEXT NOT NULL PRIMARY KEY,
    hits INTEGER NOT NULL,
    body_bytes INTEGER NOT NULL,
    last_at REAL NOT NULL
) WITHOUT ROWID
"""

_READ = "SELECT key, hits, body_bytes, last_at FROM usage"

#: SQLite takes no more than 999 values where it is older than 3.32.
_KEYS_AT_A_TIME = 500

_ADD = """
INSERT INTO usage (key, hits, body_bytes, last_at) VALUES (?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET
    hits = hits + excluded.hits,
    body_bytes = body_bytes + excluded.body_bytes,
    last_at = max(last_at, excluded.last_at)
"""


class Usage(NamedTuple):
    """What was read of one registration.

    Attributes
    ----------
    hits : int
        Answers with the status 200, 206 or 304.
    body_bytes : int
        What these have promised in their bodies (Content-Length).
    last_at : float or None
        When the last of them was given, in seconds since the epoch, about a second more or less; None: there was none.
    """

    hits: int
    body_bytes: int
    last_at: float | None


UNUSED = Usage(0, 0, None)


class UsageUnavailable(Exception):
    """The counts can be neither read nor written now; the sentence says why."""

    def __init__(self, path: Location, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"the counts of what was read, {str(path)!r}, cannot be used: {reason}")


def usage_path(registry: Path) -> Path:
    """Return where the counts of a registry are."""
    # What a link leads to, so that all who reach a registry count in one place.
    return Path(f"{os.path.realpath(registry)}.usage")


class UsageCounter:
    """Counts in memory, and adds that to the file from a thread of its own; nobody who asks for a file waits for it.

    The thread begins with a count, not before, since a fork would leave it
    behind, and ends when nothing is left to write. What cannot be written is
    kept, told once in the log, and tried again.

    Parameters
    ----------
    registry : path or DatabaseLocation
    """

    def __init__(self, registry: Location) -> None:
        self._registry = registry
        self._begin()
        _counters.add(self)

    def _begin(self) -> None:
        # Keys and bytes, one for each answer: to append takes no lock, which would cost more than all the rest.
        self._counted: deque[tuple[str, int]] = deque()
        self._unwritten: dict[str, Usage] = {}
        self._writing = threading.Lock()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_failing = False

    def count(self, key: str, answer: Answer) -> None:
        """Count an answer with the status 200, 206 or 304 that gives something of the registration `key`."""
        body = answer.body
        if not body:  # Of HEAD, of a 304, and of what nginx is told to send.
            body_bytes = 0
        elif type(body) is tuple:
            body_bytes = len(body[0])
        else:
            body_bytes = next((int(value) for name, value in reversed(answer.headers) if name == "Content-Length"), 0)
        self._counted.append((key, body_bytes))
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                thread = threading.Thread(target=self._write_on, name="kdr-usage", daemon=True)
                with suppress(RuntimeError):  # The system has no thread to give now; the next count asks again.
                    thread.start()
                    self._thread = thread

    def _write_on(self) -> None:
        while self._counted or self._unwritten:
            time.sleep(RETRY_SECONDS if self._is_failing else WRITE_SECONDS)
            self.write()
        self._thread = None
        # Whoever has counted since may have seen this thread.
        if self._counted:
            self._start()

    def write(self) -> None:
        """Add what was counted to the file; where that fails, say so once in the log and keep it."""
        with self._writing:
            self._add_up()
            if not self._unwritten:
                return
            try:
                self._add(self._unwritten)
            except UsageUnavailable as error:
                if not self._is_failing:
                    _log.error("%s; serving goes on, and they are written as soon as that can be done", error)
                self._is_failing = True
            else:
                self._unwritten = {}
                self._is_failing = False

    def _add(self, counted: Mapping[str, Usage]) -> None:
        if isinstance(self._registry, Path):
            add_usage(usage_path(self._registry), counted)
            return
        from hub.postgres.usage import add_counts  # Here, since it takes an extra.

        with _told(self._registry):
            add_counts(self._registry, [(key, *usage) for key, usage in counted.items()])

    def _add_up(self) -> None:
        now = time.time()
        taken = [self._counted.popleft() for _ in range(len(self._counted))]
        for (key, body_bytes), hits in Counter(taken).items():
            before = self._unwritten.get(key, UNUSED)
            self._unwritten[key] = Usage(before.hits + hits, before.body_bytes + hits * body_bytes, now)


_counters: weakref.WeakSet[UsageCounter] = weakref.WeakSet()


def write_all() -> None:
    """Write what this process has counted; called at its end."""
    for counter in list(_counters):
        counter.write()


def _forget_all() -> None:
    """Leave to the parent, which a fork was made of, what it has counted, and its thread."""
    for counter in list(_counters):
        counter._begin()


atexit.register(write_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


def read_usage(registry: Location, keys: Sequence[str] | None = None) -> dict[str, Usage]:
    """Return what was read of each key, as far as it has been written.

    Parameters
    ----------
    registry : path or DatabaseLocation
    keys : sequence of str, optional
        Only of these: one user of many waits for no others.

    Raises
    ------
    UsageUnavailable
    """
    rows = _read_rows(registry, keys) if isinstance(registry, Path) else _read_shared(registry, keys)
    return {key: Usage(hits, body_bytes, last_at) for key, hits, body_bytes, last_at in rows}


def _read_rows(registry: Path, keys: Sequence[str] | None) -> list[tuple[Any, ...]]:
    path = usage_path(registry)
    if not path.exists():
        return []
    with _explained(path), closing(_connect(f"file:{quote(os.fsencode(path))}?mode=ro")) as connection:
        if not _version_of(connection, path):
            return []
        if keys is None:
            return connection.execute(_READ).fetchall()
        rows: list[tuple[Any, ...]] = []
        for start in range(0, len(keys), _KEYS_AT_A_TIME):
            some = keys[start : start + _KEYS_AT_A_TIME]
            rows += connection.execute(f"{_READ} WHERE key IN ({','.join('?' * len(some))})", some)
        return rows


def _read_shared(location: DatabaseLocation, keys: Sequence[str] | None) -> list[tuple[Any, ...]]:
    from hub.postgres.usage import read_counts

    with _told(location):
        return read_counts(location, keys)


def add_usage(path: Path, counted: Mapping[str, Usage]) -> None:
    """Add what was counted of some keys to the file at `path`, which is made where it is missing.

    One that is damaged is set aside, and the counts begin anew.

    Raises
    ------
    UsageUnavailable
        Nothing was added.
    """
    rows = [(key, *usage) for key, usage in counted.items()]
    try:
        with _writing(path) as connection:
            connection.executemany(_ADD, rows)
    except UsageUnavailable as error:
        if error.__cause__ is None or not is_damage(error.__cause__):
            raise
        with _explained(path):
            aside = move_aside(path)
        if aside is not None:
            _log.warning("the counts of what was read, %s, were damaged; the old file is %s now", path, aside)
        with _writing(path) as connection:
            connection.executemany(_ADD, rows)


def forget_usage(registry: Location, keys: Collection[str]) -> int:
    """Remove the counts of all but these keys; return how many are gone.

    Raises
    ------
    UsageUnavailable
    """
    if not isinstance(registry, Path):
        from hub.postgres.usage import forget_counts

        with _told(registry):
            return forget_counts(registry, keys)
    path = usage_path(registry)
    gone = [(key,) for key in read_usage(registry) if key not in keys]
    if gone:
        with _writing(path) as connection:
            connection.executemany("DELETE FROM usage WHERE key = ?", gone)
    return len(gone)


@contextmanager
def _writing(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the file, make it where that is needed, and commit at the end what the block does."""
    with _explained(path):
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        # Opened each time, so that one that was removed or replaced is found, and no connection is there at a fork.
        with closing(_connect(str(path))) as connection:
            # Who loses power loses counts; nobody is to wait for a disk for their sake.
            connection.execute("PRAGMA synchronous = off")
            connection.execute("BEGIN IMMEDIATE")
            if not _version_of(connection, path):
                connection.execute(_SCHEMA)
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            yield connection
            connection.execute("COMMIT")


def _connect(target: str) -> sqlite3.Connection:
    return sqlite3.connect(target, timeout=_BUSY_SECONDS, isolation_level=None, uri=target.startswith("file:"))


def _version_of(connection: sqlite3.Connection, path: Path) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise UsageUnavailable(path, "a later version of kdr-wsgi has written them; upgrade it here")
    return int(version)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise UsageUnavailable(path, str(error)) from error


@contextmanager
def _told(location: DatabaseLocation) -> Iterator[None]:
    try:
        yield
    except RegistryError as error:
        raise UsageUnavailable(location, error.reason) from error
