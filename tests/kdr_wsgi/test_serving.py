"""How long a thread stays with a connection."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from gunicorn.workers.gthread import ThreadWorker

from hub import JupyterRelayHub
from kdr_wsgi import serving
from kdr_wsgi.serving import LingeringWorker
from tests.raw_http import Connection, fetch


@pytest.mark.parametrize(("connections", "answered"), [(1, 2), (2, 2), (3, 1)])
def test_a_thread_lingers_only_while_there_is_one_for_each_connection(
    monkeypatch: pytest.MonkeyPatch, connections: int, answered: int
) -> None:
    answers = iter((True, False))
    handled = []

    def handle(_worker: object, connection: object) -> bool:
        handled.append(connection)
        return next(answers)

    monkeypatch.setattr(ThreadWorker, "handle", handle)
    worker = LingeringWorker.__new__(LingeringWorker)
    worker.alive, worker.nr_conns, worker.cfg = True, connections, SimpleNamespace(threads=2)
    reader, writer = socket.socketpair()
    with reader, writer:
        writer.send(b"GET")
        assert worker.handle(SimpleNamespace(sock=reader)) is (answered == 1)
    assert len(handled) == answered


def test_a_quiet_connection_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "LINGER_SECONDS", 0.01)
    monkeypatch.setattr(ThreadWorker, "handle", lambda _worker, _connection: True)
    worker = LingeringWorker.__new__(LingeringWorker)
    worker.alive, worker.nr_conns, worker.cfg = True, 1, SimpleNamespace(threads=2)
    reader, writer = socket.socketpair()
    with reader, writer:
        assert worker.handle(SimpleNamespace(sock=reader)) is True


def received_bytes(connection: Connection) -> int:
    """Return how much is received until the connection ends."""
    total = 0
    with suppress(ConnectionResetError):
        while chunk := connection.socket.recv(1 << 20):
            total += len(chunk)
    return total


def test_a_client_that_stalls_loses_its_connection_and_others_do_not_wait_for_it(
    registry_path: Path, tree: Path
) -> None:
    with open(tree / "large", "wb") as file:
        file.truncate(64 << 20)
    (tree / "small").write_bytes(b"small")
    hub = JupyterRelayHub(registry=registry_path, key_prefix="", base_url="/")
    url = hub.serve_tree(tree, visibility="public")
    hub.registry.close()
    program = (
        "import kdr_wsgi.serving as serving; serving.STALL_SECONDS = 1.0; serving.THREADS = 2; "
        "from kdr_wsgi.sockets import listen; listener = listen('127.0.0.1:0'); "
        "print(listener.getsockname()[1], flush=True); "
        f"serving.run(listener, {{'KDR_REGISTRY': {str(registry_path)!r}}}, 1, threads=2)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            with ExitStack() as stack:
                stalled = [stack.enter_context(Connection(("127.0.0.1", port))) for _ in range(4)]
                for connection in stalled[:2]:
                    # Much more than the system keeps for who does not read.
                    connection.send("GET", f"{url}large")
                for connection in stalled[2:]:
                    connection.socket.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX-Begun: ")
                assert fetch(("127.0.0.1", port), f"{url}small").body == b"small"
                for connection in stalled:
                    assert received_bytes(connection) < 64 << 20
        finally:
            process.terminate()
