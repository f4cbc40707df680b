"""Run the relay server under gunicorn, in the foreground."""

from __future__ import annotations

import errno
import select
import selectors
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.http.errors import InvalidRequestLine, LimitRequestHeaders, LimitRequestLine
from gunicorn.workers.gthread import ThreadWorker

from kdr_wsgi.app import create_app
from kdr_wsgi.connections import Connection, Listener
from kdr_wsgi.descriptors import make_room_for_connections
from kdr_wsgi.errors import TruncatedBody
from kdr_wsgi.sockets import BACKLOG
from kdr_wsgi.streams import AwaitedStream

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

#: Threads of a worker. With more of them than connections (a browser has six) no request waits for another, which
#: measured faster than 1, 2, 4 and 8.
THREADS = 16

#: How long a thread stays with a connection that is quiet.
LINGER_SECONDS = 0.1

#: How many requests of one connection are answered before others that wait for a thread have their turn.
_TURN_REQUESTS = 16

#: How often it is looked whether clients stall.
_PATROL_SECONDS = 1.0

#: What the answers of clients that read slowly may take of a worker's memory. Beyond that, who has taken nothing for
#: longest loses the connection.
_HELD_BYTES = 64 << 20

#: Errors by which a client shows that it has gone.
_GONE = (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN)


def run(
    listener: socket.socket,
    config: Mapping[str, str],
    workers: int,
    *,
    threads: int = THREADS,
    when_ready: Callable[[], None] = lambda: None,
    is_borrowed: bool = False,
) -> None:
    """Serve on `listener` until a signal ends it; does not return.

    Parameters
    ----------
    listener : socket
        It listens already.
    config : mapping
        For `create_app`.
    workers : int
        Processes.
    threads : int
        Of each process.
    when_ready : callable
        Called once connections are accepted.
    is_borrowed : bool
        Whether the socket is another process's, and stays when this one ends.
    """
    server = _Server(listener, config, workers, threads, when_ready, is_borrowed=is_borrowed)
    arbiter = Arbiter(server)
    # What gunicorn does with a socket that systemd holds: it does not remove its path.
    arbiter.systemd = is_borrowed
    arbiter.run()


class _Awaited(NamedTuple):
    """What a connection that goes on later waits for, and what its answer takes of the memory."""

    file: Connection | AwaitedStream
    held_bytes: int


class WatchfulWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """A gthread worker whose threads wait for no client, but for the next request of one that is quick.

    Gunicorn's threads wait until the head of a request is whole, and until
    the last byte of the answer is taken, and then for the client's end: as
    many slow clients as there are threads stop all others. These give the
    connection to the main thread, which waits for all of them, and has those
    that stall ended.

    It is made for this application, whose streams have their length in the
    head of the answer, or are a `kdr_wsgi.streams.Stream`.

    Between two requests gunicorn does that too: two wake-ups for each. These
    threads wait a while first, as long as there is one for each connection.
    """

    #: How long a client may neither send the rest of what it has begun, nor take what it is sent.
    patience_seconds = 30.0

    #: The most that the head of a request may have.
    head_bytes = 65536

    wsgi: WSGIApplication

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        #: Connections that the main thread waits for.
        self._awaited: dict[Any, _Awaited] = {}
        self._held_bytes = 0
        self._patrolled_at = 0.0

    def load_wsgi(self) -> None:
        """Load the application."""
        super().load_wsgi()
        self.wsgi = _with_streams_taken(self.wsgi)

    def accept(self, listener: Any) -> None:
        """Accept a connection."""
        super().accept(Listener(listener, self.patience_seconds, self.head_bytes))

    def handle(self, conn: Any) -> Any:
        """Go on with a connection: answer requests for as long as they follow each other and the answers are taken."""
        if self.cfg.is_ssl:  # Gunicorn's own TLS reads and writes by itself.
            return super().handle(conn)
        conn.init()
        if conn.is_http2:
            return super().handle(conn)
        conn.data_ready = True  # Else gunicorn waits for some.
        connection = conn.sock
        connection.awaited = 0
        if connection.is_ended:
            return self._end(connection)
        keeps = self._send(connection) and connection.keeps
        answered = 0
        try:
            while keeps and connection.rest is None and self._has_request(conn):
                keeps = connection.keeps = bool(super().handle(conn))
                answered += 1
                if answered >= _TURN_REQUESTS and not self._may_linger():
                    break  # What has come along is in the parser's buffer, into which gunicorn looks.
        except (LimitRequestHeaders, LimitRequestLine) as error:
            self.handle_error(None, connection, conn.client, error)
            keeps = connection.keeps = False
        if connection.rest is not None:
            is_at_source = connection.rest.awaited_source is not None
            connection.awaited = selectors.EVENT_READ if is_at_source else selectors.EVENT_WRITE
        elif keeps and connection.is_receiving:
            connection.awaited = selectors.EVENT_READ
            keeps = self.alive and not connection.is_late(time.monotonic())
        if keeps or connection.rest is not None:
            return True
        return self._end(connection)

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Answer one request; return whether another may follow."""
        connection = conn.sock
        if not isinstance(connection, Connection):
            return super().handle_request(req, conn)
        if _awaits_body(req):
            # Gunicorn would wait for what the application has not read, to find the next request behind it.
            req.force_close()
        connection.hold_answer()
        try:
            keeps = super().handle_request(req, conn)
        except BaseException:  # Whatever ends the answer, none of it may come before the next one.
            connection.drop_answer()
            raise
        return self._send(connection) and keeps

    def finish_request(self, conn: Any, fs: Any) -> None:
        """Wait for the client, if the thread that was with it has not."""
        connection = conn.sock
        if not isinstance(connection, Connection) or not connection.awaited:
            super().finish_request(conn, fs)
            return
        held_bytes = connection.rest.held_bytes if connection.rest is not None else 0
        awaited = self._awaited[conn] = _Awaited(connection.awaited_file, held_bytes)
        self._held_bytes += held_bytes
        self.poller.register(awaited.file, connection.awaited, lambda _: self._go_on(conn))
        if self._held_bytes > _HELD_BYTES:
            # Who waits for a store is not to blame.
            holders = [conn for conn, each in self._awaited.items() if each.held_bytes and each.file is conn.sock]
            if holders:
                slowest = min(holders, key=lambda conn: float(conn.sock.rest.taken_at))
                slowest.sock.rest.give_way()
                self._go_on(slowest)

    def murder_pending(self) -> None:
        """Once a while, let a thread look at the clients that seem to stall, and end what has no time any more."""
        super().murder_pending()
        now = time.monotonic()
        if now - self._patrolled_at > _PATROL_SECONDS:
            self._patrolled_at = now
            for conn in [*self._awaited]:
                if conn.sock.is_late(now) or (conn.sock.is_receiving and not self.alive):
                    self._go_on(conn)

    def _go_on(self, conn: Any) -> None:
        awaited = self._awaited.pop(conn, None)
        if awaited is None:  # Of the events that have come at once, one before this has let it go on.
            return
        self.poller.unregister(awaited.file)
        self._held_bytes -= awaited.held_bytes
        self.enqueue_req(conn)

    def _has_request(self, conn: Any) -> bool:
        """Whether a request has come, or comes soon.

        Raises
        ------
        LimitRequestHeaders, LimitRequestLine, OSError
        """
        connection = conn.sock
        if connection.receive_head(conn.parser.unreader):
            return True
        if connection.is_receiving or not self._may_linger():
            return False
        return _is_ready(connection, select.POLLIN, LINGER_SECONDS) and connection.receive_head(conn.parser.unreader)

    def _send(self, connection: Connection) -> bool:
        """Send what is left, as far as the client takes it; return False if that has failed."""
        try:
            connection.release_answer()
            while not connection.send_rest():
                awaited = connection.awaited_file
                event = select.POLLOUT if awaited is connection else select.POLLIN
                if not self._may_linger() or not _is_ready(awaited, event, LINGER_SECONDS):
                    break
        except TruncatedBody as error:
            self.log.error("an answer was not sent to its end: %s", error.strerror)
            return False
        except Exception as error:  # Whatever it is: behind half an answer comes no other.
            if not isinstance(error, OSError) or error.errno not in _GONE:
                self.log.exception("an answer was not sent to its end")
            return False
        return True

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer a request that has failed; of one that cannot be understood the query, with a token, is not logged."""
        if isinstance(exc, InvalidRequestLine):
            exc = InvalidRequestLine(exc.req.partition("?")[0])
        super().handle_error(req, client, addr, exc)

    def _end(self, connection: Connection) -> bool:
        """End a connection; return whether its client, which is to end it too, is waited for."""
        connection.awaited = 0
        is_ended = connection.end()
        if not is_ended and self._may_linger() and _is_ready(connection, select.POLLIN, LINGER_SECONDS):
            is_ended = connection.end()
        if is_ended:
            connection.close()
            return False
        connection.awaited = selectors.EVENT_READ
        return True

    def _may_linger(self) -> bool:
        # With several workers the system may give one of them more connections than it has threads.
        return bool(self.alive and self.nr_conns <= self.cfg.threads)


