"""Objects in a real store that is slow, stops, refuses us, or changes what is being sent."""

from __future__ import annotations

import http.server
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest

from hub.registration import Registration
from tests.conftest import LiveServer
from tests.raw_http import Connection, fetch
from tests.stores import Between, between, write_rules
from tests.swift import SECRET, Swift, running_swift

Start = Callable[..., LiveServer]

#: Large enough that no buffer on the way holds all of it.
LARGE = os.urandom(1 << 20) * 40


@pytest.fixture(scope="module")
def bucket(swift: Swift) -> Any:
    bucket = swift.make_bucket("faults")
    obstore.put(bucket, "public/small.png", b"x" * 20_000)
    obstore.put(bucket, "public/large.bin", LARGE, use_multipart=False)
    return bucket


@pytest.fixture
def passing(swift: Swift, bucket: Any) -> Iterator[Between]:  # it is filled
    with between(swift.port) as standing:
        yield standing


def start_with(start_server: Start, folder: Path, options: dict[str, str], **rule: Any) -> LiveServer:
    rules = write_rules(folder / "stores.json", {"prefix": "s3://faults/", "options": options, **rule})
    return start_server(worker_class="gunicorn", environment={"KDR_STORES": str(rules)})


def resident_bytes(process: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def test_wrong_credentials_are_502_and_the_log_says_so_without_them(
    swift: Swift, bucket: Any, start_server: Start, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert bucket
    options = {**swift.options, "secret_access_key": "wrong-but-secret"}
    server = start_with(start_server, tmp_path, options)
    answer = fetch(server.address, server.hub.serve_tree("s3://faults/public/", visibility="public") + "small.png")
    assert answer.status == 502
    assert b"credentials" in answer.body
    assert answer["Retry-After"] == "60"
    log = capfd.readouterr().err
    assert "s3://faults: get of 'public/small.png': status 403 (SignatureDoesNotMatch)" in log
    for text in (log, str(answer)):
        assert "wrong-but-secret" not in text
        assert "test:tester" not in text
        assert "X-Amz" not in text


def test_a_store_that_is_down_is_502_in_bounded_time(start_server: Start, tmp_path: Path, passing: Between) -> None:
    options = {"endpoint": passing.endpoint, "access_key_id": "a", "secret_access_key": "b", "region": "us-east-1"}
    passing.close()
    server = start_with(start_server, tmp_path, options, answer_seconds=2)
    url = server.hub.serve_tree("s3://faults/public/", visibility="public")
    for path in ("small.png", ""):
        began = time.monotonic()
        answer = fetch(server.address, url + path)
        assert time.monotonic() - began < 15
        assert answer.status == 502
        assert int(answer["Retry-After"]) > 0
        assert str(passing.port).encode() not in answer.body


def test_a_slow_store_is_504_and_holds_up_nothing_else(
    swift: Swift, start_server: Start, tmp_path: Path, passing: Between
) -> None:
    passing.stalls_after_bytes = 0
    options = {**swift.options, "endpoint": passing.endpoint}
    server = start_with(start_server, tmp_path, options, answer_seconds=4, requests=4)
    (tmp_path / "local.txt").write_text("here")
    local = server.hub.serve_file(tmp_path / "local.txt", visibility="public")
    url = server.hub.serve_tree("s3://faults/public/", visibility="public")
    fetch(server.address, local)
    statuses: list[int] = []

    def ask(number: int) -> None:
        statuses.append(fetch(server.address, f"{url}{number}.png").status)

    askers = [threading.Thread(target=ask, args=(number,)) for number in range(40)]
    for asker in askers:
        asker.start()
    time.sleep(1.5)
    # All that may wait do so by now; the others have been sent away.
    began = time.monotonic()
    assert fetch(server.address, local).body == b"here"
    assert time.monotonic() - began < 2
    for asker in askers:
        asker.join()
    assert set(statuses) == {503, 504}
    assert statuses.count(504) <= 2 * 4  # of each of two workers


def test_bodies_that_stall_hold_no_threads(swift: Swift, start_server: Start, tmp_path: Path, passing: Between) -> None:
    options = {**swift.options, "endpoint": passing.endpoint}
    server = start_with(start_server, tmp_path, options, answer_seconds=20)
    (tmp_path / "local.txt").write_text("here")
    local = server.hub.serve_file(tmp_path / "local.txt", visibility="public")
    url = server.hub.serve_file("s3://faults/public/large.bin", visibility="public")
    # More than there are threads in both workers.
    connections = [Connection(server.address) for _ in range(40)]
    try:
        for connection in connections:
            connection.send("GET", url)
            while len(connection.buffer) < 100_000:
                connection.buffer += connection.socket.recv(65536)
        passing.stalls_after_bytes = 0
        for connection in connections:
            connection.socket.settimeout(0.3)
            try:
                while connection.socket.recv(1 << 20):
                    pass
            except TimeoutError:
                pass
        for _ in range(10):
            began = time.monotonic()
            assert fetch(server.address, local).body == b"here"
            assert time.monotonic() - began < 3
    finally:
        for connection in connections:
            connection.socket.close()


def test_a_store_that_is_stopped_within_a_body_ends_the_connection(
    start_server: Start, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, capfd: pytest.CaptureFixture[str]
) -> None:
    with running_swift(tmp_path_factory.mktemp("stopped")) as swift:
        obstore.put(swift.make_bucket("faults"), "large.bin", LARGE, use_multipart=False)
        server = start_with(start_server, tmp_path, swift.options, answer_seconds=3, retries=0)
        url = server.hub.serve_file("s3://faults/large.bin", visibility="public")
        with Connection(server.address) as connection:
            connection.send("GET", url)
            connection.buffer = connection.socket.recv(100_000)
            swift.stop()
            answer = connection.receive()
        assert (answer.status, answer["Content-Length"]) == (200, str(len(LARGE)))
        assert not answer.is_whole
        assert LARGE.startswith(answer.body)
        assert fetch(server.address, url, {"Cache-Control": "no-cache"}).status == 502
    deadline = time.monotonic() + 10
    log = ""
    while "an answer was not sent to its end: a store has broken off" not in log:
        assert time.monotonic() < deadline
        time.sleep(0.1)
        log += capfd.readouterr().err


def test_an_object_that_changes_while_it_is_sent_ends_the_connection(
    swift: Swift, bucket: Any, start_server: Start, tmp_path: Path
) -> None:
    obstore.put(bucket, "public/changing.bin", LARGE, use_multipart=False)
    server = start_with(start_server, tmp_path, swift.options)
    url = server.hub.serve_file("s3://faults/public/changing.bin", visibility="public")
    with Connection(server.address) as connection:
        connection.send("GET", url)
        connection.buffer = connection.socket.recv(100_000)
        obstore.put(bucket, "public/changing.bin", bytes(len(LARGE)), use_multipart=False)
        answer = connection.receive()
    assert not answer.is_whole
    assert LARGE.startswith(answer.body)
    # And what is asked for next is the new one, though the old one is still believed for a moment.
    again = fetch(server.address, url, {"Range": "bytes=0-99"})
    assert (again.status, again.body) == (206, bytes(100))


def test_a_change_shows_once_the_stores_word_has_aged(
    swift: Swift, bucket: Any, start_server: Start, tmp_path: Path
) -> None:
    obstore.put(bucket, "public/a.png", b"one")
    server = start_with(start_server, tmp_path, swift.options, fresh_seconds=0.5)
    url = server.hub.serve_tree("s3://faults/public/", visibility="public") + "a.png"
    first = fetch(server.address, url)
    obstore.put(bucket, "public/a.png", b"two")
    time.sleep(0.6)
    second = fetch(server.address, url, {"If-None-Match": first["ETag"]})
    assert (first.body, second.status, second.body) == (b"one", 200, b"two")
    assert second["ETag"] != first["ETag"]
    obstore.delete(bucket, "public/a.png")
    time.sleep(0.6)
    assert fetch(server.address, url).status == 404


def test_a_store_is_asked_no_more_often_than_it_must(
    swift: Swift, start_server: Start, tmp_path: Path, passing: Between
) -> None:
    options = {**swift.options, "endpoint": passing.endpoint}
    rules = write_rules(tmp_path / "s.json", {"prefix": "s3://faults/", "options": options, "fresh_seconds": 3})
    server = start_server(worker_class="kdr_wsgi.serving.WatchfulWorker", environment={"KDR_STORES": str(rules)})
    url = server.hub.serve_tree("s3://faults/public/", visibility="public")

    def asked() -> list[str]:
        found = [line.split(" ")[0] for line in passing.requests]
        passing.requests.clear()
        return found

    tile = fetch(server.address, url + "small.png")
    assert asked() == ["GET"]
    for headers in ({}, {"If-None-Match": tile["ETag"]}, {"Range": "bytes=5-9"}):
        assert fetch(server.address, url + "small.png", headers).status in (200, 206, 304)
    assert asked() == []
    assert fetch(server.address, url + "large.bin", {"Range": "bytes=1000-1999"}).body == LARGE[1000:2000]
    assert asked() == ["GET"]
    assert fetch(server.address, url + "large.bin", {"Range": "bytes=5000-5999"}).body == LARGE[5000:6000]
    assert asked() == ["GET"]
    assert fetch(server.address, url + "large.bin", method="HEAD").status == 200
    assert asked() == []
    time.sleep(3.1)
    assert fetch(server.address, url + "small.png").body == tile.body
    assert asked() == ["GET"]  # conditional: without the bytes
    time.sleep(3.1)
    assert fetch(server.address, url + "small.png", {"If-None-Match": tile["ETag"]}).status == 304
    assert asked() == ["HEAD"]


def test_a_reader_that_is_slow_costs_little_memory(
    swift: Swift, bucket: Any, start_server: Start, tmp_path: Path
) -> None:
    assert bucket
    rules = write_rules(tmp_path / "s.json", {"prefix": "s3://faults/", "options": swift.options})
    server = start_server(worker_class="kdr_wsgi.serving.WatchfulWorker", environment={"KDR_STORES": str(rules)})
    url = server.hub.serve_file("s3://faults/public/large.bin", visibility="public")
    fetch(server.address, url, {"Range": "bytes=0-9"})
    (worker,) = server.workers
    before = resident_bytes(worker)
    connections = [Connection(server.address) for _ in range(20)]
    for connection in connections:
        connection.send("GET", url)
    most = 0
    for _ in range(20):
        time.sleep(0.1)
        for connection in connections:
            assert connection.socket.recv(10_000)
        most = max(most, resident_bytes(worker) - before)
    for connection in connections:
        connection.socket.close()
    # Read whole, they would take 800 MiB.
    assert most < 100 << 20
    assert server.workers == [worker]


def test_no_thread_of_a_store_is_in_the_master(swift: Swift, bucket: Any, start_server: Start, tmp_path: Path) -> None:
    assert bucket
    server = start_with(start_server, tmp_path, swift.options)
    url = server.hub.serve_tree("s3://faults/public/", visibility="public")
    for _ in range(10):
        assert fetch(server.address, url + "small.png").status == 200
    assert len(os.listdir(f"/proc/{server.process.pid}/task")) == 1


def test_a_store_that_redirects_elsewhere_is_not_followed(start_server: Start, tmp_path: Path) -> None:
    asked: list[str] = []

    class Elsewhere(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    elsewhere = http.server.ThreadingHTTPServer(("127.0.0.2", 0), Elsewhere)

    class Redirecting(Elsewhere):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.2:{elsewhere.server_port}/latest/meta-data/")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET  # noqa: N815

    redirecting = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Redirecting)
    with elsewhere, redirecting:
        for each in (elsewhere, redirecting):
            threading.Thread(target=each.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{redirecting.server_port}"
        options = {"endpoint": endpoint, "access_key_id": "a", "secret_access_key": "b", "region": "r"}
        server = start_with(start_server, tmp_path, options, retries=0)
        url = server.hub.serve_tree("s3://faults/public/", visibility="public")
        answers = [fetch(server.address, url + "x.png", method=method) for method in ("GET", "HEAD")]
        answers.append(fetch(server.address, url))
        for each in (elsewhere, redirecting):
            each.shutdown()
    assert [answer.status for answer in answers] == [502, 502, 502]
    assert asked == []


@pytest.mark.parametrize(
    "root",
    [
        b"s3://other/public",
        b"s3://faults",
        b"s3://faults/private",
        b"s3://faults/publicity",
        b"s3://faults/public/../private",
        b"s3://faults/public//x",
        b"s3://faults/public/%2e%2e/private",
        b"s3://faults/public?endpoint=http://127.0.0.1/",
        b"s3://user:word@faults/public",
        b"s3://faults:80/public",
        b"gs://faults/public",
        b"s3://faults/public/",
        b"http://127.0.0.1/public",
    ],
)
def test_what_lies_below_no_prefix_is_404_whoever_has_written_it(
    swift: Swift, bucket: Any, start_server: Start, tmp_path: Path, root: bytes
) -> None:
    obstore.put(bucket, "private/small.png", b"secret")
    rules = write_rules(tmp_path / "s.json", {"prefix": "s3://faults/public/", "options": swift.options})
    server = start_server(worker_class="gunicorn", environment={"KDR_STORES": str(rules)})
    server.hub.registry.claim(Registration("key", "tree", root, visibility="public"))
    unknown = fetch(server.address, "/wwtkdr/unknown/small.png")
    answer = fetch(server.address, "/wwtkdr/key/small.png")
    assert answer.status == 404
    assert root.startswith(b"http:") or answer.body == unknown.body
    assert fetch(server.address, "/wwtkdr/key/..%2Fprivate/small.png").status == 404


def test_browsers_are_sent_to_a_store_that_redirects_with_an_address_that_works(
    swift: Swift, bucket: Any, start_server: Start, tmp_path: Path
) -> None:
    obstore.put(bucket, "public/a b#?%.png", b"hello")
    server = start_with(start_server, tmp_path, swift.options, redirect=True, redirect_seconds=30)
    url = server.hub.serve_tree("s3://faults/public/", visibility="public")
    for method in ("GET", "HEAD"):
        answer = fetch(server.address, url + "a%20b%23%3F%25.png", method=method)
        assert answer.status == 307
        assert answer["Cache-Control"] == "private, no-store"
        assert answer["Referrer-Policy"] == "no-referrer"
        assert answer["Access-Control-Allow-Origin"] == "*"
        assert SECRET not in answer["Location"]
        assert "X-Amz-Expires=30" in answer["Location"]
        place = answer["Location"].removeprefix(swift.endpoint)
        host = {"Host": f"127.0.0.1:{swift.port}"}
        there = fetch(("127.0.0.1", swift.port), place, {**host, "Range": "bytes=1-2"}, method=method)
        assert (there.status, there.body) == ((206, b"el") if method == "GET" else (206, b""))
        # It is good for this object alone.
        other = place.replace("a%20b%23%3F%25.png", "small.png")
        assert fetch(("127.0.0.1", swift.port), other, host, method=method).status == 403
    assert fetch(server.address, url + "missing.png").status == 404
    assert b"small.png" in fetch(server.address, url).body
    private = server.hub.serve_tree("s3://faults/public/", key="private")
    assert fetch(server.address, private + "small.png").status == 404
    with_headers = server.hub.serve_tree("s3://faults/public/", key="own", headers={"X-Own": "1"}, visibility="public")
    assert fetch(server.address, with_headers + "small.png").status == 200
