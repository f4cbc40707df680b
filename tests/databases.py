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
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg

#: Of everybody who connects over TCP; no output may have it.
PASSWORD = "Geh3im&Wort"
QUOTED_PASSWORD = "Geh3im%26Wort"

_NUMBERS = count(1)


def close_all() -> None:
    """Close the connections of this process, so that a database can be dropped."""
    from hub.postgres import connections, reader

    reader._close_all()
    for database in connections._databases.values():
        database.close()
    connections._databases.clear()


class DatabaseServer:
    """A server that can be stopped and started again."""

    def __init__(self, programs: Path, folder: Path) -> None:
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
            "fsync": "off",
            "log_statement": "all",
            "log_min_messages": "warning",
        }
        settings = [f"--{name}={value}" for name, value in options.items()]
        with open(self._folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [*self._as_postgres(), str(self._programs / "postgres"), "-D", str(self._folder / "data"), *settings],
                stdout=log,
                stderr=subprocess.STDOUT,
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

    def freeze(self) -> None:
        """Let nothing of it answer any more, as if the network had been cut; connections stay."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it answer again."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> None:
        assert self._process is not None
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for process in (pid, *map(int, children)):
            os.kill(process, number)

    def url(self, database: str, *, password: str = QUOTED_PASSWORD) -> str:
        """Return the URL of a database, password and all."""
        return f"postgresql://kdr:{password}@127.0.0.1:{self.port}/{database}"

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


@contextmanager
def running_database() -> Iterator[DatabaseServer]:
    """Run a server for the block; the test is skipped where PostgreSQL is not installed."""
    from tests.conftest import need

    programs = _find_programs()
    need("postgresql", is_there=programs is not None, remedy="apt-get install postgresql")
    assert programs is not None
    folder = Path(tempfile.mkdtemp(prefix="kdr-postgresql-"))
    server = DatabaseServer(programs, folder)
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
