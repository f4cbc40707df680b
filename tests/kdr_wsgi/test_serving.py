"""How long a thread stays with a connection, and how it sends."""

from __future__ import annotations

import io
import resource
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.workers.gthread import ThreadWorker

from hub import JupyterRelayHub
from kdr_wsgi import serving
from kdr_wsgi.serving import LingeringWorker, _Connection, _Listener, _WatchfulConnection
from tests.descriptors import no_free_descriptor
from tests.raw_http import Connection, fetch

LARGE_BYTES = 64 << 20


def connection_of(sock: socket.socket, already_read: bytes = b"") -> SimpleNamespace:
    return SimpleNamespace(sock=sock, parser=SimpleNamespace(unreader=SimpleNamespace(buf=io.BytesIO(already_read))))


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
        assert worker.handle(connection_of(reader)) is (answered == 1)
    assert len(handled) == answered


def test_a_quiet_connection_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "LINGER_SECONDS", 0.01)
    monkeypatch.setattr(ThreadWorker, "handle", lambda _worker, _connection: True)
    worker = LingeringWorker.__new__(LingeringWorker)
    worker.alive, worker.nr_conns, worker.cfg = True, 1, SimpleNamespace(threads=2)
    reader, writer = socket.socketpair()
    with reader, writer:
        assert worker.handle(connection_of(reader)) is True


def test_a_request_that_came_along_with_the_last_one_is_answered_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "LINGER_SECONDS", 3600.0)
    answers = iter((True, False))
    monkeypatch.setattr(ThreadWorker, "handle", lambda _worker, _connection: next(answers))
    worker = LingeringWorker.__new__(LingeringWorker)
    worker.alive, worker.nr_conns, worker.cfg = True, 1, SimpleNamespace(threads=2)
    reader, writer = socket.socketpair()
    with reader, writer:
        assert worker.handle(connection_of(reader, b"GET / HTTP/1.1")) is False


@contextmanager
def impatient_server(
    registry: Path, threads: int = 2, stall_seconds: float = 1.0, descriptors: int = 8192
) -> Iterator[tuple[str, int]]:
    """Run a server that takes a second for a long time; yield its address."""
    program = (
        f"import kdr_wsgi.serving as serving; serving.STALL_SECONDS = {stall_seconds}; "
        f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({descriptors}, {descriptors})); "
        "from kdr_wsgi.sockets import listen; listener = listen('127.0.0.1:0'); "
        # A small buffer, so that what a client takes shows to the server soon.
        "import socket; listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536); "
        "print(listener.getsockname()[1], flush=True); "
        f"serving.run(listener, {{'KDR_REGISTRY': {str(registry)!r}}}, 1, threads={threads})"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield ("127.0.0.1", int(process.stdout.readline()))
        finally:
            process.terminate()


@pytest.fixture
def url(registry_path: Path, tree: Path) -> str:
    """The URL of a folder with a large and a small file."""
    with open(tree / "large", "wb") as file:
        file.truncate(LARGE_BYTES)
    (tree / "small").write_bytes(b"small")
    hub = JupyterRelayHub(registry=registry_path, key_prefix="", base_url="/")
    published = hub.serve_tree(tree, visibility="public")
    hub.registry.close()
    return published


def received_bytes(connection: Connection) -> int:
    """Return how much is received until the connection ends."""
    total = 0
    with suppress(ConnectionResetError):
        while chunk := connection.socket.recv(1 << 20):
            total += len(chunk)
    return total


def test_a_client_that_stalls_loses_its_connection(registry_path: Path, url: str) -> None:
    with impatient_server(registry_path) as address, ExitStack() as stack:
        stalled = [stack.enter_context(Connection(address)) for _ in range(4)]
        for connection in stalled[:2]:
            # Much more than the system keeps for who does not read.
            connection.send("GET", f"{url}large")
        for connection in stalled[2:]:
            connection.socket.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX-Begun: ")
        assert fetch(address, f"{url}small").body == b"small"
        for connection in stalled:
            assert received_bytes(connection) < LARGE_BYTES


def test_where_descriptors_are_few_connections_wait_for_each_other(registry_path: Path, url: str) -> None:
    with impatient_server(registry_path, descriptors=200) as address, ExitStack() as stack:
        waiting = []
        for _ in range(300):
            connection = stack.enter_context(Connection(address))
            connection.send("GET", f"{url}small")
            waiting.append(connection)
        while waiting:
            readable, _, _ = select.select([connection.socket for connection in waiting], [], [], 20)
            assert readable, f"{len(waiting)} wait for ever"
            for connection in [connection for connection in waiting if connection.socket in readable]:
                assert connection.receive().body == b"small"
                waiting.remove(connection)
                connection.socket.close()


def test_a_worker_without_a_free_descriptor_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "ACCEPT_PAUSE_SECONDS", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):
        with no_free_descriptor(), pytest.raises(BlockingIOError):  # Which gunicorn takes for nothing to do.
            _Listener(listener, _Connection).accept()
        accepted, _ = _Listener(listener, _Connection).accept()
        accepted.close()


