"""A registry in PostgreSQL as a relay server uses it: keys from memory, which the server of the database keeps true."""

from __future__ import annotations

import atexit
import os
import random
import select
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import psycopg
from psycopg.pq import ExecStatus

from hub.errors import RegistryError, RegistryTooNew
from hub.keys import MAX_KEY_BYTES
from hub.locations import DatabaseLocation
from hub.postgres.connections import Connection, close_idle, connect, database_at, explained
from hub.postgres.registry import find
from hub.postgres.schema import CHANNEL, SCHEMA_VERSION, check_schema, make_schema
from hub.registration import Registration

#: How often the connection that listens is asked whether it lives, and how long the answer may take.
HEARTBEAT_SECONDS = 2.0
HEARTBEAT_LIMIT_SECONDS = 3.0

#: How long a look into the database may take.
LOOKUP_SECONDS = 5.0

#: Between two attempts to connect: at first, and at most.
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 3.0

#: How long a thread is waited for that is just connecting.
_STOP_SECONDS = 1.0

_HEARTBEAT = b"SELECT version, encode(identity, 'hex') FROM kdr.schema"

Prepared = TypeVar("Prepared")


class PostgresReader(Generic[Prepared]):
    """The registry as all threads of a relay server use it.

    What is known stays in memory until the database tells of a change
    (``LISTEN``). A thread that listens begins with the first key that is
    looked up, not before, since a fork would leave it behind.

    Parameters
    ----------
    location : DatabaseLocation
    prepare : callable
        What to make of a registration, once each time that it changes; None, if it is to be as if it were not there.
    grace_seconds : float
        For how long known keys are found while nobody tells of changes.
    """

    #: Registrations that are kept prepared; past that all are looked up anew.
    CAPACITY = 10_000

    #: Keys of which it is remembered that there are none.
    ABSENT_CAPACITY = 10_000

    def __init__(
        self, location: DatabaseLocation, prepare: Callable[[Registration], Prepared | None], grace_seconds: float
    ) -> None:
        self.location = location
        self._prepare = prepare
        self._grace_seconds = grace_seconds
        self._database = database_at(location)
        self._begin()
        _readers.add(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._listener: _Listener | None = None
        self._prepared: dict[str, Prepared] = {}
        self._absent: set[str] = set()
        #: Counts what was forgotten, so that nobody remembers what was read before.
        self._changes = 0
        self._good_until = 0.0
        self._failure: str | None = "no connection yet"

    def find(self, key: str) -> Prepared | None:
        """Return what was prepared of the registration of `key`, as the registry stands now, or stood a moment ago.

        Raises
        ------
        RegistryError
            The registry cannot be asked, and the key is not known, or has been known for too long.
        """
        prepared = self._prepared.get(key)
        if prepared is not None and time.monotonic() < self._good_until:
            return prepared
        return self._look_up(key)

    def _look_up(self, key: str) -> Prepared | None:
        if self._listener is None:
            self._start()
        if self._failure is not None:
            raise RegistryError(str(self.location), self._failure)
        # In this order: who sees an old count stores nothing.
        changes = self._changes
        prepared = self._prepared.get(key)
        if prepared is not None:
            return prepared
        if key in self._absent or len(key) > MAX_KEY_BYTES:  # No longer one is remembered, nor is there any.
            return None
        with self._database.connection(LOOKUP_SECONDS) as connection:
            registration = find(connection, key)
        if registration is not None:
            prepared = self._prepare(registration)
        with self._lock:
            if changes == self._changes:
                self._keep(key, prepared, is_absent=registration is None)
        return prepared

    def _keep(self, key: str, prepared: Prepared | None, *, is_absent: bool) -> None:
        if prepared is not None:
            if len(self._prepared) >= self.CAPACITY:
                self._prepared.clear()
            self._prepared[key] = prepared
        elif is_absent:
            if len(self._absent) >= self.ABSENT_CAPACITY:
                self._absent.clear()
            self._absent.add(key)

    def forget(self, key: str) -> None:
        """Look `key` up anew the next time; all keys if it is empty."""
        with self._lock:
            self._changes += 1
            if key:
                self._prepared.pop(key, None)
                self._absent.discard(key)
            else:
                self._prepared.clear()
                self._absent.clear()

    def believe(self, since: float) -> None:
        """Take for true what is known, since at that moment (of the monotonic clock) changes were told."""
        self._good_until = since + self._grace_seconds
        self._failure = None

    def doubt(self, reason: str, *, is_final: bool = False) -> None:
        """Remember why nobody tells of changes; with `is_final` nothing that is known is true any more."""
        if is_final:
            self._good_until = 0.0
        self._failure = reason

    def _start(self) -> None:
        with self._lock:
            listener = self._listener
            if listener is None:
                listener = _Listener(self)
                listener.start()
                self._listener = listener
        listener.has_tried.wait()

    def close(self) -> None:
        """End the thread that listens; the next look begins one again."""
        with self._lock:
            listener, self._listener = self._listener, None
        if listener is not None:
            listener.stop()
        self.doubt("no connection yet", is_final=True)
        self.forget("")


class _Lost(Exception):
    """The connection that listens is of no use any more."""


class _Listener(threading.Thread):
    """Listens for changes, as long as its reader is there.

    Attributes
    ----------
    has_tried : threading.Event
        Set once there was a connection, or an error.
    """

    def __init__(self, reader: PostgresReader[Prepared]) -> None:
        super().__init__(name="kdr-registry", daemon=True)
        self.has_tried = threading.Event()
        self._location = reader.location
        self._reader = weakref.ref(reader)
        # What is written there wakes the thread up.
        self._waker, self._wake = os.pipe()
        self._is_ended = False
        self.connection: Connection | None = None

    def stop(self) -> None:
        """End the thread, and wait a moment for that."""
        self._is_ended = True
        os.write(self._wake, b"x")
        self.join(_STOP_SECONDS)
        if not self.is_alive():
            self._close_pipe()

    def run(self) -> None:
        """Connect and listen, again and again."""
        pause = _FIRST_PAUSE_SECONDS
        try:
            while not self._is_over():
                is_final = False
                try:
                    self._connect()
                    pause = _FIRST_PAUSE_SECONDS
                    self._listen()
                    reason = "nobody listens any more"
                except RegistryError as error:
                    reason, is_final = error.reason, isinstance(error, RegistryTooNew)
                except _Lost as error:
                    reason = str(error)
                finally:
                    if self.connection is not None:
                        self.connection.close()
                        self.connection = None
                reader = self._reader()
                if reader is not None and not self._is_ended:
                    reader.doubt(reason, is_final=is_final)
                del reader
                self.has_tried.set()
                # Not all servers of a database that has just come back are to ask it at once.
                self._wait(pause * random.uniform(0.5, 1.5))  # noqa: S311
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        finally:
            self.has_tried.set()
            if not self._is_ended:  # Nobody is left who would stop it.
                self._close_pipe()

    def _close_pipe(self) -> None:
        os.close(self._waker)
        os.close(self._wake)

    def _is_over(self) -> bool:
        return self._is_ended or self._reader() is None

    def _wait(self, seconds: float) -> None:
        poll = select.poll()
        poll.register(self._waker, select.POLLIN)
        poll.poll(max(0.0, seconds) * 1000)

    def _connect(self) -> None:
        connection = self.connection = connect(self._location)
        with explained(self._location):
            connection.execute(f"LISTEN {CHANNEL}")
            if check_schema(connection, self._location) is None:
                make_schema(database_at(self._location))
        since = time.monotonic()
        reader = self._reader()
        if reader is not None:
            # Changes may have been missed; from now on none will be.
            reader.forget("")
            reader.believe(since)
        self.has_tried.set()

    def _listen(self) -> None:
        """Pass on what is told, and ask every now and then, until that fails."""
        assert self.connection is not None
        pgconn = self.connection.pgconn
        poll = select.poll()
        poll.register(self._waker, select.POLLIN)
        poll.register(pgconn.socket, select.POLLIN)
        asked_at: float | None = None
        next_at = time.monotonic()
        identity = b""
        while not self._is_over():
            now = time.monotonic()
            if asked_at is None and now >= next_at:
                _try(lambda: pgconn.send_query(_HEARTBEAT))
                asked_at, next_at = now, now + HEARTBEAT_SECONDS
            limit = next_at if asked_at is None else asked_at + HEARTBEAT_LIMIT_SECONDS
            if asked_at is not None and now >= limit:
                raise _Lost(f"the connection gave no sign of life for {HEARTBEAT_LIMIT_SECONDS:.0f} s")
            poll.poll((limit - now) * 1000 + 1)
            _try(pgconn.consume_input)
            found = None
            if asked_at is not None and not pgconn.is_busy():
                # First: the end of an answer may bring notifications along, which wake nobody up any more.
                found = self._read_answer()
            reader = self._reader()
            while reader is not None and (told := pgconn.notifies()) is not None:
                reader.forget(told.extra.decode())
            if found is not None and asked_at is not None:
                if reader is not None:
                    if identity not in (b"", found):
                        reader.forget("")  # They are other tables.
                    reader.believe(asked_at)
                identity, asked_at = found, None
            del reader

    def _read_answer(self) -> bytes:
        assert self.connection is not None
        pgconn = self.connection.pgconn
        result = pgconn.get_result()
        while pgconn.get_result() is not None:
            pass
        if result is None or result.status != ExecStatus.TUPLES_OK or result.ntuples != 1:
            raise _Lost("the registry's tables are not there any more")
        version = int(result.get_value(0, 0) or b"0")
        if version > SCHEMA_VERSION:
            raise RegistryTooNew(str(self._location), version, SCHEMA_VERSION)
        return result.get_value(0, 1) or b""


def _try(work: Callable[[], None]) -> None:
    try:
        work()
    except psycopg.Error as error:
        raise _Lost(" ".join(str(error).split())) from error


_readers: weakref.WeakSet[PostgresReader[Any]] = weakref.WeakSet()

#: Of the parent: to let go of a connection would speak on it.
_inherited: list[object] = []


def close_all() -> None:
    """Close all readers, and the connections that nobody uses."""
    for reader in list(_readers):
        reader.close()
    close_idle()


def _begin_child() -> None:
    for reader in list(_readers):
        listener = reader._listener
        if listener is not None:
            _inherited.append(listener.connection)
        reader._begin()


atexit.register(close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_child)