class PatientWorker(WatchfulWorker):
    """The same behind the Jupyter relay, which ends what stalls, and lets pass longer heads than ours."""

    patience_seconds = 86400.0
    head_bytes = 131072


def _is_ready(connection: socket.socket | AwaitedStream, event: int, for_seconds: float) -> bool:
    """Wait for an event of poll(2); False if it does not come in time."""
    poll = select.poll()
    poll.register(connection, event)
    return bool(poll.poll(for_seconds * 1000))


def _awaits_body(req: Any) -> bool:
    """Whether some of the body of a request has not come; of one in chunks nobody knows."""
    length = getattr(req.body.reader, "length", None)
    return bool(length is None or (length and length > len(req.unreader.buf.getvalue())))


def _with_streams_taken(app: WSGIApplication) -> WSGIApplication:
    """Return an application whose bodies go to the connection, where it takes them, past gunicorn's writing."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        body = app(environ, start_response)
        connection = environ["gunicorn.socket"]
        return () if isinstance(connection, Connection) and connection.take_stream(body) else body

    return answer


class _Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """Gunicorn with the settings that this application wants, whatever gunicorn.conf.py says."""

    def __init__(
        self,
        listener: socket.socket,
        config: Mapping[str, str],
        workers: int,
        threads: int,
        when_ready: Callable[[], None],
        *,
        is_borrowed: bool,
    ) -> None:
        self._config = config
        self._settings: dict[str, Any] = {
            # Bound already, so that a failure is told in one sentence and port 0 is known.
            "bind": f"fd://{listener.detach()}",
            "backlog": BACKLOG,
            "workers": workers,
            # Behind the relay there are mostly as many threads as connections, so that each may keep its own.
            "worker_class": PatientWorker if is_borrowed else WatchfulWorker,
            "threads": threads,
            "worker_connections": make_room_for_connections(threads),
            # A path has 4,096 bytes, each of which may need three characters; Jupyter lets no more than 64 KiB through.
            "limit_request_line": 0 if is_borrowed else 8190,
            # Longer than a browser or a proxy keeps a connection, so that they close first.
            "keepalive": 75,
            # So long a worker that is to end, or whose master was killed, sends on what it has begun.
            "graceful_timeout": 5,
            # What is wrong with the application shows before a worker is forked.
            "preload_app": True,
            "loglevel": "warning",
            # Gunicorn would believe X-Forwarded-Proto and SCRIPT_NAME of every process of this machine.
            "forwarded_allow_ips": "",
            # Of unix sockets it believes them all the same.
            "secure_scheme_headers": {},
            "forwarder_headers": "",
            "control_socket_disable": True,
            "when_ready": lambda _arbiter: when_ready(),
        }
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._settings.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        return create_app(self._config)
