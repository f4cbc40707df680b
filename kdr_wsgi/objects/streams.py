"""The body of an answer that comes from a store, read in pieces as the client takes them."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from contextlib import suppress

from kdr_wsgi.errors import NoSuchEntry, ObjectChanged, StoreFailing, TruncatedBody
from kdr_wsgi.objects.stores import Store
from kdr_wsgi.objects.versions import ObjectVersion
from kdr_wsgi.ranges import Span
from kdr_wsgi.streams import AwaitedStream, NotYet

#: What is asked for first; what a client that takes all at once is given at a time in the end, and one that does not.
FIRST_BYTES = 256 * 1024
MAX_BYTES = 4 * 1024 * 1024
MIN_BYTES = 128 * 1024

#: A client that has not taken a piece for so long is slow.
SLOW_SECONDS = 0.5

#: From this size on the next piece is asked for while the client takes the one before.
_AHEAD_BYTES = 1024 * 1024

#: What all bodies of a process may hold before their pieces become small, so that many slow clients fit into what
#: the server lets them hold together.
BUDGET_BYTES = 32 * 1024 * 1024


class _Budget:
    """What the bodies of this process hold."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held_bytes = 0

    @property
    def is_spent(self) -> bool:
        return self._held_bytes > BUDGET_BYTES

    def add(self, size_bytes: int) -> None:
        with self._lock:
            self._held_bytes += size_bytes


_budget = _Budget()


