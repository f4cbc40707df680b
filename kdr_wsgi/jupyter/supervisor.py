"""The relay server of a Jupyter server: started when it is first needed, started again when it dies."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import socket
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping
from pathlib import Path

from kdr_wsgi.sockets import listen

#: A server that ended sooner than that may be unable to start at all.
SETTLED_SECONDS = 3.0

#: So often it is started again at once all the same: whoever killed it may have been quick.
QUICK_RESTARTS = 3

#: Of each process, so that as many readers may be slow, each of which holds one. They are made when they are needed.
THREADS = 64

LONGEST_PAUSE_SECONDS = 30.0

#: How long the server has to end by itself.
END_SECONDS = 5.0

#: A socket that nobody listens on for so long is nobody's.
ABANDONED_SECONDS = 60.0

_SOCKET = "relay.sock"
_DIRECTORY_PREFIX = f"kdr-{os.getuid()}-"


class Supervisor:
    """Runs the relay server of this process.

    This process holds the listening socket: a request that comes while the
    server starts, or starts again, waits in the socket's queue. The server
    holds the other end of a pipe; however this process ends, the server
    notices, removes the socket and ends.

    Parameters
    ----------
    environment : mapping
        Variables for the server, over those of this process.
    workers : int
        Processes that serve.
    """

    def __init__(self, environment: Mapping[str, str], workers: int) -> None:
        self._environment = environment
        self._workers = workers
        self._log = logging.getLogger(__name__)
        self._directory: Path | None = None
        self._listener: socket.socket | None = None
        self._process: Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_failing = False
        #: Called when the server has ended.
        self.when_ended: Callable[[], None] = lambda: None

    def address(self) -> str:
        """Return the path of the server's socket; the first call starts the server.

        Raises
        ------
        OSError
            There is no place for the socket.
        """
        if self._directory is None or self._task is None:
            remove_abandoned_sockets()
            # Short, since a socket's path has at most 107 bytes, and never on a network's file system.
            self._directory = Path(tempfile.mkdtemp(prefix=_DIRECTORY_PREFIX))
            self._listener = listen(f"unix:{self._directory / _SOCKET}")
            self._listener.setblocking(False)
            self._task = asyncio.get_running_loop().create_task(self._supervise(self._listener, self._directory))
        return str(self._directory / _SOCKET)

    def is_failing(self) -> bool:
        """Whether the server ended as soon as it was started, and is not yet tried again."""
        return self._is_failing

    async def stop(self) -> None:
        """End the server, and remove its socket."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait([self._task])
        if self._process is not None and self._process.returncode is None:
            await self._end(self._process)
        if self._listener is not None:
            self._listener.close()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
        self._task = None

    async def _supervise(self, listener: socket.socket, directory: Path) -> None:
        loop = asyncio.get_running_loop()
        quick_ends = 0
        while True:
            started = loop.time()
            self._process = await self._start(listener, directory)
            code = await self._process.wait()
            self.when_ended()
            quick_ends = quick_ends + 1 if loop.time() - started < SETTLED_SECONDS else 0
            # A positive code means that the server has said on stderr what it cannot do.
            if quick_ends > QUICK_RESTARTS or (quick_ends and code > 0):
                pause = min(0.5 * 2**quick_ends, LONGEST_PAUSE_SECONDS)
                self._log.error(
                    "the relay server ended at its start (code %s); it is tried again in %.0f s", code, pause
                )
                self._is_failing = True
                _turn_away(listener)
                await asyncio.sleep(pause)
                self._is_failing = False
            else:
                self._log.warning("the relay server has ended (code %s); it is started again", code)

    async def _start(self, listener: socket.socket, directory: Path) -> Process:
        descriptor = listener.fileno()
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "kdr_wsgi.jupyter.server", *map(str, (descriptor, self._workers, THREADS))),
            stdin=PIPE,
            pass_fds=[descriptor],
            # Python looks for modules where it starts: a notebook's folder may have a flask.py.
            cwd=directory,
            env={**os.environ, **self._environment},
            # Ctrl-C in the terminal is for the Jupyter server, which asks first.
            start_new_session=True,
        )

    async def _end(self, process: Process) -> None:
        if process.stdin is not None:
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), END_SECONDS)
        except asyncio.TimeoutError:
            self._log.warning("the relay server does not end by itself; it is killed")
            process.kill()
            await process.wait()


def remove_abandoned_sockets() -> None:
    """Remove the sockets of this user that nobody listens on: their processes were killed, all at once."""
    for directory in Path(tempfile.gettempdir()).glob(f"{_DIRECTORY_PREFIX}*"):
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                # Another Jupyter server may just be about to listen.
                is_old = time.time() - directory.stat().st_mtime > ABANDONED_SECONDS
                probe.connect(str(directory / _SOCKET))
            except ConnectionRefusedError:
                if is_old:
                    shutil.rmtree(directory, ignore_errors=True)
            except OSError:
                continue  # It is just being removed.


def _turn_away(listener: socket.socket) -> None:
    """Close the connections that wait for a server."""
    try:
        while True:
            listener.accept()[0].close()
    except BlockingIOError:
        return
