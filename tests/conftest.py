"""A registry of its own for each test, and real servers that read one."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from hub import JupyterRelayHub
from hub.locations import DatabaseLocation, Location
from hub.settings import find_registry
from kdr_wsgi.servers import SERVERS
from tests.databases import DatabaseServer, close_all, running_database

# Speed is shown by the benchmarks; a test that fails on a busy machine teaches nothing.
settings.register_profile("kdr", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("kdr")

#: Machines that are meant to have all that a test can need, as CI's, turn a skip for want of it into a failure.
REQUIRED = frozenset(filter(None, os.environ.get("KDR_TEST_REQUIRE", "").split(",")))


def need(name: str, *, is_there: bool, remedy: str) -> None:
    """Skip the test for want of `name`, saying so; fail it where that must not happen."""
    if is_there:
        return
    if name in REQUIRED:
        pytest.fail(f"{name} is required here: {remedy}")
    pytest.skip(f"needs {name}: {remedy}")


def need_zarr(text: str) -> None:
    """Skip the test where `text`, of a page or a notebook, needs a package that this Python is too old for."""
    if "import zarr" in text:
        need("zarr", is_there=find_spec("zarr") is not None, remedy="Python 3.11, and pip install zarr")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let no test see the user's registry or servers."""
    for name in [*os.environ]:
        if name.startswith(("JUPYTER", "JPY_", "XDG_", "KDR_")) and not name.startswith("KDR_TEST_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def registry_path(tmp_path: Path) -> Path:
    return tmp_path / "kdr" / "registry.sqlite"


@pytest.fixture(scope="session")
def database_server() -> Iterator[DatabaseServer]:
    """A PostgreSQL of the tests' own."""
    with running_database() as server:
        yield server


@pytest.fixture
def database(database_server: DatabaseServer) -> Iterator[DatabaseLocation]:
    """An empty database."""
    with database_server.new_database() as url:
        location = find_registry(url)
        assert isinstance(location, DatabaseLocation)
        yield location
        close_all()


@pytest.fixture(params=["sqlite", "postgresql"])
def location(request: pytest.FixtureRequest, registry_path: Path) -> Location:
    """Where a registry may be: in a file, and in a database."""
    if request.param == "sqlite":
        return registry_path
    found = request.getfixturevalue("database")
    assert isinstance(found, DatabaseLocation)
    return found


@pytest.fixture
def hub(registry_path: Path) -> Iterator[JupyterRelayHub]:
    made = JupyterRelayHub(registry=registry_path, base_url="/", key_prefix="")
    yield made
    made.registry.close()


#: What a program begins with that is to hear Ctrl-C even where it is started in the background, which ignores it.
INTERRUPTIBLE = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"


@dataclass
class LiveServer:
    """A server that runs, and a hub that publishes to it."""

    address: tuple[str, int]
    process: subprocess.Popen[bytes]
    hub: JupyterRelayHub
    folder: Path

    @property
    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(child) for child in children.split()]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, "the server has ended"
        assert time.monotonic() < deadline, "the server does not listen"
        time.sleep(0.02)


@contextmanager
def live_server(
    folder: Path,
    worker_class: str = "gthread",
    *,
    workers: int = 1,
    environment: dict[str, str] | None = None,
    wrapper: list[str] | None = None,
) -> Iterator[LiveServer]:
    """Run gunicorn with `create_app` as an administrator would; or one of `SERVERS` with the command `kdr`."""
    registry = folder / "registry" / "registry.sqlite"
    port = free_port()
    kdr = [sys.executable, "-m", "kdr_wsgi", "serve", "--server", worker_class]
    gunicorn = [
        sys.executable,
        "-m",
        "gunicorn",
        "--no-control-socket",
        "--log-level",
        "warning",
        "-k",
        worker_class,
        "--threads",
        "4",
        "-w",
        str(workers),
        "--keep-alive",
        "30",
        "-b",
        f"127.0.0.1:{port}",
        "kdr_wsgi:create_app()",
    ]
    if worker_class in SERVERS:
        command = [*(wrapper or []), *kdr, "--workers", str(workers), "--bind", f"127.0.0.1:{port}"]
    else:
        command = [*(wrapper or []), *gunicorn]
    process = subprocess.Popen(command, env={**os.environ, "KDR_REGISTRY": str(registry), **(environment or {})})
    hub = JupyterRelayHub(registry=registry, base_url="/", key_prefix="")
    try:
        wait_for_port(port, process)
        yield LiveServer(("127.0.0.1", port), process, hub, folder)
    finally:
        hub.registry.close()
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.fixture(scope="session", params=["kdr_wsgi.serving.WatchfulWorker", "sync", "granian"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server for all tests that only read: our own worker of gunicorn, one of gunicorn's, and granian."""
    # Of hosts test_hosts.py tells; here WTML is made for several.
    any_host = {"KDR_HOSTS": "*"}
    with live_server(tmp_path_factory.mktemp("server"), request.param, environment=any_host) as running:
        yield running


@pytest.fixture
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., LiveServer]]:
    """Start a server of its own for one test."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(live_server(tmp_path_factory.mktemp("server"), **options))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """An empty folder to publish."""
    folder = tmp_path / "tree"
    folder.mkdir()
    return folder


def make_settled(path: Path) -> None:
    """Wait until a later change of `path` shows in its times, as it does for any file but those of this moment."""
    time.sleep(max(0.0, 0.05 - (time.time() - path.stat().st_ctime)))


def unprivileged() -> list[str]:
    """Return a command that takes root's power to read everything from the command behind it."""
    if os.geteuid() != 0:
        return []
    need("setpriv", is_there=shutil.which("setpriv") is not None, remedy="apt-get install util-linux")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]
