"""The pool of connections to the relay server."""

from __future__ import annotations

import asyncio
import logging
from asyncio import Future, Transport
from collections import deque
from collections.abc import Callable
from typing import cast

import httptools

from kdr_wsgi.jupyter.exchange import Exchange
from kdr_wsgi.jupyter.messages import end_to_end

#: How long an answer may take to begin. A file system that hangs must not hold the browser for ever.
FIRST_BYTE_SECONDS = 60.0

#: How long a reader may take nothing of its answer while others wait for a connection.
STALLED_SECONDS = 10.0

#: How often these are looked at.
WATCH_SECONDS = 5.0

_RETRY_SOON = ("Retry-After", "5")

#: How often a request is sent that no byte comes back for: its connection may have been closed by a server that ended.
ATTEMPTS = 5


class Backend:
    """Sends requests to the relay server, over connections that are kept.

    Parameters
    ----------
    find_address : callable
        Returns the path of the server's socket, and sees to it that
        somebody listens there. Raises OSError where that cannot be.
    is_failing : callable
        Whether the server cannot be started at present.
    connections : int
        So many requests are under way at once; the others wait.
    log : Logger
    """

    def __init__(
        self, find_address: Callable[[], str], is_failing: Callable[[], bool], connections: int, log: logging.Logger
    ) -> None:
        self._find_address = find_address
        self._is_failing = is_failing
        self._limit = connections
        self.log = log
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()
        self._waiting: deque[Exchange] = deque()
        self._connecting: set[asyncio.Task[None]] = set()
        self._watch: asyncio.TimerHandle | None = None

    def ask(self, exchange: Exchange) -> None:
        """Send the request of `exchange`, now or as soon as a connection is free."""
        exchange.asked_at = asyncio.get_running_loop().time()
        if self._idle:
            self._give(self._idle.pop(), exchange)
        else:
            self._waiting.append(exchange)
            self._connect_more()
        if self._watch is None:
            self._watch = asyncio.get_running_loop().call_later(WATCH_SECONDS, self._look)

    def abandon(self, exchange: Exchange) -> None:
        """End the server's work on `exchange`: its reader has gone."""
        if exchange.is_over:
            return
        exchange.is_over = True
        for connection in self._busy:
            if connection.exchange is exchange:
                connection.abort()
                return

    def close_idle(self) -> None:
        """Close the connections that nobody uses: they would keep workers of a server that has ended."""
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    def close(self) -> None:
        """Break everything off."""
        for task in self._connecting:
            task.cancel()
        for connection in [*self._idle, *self._busy]:
            connection.abort()
        if self._watch is not None:
            self._watch.cancel()

    def release(self, connection: _Connection) -> None:
        """Take back a connection whose exchange is over."""
        self._busy.discard(connection)
        exchange = self._next_waiting()
        if exchange is not None:
            self._give(connection, exchange)
        else:
            self._idle.append(connection)

    def lose(self, connection: _Connection, exchange: Exchange | None) -> None:
        """Forget a connection that has ended, and see what becomes of its exchange."""
        self._busy.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if exchange is not None and not exchange.is_over:
            if exchange.has_begun or exchange.attempts >= ATTEMPTS:
                exchange.fail(502, "Bad Gateway", "The relay server broke the answer off.")
            elif self._is_failing():
                self._fail_for_want_of_a_server(exchange)
            else:
                self._waiting.appendleft(exchange)
        self._connect_more()

    def _give(self, connection: _Connection, exchange: Exchange) -> None:
        self._busy.add(connection)
        exchange.attempts += 1
        connection.ask(exchange)

    def _next_waiting(self) -> Exchange | None:
        while self._waiting:
            exchange = self._waiting.popleft()
            if not exchange.is_over:
                return exchange
        return None

    def _connect_more(self) -> None:
        """Make as many connections as requests wait and the limit lets."""
        while len(self._connecting) < min(len(self._waiting), self._limit - len(self._busy)):
            task = asyncio.get_running_loop().create_task(self._connect())
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _connect(self) -> None:
        try:
            if self._is_failing():
                raise ConnectionRefusedError
            address = self._find_address()
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_unix_connection(lambda: _Connection(self), address)
        except OSError as error:
            if not isinstance(error, ConnectionRefusedError):
                self.log.error("the relay server cannot be reached: %s", error)
            while (exchange := self._next_waiting()) is not None:
                self._fail_for_want_of_a_server(exchange)
            return
        self.release(connection)

    def _fail_for_want_of_a_server(self, exchange: Exchange) -> None:
        sentence = "The relay server does not start; the log of the Jupyter server says why."
        exchange.fail(503, "Service Unavailable", sentence, _RETRY_SOON)

    def _look(self) -> None:
        """Give up on what takes too long."""
        now = asyncio.get_running_loop().time()
        for connection in [*self._busy]:
            exchange = connection.exchange
            if exchange is None:
                continue
            if not exchange.has_begun and exchange.asked_at < now - FIRST_BYTE_SECONDS:
                exchange.fail(504, "Gateway Timeout", "The file cannot be read in time; try again later.")
                connection.abort()
            elif self._waiting and connection.paused_at is not None and connection.paused_at < now - STALLED_SECONDS:
                # It can ask for the rest by range, as browsers do.
                exchange.fail(503, "Service Unavailable", "This reader has stalled.")
                connection.abort()
        for exchange in [*self._waiting]:
            if exchange.asked_at < now - FIRST_BYTE_SECONDS:
                sentence = "Too many requests are under way; try again later."
                exchange.fail(503, "Service Unavailable", sentence, _RETRY_SOON)
        while self._waiting and self._waiting[0].is_over:
            self._waiting.popleft()
        is_quiet = not self._busy and not self._waiting
        self._watch = None if is_quiet else asyncio.get_running_loop().call_later(WATCH_SECONDS, self._look)


