"""How long a thread stays with a connection, and how it sends."""

from __future__ import annotations

import errno
import itertools
import os
import resource
import selectors
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
from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine
from gunicorn.http.unreader import SocketUnreader
from gunicorn.http.wsgi import FileWrapper
from gunicorn.workers.gthread import ThreadWorker
from hypothesis import given, settings
from hypothesis import strategies as st

from hub import JupyterRelayHub
from kdr_wsgi import connections, serving
from kdr_wsgi.connections import Connection as ClientConnection
from kdr_wsgi.connections import Listener
from kdr_wsgi.files import OpenFile, SpanFile
from kdr_wsgi.media_types import MediaType
from kdr_wsgi.ranges import Span
from kdr_wsgi.sending import Rest
from kdr_wsgi.serving import WatchfulWorker
from tests.descriptors import no_free_descriptor
from tests.raw_http import Connection, fetch

SEND_TO = SpanFile.send_to

LARGE_BYTES = 64 << 20


@contextmanager
def connected(**options: Any) -> Iterator[tuple[ClientConnection, socket.socket]]:
    """Yield a connection as the server has it, and its other end."""
    near, far = socket.socketpair()
    far.settimeout(5)
    chosen = {"patience_seconds": 30.0, "head_bytes": 65536, **options}
    with far, ClientConnection(near, **chosen) as connection:
        yield connection, far


def worker_of(*, connections: int = 1, threads: int = 2) -> WatchfulWorker:
    worker = WatchfulWorker.__new__(WatchfulWorker)
    worker.alive, worker.nr_conns = True, connections
    worker.cfg = SimpleNamespace(threads=threads, is_ssl=False)
    worker._held_bytes = 0
    return worker


def answering(monkeypatch: pytest.MonkeyPatch, *answers: bool) -> list[bytes]:
    """Let gunicorn answer so many requests, and say whether another may follow; return the requests."""
    left = iter(answers)
    requests = []

    def handle(_worker: object, conn: Any) -> bool:
        data = conn.parser.unreader.read()
        request, _, behind = data.partition(b"\r\n\r\n")
        conn.parser.unreader.unread(behind)
        requests.append(request)
        return next(left)

    monkeypatch.setattr(ThreadWorker, "handle", handle)
    return requests


def bodiless() -> Any:
    return SimpleNamespace(body=SimpleNamespace(reader=SimpleNamespace(length=0)))


def conn_of(connection: ClientConnection) -> Any:
    return SimpleNamespace(
        sock=connection,
        init=lambda: None,
        is_http2=False,
        parser=SimpleNamespace(unreader=SocketUnreader(connection)),
    )


@pytest.mark.parametrize(("connections", "answered"), [(1, 2), (2, 2), (3, 1)])
def test_a_thread_lingers_only_while_there_is_one_for_each_connection(
    monkeypatch: pytest.MonkeyPatch, connections: int, answered: int
) -> None:
    monkeypatch.setattr(serving, "LINGER_SECONDS", 5.0)
    requests = answering(monkeypatch, True, False)
    with connected() as (connection, far):

        def ask_again() -> None:
            far.send(b"GET /second\r\n\r\n")
            far.shutdown(socket.SHUT_WR)

        far.send(b"GET /first\r\n\r\n")
        later = threading.Timer(0.2, ask_again)
        later.start()
        keeps = worker_of(connections=connections).handle(conn_of(connection))
        later.join()
    assert (len(requests), keeps) == (answered, answered == 1)


def test_a_quiet_connection_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "LINGER_SECONDS", 0.01)
    requests = answering(monkeypatch, True)
    with connected() as (connection, far):
        far.send(b"GET /\r\n\r\n")
        assert worker_of().handle(conn_of(connection)) is True
        assert (len(requests), connection.awaited) == (1, 0)


def test_a_request_that_came_along_with_the_last_one_is_answered_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "LINGER_SECONDS", 3600.0)
    requests = answering(monkeypatch, True, False)
    with connected() as (connection, far):
        far.send(b"GET /first\r\n\r\nGET /second\r\n\r\n")
        far.shutdown(socket.SHUT_WR)
        assert worker_of().handle(conn_of(connection)) is False
    assert requests == [b"GET /first", b"GET /second"]


