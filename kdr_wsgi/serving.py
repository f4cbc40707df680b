"""Run the relay server under gunicorn, in the foreground."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable, Mapping
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication

from kdr_wsgi.app import create_app

#: Connections that wait while all threads are busy (listen(2)).
BACKLOG = 2048

#: Threads of a worker. With more of them than connections (a browser has six) no request waits for another, which
#: measured faster than 1, 2, 4 and 8; and a slow reader holds one of many.
THREADS = 16


class BindError(Exception):
    """The server cannot listen where it was told to."""

    def __init__(self, bind: str, reason: str) -> None:
        self.bind = bind
        super().__init__(f"cannot listen on {bind}: {reason}")


def listen(bind: str) -> socket.socket:
    """Return a socket that listens on `bind`: ``HOST:PORT``, ``[HOST]:PORT`` or ``unix:PATH``.

    A unix socket has mode 0600. One that a dead server left behind is replaced.

    Raises
    ------
    BindError
    """
    try:
        if bind.startswith("unix:"):
            return _listen_unix(bind, bind.removeprefix("unix:"))
        host, separator, port = bind.rpartition(":")
        if not (separator and host and port.isascii() and port.isdigit() and int(port) < 65536):
            raise BindError(bind, "write HOST:PORT (port 0: a free one) or unix:PATH")
        host = host.removeprefix("[").removesuffix("]")
        family, _, _, _, address = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
        return socket.create_server(address, family=family, backlog=BACKLOG)
    except socket.gaierror as error:
        raise BindError(bind, f"the host is not known: {error.strerror}") from error
    except UnicodeError as error:
        raise BindError(bind, "the host is not known") from error
    except OSError as error:
        is_busy_port = error.errno == errno.EADDRINUSE and not bind.startswith("unix:")
        remedy = "; name another port, or 0 for a free one" if is_busy_port else ""
        raise BindError(bind, f"{os.strerror(error.errno) if error.errno else error}{remedy}") from error


def url_of(listener: socket.socket) -> str:
    """Return where `listener` is reached: ``http://HOST:PORT``, or ``unix:PATH``."""
    address = listener.getsockname()
    if isinstance(address, str):
        return f"unix:{address}"
    host = f"[{address[0]}]" if listener.family == socket.AF_INET6 else address[0]
    return f"http://{host}:{address[1]}"


def is_loopback(listener: socket.socket) -> bool:
    """Whether only this machine reaches `listener`."""
    address = listener.getsockname()
    return isinstance(address, str) or address[0] == "::1" or address[0].startswith("127.")


def run(listener: socket.socket, config: Mapping[str, str], workers: int, when_ready: Callable[[], None]) -> None:
    """Serve on `listener` until a signal ends it; does not return.

    Parameters
    ----------
    listener : socket
        It listens already.
    config : mapping
        For `create_app`.
    workers : int
        Processes.
    when_ready : callable
        Called once connections are accepted.
    """
    _Server(listener, config, workers, when_ready).run()


class _Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """Gunicorn with the settings that this application wants, whatever gunicorn.conf.py says."""

    def __init__(
        self, listener: socket.socket, config: Mapping[str, str], workers: int, when_ready: Callable[[], None]
    ) -> None:
        self._config = config
        self._settings: dict[str, Any] = {
            # Bound already, so that a failure is told in one sentence and port 0 is known.
            "bind": f"fd://{listener.detach()}",
            "backlog": BACKLOG,
            "workers": workers,
            "worker_class": "gthread",
            "threads": THREADS,
            "worker_connections": 1000,
            # Longer than a browser or a proxy keeps a connection, so that they close first.
            "keepalive": 75,
            # What is wrong with the application shows before a worker is forked.
            "preload_app": True,
            "loglevel": "warning",
            # Gunicorn would believe X-Forwarded-Proto and SCRIPT_NAME of every process of this machine.
            "forwarded_allow_ips": "",
            "control_socket_disable": True,
            "when_ready": lambda _arbiter: when_ready(),
        }
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._settings.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        return create_app(self._config)


def _listen_unix(bind: str, path: str) -> socket.socket:
    if not path:
        raise BindError(bind, "name the socket's path behind the colon")
    path = os.path.abspath(path)
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        pass
    else:
        if not stat.S_ISSOCK(status.st_mode):
            raise BindError(bind, "something else than a socket is there")
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(path) != errno.ECONNREFUSED:
                raise BindError(bind, "another server listens there")
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX)
    # bind(2) makes the socket with what the umask leaves; chmod would come too late.
    umask = os.umask(0o177)
    try:
        listener.bind(path)
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(umask)
    listener.listen(BACKLOG)
    return listener
