"""A PostgreSQL of the tests' own: in a temporary folder, on a port and a socket of its own."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import psycopg

from hub.locations import DatabaseLocation

#: Of everybody who connects over TCP; no output may have it.
PASSWORD = "Geh3im&Wort"
QUOTED_PASSWORD = "Geh3im%26Wort"

_NUMBERS = count(1)


def close_all() -> None:
    """Forget the databases of this process, so that they can be dropped."""
    from hub.postgres import connections, reader

    reader.close_all()
    connections._databases.clear()


def name_of(location: DatabaseLocation) -> str:
    """Return what a database is called."""
    return location.shown.rpartition("/")[2]


class DatabaseServer:
    """A server that can be stopped and started again."""

    def __init__(self, programs: Path, folder: Path, *, is_durable: bool) -> None:
        self._is_durable = is_durable
        self._programs = programs
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._process: subprocess.Popen[bytes] | None = None

    def make(self) -> None:
        """Make its files."""
        password = self._folder / "password"
        password.write_text(PASSWORD)
        # PostgreSQL refuses to run as root.
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            for path in (self._folder, password):
                os.chown(path, account.pw_uid, account.pw_gid)
        self._run(
            "initdb",
            "--pgdata=data",
            "--username=kdr",
            f"--pwfile={password}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            # As most have it: keys are in the order of their bytes all the same.
            "--locale=C.UTF-8",
            "--no-sync",
        )

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self._folder,
            "max_connections": 200,
        }
        if not self._is_durable:
            # No test cuts the power.
            options["fsync"] = "off"
        settings = [f"--{name}={value}" for name, value in options.items()]
        with open(self._folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [*self._as_postgres(), str(self._programs / "postgres"), "-D", str(self._folder / "data"), *settings],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for whoever uses it, and drops its databases first.
                cwd=self._folder,
            )
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                has_ended = self._process.poll() is not None or time.monotonic() > deadline
            assert not has_ended, (self._folder / "log").read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        """End it at once, connections and all."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        self._process.wait(30)

    def url(self, database: str, *, password: str = QUOTED_PASSWORD, port: int | None = None) -> str:
        """Return the URL of a database, password and all."""
        return f"postgresql://kdr:{password}@127.0.0.1:{port or self.port}/{database}"

    @contextmanager
    def new_database(self) -> Iterator[str]:
        """Make a database; yield its URL; drop it."""
        name = f"kdr_{os.getpid()}_{next(_NUMBERS)}"
        self.ask(f"CREATE DATABASE {name}")
        try:
            yield self.url(name)
        finally:
            self.ask(f"DROP DATABASE {name} WITH (FORCE)")

    def ask(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run a statement; return its rows."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [*self._as_postgres(), str(self._programs / program), *arguments],
            check=True,
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
        )

    def _as_postgres(self) -> list[str]:
        if os.geteuid() != 0:
            return []
        return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]


class Wire:
    """A way to a server that can be cut without a word: connections stay, and nothing comes through any more."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._is_cut = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Let nothing through."""
        self._is_cut.set()

    def mend(self) -> None:
        """Let new connections through; those of before stay dead."""
        old, self._sockets = self._sockets, []
        self._is_cut.clear()
        for each in old:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def close(self) -> None:
        """End all."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.mend()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(client)
            if self._is_cut.is_set():
                continue
            server = socket.create_connection(("127.0.0.1", self._target))
            self._sockets.append(server)
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if self._is_cut.is_set():
                    return
                sink.sendall(data)
        if not self._is_cut.is_set():
            for each in (source, sink):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)


@contextmanager
def running_database(*, is_durable: bool = False) -> Iterator[DatabaseServer]:
    """Run a server for the block; the test is skipped where PostgreSQL is not installed.

    With `is_durable` it waits for its disk, as those do that keep something.
    """
    from tests.conftest import need

    programs = _find_programs()
    need("postgresql", is_there=programs is not None, remedy="apt-get install postgresql")
    assert programs is not None
    folder = Path(tempfile.mkdtemp(prefix="kdr-postgresql-"))
    server = DatabaseServer(programs, folder, is_durable=is_durable)
    try:
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


def _find_programs() -> Path | None:
    if found := shutil.which("postgres"):
        return Path(found).parent
    # Where Debian puts it, for each version.
    folders = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "postgres").exists()]
    return max(folders, key=lambda path: int(re.sub(r"\D", "", path.parent.name)), default=None)
