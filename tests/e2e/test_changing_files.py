"""Files that change between requests, and while they are sent."""

from __future__ import annotations

import mmap
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kdr_wsgi.cache import MAX_AGE_SECONDS
from tests.conftest import LiveServer, make_settled
from tests.raw_http import Connection, fetch

MIB = 1 << 20


@pytest.mark.parametrize("size", [1000, 200_000])
def test_a_rewrite_that_keeps_size_and_mtime_shows(server: LiveServer, tree: Path, size: int) -> None:
    path = tree / "a"
    url = server.hub.serve_tree(tree, visibility="public") + "a"
    tags = {}
    for letter in (b"x", b"y", b"z"):
        with open(path, "wb") as file:
            file.write(letter * size)
        os.utime(path, (1_700_000_000, 1_700_000_000))
        answer = fetch(server.address, url)
        assert answer.body == letter * size
        tags[answer["ETag"]] = answer.body
    assert len(tags) == 3


def test_fast_rewrites_never_share_an_entity_tag(server: LiveServer, tree: Path) -> None:
    path = tree / "a"
    path.write_bytes(b"0" * 64)
    url = server.hub.serve_tree(tree, visibility="public") + "a"
    stop = threading.Event()

    def rewrite() -> None:
        number = 0
        with open(path, "r+b", buffering=0) as file:
            while not stop.is_set():
                number += 1
                os.pwrite(file.fileno(), b"%064d" % number, 0)
                if number % 50 == 0:
                    time.sleep(random.random() * 0.05)

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        bodies: dict[str, bytes] = {}
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            answer = fetch(server.address, url)
            if answer.status == 503:
                assert answer["Retry-After"] == "1"
                continue
            assert bodies.setdefault(answer["ETag"], answer.body) == answer.body
    finally:
        stop.set()
        writer.join()
    assert len(bodies) > 5


def test_an_untouched_file_keeps_its_tag_over_workers_and_restarts(
    start_server: Callable[..., LiveServer], tree: Path
) -> None:
    (tree / "a").write_text("x")
    server = start_server(workers=2)
    url = server.hub.serve_tree(tree, visibility="public") + "a"
    tags = {fetch(server.address, url)["ETag"] for _ in range(30)}
    for worker in server.workers:
        os.kill(worker, signal.SIGKILL)
    time.sleep(0.5)
    tags |= {fetch(server.address, url)["ETag"] for _ in range(10)}
    other = start_server()
    tags.add(fetch(other.address, other.hub.serve_tree(tree, visibility="public") + "a")["ETag"])
    assert len(tags) == 1


def test_replaced_truncated_and_deleted_between_requests(server: LiveServer, tree: Path) -> None:
    url = server.hub.serve_tree(tree, visibility="public") + "a"
    assert fetch(server.address, url).status == 404
    (tree / "a").write_bytes(b"first")
    first = fetch(server.address, url)
    (tree / "b").write_bytes(b"other")
    (tree / "b").rename(tree / "a")
    assert fetch(server.address, url, {"If-None-Match": first["ETag"]}).body == b"other"
    os.truncate(tree / "a", 2)
    assert fetch(server.address, url).body == b"ot"
    (tree / "a").unlink()
    assert fetch(server.address, url).status == 404
    (tree / "a").mkdir()
    assert fetch(server.address, url).status == 308


@pytest.mark.parametrize(
    "headers", [{}, {"Range": f"bytes=0-{64 * MIB - 1}"}, {"Range": f"bytes=5-{40 * MIB},{50 * MIB}-"}]
)
@pytest.mark.parametrize("cut_to", [0, 30 * MIB])
def test_a_short_body_is_never_passed_off_as_whole(
    server: LiveServer, tree: Path, headers: dict[str, str], cut_to: int
) -> None:
    path = tree / "a"
    with open(path, "wb") as file:
        file.truncate(64 * MIB)
    make_settled(path)
    url = server.hub.serve_tree(tree, visibility="public") + "a"
    with Connection(server.address) as connection:
        connection.send("GET", url, headers)
        time.sleep(0.2)  # The server has filled the socket's buffers, and waits.
        os.truncate(path, cut_to)
        answer = connection.receive()
        assert answer.status in (200, 206)
        assert not answer.is_whole
    assert fetch(server.address, "/wwtkdr/_probe").status == 200


def test_a_file_that_shrinks_and_grows_again_does_not_lose_its_place_on_the_wire(
    server: LiveServer, tree: Path
) -> None:
    path = tree / "a"
    path.write_bytes(b"A" * 64 * MIB)
    make_settled(path)
    url = server.hub.serve_tree(tree, visibility="public") + "a"
    with Connection(server.address) as connection:
        connection.send("GET", url)
        time.sleep(0.2)
        os.truncate(path, MIB)
        threading.Timer(0.3, os.truncate, (path, 64 * MIB)).start()
        answer = connection.receive()
        # Either all bytes came, and the next answer begins where it should, or the connection has ended.
        if answer.is_whole and answer["Connection"] == "keep-alive":
            assert connection.request("GET", "/wwtkdr/_probe").body.startswith(b"{")
        else:
            assert connection.socket.recv(1) == b""
    time.sleep(0.3)


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=1000-"}], ids=["whole", "to its end"])
def test_a_file_that_grows_while_it_is_sent_is_sent_as_long_as_it_was(
    server: LiveServer, tree: Path, headers: dict[str, str]
) -> None:
    path = tree / "a"
    body = random.Random(7).randbytes(32 * MIB)
    path.write_bytes(body)
    make_settled(path)
    url = server.hub.serve_tree(tree, visibility="public") + "a"
    with Connection(server.address) as connection, open(path, "ab", buffering=0) as log:
        connection.send("GET", url, headers)
        connection.buffer = connection.socket.recv(100_000)
        for _ in range(20):
            log.write(b"+" * 100_000)
            connection.buffer += connection.socket.recv(100_000)
        answer = connection.receive()
        assert answer.is_whole
        assert answer.body == (body[1000:] if headers else body)
        # What was appended does not follow, as part of the next answer.
        if "Connection" in answer and answer["Connection"] == "close":
            assert connection.socket.recv(1) == b""
        else:
            assert connection.request("GET", "/wwtkdr/_probe").body.startswith(b"{")
    later = fetch(server.address, url, {"Range": f"bytes={32 * MIB}-", "If-Range": answer["ETag"]})
    assert later.status == 200
    assert later["ETag"] != answer["ETag"]
    assert later.body == body + b"+" * 2_000_000
    rest = fetch(server.address, url, {"Range": f"bytes={32 * MIB}-", "If-Range": later["ETag"]})
    assert (rest.status, rest.body) == (206, b"+" * 2_000_000)