class ObjectStream(AwaitedStream):
    """Parts of one version of an object, each behind a head of its own.

    Each piece is asked for with If-Match: were the object another one now,
    the answer would end where that shows, and not be taken for whole.

    Parameters
    ----------
    store : Store
    key : str
    version : ObjectVersion
    parts : list of (bytes, Span)
    tail : bytes
        What comes behind the last part.
    given : (Span, bytes), optional
        Bytes that are at hand.
    """

    def __init__(
        self,
        store: Store,
        key: str,
        version: ObjectVersion,
        parts: list[tuple[bytes, Span]],
        tail: bytes,
        given: tuple[Span, bytes] | None = None,
    ) -> None:
        self._store = store
        self._key = key
        self._version = version
        self._parts = iter(parts)
        self._tail = tail
        self._given = given
        self._left = Span(0, 0)
        self._ready: list[bytes] = []
        self._size_bytes = FIRST_BYTES
        self._given_at = 0.0
        self._charged_bytes = 0
        self._asked: tuple[Span, Future[bytes]] | None = None
        self._told: Future[bytes] | None = None
        self._is_ended = False
        self._wakes = threading.Lock()
        self._wake, self._wakened = -1, -1

    @property
    def held_bytes(self) -> int:
        """What is asked for, and what is at hand."""
        asked = self._asked[0].size_bytes if self._asked else 0
        return asked + sum(map(len, self._ready)) + (len(self._given[1]) if self._given else 0)

    def begin(self) -> None:
        """Wait for the first piece, so that what is wrong with it can be told in the head of the answer.

        Raises
        ------
        ObjectChanged, StoreFailing
        """
        span = self._plan()
        if span is not None:
            # In a turn, as whoever waits for a store.
            self._ready.append(self._store.read_version(self._key, span, self._version))

    def take(self) -> bytes | None:
        """Return the next piece; None: there is none.

        Raises
        ------
        NotYet
        TruncatedBody
        """
        if self._given_at:
            self._learn(time.monotonic() - self._given_at)
        if not self._ready:
            self._ask()
        if not self._ready:
            if self._asked is None:
                return None
            self._ready.append(self._result(may_wait=False))
        piece = self._ready.pop(0)
        self._given_at = time.monotonic()
        if not self._ready and self._size_bytes >= _AHEAD_BYTES and not _budget.is_spent:
            self._ask()
        self._charge(len(piece))
        return piece

    def __iter__(self) -> Iterator[bytes]:
        """Wait for each piece; raise TruncatedBody where there is none of this version."""
        try:
            while True:
                try:
                    piece = self.take()
                except NotYet:
                    self._ready.append(self._result(may_wait=True))
                    continue
                if piece is None:
                    return
                yield piece
        finally:
            self.close()

    def fileno(self) -> int:
        """Return what can be read from once the piece that was asked for is there, or has failed."""
        with self._wakes:
            if self._wake < 0:
                self._wake, self._wakened = os.pipe()
                for descriptor in (self._wake, self._wakened):
                    os.set_blocking(descriptor, False)
        if self._asked is not None and self._told is not self._asked[1]:
            self._told = self._asked[1]
            self._told.add_done_callback(lambda _: self._tell())
        return self._wake

    def close(self) -> None:
        """Ask for nothing any more."""
        if self._asked is not None:
            self._asked[1].cancel()
            self._asked = None
        self._parts, self._left, self._ready, self._given, self._tail = iter(()), Span(0, 0), [], None, b""
        self._charge(0)
        with self._wakes:
            for descriptor in {self._wake, self._wakened} - {-1}:
                os.close(descriptor)
            self._wake = self._wakened = -1

    def _charge(self, sending_bytes: int) -> None:
        """Count what is held, with what has been given away and is being sent."""
        held_bytes = self.held_bytes + sending_bytes
        _budget.add(held_bytes - self._charged_bytes)
        self._charged_bytes = held_bytes

    def _tell(self) -> None:
        with self._wakes, suppress(BlockingIOError):
            if self._wakened >= 0:
                os.write(self._wakened, b"1")

    def _ask(self) -> None:
        """Begin to read the next piece, unless that has begun, or bytes are at hand."""
        if self._asked is None and (span := self._plan()) is not None:
            self._asked = span, self._store.begin_piece(self._key, span, self._version)

    def _plan(self) -> Span | None:
        """Return what is to be read next, the heads before it made ready; None: bytes are at hand, or none are left."""
        while not self._left.size_bytes:
            if self._is_ended:
                return None
            head, self._left = next(self._parts, (self._tail, Span(0, 0)))
            self._is_ended = not self._left.size_bytes
            if head:
                self._ready.append(head)
        start, stop = self._left
        if self._given is not None and self._given[0].start <= start < self._given[0].stop:
            (begin, end), body = self._given
            self._given = None
            end = min(end, stop)
            self._ready.append(body[start - begin : end - begin])
            self._left = Span(end, stop)
            return None
        size_bytes = min(self._size_bytes, MIN_BYTES) if _budget.is_spent else self._size_bytes
        piece = Span(start, min(stop, start + size_bytes))
        self._left = Span(piece.stop, stop)
        return piece

    def _result(self, *, may_wait: bool) -> bytes:
        assert self._asked is not None
        _, future = self._asked
        # First: what has been told before says nothing of this piece.
        self._drain()
        if not may_wait and not future.done():
            raise NotYet
        self._asked = None
        try:
            return future.result()
        except (ObjectChanged, NoSuchEntry) as error:
            raise TruncatedBody(errno.ECONNABORTED, "an object was changed while it was sent") from error
        except StoreFailing as error:
            raise TruncatedBody(errno.ECONNABORTED, f"a store has broken off: {error.reason}") from error
        except CancelledError as error:
            raise TruncatedBody(errno.ECONNABORTED, "what was asked of a store was given up") from error

    def _drain(self) -> None:
        with self._wakes, suppress(BlockingIOError):
            if self._wake >= 0:
                os.read(self._wake, 1024)

    def _learn(self, seconds: float) -> None:
        """Choose the size of the next pieces by how long the client has needed for one."""
        self._given_at = 0.0
        if seconds > SLOW_SECONDS:
            self._size_bytes = max(MIN_BYTES, self._size_bytes // 2)
        else:
            self._size_bytes = min(MAX_BYTES, self._size_bytes * 2)
