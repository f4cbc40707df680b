"""What holds under granian as it does under gunicorn."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from hub import JupyterRelayHub
from kdr_wsgi.cli import main
from tests.conftest import LiveServer
from tests.raw_http import Connection, fetch

Start = Callable[..., LiveServer]
MIB = 1 << 20


@contextmanager
def server_on(bind: str, registry: Path, **environment: str) -> Iterator[None]:
    command = [sys.executable, "-m", "kdr_wsgi", "serve", "--server", "granian", "--workers", "1", "--bind", bind]
    command += ["--registry", str(registry)]
    with subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline()
            yield
        finally:
            process.terminate()


@pytest.fixture
def private(registry_path: Path, tree: Path) -> str:
    """The URL of a file that its owner alone may read."""
    (tree / "a").write_text("x")
    hub = JupyterRelayHub(registry=registry_path, key_prefix="", base_url="/")
    url = hub.serve_tree(tree) + "a"
    hub.registry.close()
    return url


def test_over_its_socket_the_relay_is_believed_and_the_environment_is_not(
    registry_path: Path, tmp_path: Path, private: str
) -> None:
    path = tmp_path / "s"
    environment = {"KDR_BEHIND_RELAY": "1", "HTTP_KDR_VIEWER": "owner", "RAW_URI": private, "HTTP_RANGE": "bytes=0-0"}
    with server_on(f"unix:{path}", registry_path, **environment):
        assert fetch(str(path), private).status == 404
        assert fetch(str(path), private, {"KDR-Viewer": "anyone"}).status == 404
        assert fetch(str(path), private, {"KDR-Viewer": "owner"}).status == 200
        assert fetch(str(path), "/wwtkdr/unknown/a", {"KDR-Viewer": "owner"}).status == 404


@pytest.mark.parametrize("name", ["KDR-Viewer", "KDR_Viewer", "kdr_viewer", "KDR-VIEWER"])
def test_over_tcp_no_header_tells_who_asks(start_server: Start, tree: Path, name: str) -> None:
    server = start_server(worker_class="granian", environment={"KDR_BEHIND_RELAY": "1"})
    (tree / "a").write_text("x")
    url = server.hub.serve_tree(tree) + "a"
    assert fetch(server.address, url, {name: "owner"}).status == 404


def test_a_proxy_is_not_believed_since_its_headers_cannot_be_told_from_a_clients(
    registry_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KDR_TRUSTED_PROXIES", "127.0.0.1")
    command = ["serve", "--registry", str(registry_path), "--server", "granian", "--bind", "127.0.0.1:0"]
    assert main(command) == 1
    assert capsys.readouterr().err == (
        "kdr: KDR_TRUSTED_PROXIES cannot be used: granian does not tell a proxy's headers from a client's; "
        "use --server gunicorn\n"
    )


def test_a_killed_worker_is_replaced(start_server: Start) -> None:
    server = start_server(worker_class="granian")
    assert fetch(server.address, "/wwtkdr/_probe").status == 200
    (worker,) = server.workers
    os.kill(worker, signal.SIGKILL)
    assert fetch(server.address, "/wwtkdr/_probe").status == 200


def test_workers_end_with_a_master_that_was_killed(start_server: Start, tree: Path) -> None:
    server = start_server(worker_class="granian", workers=2)
    with open(tree / "a", "wb") as file:
        file.truncate(1 << 30)
    url = server.hub.serve_tree(tree, visibility="public")
    with Connection(server.address) as connection:
        connection.send("GET", url + "a")  # Whom it sends something does not keep it.
        connection.socket.recv(1)
        workers = server.workers
        server.process.kill()
        server.process.wait()
        deadline = time.monotonic() + 15
        while any(Path(f"/proc/{worker}").exists() for worker in workers):
            assert time.monotonic() < deadline
            time.sleep(0.1)


def peak_kib(process: int) -> int:
    (line,) = (line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1])


def test_much_is_sent_in_little_memory(start_server: Start, tree: Path) -> None:
    server = start_server(worker_class="granian")
    with open(tree / "huge", "wb") as file:
        file.truncate(40 << 30)
    url = server.hub.serve_tree(tree, visibility="public") + "huge"
    assert fetch(server.address, url, {"Range": "bytes=-5"}).body == bytes(5)
    (worker,) = server.workers
    before = peak_kib(worker)
    with Connection(server.address) as connection:
        connection.send("GET", url, {"Range": "bytes=1-"})
        received = 0
        while received < 256 * MIB:
            received += len(connection.socket.recv(MIB))
    with Connection(server.address) as slow:
        slow.send("GET", url)
        time.sleep(1)
    assert peak_kib(worker) - before < 16 * 1024


def test_a_client_that_takes_nothing_loses_its_connection(registry_path: Path, tree: Path) -> None:
    with open(tree / "large", "wb") as file:
        file.truncate(64 * MIB)
    hub = JupyterRelayHub(registry=registry_path, key_prefix="", base_url="/")
    url = hub.serve_tree(tree, visibility="public") + "large"
    hub.registry.close()
    program = (
        "import kdr_wsgi.granian_serving as serving; serving.STALL_SECONDS = 1; "
        "from kdr_wsgi.sockets import listen; listener = listen('127.0.0.1:0'); "
        f"serving.run(listener, {{'KDR_REGISTRY': {str(registry_path)!r}}}, 1, threads=1, "
        "when_ready=lambda: print(listener.getsockname()[1], flush=True))"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = ("127.0.0.1", int(process.stdout.readline()))
            with Connection(address) as stalled:
                stalled.send("GET", url)
                time.sleep(0.5)
                # The one thread is free again.
                assert fetch(address, url, {"Range": "bytes=0-0"}).status == 206
                received = 0
                with suppress(ConnectionResetError):
                    while chunk := stalled.socket.recv(MIB):
                        received += len(chunk)
                assert received < 64 * MIB
        finally:
            process.terminate()
