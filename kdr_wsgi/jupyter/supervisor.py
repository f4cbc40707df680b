"""The relay server of a Jupyter server: started when it is first needed, started again when it dies."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import socket
import stat
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping
from pathlib import Path

from kdr_wsgi.sockets import BindError, listen

#: A server that ended sooner than that may be unable to start at all.
SETTLED_SECONDS = 3.0

#: So often it is started again at once all the same: whoever killed it may have been quick.
QUICK_RESTARTS = 3

#: Threads of each process. They are made when they are needed; under granian each slow reader holds one.
THREADS = 64

LONGEST_PAUSE_SECONDS = 30.0

#: How long the server has to end by itself.
END_SECONDS = 5.0

#: A socket that nobody listens on for so long is nobody's.
ABANDONED_SECONDS = 60.0

#: What the path of a socket may have (unix(7): 108 bytes with the NUL at its end; elsewhere, 104).
PATH_BYTES = 107 if sys.platform == "linux" else 103

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
    server : str
        What runs them: one of `kdr_wsgi.servers.SERVERS`.
    log : Logger
    """

    def __init__(self, environment: Mapping[str, str], workers: int, server: str, log: logging.Logger) -> None:
        self._environment = environment
        self._workers = workers
        self._server = server
        self._log = log
        self._path: Path | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_failing = False
        self._is_stopped = False
        #: Called when the server has ended.
        self.when_ended: Callable[[], None] = lambda: None

    def address(self) -> str:
        """Return the path of the server's socket; the first call starts the server.

        Raises
        ------
        OSError
            There is no place for the socket, or the server has been stopped.
        """
        if self._is_stopped:
            raise ConnectionRefusedError("the Jupyter server ends")
        # Whoever cleans up temporary files may take the socket away.
        if self._path is None or not self._path.exists():
            if self._task is not None:
                self._task.cancel()
            self._path, listener = _open_socket()
            self._task = asyncio.get_running_loop().create_task(self._supervise(listener, self._path))
        return str(self._path)

    def is_failing(self) -> bool:
        """Whether the server ended as soon as it was started, and is not yet tried again."""
        return self._is_failing

    async def stop(self) -> None:
        """End the server, and remove its socket."""
        self._is_stopped = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _supervise(self, listener: socket.socket, path: Path) -> None:
        """Start the server again and again, until cancelled."""
        process: Process | None = None
        quick_ends = 0
        try:
            while True:
                started = time.monotonic()
                code = 1
                try:
                    process = await self._start(listener, path.parent)
                    code = await process.wait()
                except OSError as error:
                    self._log.error("the relay server cannot be started: %s", error)
                self.when_ended()
                quick_ends = quick_ends + 1 if time.monotonic() - started < SETTLED_SECONDS else 0
                # A positive code means that the server has said on stderr what it cannot do.
                if quick_ends > QUICK_RESTARTS or (quick_ends and code > 0):
                    await self._pause(listener, code, quick_ends)
                else:
                    self._log.warning("the relay server has ended (code %s); it is started again", code)
        finally:
            if process is not None and process.returncode is None:
                await self._end(process)
            listener.close()
            shutil.rmtree(path.parent, ignore_errors=True)

    async def _pause(self, listener: socket.socket, code: int, quick_ends: int) -> None:
        """Turn away who waits for a server that does not start, and let some time go by."""
        pause = min(0.5 * 2**quick_ends, LONGEST_PAUSE_SECONDS)
        self._log.error("the relay server ended at its start (code %s); it is tried again in %.0f s", code, pause)
        self._is_failing = True
        try:
            _turn_away(listener)
            await asyncio.sleep(pause)
        finally:
            self._is_failing = False

    async def _start(self, listener: socket.socket, directory: Path) -> Process:
        descriptor = listener.fileno()
        arguments = (descriptor, os.getpid(), self._workers, THREADS, self._server)
        # What lets somebody in to Jupyter is no business of the relay server's.
        inherited = {name: value for name, value in os.environ.items() if "TOKEN" not in name}
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "kdr_wsgi.jupyter.server", *map(str, arguments)),
            stdin=PIPE,
            pass_fds=[descriptor],
            # Python looks for modules where it starts: a notebook's folder may have a flask.py.
            cwd=directory,
            env={**inherited, **self._environment},
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


def remove_abandoned_sockets(base: Path) -> None:
    """Remove the sockets of this user that nobody listens on: their processes were killed, all at once."""
    for directory in base.glob(f"{_DIRECTORY_PREFIX}*"):
        with socket.socket(socket.AF_UNIX) as probe:
            # Whoever else can write here must not make this wait.
            probe.setblocking(False)
            try:
                status = directory.lstat()
                if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
                    continue
                # A younger one may be about to listen; one of the future is as old as a clock that was set back.
                if abs(time.time() - status.st_mtime) > ABANDONED_SECONDS:
                    probe.connect(str(directory / _SOCKET))
            except ConnectionRefusedError:
                shutil.rmtree(directory, ignore_errors=True)
            except OSError:
                continue  # It is just being removed, or many wait for it.


def _open_socket() -> tuple[Path, socket.socket]:
    """Return the path of a socket in a directory of its own, and the socket, which listens."""
    # Not where the registry is: that may be on a network's file system, where there are no sockets.
    bases = [tempfile.gettempdir(), os.environ.get("XDG_RUNTIME_DIR"), "/tmp"]  # noqa: S108  # mkdtemp is safe there
    room = PATH_BYTES - len(f"/{_DIRECTORY_PREFIX}12345678/{_SOCKET}")
    for base in (Path(base) for base in bases if base and len(os.fsencode(base)) <= room):
        if not os.access(base, os.W_OK | os.X_OK):
            continue
        remove_abandoned_sockets(base)
        path = Path(tempfile.mkdtemp(prefix=_DIRECTORY_PREFIX, dir=base)) / _SOCKET
        try:
            listener = listen(f"unix:{path}")
        except BindError as error:
            path.parent.rmdir()
            raise OSError(str(error)) from error
        listener.setblocking(False)
        return path, listener
    raise OSError(f"no place for a socket; set TMPDIR to a directory of yours with a path of at most {room} bytes")


def _turn_away(listener: socket.socket) -> None:
    """Close the connections that wait for a server."""
    try:
        while True:
            listener.accept()[0].close()
    except BlockingIOError:
        return
