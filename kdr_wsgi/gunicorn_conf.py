"""Settings of gunicorn for production: ``gunicorn -c python:kdr_wsgi.gunicorn_conf 'kdr_wsgi:create_app()'``.

Whatever stands behind ``-c`` on the command line, or in ``GUNICORN_CMD_ARGS``,
goes over what is here.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import tempfile
from typing import Any
from urllib.parse import urlsplit

from kdr_wsgi.access_log import AccessLog
from kdr_wsgi.descriptors import make_room_for_connections
from kdr_wsgi.serving import WatchfulWorker
from kdr_wsgi.sockets import BACKLOG

# Where the hub looks for its service; without one, where no other machine reaches it.
_service = urlsplit(os.environ.get("JUPYTERHUB_SERVICE_URL", ""))
bind = _service.netloc or "127.0.0.1:8000"

# As many as the processors at hand: a file that is sent waits for the disk in the kernel, not in Python.
workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

# Threads, since the hub's answer to a question must hold up nobody else. None waits for a client that reads slowly.
worker_class = WatchfulWorker
threads = 64

# What each worker takes at a time, with as many descriptors as the system allows. More wait in the backlog.
worker_connections = make_room_for_connections(threads)
backlog = BACKLOG

# Longer than a proxy keeps a connection to us, so that none is closed in the moment in which a request is sent.
keepalive = 75

# A path has 4,096 bytes, each of which may need three characters of a URL. 8,190 is the most that gunicorn counts.
limit_request_line = 8190

# A worker whose main thread hangs for so long is replaced.
timeout = 60

# So long a worker that is to end sends on what it has begun.
graceful_timeout = 30

# What is wrong with the settings shows before a worker is forked, and workers share the memory of what is imported.
preload_app = True

# gunicorn would believe X-Forwarded-Proto and SCRIPT_NAME of every process of this machine; KDR_TRUSTED_PROXIES says
# who is believed.
forwarded_allow_ips = ""
secure_scheme_headers: dict[str, str] = {}
forwarder_headers = ""

# A socket by which other processes of the same user could command the server is not needed.
control_socket_disable = True

# `sendfile` is left unset: set to anything, even to True, gunicorn turns it off.

if os.environ.get("JUPYTERHUB_SERVICE_NAME"):
    # To the hub's own log, or to that of whatever has started the service.
    accesslog = "-"
    logger_class = AccessLog

    def child_exit(_server: Any, worker: Any) -> None:
        """Tell prometheus_client that a worker has ended; what it has counted stands."""
        from prometheus_client.multiprocess import mark_process_dead  # Here, since it needs an extra.

        mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]

    # prometheus_client adds the workers' numbers up through files in a folder, if it is told of one before it is
    # imported; one that the administrator names is the administrator's to empty.
    if not os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        _folder = tempfile.mkdtemp(prefix="kdr-metrics-")
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = _folder
        # systemd-tmpfiles removes what is old, unless it is locked (https://systemd.io/TEMPORARY_DIRECTORIES).
        fcntl.flock(os.open(_folder, os.O_RDONLY), fcntl.LOCK_SH)

        def _remove_folder(maker: int) -> None:
            if os.getpid() == maker:
                shutil.rmtree(_folder, ignore_errors=True)

        # Where what is wrong with the settings ends the server, gunicorn does not call `on_exit`.
        atexit.register(_remove_folder, os.getpid())

        def on_exit(_server: Any) -> None:
            """Remove what no worker needs any more."""
            shutil.rmtree(_folder, ignore_errors=True)

        def pre_exec(server: Any) -> None:
            """Let a new master, which an upgrade starts, make a folder of its own."""
            server.cfg.env_orig.pop("PROMETHEUS_MULTIPROC_DIR", None)
