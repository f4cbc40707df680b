"""The registry: the SQLite file that kernels write and relay servers read. All SQL is here."""

from __future__ import annotations

import os
import secrets
import sqlite3
import stat
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from hub.errors import LimitReached, RegistryDamaged, RegistryError, RegistryTooNew
from hub.filesystems import make_private_directories, shares_memory, with_remedy
from hub.registration import Registration, Source
from hub.rescue import is_damage, is_emptied, is_ours, set_aside
from hub.rows import COLUMNS, MAX_NAMES, MAX_OTHER_SOURCES, from_row, last_key, to_row

#: How long a writer waits for the others before it gives up.
BUSY_TIMEOUT_SECONDS = 30.0

#: Each entry takes the schema from the version of its index to the next; an entry is never changed once released.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE registration (
            key TEXT NOT NULL PRIMARY KEY,
            kind TEXT NOT NULL CHECK (kind IN ('file', 'tree')),
            root BLOB NOT NULL,
            name BLOB NOT NULL,
            visibility TEXT NOT NULL,
            trusted INTEGER NOT NULL,
            headers TEXT NOT NULL,
            expires_at REAL
        ) WITHOUT ROWID
        """,
    ),
    ("ALTER TABLE registration ADD COLUMN claimed_at REAL",),
    (
        "ALTER TABLE registration ADD COLUMN content TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE registration ADD COLUMN signature BLOB NOT NULL DEFAULT x''",
        "ALTER TABLE registration ADD COLUMN is_kept INTEGER NOT NULL DEFAULT 0",
        "CREATE TABLE hashed (path BLOB NOT NULL PRIMARY KEY, signature BLOB NOT NULL, content TEXT NOT NULL)",
        "CREATE TABLE name (key TEXT NOT NULL, name BLOB NOT NULL, PRIMARY KEY (key, name)) WITHOUT ROWID",
        """
        CREATE TABLE source (
            key TEXT NOT NULL,
            root BLOB NOT NULL,
            signature BLOB NOT NULL,
            is_kept INTEGER NOT NULL,
            claimed_at REAL,
            PRIMARY KEY (key, root)
        ) WITHOUT ROWID
        """,
    ),
    (
        "ALTER TABLE registration ADD COLUMN owner TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE registration ADD COLUMN audience TEXT NOT NULL DEFAULT '[]'",
        "CREATE INDEX registration_owner ON registration (owner)",
    ),
    # The check of `kind` cannot be changed where it stands: an archive is a tree to it.
    ("ALTER TABLE registration ADD COLUMN is_archive INTEGER NOT NULL DEFAULT 0",),
)
SCHEMA_VERSION = len(MIGRATIONS)

_COLUMNS = ", ".join(COLUMNS)


class Registry:
    """The registry as a kernel and the command line use it: to read and to write.

    One connection serves all threads of the process, in turn; it is opened at
    the first use, and again after a fork.

    Parameters
    ----------
    path : Path
        The SQLite file; it is made (mode 0600, missing directories 0700) where it does not exist.

    Attributes
    ----------
    generation : int
        Grows when another file is found at `path`, which need not have what was stored before.
    """

    def __init__(self, path: Path) -> None:
        self._connection: sqlite3.Connection | None = None
        self.path = path
        self.generation = 0
        self._identity: tuple[int, int] | None = None
        self._birth = 0
        _registries.add(self)

    @property
    def location(self) -> Path:
        """Where the registry is: its file."""
        return self.path

    def open(self) -> None:
        """Make the file, or migrate it, where that is needed; the other calls do so too.

        One that is damaged is set aside (see `hub.rescue`), as by all calls that write.

        Raises
        ------
        RegistryError
        """
        try:
            with self._reading():
                pass
        except RegistryDamaged:
            self._set_aside()
            with self._reading():
                pass

    def claim(self, registration: Registration, limit: int | None = None) -> None:
        """Store `registration`; it takes over a key that exists.

        With a content key it joins what was claimed before: names, and places where the bytes are, stay.

        Parameters
        ----------
        registration : Registration
        limit : int, optional
            How many registrations its owner may have, and names and places of content keys; those that have
            expired are removed first.

        Raises
        ------
        LimitReached, RegistryError
            Nothing was stored.
        """
        with self._atomic() as connection:
            if limit is not None:
                _remove_expired(connection, "expires_at <= ? AND owner = ?", (time.time(), registration.owner))
                _check_limit(connection, registration, limit)
            _insert(connection, registration)

    def restore(self, registrations: Iterable[Registration]) -> None:
        """Store what a registry that is gone had; where a key was claimed later, that claim stays."""
        with self._atomic() as connection:
            for registration in registrations:
                row = connection.execute(
                    "SELECT claimed_at FROM registration WHERE key = ?", (registration.key,)
                ).fetchone()
                if row is None or (row[0] or 0.0) <= (registration.claimed_at or 0.0):
                    _insert(connection, registration)
                elif registration.content:
                    _insert_place(connection, registration)

    def in_turn(self) -> AbstractContextManager[object]:
        """Let no other thread use a registry while the block lasts, nor fork."""
        return _using_sqlite

    def revoke(self, key: str) -> bool:
        """Remove the registration of `key`; False if there was none."""
        with self._atomic() as connection:
            for table in ("name", "source"):
                connection.execute(f"DELETE FROM {table} WHERE key = ?", (key,))
            return connection.execute("DELETE FROM registration WHERE key = ?", (key,)).rowcount > 0

    def remove_expired(self, now: float) -> list[Registration]:
        """Remove the registrations that ended before `now` (seconds since the epoch) and return them."""
        with self._atomic() as connection:
            rows = _remove_expired(connection, "expires_at <= ?", (now,))
        return [from_row(row) for row in rows]

    def remember_hash(self, path: bytes, signature: bytes, content: str) -> None:
        """Keep what the file at `path` hashed to when a stat said `signature` of it."""
        with self._atomic() as connection:
            connection.execute("INSERT OR REPLACE INTO hashed VALUES (?, ?, ?)", (path, signature, content))

    def recall_hash(self, path: bytes, signature: bytes) -> str | None:
        """Return what the file at `path` hashed to, if a stat said the same of it then."""
        with self._reading() as connection:
            row = connection.execute(
                "SELECT content FROM hashed WHERE path = ? AND signature = ?", (path, signature)
            ).fetchone()
        return row[0] if row else None

    def forget_hashes(self, is_missing: Callable[[bytes], bool]) -> None:
        """Forget what files hashed to that are not there any more."""
        with self._reading() as connection:
            paths = connection.execute("SELECT path FROM hashed").fetchall()
        gone = [(path,) for (path,) in paths if is_missing(path)]
        if gone:
            with self._atomic() as connection:
                connection.executemany("DELETE FROM hashed WHERE path = ?", gone)

    def find(self, key: str) -> Registration | None:
        """Return the registration of `key`, expired or not."""
        with self._reading() as connection:
            return _select(connection, key)

    def keys_beginning(self, beginning: str, limit: int) -> list[str]:
        """Return the first `limit` keys that begin so, in their order."""
        with self._reading() as connection:
            return _select_keys(connection, beginning, limit)

    def registrations(self) -> list[Registration]:
        """Return all registrations, expired ones too, in the order of their keys."""
        with self._reading() as connection:
            rows = connection.execute(f"SELECT {_COLUMNS} FROM registration ORDER BY key").fetchall()
            return [_complete(connection, from_row(row)) for row in rows]

    def registrations_of(self, owner: str) -> list[Registration]:
        """Return the registrations of one of the users that share a registry, in the order of their keys.

        They are as they were claimed last, without other names and sources.
        """
        with self._reading() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM registration WHERE owner = ? ORDER BY key", (owner,)
            ).fetchall()
        return [from_row(row) for row in rows]

    def count_by_owner(self) -> dict[str, int]:
        """Return how many registrations each user has, expired ones too."""
        with self._reading() as connection:
            return dict(connection.execute("SELECT owner, count(*) FROM registration GROUP BY owner ORDER BY owner"))

    def kept_contents(self, folder: bytes) -> frozenset[str]:
        """Return what is served from a folder of snapshots."""
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT content FROM registration WHERE key IN (SELECT key FROM source WHERE root = ? AND is_kept)",
                (folder,),
            ).fetchall()
        return frozenset(content for (content,) in rows)

    def tables(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return all that is stored, by the names of the tables, as it was at one moment."""
        with self._atomic() as connection:
            return {
                "registration": [
                    to_row(from_row(row)) for row in connection.execute(f"SELECT {_COLUMNS} FROM registration")
                ],
                "name": connection.execute("SELECT key, name FROM name").fetchall(),
                "source": [
                    (key, root, signature, bool(is_kept), claimed_at)
                    for key, root, signature, is_kept, claimed_at in connection.execute(
                        "SELECT key, root, signature, is_kept, claimed_at FROM source"
                    )
                ],
                "hashed": connection.execute("SELECT path, signature, content FROM hashed").fetchall(),
            }

    def journal_mode(self) -> str:
        """Return how SQLite makes a change whole: ``wal`` or ``delete``."""
        with self._reading() as connection:
            return _pragma(connection, "journal_mode")

    def check(self) -> None:
        """Read the whole file; raise RegistryError if SQLite finds it damaged."""
        with self._reading() as connection:
            verdict = _pragma(connection, "quick_check")
        if verdict != "ok":
            raise RegistryError(str(self.path), f"it is damaged: {verdict}")

    def close(self) -> None:
        """Close the connection; the next use opens one again."""
        with _using_sqlite:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def __del__(self) -> None:
        if self._connection is not None:
            self._connection.close()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with _using_sqlite, _explained(self.path):
            if self._connection is not None and _identify(self.path) != self._identity:
                # Somebody has removed or replaced the file; what is written to the old one is lost.
                self.close()
            if self._connection is None:
                self._connection = _open_for_writing(self.path)
                before = self._identity, self._birth
                self._identity = _identify(self.path)
                # A new file may get the number that the old one left.
                self._birth = int(_pragma(self._connection, "application_id"))
                self.generation += before != (self._identity, self._birth)
            yield self._connection

    @contextmanager
    def _atomic(self) -> Iterator[sqlite3.Connection]:
        self.open()
        try:
            with self._reading() as connection, _transaction(connection):
                _check_version(connection, self.path)
                yield connection
        except RegistryDamaged:
            self._set_aside()
            raise

    def _set_aside(self) -> None:
        self.close()
        with _using_sqlite, _explained(self.path):
            set_aside(self.path)