class _Connection(asyncio.Protocol):
    """One connection to the relay server; it has one exchange at a time.

    Nothing is read from the server while the reader has not taken what came
    before, so that a slow reader fills the kernel's buffers and no more.
    """

    def __init__(self, backend: Backend) -> None:
        self.exchange: Exchange | None = None
        #: Since when the reader takes nothing.
        self.paused_at: float | None = None
        self._backend = backend
        self._transport: Transport
        self._prepare()

    def _prepare(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._reason = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._chunks: list[bytes] = []
        self._has_head = False
        self._is_whole = False
        self._keeps_alive = False
        self._has_excess = False

    def ask(self, exchange: Exchange) -> None:
        """Send the request of `exchange`."""
        self.exchange = exchange
        self._transport.write(exchange.request)

    def abort(self) -> None:
        """Close the connection at once."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast(Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Pass on what has come."""
        exchange = self.exchange
        if exchange is None or exchange.is_over:
            self.abort()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._backend.log.error("the relay server's answer cannot be understood: %s", error)
            exchange.fail(502, "Bad Gateway", "The relay server's answer cannot be understood.")
            self.abort()
            return
        if self._has_head:
            self._pass_on(exchange)

    def _pass_on(self, exchange: Exchange) -> None:
        chunk = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        written = None
        if not exchange.has_begun:
            reason = self._reason.decode("latin-1")
            written = exchange.begin(self._parser.get_status_code(), reason, end_to_end(self._headers), chunk)
        elif chunk:
            written = exchange.pass_on(chunk)
        if self._is_whole:
            self._end(exchange)
        elif written is not None:
            self._transport.pause_reading()
            self.paused_at = asyncio.get_running_loop().time()
            written.add_done_callback(self._read_on)

    def _end(self, exchange: Exchange) -> None:
        self.exchange = None
        exchange.end()
        if self._keeps_alive and not self._has_excess and not self._transport.is_closing():
            self._prepare()
            self._backend.release(self)
        else:
            self._transport.close()

    def _read_on(self, written: Future[None]) -> None:
        self.paused_at = None
        # A reader that has gone makes a future fail, or be cancelled.
        if written.cancelled() or written.exception() is not None:
            if self.exchange is not None:
                self._backend.abandon(self.exchange)
        elif not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_lost(self, _error: Exception | None) -> None:
        """Tell the pool."""
        exchange, self.exchange = self.exchange, None
        self._backend.lose(self, exchange)

    # What httptools calls while it reads.

    def on_message_begin(self) -> None:
        """Note whether there is more than was asked for."""
        self._has_excess = self._is_whole

    def on_status(self, reason: bytes) -> None:
        """Note the reason phrase."""
        if not self._has_excess:
            self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header."""
        if not self._has_excess:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Note that the head is whole, and the message too if it answers HEAD."""
        if self._has_excess:
            return
        self._has_head = True
        # Here, since httptools forgets it with the end of the message.
        self._keeps_alive = self._parser.should_keep_alive()
        if self.exchange is not None and self.exchange.is_head:
            self._is_whole = True

    def on_body(self, chunk: bytes) -> None:
        """Note a part of the body."""
        if self._is_whole:
            self._has_excess = True
        else:
            self._chunks.append(chunk)

    def on_message_complete(self) -> None:
        """Note that the message is whole."""
        self._is_whole = True