@given(cuts=st.lists(st.integers(0, 60), max_size=8))
def test_a_request_is_whole_however_it_comes(cuts: list[int]) -> None:
    request = b"GET /a HTTP/1.1\r\nHost: a\r\nX-Long: " + b"x" * 20 + b"\r\n\r\n"
    places = [0, *sorted(cut for cut in cuts if cut < len(request)), len(request)]
    with connected() as (connection, far):
        unreader = SocketUnreader(connection)
        for start, stop in itertools.pairwise(places):
            assert not connection.receive_head(unreader)
            assert connection.is_receiving == (start > 0)
            far.sendall(request[start:stop])
        assert connection.receive_head(unreader)
        assert not connection.is_receiving
        assert unreader.read() == request


@pytest.mark.parametrize(
    ("sent", "error"),
    [(b"GET /" + b"a" * 2000, LimitRequestLine), (b"GET / H\r\nA: " + b"a" * 2000, LimitRequestHeaders)],
)
def test_a_request_that_does_not_end_takes_no_more_memory(sent: bytes, error: type[Exception]) -> None:
    with connected(head_bytes=1000) as (connection, far):
        far.sendall(sent)
        with pytest.raises(error):
            connection.receive_head(SocketUnreader(connection))


@contextmanager
def impatient_server(
    registry: Path,
    threads: int = 2,
    stall_seconds: float = 1.0,
    descriptors: int = 8192,
    buffer_bytes: int = 65536,
) -> Iterator[tuple[str, int]]:
    """Run a server that takes a second for a long time; yield its address."""
    program = (
        f"import kdr_wsgi.serving as serving; serving.WatchfulWorker.patience_seconds = {stall_seconds}; "
        f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({descriptors}, {descriptors})); "
        "from kdr_wsgi.sockets import listen; listener = listen('127.0.0.1:0'); "
        f"import socket; listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, {buffer_bytes}); "
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


def is_readable(connection: socket.socket, for_seconds: float) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        return bool(selector.select(for_seconds))


def received_bytes(connection: Connection) -> int:
    """Return how much is received until the connection ends."""
    total = 0
    with suppress(ConnectionResetError):
        while chunk := connection.socket.recv(1 << 20):
            total += len(chunk)
    return total


def test_a_client_that_stalls_loses_its_connection(registry_path: Path, url: str) -> None:
    with impatient_server(registry_path) as address, ExitStack() as stack:
        readers = [stack.enter_context(Connection(address)) for _ in range(2)]
        for connection in readers:
            # Much more than the system keeps for who does not read.
            connection.send("GET", f"{url}large")
        for _ in range(2):  # The end of the second one comes certainly later than that of the readers.
            half = stack.enter_context(Connection(address))
            half.socket.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX-Begun: ")
            assert received_bytes(half) == 0
        for connection in readers:
            assert received_bytes(connection) < LARGE_BYTES


def test_where_descriptors_are_few_connections_wait_for_each_other(registry_path: Path, url: str) -> None:
    with impatient_server(registry_path, descriptors=200) as address, ExitStack() as stack:
        waiting = stack.enter_context(selectors.DefaultSelector())
        for _ in range(300):
            connection = stack.enter_context(Connection(address))
            connection.send("GET", f"{url}small")
            waiting.register(connection.socket, selectors.EVENT_READ, connection)
        while waiting.get_map():
            ready = waiting.select(20)
            assert ready, f"{len(waiting.get_map())} wait for ever"
            for key, _ in ready:
                assert key.data.receive().body == b"small"
                waiting.unregister(key.fileobj)
                key.data.socket.close()


