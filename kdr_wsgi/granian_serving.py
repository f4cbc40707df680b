"""Run the relay server under granian, in the foreground."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from multiprocessing.util import Finalize
from typing import Any

from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.mp import MPServer

from hub.registries import close_databases
from kdr_wsgi.app import create_app
from kdr_wsgi.catalog import Catalog
from kdr_wsgi.granian_bridge import GranianBridge
from kdr_wsgi.settings import SettingError, Settings, read_settings
from kdr_wsgi.sockets import BACKLOG
from kdr_wsgi.usage import write_all

#: Threads of a worker. A slow reader of a large file holds one; they are made when they are needed.
THREADS = 64

#: How long a client may take nothing of what it is sent.
STALL_SECONDS = 30

#: How long a client may send nothing of a request, or of the next one of its connection.
QUIET_SECONDS = 75

#: So long a worker that is to end, or whose master was killed, sends on what it has begun.
GRACE_SECONDS = 5

#: How often a worker looks whether its master is alive.
LOOK_SECONDS = 1.0

#: What the variables of a request begin with, or are called, which a server may leave out.
_OF_REQUESTS = ("HTTP_", "RAW_URI", "REQUEST_URI", "CONTENT_TYPE", "CONTENT_LENGTH")


def run(
    listener: socket.socket,
    config: Mapping[str, str],
    workers: int,
    *,
    threads: int = THREADS,
    when_ready: Callable[[], None] = lambda: None,
    is_borrowed: bool = False,
) -> None:
    """Serve on `listener` until a signal ends it; the parameters are those of `kdr_wsgi.serving.run`.

    Raises
    ------
    SettingError
        A proxy is to be believed, or another setting cannot be used.
    RegistryError
    """
    _prepare(listener)
    _check_proxies(read_settings(config))
    # What is wrong with the application shows before a worker is forked.
    create_app(config)
    path = listener.getsockname()
    server = _Server(listener, workers, threads)
    server.on_startup(when_ready)
    try:
        server.serve(target_loader=partial(_load, dict(config), os.getpid()), wrap_loader=False)
    finally:
        if isinstance(path, str) and not is_borrowed:
            with suppress(FileNotFoundError):
                os.unlink(path)


def _check_proxies(settings: Settings) -> None:
    """Refuse to believe a proxy: to granian X_Forwarded_Host, which proxies pass on, is X-Forwarded-Host."""
    # The Jupyter relay passes on what it has on its own list.
    if settings.proxies and not settings.behind_relay:
        raise SettingError(
            "KDR_TRUSTED_PROXIES", "granian does not tell a proxy's headers from a client's; use --server gunicorn"
        )


def _prepare(listener: socket.socket) -> None:
    """Set what the connections of a TCP socket inherit from it."""
    if listener.family == socket.AF_UNIX:
        return
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # Granian waits for ever for a client that takes nothing; Linux ends its connection (tcp(7)).
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALL_SECONDS * 1000)


class _Server(MPServer):
    """Granian with the settings that this application wants, on a socket that is there."""

    def __init__(self, listener: socket.socket, workers: int, threads: int) -> None:
        self._listener = listener
        super().__init__(
            "kdr_wsgi",
            interface=Interfaces.WSGI,
            workers=workers,
            blocking_threads=threads,
            # Connections of a worker at a time; more wait in the backlog.
            backpressure=1000,
            backlog=BACKLOG,
            # Without TLS no browser speaks HTTP/2.
            http=HTTPModes.http1,
            http1_settings=HTTP1Settings(header_read_timeout=QUIET_SECONDS * 1000),
            websockets=False,
            log_level=LogLevels.warning,
            log_dictconfig=_LOGGING,
            respawn_failed_workers=True,
            workers_kill_timeout=GRACE_SECONDS,
        )

    # Granian has no public way to a socket that is there. Its own would bind to an address, which may fail in many
    # sentences, does not tell which port 0 has become, and gives a unix socket its mode too late.
    def _init_shared_socket(self) -> None:
        descriptor = self._listener.fileno()
        # What SocketHolder.__getstate__ returns; a backlog where listen(2) can be called again (granian, src/net.rs).
        backlog = (BACKLOG,) if sys.platform.startswith(("linux", "freebsd")) else ()
        self._shd: Any = SocketHolder(descriptor, self._listener.family == socket.AF_UNIX, *backlog)  # type: ignore[call-arg]
        self._sfd: Any = descriptor
        self._sso: Any = self._listener


class _WithoutAdvice(logging.Filter):
    """Drops what granian says on the numbers of threads and workers: they are chosen."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("Configur")


_LOGGING: dict[str, Any] = {
    "filters": {"without_advice": {"()": _WithoutAdvice}},
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "stream": "ext://sys.stderr",
            "formatter": "generic",
            "filters": ["without_advice"],
        }
    },
    "loggers": {"_granian": {"handlers": ["console"], "propagate": False}},
}


def _load(config: Mapping[str, str], master: int) -> GranianBridge:
    """Return a worker's application; the worker ends with its master, killed or not."""
    # Forked, it has the master's handlers, which end no worker, until granian sets those of a worker.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    # Granian takes what the environment has for what a request has not (granian/wsgi.py, _callback_wrapper).
    for name in [*os.environ]:
        if name.startswith(_OF_REQUESTS):
            del os.environ[name]
    threading.Thread(target=_end_with, args=(master,), daemon=True).start()
    # The end of a process of multiprocessing's is none of the interpreter's, and atexit does not see it.
    Finalize(None, close_databases, exitpriority=0)
    # What comes last is done first.
    Finalize(None, write_all, exitpriority=0)
    app = create_app(config)
    catalog: Catalog = app.extensions["kdr"]
    return GranianBridge(app, lambda key: catalog.find(key) is not None, f"/{read_settings(config).route}/")


def _end_with(master: int) -> None:
    while os.getppid() == master:
        time.sleep(LOOK_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    # Nobody is left to end it.
    time.sleep(GRACE_SECONDS)
    os._exit(1)
