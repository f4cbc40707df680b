"""Run the relay server under gunicorn, in the foreground."""

from __future__ import annotations

import errno
import select
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.util import close_graceful
from gunicorn.workers.gthread import ThreadWorker

from kdr_wsgi.app import create_app
from kdr_wsgi.descriptors import make_room_for_connections
from kdr_wsgi.sockets import BACKLOG

Result = TypeVar("Result")

#: Threads of a worker. With more of them than connections (a browser has six) no request waits for another, which
#: measured faster than 1, 2, 4 and 8; and a slow reader holds one of many.
THREADS = 16

#: How long a thread stays with a connection that is quiet.
LINGER_SECONDS = 0.1

#: How long a client may neither send what it has begun nor take what it is sent.
STALL_SECONDS = 30.0

#: How long a thread waits for a client to end its side: an answer could be lost with what was not read (RFC 9112, 9.6).
CLOSING_SECONDS = 0.5


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


#: How long no connection is accepted after one could not be for want of a descriptor.
ACCEPT_PAUSE_SECONDS = 0.05


class LingeringWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """A gthread worker whose threads wait a while for the next request of a connection, and send answers whole.

    Between two requests gunicorn gives a connection back to the main
    thread, which waits for all of them: two wake-ups for each request. And it
    sends the head of an answer by itself: two packets for each answer.
    """

    def accept(self, listener: Any) -> None:
        """Accept a connection."""
        super().accept(_Listener(listener, _Connection))

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Answer one request."""
        connection = conn.sock
        if not isinstance(connection, _Connection):  # TLS has its own.
            return super().handle_request(req, conn)
        connection.hold_head()
        try:
            keeps = super().handle_request(req, conn)
            connection.send_held()
        except BaseException:  # Whatever ends the answer, its head must not come before the next one.
            connection.drop_held()
            raise
        return keeps

    def handle(self, conn: Any) -> Any:
        """Answer requests of a connection, for as long as they follow each other."""
        keeps = super().handle(conn)
        while keeps is True and self._may_linger() and (_has_been_read(conn) or _is_readable(conn.sock)):
            keeps = super().handle(conn)
        return keeps

    def _may_linger(self) -> bool:
        # With several workers the system may give one of them more connections than it has threads.
        return bool(self.alive and self.nr_conns <= self.cfg.threads)


def _has_been_read(conn: Any) -> bool:
    """Whether the next request came along with the last one, so that the socket need have no more (pipelining)."""
    return bool(conn.parser.unreader.buf.getvalue())  # As gunicorn asks it, in `finish_request`.


def _is_readable(connection: socket.socket) -> bool:
    """Wait for bytes; False if none come in time."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(LINGER_SECONDS * 1000))


class WatchfulWorker(LingeringWorker):
    """The same, and it ends the connections of clients that stall; gunicorn's would wait for ever.

    It closes them in the threads that have served them: gunicorn waits for
    the client's end in the main thread, and meanwhile serves nobody.
    """

    def accept(self, listener: Any) -> None:
        """Accept a connection."""
        ThreadWorker.accept(self, _Listener(listener, _WatchfulConnection))

    def handle(self, conn: Any) -> Any:
        """Answer requests of a connection, and close it if that was the last one."""
        keeps = super().handle(conn)
        if keeps is False:
            close_graceful(conn.sock, timeout=CLOSING_SECONDS)
        return keeps


class _Listener:
    """A listener whose connections are of a class of ours."""

    def __init__(self, listener: Any, made: type[_Connection]) -> None:
        self._listener = listener
        self._made = made
        self.getsockname = listener.getsockname

    def accept(self) -> tuple[socket.socket, Any]:
        try:
            accepted, address = self._listener.accept()
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            # Gunicorn's worker would end. Whoever wants to connect waits in the backlog until a descriptor is free.
            time.sleep(ACCEPT_PAUSE_SECONDS)
            raise BlockingIOError(errno.EAGAIN, "no descriptor is free") from error
        return self._made(accepted.family, accepted.type, accepted.proto, accepted.detach()), address


class _Connection(socket.socket):
    """A connection that sends the head of an answer together with what comes next."""

    _is_head_next = False
    _held = b""

    def hold_head(self) -> None:
        """Do not send what comes next by itself."""
        self._is_head_next = True

    def send_held(self) -> None:
        """Send the head of an answer that has no body, or no such body."""
        self._is_head_next = False
        if self._held:
            self.sendall(b"")

    def drop_held(self) -> None:
        """Send nothing of an answer that has failed before its body began."""
        self._is_head_next = False
        self._held = b""

    def sendall(self, data: Any, *_: Any) -> None:
        if self._is_head_next:
            self._is_head_next, self._held = False, data
        elif self._held:
            held, self._held = self._held, b""
            sent = self.sendmsg((held, data))
            if sent < len(held) + len(data):
                self._send_rest(b"".join((held, data))[sent:])
        else:
            self._send_rest(data)

    def _send_rest(self, data: Any) -> None:
        super().sendall(data)

    def sendfile(self, *arguments: Any, **options: Any) -> int:
        with self._full_packets():
            self.send_held()
            return self._send_file(*arguments, **options)

    def _send_file(self, *arguments: Any, **options: Any) -> int:
        return super().sendfile(*arguments, **options)

    @contextmanager
    def _full_packets(self) -> Iterator[None]:
        """Let the system fill each packet with what comes, where it can be told to (tcp(7), TCP_CORK)."""
        if self.family == socket.AF_UNIX or not hasattr(socket, "TCP_CORK"):
            yield
            return
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        try:
            yield
        finally:
            self.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)


class _WatchfulConnection(_Connection):
    """The same, and it waits no longer than `STALL_SECONDS` where it would wait at all."""

    def setblocking(self, flag: bool, /) -> None:
        if self.fileno() >= 0:  # It may be closed, which gunicorn does not know.
            self.settimeout(STALL_SECONDS if flag else 0.0)

    def recv(self, *arguments: Any) -> bytes:
        return _reset_when_stalled(super().recv, *arguments)

    def recv_into(self, *arguments: Any) -> int:
        return _reset_when_stalled(super().recv_into, *arguments)

    def sendmsg(self, *arguments: Any) -> int:
        return _reset_when_stalled(super().sendmsg, *arguments)

    def _send_rest(self, data: Any) -> None:
        # Not `sendall` of the standard library, which wants all of it taken within the time.
        rest = memoryview(data).cast("B")
        while rest:
            rest = rest[_reset_when_stalled(super().send, rest) :]

    def _send_file(self, *arguments: Any, **options: Any) -> int:
        return _reset_when_stalled(super()._send_file, *arguments, **options)


def _reset_when_stalled(work: Callable[..., Result], *arguments: Any, **options: Any) -> Result:
    try:
        return work(*arguments, **options)
    except TimeoutError as error:
        # What gunicorn takes for a client that has gone, and logs no traceback of.
        raise ConnectionResetError(errno.ECONNRESET, "the client has stalled") from error


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
            "worker_class": LingeringWorker if is_borrowed else WatchfulWorker,
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
