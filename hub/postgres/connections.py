"""Connections to a database: each statement has an end, and no error tells a password."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus

from hub.errors import RegistryError
from hub.locations import DatabaseLocation

#: How long nobody answers until a connection cannot be made.
CONNECT_SECONDS = 4

#: After so long the server ends a statement, and a while later this process gives its connection up.
STATEMENT_SECONDS = 15
ANSWER_SECONDS = STATEMENT_SECONDS + 5.0

#: What a process has at once; further threads wait.
MAX_CONNECTIONS = 8

#: What it keeps while nothing is to be done, and for how long.
_IDLE_CONNECTIONS = 4
_IDLE_SECONDS = 60.0

#: A connection that is dead without a word is noticed by TCP at the latest after so long.
_TCP = {
    "keepalives": "1",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}

_Result = TypeVar("_Result")
Row: TypeAlias = "tuple[Any, ...]"


class Connection(psycopg.Connection[Row]):
    """A connection that is given up where an answer takes too long, as if it had been cut."""

    #: None: without end, for what moves a whole registry.
    answer_seconds: float | None = ANSWER_SECONDS

    def wait(self, gen: PQGen[_Result], interval: float = 0.1, timeout: float | None = None) -> _Result:
        """Wait for an answer, no longer than `answer_seconds`."""
        try:
            return super().wait(gen, interval, timeout or self.answer_seconds)
        except psycopg.OperationalError:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.pgconn.finish()  # Nobody knows what comes next on it.
            raise


def connect(location: DatabaseLocation) -> Connection:
    """Return a new connection, on which each statement is a transaction of its own.

    Raises
    ------
    RegistryError
    """
    try:
        parameters = conninfo_to_dict(location.url)
    except psycopg.Error:  # Its sentence might hold what stands in the URL.
        raise RegistryError(str(location), "libpq cannot read the URL; see the parameters that it knows") from None
    wanted = {
        "connect_timeout": str(CONNECT_SECONDS),
        "application_name": "kdr",
        "client_encoding": "utf8",
        **_TCP,
        **{name: value for name, value in parameters.items() if value is not None},
    }
    limits = f"-c statement_timeout={STATEMENT_SECONDS}s -c idle_in_transaction_session_timeout=60s"
    wanted["options"] = f"{limits} {wanted.get('options', '')}".rstrip()
    with explained(location):
        return Connection.connect("", autocommit=True, **wanted)  # type: ignore[arg-type]


@contextmanager
def explained(location: DatabaseLocation) -> Iterator[None]:
    """Tell of a database in the words of its server, and what to do.

    Raises
    ------
    RegistryError
    """
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        reason = f"{_first_line(error)}; GRANT it to this user, see docs/scaling.md"
        raise RegistryError(str(location), reason) from error
    except psycopg.Error as error:
        raise RegistryError(str(location), _first_line(error)) from error


def _first_line(error: psycopg.Error) -> str:
    return " ".join(str(error).split()) or type(error).__name__


class Database:
    """The connections of this process to one database; each thread takes one for as long as it needs it.

    There are none in a child that was forked, which opens its own. While the
    database is away, who asks is told why at once; psycopg's own pool would
    let each of them wait until its timeout, and tell nothing.

    Parameters
    ----------
    location : DatabaseLocation
    """

    def __init__(self, location: DatabaseLocation) -> None:
        self.location = location
        self.begin()

    def begin(self) -> None:
        """Have no connections."""
        self._idle: list[tuple[Connection, float]] = []
        self._lock = threading.Lock()
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)

    @contextmanager
    def connection(self, answer_seconds: float | None = ANSWER_SECONDS) -> Iterator[Connection]:
        """Lend a connection; what fails in the block is told as a RegistryError.

        Parameters
        ----------
        answer_seconds : float or None
            How long each answer may take; None: without end.
        """
        if not self._free.acquire(timeout=CONNECT_SECONDS):
            raise RegistryError(str(self.location), f"its {MAX_CONNECTIONS} connections are all busy; try again")
        free = self._free
        try:
            connection = self._take() or connect(self.location)
            connection.answer_seconds = answer_seconds
            try:
                with explained(self.location):
                    yield connection
            finally:
                self._give_back(connection)
        finally:
            free.release()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Lend a connection in a transaction, which is committed at the end of the block."""
        with self.connection() as connection, connection.transaction():
            yield connection

    def _take(self) -> Connection | None:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection, since = self._idle.pop()
            if time.monotonic() - since < _IDLE_SECONDS and not _has_ended(connection):
                return connection
            connection.close()

    def _give_back(self, connection: Connection) -> None:
        if connection.closed or connection.info.transaction_status != TransactionStatus.IDLE:
            connection.close()
            return
        with self._lock:
            self._idle.append((connection, time.monotonic()))
            surplus = [self._idle.pop(0)] if len(self._idle) > _IDLE_CONNECTIONS else []
        for other, _ in surplus:
            other.close()

    def close(self) -> None:
        """Close what nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection, _ in idle:
            connection.close()


def _has_ended(connection: Connection) -> bool:
    """Whether the server has said something to a connection that nobody uses: that it ends, mostly."""
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


#: Held by the thread that registers, and during a fork.
in_turn = threading.RLock()

_databases: dict[str, Database] = {}


def database_at(location: DatabaseLocation) -> Database:
    """Return the connections of this process to a database."""
    database = _databases.get(location.url)
    return _databases.setdefault(location.url, Database(location)) if database is None else database


def close_idle() -> None:
    """Close the connections that nobody uses."""
    for database in list(_databases.values()):
        database.close()


def _prepare_fork() -> None:
    in_turn.acquire()
    close_idle()


def _begin_child() -> None:
    # What other threads of the parent have open stays the parent's: psycopg closes no connection of another process.
    for database in list(_databases.values()):
        database.begin()
    in_turn.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_prepare_fork, after_in_parent=in_turn.release, after_in_child=_begin_child)