#: Who only glances waits for nobody any longer.
_GLANCE_SECONDS = 0.1


class RegistryGlance:
    """A look at the registry that changes nothing on the disk; a context manager.

    It neither makes nor migrates the file, and leaves no file beside it.

    Parameters
    ----------
    path : Path

    Raises
    ------
    RegistryError
        There is none, or it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # Where nobody has it open SQLite would make a log of its own, and leave it: https://www.sqlite.org/wal.html,
        # "Read-Only Databases". Without a log, and without a writer, the file is all there is.
        is_open = os.path.exists(f"{os.path.realpath(path)}-wal")
        target = f"file:{quote(os.fsencode(path))}?mode=ro{'' if is_open else '&immutable=1'}"
        with _explained(path):
            self._connection = sqlite3.connect(target, timeout=_GLANCE_SECONDS, uri=True)

    def __enter__(self) -> RegistryGlance:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def keys_beginning(self, beginning: str, limit: int) -> list[str]:
        """Return the first `limit` keys that begin so, in their order."""
        with _explained(self._path):
            return _select_keys(self._connection, beginning, limit)

    def find_root(self, key: str) -> bytes | None:
        """Return what is published under `key`; None if nothing is."""
        with _explained(self._path):
            row = self._connection.execute("SELECT root FROM registration WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None


Prepared = TypeVar("Prepared")


class RegistryReader(Generic[Prepared]):
    """The registry as one thread of a relay server uses it: to look keys up, in microseconds.

    Parameters
    ----------
    path : Path
    prepare : callable
        What to make of a registration, once each time that it changes; None, if it is to be as if it were not there.
    """

    #: Registrations that are kept prepared; past that all are looked up anew.
    CAPACITY = 10_000

    #: How long a registry that was removed or replaced may go on being read.
    IDENTIFY_SECONDS = 1.0

    def __init__(self, path: Path, prepare: Callable[[Registration], Prepared | None]) -> None:
        self.path = path
        self._prepare = prepare
        self._prepared: dict[str, Prepared] = {}
        self._data_version = -1
        with _explained(path):
            self._open()

    def find(self, key: str) -> Prepared | None:
        """Return what was prepared of the registration of `key`, as the registry stands now.

        Raises
        ------
        RegistryError
            The registry cannot be read.
        """
        try:
            if time.monotonic() > self._identified_until:
                self._follow_replacement()
            if self._commits is None or self._commits[:] != self._seen:
                self._follow_commits()
            prepared = self._prepared.get(key)
            return self._prepare_anew(key) if prepared is None else prepared
        except (sqlite3.Error, OSError) as error:
            raise RegistryError(str(self.path), str(error)) from error

    def _open(self) -> None:
        identity = _identify(self.path)
        # Whichever thread drops the last reference closes it; only one uses it.
        self._connection = _connect(f"file:{quote(os.fsencode(self.path))}?mode=ro", check_same_thread=False)
        self._cursor = self._connection.cursor()
        self._data_version = -1
        self._seen = b""
        from hub.commits import map_commits  # Here, since kernels do without.

        is_logged = _pragma(self._connection, "journal_mode") == "wal"
        self._commits = map_commits(self.path) if is_logged else None
        # Last, so that what could not be opened is tried again.
        self._identity = identity
        self._identified_until = time.monotonic() + self.IDENTIFY_SECONDS

    def _follow_commits(self) -> None:
        """Forget what was prepared if anything was committed since."""
        # Before SQLite is asked, so that a commit meanwhile is seen the next time.
        seen = b"" if self._commits is None else self._commits[:]
        # Changes as soon as any other connection commits: https://www.sqlite.org/pragma.html#pragma_data_version
        (data_version,) = self._cursor.execute("PRAGMA data_version").fetchone()
        if data_version != self._data_version:
            _check_version(self._connection, self.path)
            self._prepared.clear()
            self._data_version = data_version
        self._seen = seen

    def _follow_replacement(self) -> None:
        """Open the registry anew where its file has been replaced, which data_version does not tell."""
        if _identify(self.path) == self._identity:
            self._identified_until = time.monotonic() + self.IDENTIFY_SECONDS
        else:
            replaced = self._connection
            self._open()
            replaced.close()

    def _prepare_anew(self, key: str) -> Prepared | None:
        registration = _select(self._connection, key)
        if registration is None:
            return None
        prepared = self._prepare(registration)
        if prepared is not None:
            if len(self._prepared) >= self.CAPACITY:
                self._prepared.clear()
            self._prepared[key] = prepared
        return prepared

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def __del__(self) -> None:
        if hasattr(self, "_connection"):
            self._connection.close()


#: Held by the thread that uses a `Registry`. It is held during a fork too, with all connections closed: SQLite's
#: own locks must not be copied taken, nor its connections (https://www.sqlite.org/howtocorrupt.html, 2.6).
_using_sqlite = threading.RLock()
_registries: weakref.WeakSet[Registry] = weakref.WeakSet()


def _prepare_fork() -> None:
    _using_sqlite.acquire()
    for registry in list(_registries):
        registry.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_prepare_fork, after_in_parent=_using_sqlite.release, after_in_child=_using_sqlite.release
    )


def _open_for_writing(path: Path) -> sqlite3.Connection:
    _make_private_file(path)
    connection = _connect(str(path), check_same_thread=False)
    try:
        version = _check_version(connection, path)
        _choose_journal(connection, path)
        if version < SCHEMA_VERSION:
            _migrate(connection, path)
    except BaseException as error:  # Ctrl-C too leaves no connection open.
        connection.close()
        if isinstance(error, sqlite3.OperationalError) and "locked" in str(error) and is_emptied(path):
            raise sqlite3.DatabaseError("malformed: it was emptied") from error
        raise
    return connection


def _connect(target: str, *, check_same_thread: bool) -> sqlite3.Connection:
    return sqlite3.connect(
        target,
        timeout=BUSY_TIMEOUT_SECONDS,
        isolation_level=None,
        check_same_thread=check_same_thread,
        uri=target.startswith("file:"),
    )


def _identify(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from any other under the same name; None where there is none."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _make_private_file(path: Path) -> None:
    make_private_directories(path)
    with suppress(FileExistsError):
        # By no link: it may lead to what is to be made.
        os.close(os.open(os.path.realpath(path), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise RegistryError(str(path), "it is not a regular file")
    if os.geteuid() not in (0, status.st_uid):
        raise RegistryError(str(path), "it belongs to another user, who could publish your files")
    if status.st_mode & 0o022:
        raise RegistryError(str(path), f"other users can write it; run: chmod 600 {path}")


def _check_version(connection: sqlite3.Connection, path: Path) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise RegistryTooNew(str(path), version, SCHEMA_VERSION)
    return int(version)


def _choose_journal(connection: sqlite3.Connection, path: Path) -> None:
    mode = "wal" if shares_memory(path.parent) else "delete"
    # A log that is lost with the power costs the last registrations, never the file: wal.html, "Performance".
    connection.execute(f"PRAGMA synchronous = {'normal' if mode == 'wal' else 'full'}")
    deadline = time.monotonic() + BUSY_TIMEOUT_SECONDS
    while _pragma(connection, "journal_mode") != mode:
        try:
            connection.execute(f"PRAGMA journal_mode = {mode}")
        except sqlite3.OperationalError as error:
            # Changing the mode does not wait for other connections as a transaction does.
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    with _transaction(connection):
        found = _check_version(connection, path)
        if found == 0:
            # What tells this file from any other that is made here later.
            connection.execute(f"PRAGMA application_id = {secrets.randbits(31)}")
        for version in range(found, SCHEMA_VERSION):
            for statement in MIGRATIONS[version]:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:  # Ctrl-C too leaves no transaction open.
        # SQLite has rolled back by itself after a full disk and some other errors.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise RegistryError(str(path), with_remedy(error, path)) from error
    except sqlite3.Error as error:
        if is_damage(error) and is_ours(path):
            raise RegistryDamaged(str(path), str(error)) from error
        raise RegistryError(str(path), f"{error}; name another file in KDR_REGISTRY") from error
    except OSError as error:
        raise RegistryError(
            str(path), with_remedy(f"{error.strerror}: {os.fsdecode(error.filename or path)}", path)
        ) from error


def _pragma(connection: sqlite3.Connection, name: str) -> str:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return str(value)


def _insert(connection: sqlite3.Connection, registration: Registration) -> None:
    values = to_row(registration)
    places = ", ".join("?" * len(values))
    connection.execute(f"INSERT OR REPLACE INTO registration ({_COLUMNS}) VALUES ({places})", values)
    if registration.content:
        _insert_place(connection, registration)


def _insert_place(connection: sqlite3.Connection, registration: Registration) -> None:
    """Store under what name, and where, the bytes of a content key are."""
    connection.execute("INSERT OR IGNORE INTO name VALUES (?, ?)", (registration.key, registration.name))
    connection.execute(
        "INSERT OR REPLACE INTO source VALUES (?, ?, ?, ?, ?)",
        (
            registration.key,
            registration.root,
            registration.signature,
            registration.is_kept,
            registration.claimed_at,
        ),
    )


def _remove_expired(
    connection: sqlite3.Connection, condition: str, values: tuple[object, ...]
) -> list[tuple[Any, ...]]:
    """Remove the registrations that fulfil a condition, and return their rows."""
    rows = connection.execute(f"SELECT {_COLUMNS} FROM registration WHERE {condition}", values).fetchall()
    if rows:
        for table in ("name", "source", "registration"):
            connection.executemany(f"DELETE FROM {table} WHERE key = ?", [row[:1] for row in rows])
    return rows


def _check_limit(connection: sqlite3.Connection, registration: Registration, limit: int) -> None:
    """Raise LimitReached if the owner has as many as are allowed besides this one."""
    key = registration.key
    others: list[tuple[str, str, str, tuple[object, ...]]] = [("registrations", "registration", "key <> ?", (key,))]
    if registration.content:
        # The same content under many names, or at many places, is one registration.
        others += [
            ("names of content keys", "name", "(key, name.name) <> (?, ?)", (key, registration.name)),
            ("places of content keys", "source", "(key, source.root) <> (?, ?)", (key, registration.root)),
        ]
        (names,) = connection.execute(
            "SELECT count(*) FROM name WHERE key = ? AND name <> ?", (key, registration.name)
        ).fetchone()
        if names >= MAX_NAMES:
            raise LimitReached(f"one content may have {MAX_NAMES} names; revoke {key!r} first")
    for what, table, condition, values in others:
        owned = "" if table == "registration" else "JOIN registration USING (key)"
        (count,) = connection.execute(
            f"SELECT count(*) FROM {table} {owned} WHERE registration.owner = ? AND {condition}",
            (registration.owner, *values),
        ).fetchone()
        if count >= limit:
            raise LimitReached(f"you have {count:,} {what}, and may have {limit:,}; revoke what you need no more")


def _select(connection: sqlite3.Connection, key: str) -> Registration | None:
    row = connection.execute(f"SELECT {_COLUMNS} FROM registration WHERE key = ?", (key,)).fetchone()
    return _complete(connection, from_row(row)) if row else None


def _select_keys(connection: sqlite3.Connection, beginning: str, limit: int) -> list[str]:
    rows = connection.execute(
        "SELECT key FROM registration WHERE key BETWEEN ? AND ? ORDER BY key LIMIT ?",
        (beginning, last_key(beginning), limit),
    )
    return [key for (key,) in rows]


def _complete(connection: sqlite3.Connection, registration: Registration) -> Registration:
    """Return a registration with what was claimed for the same content before."""
    if not registration.content:
        return registration
    key = registration.key
    names = connection.execute("SELECT name FROM name WHERE key = ? AND name <> ?", (key, registration.name))
    sources = connection.execute(
        "SELECT root, signature, is_kept FROM source WHERE key = ? AND root <> ? ORDER BY claimed_at DESC LIMIT ?",
        (key, registration.root, MAX_OTHER_SOURCES),
    )
    return replace(
        registration,
        other_names=frozenset(name for (name,) in names),
        other_sources=tuple(Source(root, signature, bool(is_kept)) for root, signature, is_kept in sources),
    )