def test_a_file_replaced_while_it_is_sent_is_sent_to_its_end(server: LiveServer, tree: Path) -> None:
    path = tree / "a"
    path.write_bytes(b"A" * 32 * MIB)
    make_settled(path)
    url = server.hub.serve_tree(tree, visibility="public") + "a"
    with Connection(server.address) as connection:
        connection.send("GET", url)
        time.sleep(0.2)
        (tree / "b").write_bytes(b"B" * 100)
        (tree / "b").rename(path)
        answer = connection.receive()
    assert answer.is_whole
    assert answer.body == b"A" * 32 * MIB
    assert fetch(server.address, url).body == b"B" * 100


def test_descriptors_return_to_their_count(start_server: Callable[..., LiveServer], tree: Path) -> None:
    server = start_server()
    (tree / "small").write_bytes(b"x" * 1000)
    (tree / "large").write_bytes(b"x" * 8 * MIB)
    url = server.hub.serve_tree(tree, visibility="public")
    etag = fetch(server.address, url + "large")["ETag"]
    (worker,) = server.workers

    def ask_everything() -> None:
        for name in ("small", "large"):
            for headers in (
                {},
                {"Range": "bytes=0-9"},
                {"Range": "bytes=0-9,900-"},
                {"Range": "bytes=9000000-"},
                {"If-None-Match": etag},
                {"If-Match": '"other"'},
            ):
                fetch(server.address, url + name, headers)
                fetch(server.address, url + name, headers, "HEAD")
            with Connection(server.address) as connection:  # Goes away without reading.
                connection.send("GET", url + name)
        for entry in ("", "missing", "small/x"):
            fetch(server.address, url + entry)

    for _ in range(20):  # Until each of the threads has its connection to the registry.
        ask_everything()
    time.sleep(0.5)
    before = len(os.listdir(f"/proc/{worker}/fd"))
    for _ in range(20):
        ask_everything()
    deadline = time.monotonic() + 5
    while len(os.listdir(f"/proc/{worker}/fd")) > before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(os.listdir(f"/proc/{worker}/fd")) <= before


def test_many_readers_get_each_byte_right_while_registrations_change(
    start_server: Callable[..., LiveServer], tree: Path
) -> None:
    server = start_server(workers=2)
    bodies = {f"{number}.bin": random.Random(number).randbytes(30_000 * (number + 1)) for number in range(8)}
    for name, body in bodies.items():
        (tree / name).write_bytes(body)
    url = server.hub.serve_tree(tree, visibility="public")
    stop = threading.Event()
    failures: list[str] = []
    counted = [0] * 12

    def read(reader: int) -> None:
        chosen = random.Random(reader)
        with Connection(server.address) as connection:
            while not stop.is_set():
                name = chosen.choice(sorted(bodies))
                body = bodies[name]
                first = chosen.randrange(len(body))
                last = min(len(body) - 1, first + chosen.choice((0, 100, 70_000)))
                answer = connection.request("GET", url + name, {"Range": f"bytes={first}-{last}"})
                if answer.status != 206 or answer.body != body[first : last + 1]:
                    failures.append(f"{name} {first}-{last}: {answer.status}")
                counted[reader] += 1

    def register(kernel: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            other = server.hub.serve_tree(tree, key=f"{kernel}-{number}", visibility="public")
            answer = fetch(server.address, other + "0.bin", {"Range": "bytes=0-9"})
            if answer.body != bodies["0.bin"][:10]:
                failures.append(f"a new registration is not there: {answer.status}")
            if number > 20:
                server.hub.registry.revoke(f"{kernel}-{number - 20}")

    threads = [threading.Thread(target=read, args=(reader,)) for reader in range(12)]
    threads += [threading.Thread(target=register, args=(kernel,)) for kernel in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(4)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert min(counted) > 10


def test_stores_through_a_memory_map_show_soon(server: LiveServer, tree: Path) -> None:
    path = tree / "a"
    path.write_bytes(b"A" * 4096)
    url = server.hub.serve_tree(tree, visibility="public") + "a"
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 4096) as mapped:
        mapped[:] = b"B" * 4096
        make_settled(path)
        assert fetch(server.address, url).body == b"B" * 4096
        mapped[:] = b"C" * 4096
        time.sleep(MAX_AGE_SECONDS)
        assert fetch(server.address, url).body == b"C" * 4096