def test_two_thousand_idle_connections_stop_nobody(registry_path: Path, url: str) -> None:
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with impatient_server(registry_path) as address, ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, most), most))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (limit, most))
        for _ in range(2000):
            connection = stack.enter_context(Connection(address))
            assert connection.request("GET", f"{url}small").body == b"small"
        assert fetch(address, f"{url}small").body == b"small"


def test_who_leaves_a_connection_open_after_its_end_keeps_nobody_waiting(registry_path: Path, url: str) -> None:
    # Gunicorn would wait 2 s for each of them, and serve nobody meanwhile: 40 s.
    with impatient_server(registry_path, threads=4) as address, ExitStack() as stack:
        for _ in range(20):
            connection = stack.enter_context(Connection(address))
            connection.send("GET", f"{url}small", {"Connection": "close"})
        assert fetch(address, f"{url}small").body == b"small"  # The test's own patience is 20 s.
        for _ in range(20):
            connection = stack.enter_context(Connection(address))
            connection.socket.sendall(f"GET {url}small HTTP/1.0\r\n\r\n".encode())
        assert fetch(address, f"{url}small").body == b"small"


def test_who_reads_slowly_but_steadily_gets_all(registry_path: Path, tree: Path, url: str) -> None:
    # A page of some megabytes.
    for number in range(10_000):
        (tree / f"{number:0200}").touch()
    with impatient_server(registry_path, stall_seconds=0.5) as address, Connection(address) as connection:
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        begun = time.monotonic()
        connection.send("GET", url, {"Connection": "close"})
        received = b""
        while chunk := connection.socket.recv(65536):
            received += chunk
            time.sleep(0.02)
        head, _, body = received.partition(b"\r\n\r\n")
        assert f"Content-Length: {len(body)}".encode() in head
        assert time.monotonic() - begun > 0.5


@pytest.fixture
def joined() -> Iterator[tuple[_Connection, socket.socket]]:
    """A connection, and its other end, which receives what was sent at once at once."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    far.settimeout(5)
    with far, _Connection(near.family, near.type, near.proto, near.detach()) as connection:
        yield connection, far


def test_the_head_of_an_answer_is_sent_with_what_follows(joined: tuple[_Connection, socket.socket]) -> None:
    connection, far = joined
    for _ in range(2):
        connection.hold_head()
        for piece in (b"head", b"body", b"more"):
            connection.sendall(piece)
        connection.send_held()
        assert [far.recv(100), far.recv(100)] == [b"headbody", b"more"]


def test_a_head_without_a_body_is_sent_all_the_same(joined: tuple[_Connection, socket.socket]) -> None:
    connection, far = joined
    connection.hold_head()
    connection.sendall(b"head")
    connection.send_held()
    connection.sendall(b"next")
    assert [far.recv(100), far.recv(100)] == [b"head", b"next"]


def test_a_file_comes_behind_its_head(joined: tuple[_Connection, socket.socket], tmp_path: Path) -> None:
    connection, far = joined
    (tmp_path / "a").write_bytes(b"file")
    connection.hold_head()
    connection.sendall(b"head")
    with open(tmp_path / "a", "rb") as file:
        connection.sendfile(file)
    assert [far.recv(100), far.recv(100)] == [b"head", b"file"]


@pytest.mark.skipif(not hasattr(socket, "TCP_CORK"), reason="TCP_CORK is Linux's")
def test_packets_are_full_while_a_file_is_sent_and_only_then(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"file")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    far.settimeout(5)
    corked = []

    class Watched(_Connection):
        def _send_file(self, *arguments: Any, **options: Any) -> int:
            corked.append(self.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK))
            return super()._send_file(*arguments, **options)

    with far, Watched(near.family, near.type, near.proto, near.detach()) as connection:
        connection.hold_head()
        connection.sendall(b"head")
        with open(tmp_path / "a", "rb") as file:
            connection.sendfile(file)
        corked.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK))
        assert (corked, far.recv(100)) == ([1, 0], b"headfile")


def test_of_an_answer_that_fails_before_its_body_nothing_is_sent(
    joined: tuple[_Connection, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    connection, far = joined

    def fail(_worker: object, _request: object, conn: Any) -> None:
        conn.sock.sendall(b"head")
        raise OSError

    monkeypatch.setattr(ThreadWorker, "handle_request", fail)
    worker = LingeringWorker.__new__(LingeringWorker)
    with pytest.raises(OSError):  # noqa: PT011  # gunicorn's
        worker.handle_request(None, SimpleNamespace(sock=connection))
    connection.sendall(b"an error")
    assert far.recv(100) == b"an error"


@pytest.mark.parametrize("made", [_Connection, _WatchfulConnection])
def test_a_body_that_does_not_fit_into_the_systems_buffer_is_sent_whole(made: type[_Connection]) -> None:
    near, far = socket.socketpair()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    head, body = b"head" * 5000, bytes(range(256)) * 20_000
    received = bytearray()

    def receive() -> None:
        while chunk := far.recv(65536):
            received.extend(chunk)

    reader = threading.Thread(target=receive)
    with far, made(near.family, near.type, near.proto, near.detach()) as connection:
        connection.setblocking(True)
        reader.start()
        connection.hold_head()
        connection.sendall(head)
        connection.sendall(body)
        connection.send_held()
        connection.shutdown(socket.SHUT_WR)
        reader.join()
    assert received == head + body