def test_a_worker_without_a_free_descriptor_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "ACCEPT_PAUSE_SECONDS", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):
        with no_free_descriptor(), pytest.raises(BlockingIOError):  # Which gunicorn takes for nothing to do.
            Listener(listener, 30.0, 65536).accept()
        accepted, _ = Listener(listener, 30.0, 65536).accept()
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
    # A thread that waits half a second for each of them: 50 s.
    with impatient_server(registry_path) as address, ExitStack() as stack:
        for _ in range(200):
            connection = stack.enter_context(Connection(address))
            connection.send("GET", f"{url}small", {"Connection": "close"})
        assert fetch(address, f"{url}small").body == b"small"  # The test's own patience is 20 s.
        for _ in range(200):
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
            time.sleep(0.2)
        head, _, body = received.partition(b"\r\n\r\n")
        assert f"Content-Length: {len(body)}".encode() in head
        assert time.monotonic() - begun > 0.5


@pytest.fixture
def joined() -> Iterator[tuple[ClientConnection, socket.socket]]:
    """A connection, and its other end, which receives what was sent at once at once."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    far.settimeout(5)
    with far, ClientConnection(near, 30.0, 65536) as connection:
        yield connection, far


def test_an_answer_is_sent_at_once(joined: tuple[ClientConnection, socket.socket]) -> None:
    connection, far = joined
    for pieces in ([b"head", b"body", b"more"], [b"head"], [b"p"] * 2000):
        connection.hold_answer()
        for piece in pieces:
            connection.sendall(piece)
        connection.release_answer()
        assert (connection.rest, far.recv(4000)) == (None, b"".join(pieces))


def open_span(path: Path, start: int, stop: int) -> SpanFile:
    descriptor = os.open(path, os.O_RDONLY)
    media_type = MediaType("application/octet-stream", is_active=False, is_compressible=False)
    return SpanFile(OpenFile(descriptor, media_type), Span(start, stop))


@pytest.mark.parametrize("has_sendfile", [True, False])
def test_a_file_comes_behind_its_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_sendfile: bool) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EINVAL, "this file system has no sendfile")

    if not has_sendfile:
        monkeypatch.setattr(os, "sendfile", refuse)
    content = bytes(range(256)) * 8000
    (tmp_path / "a").write_bytes(content)
    with connected() as (connection, far):
        connection.hold_answer()
        connection.sendall(b"head")
        assert connection.take_stream(FileWrapper(open_span(tmp_path / "a", 10, 2_000_010), 65536))
        connection.release_answer()
        received = b""
        while not connection.send_rest():
            received += far.recv(1 << 20)
        connection.shutdown(socket.SHUT_WR)
        while chunk := far.recv(1 << 20):
            received += chunk
    assert received == b"head" + content[10:2_000_010]


@pytest.mark.skipif(not hasattr(socket, "TCP_CORK"), reason="TCP_CORK is Linux's")
def test_packets_are_full_while_a_file_is_sent_and_only_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"file")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    far.settimeout(5)
    corked = []

    def send_to(file: SpanFile, descriptor: int) -> int:
        corked.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK))
        return SEND_TO(file, descriptor)

    monkeypatch.setattr(SpanFile, "send_to", send_to)
    with far, ClientConnection(near, 30.0, 65536) as connection:
        connection.hold_answer()
        connection.sendall(b"head")
        connection.take_stream(FileWrapper(open_span(tmp_path / "a", 0, 4), 65536))
        connection.release_answer()
        assert connection.send_rest()
        corked.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK))
        assert (corked, far.recv(100)) == ([1, 1, 0], b"headfile")


def test_of_an_answer_that_fails_before_its_body_nothing_is_sent(
    joined: tuple[ClientConnection, socket.socket], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    connection, far = joined
    (tmp_path / "a").write_bytes(b"file")
    file = open_span(tmp_path / "a", 0, 4)

    def fail(_worker: object, _request: object, conn: Any) -> None:
        conn.sock.sendall(b"head")
        conn.sock.take_stream(FileWrapper(file, 65536))
        raise OSError

    monkeypatch.setattr(ThreadWorker, "handle_request", fail)
    with pytest.raises(OSError):  # noqa: PT011  # gunicorn's
        worker_of().handle_request(bodiless(), SimpleNamespace(sock=connection))
    connection.sendall(b"an error")
    assert far.recv(100) == b"an error"
    assert file.fileno() == -1


def test_who_reads_nothing_keeps_no_thread_with_an_error() -> None:
    with connected() as (connection, _):
        with suppress(BlockingIOError):
            while True:
                os.write(connection.fileno(), bytes(1000))
        connection.sendall(b"an error")  # Within no 30 s.
        assert connection.rest is not None
        assert connection.rest.held_bytes == len(b"an error")


@given(sizes=st.lists(st.integers(0, 300_000), min_size=1, max_size=5), taken=st.integers(1000, 500_000))
@settings(deadline=None, max_examples=30)
def test_what_does_not_fit_into_the_systems_buffer_is_sent_as_it_is_taken(sizes: list[int], taken: int) -> None:
    pieces = [bytes([number]) * size for number, size in enumerate(sizes)]
    with connected() as (connection, far):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        rest = Rest(connection, pieces[:2], pieces[2:], 30.0)
        received = b""
        while not rest.go_on():
            received += far.recv(taken)
        connection.shutdown(socket.SHUT_WR)
        while chunk := far.recv(1 << 20):
            received += chunk
    assert received == b"".join(pieces)


def test_a_server_that_is_to_end_waits_for_no_half_request(registry_path: Path, url: str) -> None:
    with ExitStack() as stack:
        address = stack.enter_context(impatient_server(registry_path, stall_seconds=60))
        connection = Connection(address)
        connection.socket.sendall(b"GET / HTTP/1.1\r\nX-Begun: ")
        assert fetch(address, f"{url}small").body == b"small"
        begun = time.monotonic()
        stack.close()
        assert time.monotonic() - begun < 4  # After 5 s gunicorn would kill it.
        connection.socket.close()


def test_who_takes_all_at_once_stops_nobody(registry_path: Path, tree: Path, url: str) -> None:
    with open(tree / "endless", "wb") as file:
        file.truncate(1 << 40)
    with impatient_server(registry_path, threads=1) as address, Connection(address) as connection:
        connection.send("GET", f"{url}endless")
        connection.socket.recv(1)
        taker = threading.Thread(target=received_bytes, args=(connection,))
        taker.start()
        try:
            for _ in range(5):
                assert fetch(address, f"{url}small").body == b"small"  # The test's own patience is 20 s.
        finally:
            connection.socket.shutdown(socket.SHUT_RDWR)
            taker.join()


def test_who_asks_without_an_end_stops_nobody(registry_path: Path, url: str) -> None:
    request = f"HEAD {url}small HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with impatient_server(registry_path, threads=1) as address, Connection(address) as connection:
        connection.socket.sendall(request)
        connection.socket.recv(1)

        def ask() -> None:
            with suppress(OSError):
                while True:
                    connection.socket.sendall(request * 100)

        threads = [threading.Thread(target=ask), threading.Thread(target=received_bytes, args=(connection,))]
        for thread in threads:
            thread.start()
        try:
            for _ in range(5):
                assert fetch(address, f"{url}small").body == b"small"
        finally:
            connection.socket.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()


def test_two_hundred_who_do_not_read_stop_nobody(registry_path: Path, url: str) -> None:
    with impatient_server(registry_path, stall_seconds=60) as address, ExitStack() as stack:
        for number in range(200):
            connection = stack.enter_context(Connection(address))
            # By sendfile(2), in parts, and what is made in memory.
            ranges = {"Range": f"bytes=0-{LARGE_BYTES // 2},{LARGE_BYTES // 2 + 9999}-"} if number % 2 else {}
            connection.send("GET", f"{url}large", ranges)
        assert fetch(address, f"{url}small").body == b"small"  # The test's own patience is 20 s.


def test_two_hundred_who_send_half_a_request_stop_nobody(registry_path: Path, url: str) -> None:
    with impatient_server(registry_path, stall_seconds=60) as address, ExitStack() as stack:
        halves = [stack.enter_context(Connection(address)) for _ in range(200)]
        for connection in halves[:100]:
            connection.socket.sendall(f"GET {url}small HTTP/1.1\r\nX-Begun: ".encode())
        assert fetch(address, f"{url}small").body == b"small"
        for connection in halves[:100]:
            connection.socket.sendall(b"and ended\r\n\r\n")
            assert connection.receive().body == b"small"


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("framing", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
def test_sixty_who_never_send_the_body_that_they_announce_stop_nobody(
    registry_path: Path, url: str, method: str, framing: str
) -> None:
    # Gunicorn would wait 5 s for each of them, two at a time: 150 s.
    with impatient_server(registry_path, stall_seconds=60) as address, ExitStack() as stack:
        for _ in range(60):
            connection = stack.enter_context(Connection(address))
            connection.socket.sendall(f"{method} {url}small HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n".encode())
        assert fetch(address, f"{url}small").body == b"small"  # The test's own patience is 20 s.


def test_who_sends_requests_without_a_pause_leaves_threads_to_others(registry_path: Path, url: str) -> None:
    requests = f"GET {url}small HTTP/1.1\r\nHost: a\r\n\r\n".encode() * 100

    def ask(connection: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection.sendall(requests)

    def take(connection: socket.socket) -> None:
        with suppress(OSError):
            while connection.recv(1 << 20):
                pass

    with impatient_server(registry_path, stall_seconds=60) as address, ExitStack() as stack:
        for _ in range(4):
            connection = stack.enter_context(Connection(address)).socket
            for act in (ask, take):
                thread = threading.Thread(target=act, args=[connection])
                thread.start()
                stack.callback(thread.join)
            stack.callback(connection.shutdown, socket.SHUT_RDWR)
        for _ in range(10):
            assert fetch(address, f"{url}small").body == b"small"  # The test's own patience is 20 s.


def test_who_sends_a_request_byte_by_byte_for_too_long_is_not_waited_for(registry_path: Path, url: str) -> None:
    with impatient_server(registry_path) as address, Connection(address) as connection:
        connection.socket.sendall(b"GET / HTTP/1.1\r\nX-Long: ")
        begun = time.monotonic()
        with suppress(OSError):
            while not is_readable(connection.socket, 0.1):
                assert time.monotonic() - begun < 20
                connection.socket.sendall(b"x")
        assert received_bytes(connection) == 0


def test_who_takes_little_of_a_large_buffer_is_waited_for(registry_path: Path, url: str) -> None:
    # The system says that there is room only when a third of its buffer is free: after more than a second here.
    with impatient_server(registry_path, buffer_bytes=4 << 20) as address, Connection(address) as connection:
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        connection.send("GET", f"{url}large", {"Connection": "close"})
        total, begun = 0, time.monotonic()
        while chunk := connection.socket.recv(8192 if time.monotonic() - begun < 6 else 1 << 20):
            total += len(chunk)
            if time.monotonic() - begun < 6:
                time.sleep(0.2)
        assert total > LARGE_BYTES


def test_of_an_answer_that_is_almost_taken_all_is_counted() -> None:
    with connected() as (connection, far):
        connection.rest = Rest(connection, [bytes(2_000_000)], (), 30.0)
        assert not connection.send_rest()
        taken = 0
        while taken < 1_500_000:
            taken += len(far.recv(65536))
            assert not connection.send_rest()
        assert connection.rest.held_bytes == 2_000_000


def test_who_takes_nothing_for_longest_gives_way_in_memory(registry_path: Path, tree: Path, url: str) -> None:
    # A page of some megabytes, which is in memory for each who asks for it.
    for number in range(10_000):
        (tree / f"{number:0200}").touch()
    with impatient_server(registry_path, stall_seconds=60) as address, ExitStack() as stack:
        readers = []
        for _ in range(40):
            connection = stack.enter_context(Connection(address))
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            connection.send("GET", url, {"Connection": "close"})
            assert is_readable(connection.socket, 20)
            readers.append(connection)
        assert fetch(address, f"{url}small").body == b"small"
        assert readers[-1].receive().is_whole
        assert received_bytes(readers[0]) < 4_000_000
