"""A real nginx, set up as the example is, sends what a real gunicorn tells it to send."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.conftest import LiveServer, live_server
from tests.nginx import example_nginx
from tests.raw_http import Answer, Connection, fetch

LARGE = os.urandom(400_000)
OFFER = {"KDR-Accel": "/_kdr_files"}
MODIFIED = 1_700_000_000
#: As kdr_wsgi.acceleration.LEFT_ALONE_NS, and a little more.
LEFT_ALONE_SECONDS = 2.2

#: A request's headers (@ stands for the file's entity tag, DATE for its date), the status, and whether nginx sends.
REQUESTS: list[tuple[dict[str, str], int, bool]] = [
    ({}, 200, True),
    ({"Range": "bytes=1-300000"}, 206, True),
    ({"Range": "bytes=1-"}, 206, True),
    ({"Range": "bytes=0-999999999"}, 206, True),
    ({"Range": "bytes=-390000"}, 206, True),
    ({"Range": "bytes=-999999999"}, 206, True),
    ({"Range": "bytes=1-300000", "If-Range": "@"}, 206, True),
    ({"Range": "bytes=1-300000", "If-Range": "DATE"}, 206, True),
    ({"Range": "bytes=1-300000", "If-Range": '"other"'}, 200, False),
    ({"Range": "bytes=1-300000", "If-Range": "W/@"}, 200, False),
    ({"Range": "bytes=1-300000", "If-None-Match": '"other"'}, 206, True),
    ({"Range": "bytes=1-9"}, 206, False),
    ({"Range": "bytes=1-150000,200000-399999"}, 206, False),
    ({"Range": "bytes=400000-"}, 416, False),
    ({"Range": "bytes=x"}, 200, False),
    ({"If-None-Match": "@"}, 304, False),
    ({"If-None-Match": '"other"'}, 200, True),
    ({"If-None-Match": '"other"', "If-Modified-Since": "DATE"}, 200, True),
    ({"If-Modified-Since": "DATE"}, 304, False),
    ({"If-Modified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"}, 200, True),
    ({"If-Match": "@"}, 200, False),
    ({"If-Match": '"other"'}, 412, False),
    ({"If-Unmodified-Since": "DATE"}, 200, False),
    ({"If-Unmodified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"}, 412, False),
    ({"X-Accel-Redirect": "/_kdr_files/etc/passwd", "KDR-Accel": "/other"}, 200, True),
]

NAMES = [
    b"a b?c#d.bin",
    b"%2e%2e%2f%41%",
    b"..%2f..",
    b"a..b",
    b"m\xfcll\xff.bin",
    "银河.bin".encode(),
    b"new\nline\r\nX-A: b",
    b"back\\slash\"'`<>;{}$uri",
    b"a (deleted)",
    b" ",
]


@dataclass
class Fronted:
    """A server, with nginx in front."""

    server: LiveServer
    nginx: tuple[str, int]

    def is_handed_over(self, url: str, headers: dict[str, str] | None = None) -> bool:
        """Whether the server tells nginx to send the file."""
        return "X-Accel-Redirect" in fetch(self.server.address, url, {**(headers or {}), **OFFER})

    def publish(self, path: Path, **options: object) -> str:
        """Return the URL of a file, which is made as old as it takes."""
        os.utime(path, (MODIFIED, MODIFIED))
        time.sleep(LEFT_ALONE_SECONDS)
        return self.server.hub.serve_tree(path.parent, visibility="public", **options) + quote(os.fsencode(path.name))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def fronted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fronted]:
    settings = {"KDR_NGINX_ACCEL": "/_kdr_files", "KDR_TRUSTED_PROXIES": "127.0.0.1"}
    with ExitStack() as stack:
        server = stack.enter_context(live_server(tmp_path_factory.mktemp("server"), environment=settings))
        address = stack.enter_context(example_nginx(tmp_path_factory.mktemp("nginx"), server.address[1]))
        yield Fronted(server, address)


def content_of(answer: Answer) -> tuple[int, list[tuple[str, str]], bytes]:
    """Return what both must say alike; the boundary between parts is another one each time."""
    own = {"Server", "Date", "Connection", "Keep-Alive"}
    boundary = re.search("boundary=(.*)", dict(answer.headers).get("Content-Type", ""))
    headers = sorted(pair for pair in answer.headers if pair[0] not in own)
    if boundary is None:
        return answer.status, headers, answer.body
    headers = [(name, value.replace(boundary[1], "-")) for name, value in headers]
    return answer.status, headers, answer.body.replace(boundary[1].encode(), b"-")


def answer_both(fronted: Fronted, url: str, headers: dict[str, str] | None = None, method: str = "GET") -> Answer:
    """Ask with nginx and without; return the answer where they say the same."""
    direct, through = (fetch(address, url, headers, method) for address in (fronted.server.address, fronted.nginx))
    assert through.is_whole
    assert content_of(through) == content_of(direct)
    assert not any(name.lower().startswith(("x-accel", "kdr-")) for name in through.names)
    return through


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.bin", {}),
        ("a.html", {}),
        ("a.json", {"headers": {"Content-Encoding": "gzip", "Content-Language": "de"}}),
        (
            "trusted.html",
            {
                "trusted": True,
                "headers": {
                    "Content-Security-Policy": "default-src 'self'",
                    "Cross-Origin-Embedder-Policy": "require-corp",
                    "Cross-Origin-Opener-Policy": "same-origin",
                    "Cross-Origin-Resource-Policy": "same-site",
                    "Cache-Control": "private, max-age=60",
                    "Content-Disposition": 'attachment; filename="ü"',
                    "Vary": "Accept, Origin",
                },
            },
        ),
    ],
)
def test_nobody_sees_who_has_sent(fronted: Fronted, tree: Path, name: str, options: dict[str, object]) -> None:
    path = tree / name
    path.write_bytes(LARGE)
    url = fronted.publish(path, **options)
    known = answer_both(fronted, url, method="HEAD")
    for asked, status, is_handed_over in REQUESTS:
        headers = {k: v.replace("@", known["ETag"]).replace("DATE", known["Last-Modified"]) for k, v in asked.items()}
        answer = answer_both(fronted, url, headers)
        assert (answer.status, asked) == (status, asked)
        assert (fronted.is_handed_over(url, headers), asked) == (is_handed_over, asked)
        if is_handed_over:
            assert answer["ETag"] == known["ETag"]
            start = 1 if answer.status == 206 and headers["Range"].startswith("bytes=1-") else None
            assert start is None or answer.body == LARGE[1 : 1 + len(answer.body)]


def test_a_file_beside_with_a_coding_is_sent(fronted: Fronted, tree: Path) -> None:
    (tree / "a.json.gz").write_bytes(LARGE)
    (tree / "a.json").write_bytes(b" " * 5_000_000)
    os.utime(tree / "a.json", (MODIFIED, MODIFIED))
    url = fronted.publish(tree / "a.json.gz").removesuffix(".gz")
    asked = {"Accept-Encoding": "gzip"}
    assert fronted.is_handed_over(url, asked)
    answer = answer_both(fronted, url, asked)
    assert (answer["Content-Encoding"], answer["Vary"], answer.body) == ("gzip", "Accept-Encoding", LARGE)


def test_what_a_content_key_names_is_not_sent_by_nginx(fronted: Fronted, tree: Path) -> None:
    (tree / "a.bin").write_bytes(LARGE)
    url = fronted.publish(tree / "a.bin", content=True)
    assert not fronted.is_handed_over(url)
    assert answer_both(fronted, url).body == LARGE


@pytest.mark.parametrize(
    "target",
    [
        "/_kdr_files/etc/passwd",
        "/%5fkdr_files/etc/passwd",
        "//_kdr_files//etc/passwd",
        "/wwtkdr/../_kdr_files/etc/passwd",
        "/_kdr_files/",
        "/_kdr_files",
        "http://localhost/_kdr_files/etc/passwd",
    ],
)
def test_nobody_outside_reaches_the_files(fronted: Fronted, target: str) -> None:
    for headers in ({}, OFFER, {"X-Accel-Redirect": "/_kdr_files/etc/passwd"}):
        answer = fetch(fronted.nginx, target, headers)
        assert answer.status in (404, 301)
        assert b"root:" not in answer.body


def test_files_of_any_name_are_sent(fronted: Fronted, tree: Path) -> None:
    for number, name in enumerate(NAMES):
        (tree / "x").mkdir(exist_ok=True)
        with open(os.path.join(os.fsencode(tree / "x"), name), "wb") as stream:
            stream.write(LARGE + b"%d" % number)
    time.sleep(LEFT_ALONE_SECONDS)
    url = fronted.server.hub.serve_tree(tree, visibility="public") + "x/"
    for number, name in enumerate(NAMES):
        assert fronted.is_handed_over(url + quote(name))
        assert answer_both(fronted, url + quote(name)).body == LARGE + b"%d" % number


@contextmanager
def looking_elsewhere(fronted: Fronted, folder: Path) -> Iterator[tuple[Fronted, Path]]:
    """Let nginx take the files from another folder, so that it meets what might have come after the server's look."""
    (folder / "files").mkdir()
    (folder / "nginx").mkdir()
    changed = {"alias /;": f"alias {folder}/files/;"}
    with example_nginx(folder / "nginx", fronted.server.address[1], changed) as address:
        yield Fronted(fronted.server, address), folder / "files"


@pytest.mark.parametrize("asked", [{}, {"Range": "bytes=1-300000"}], ids=["whole", "range"])
def test_what_has_come_in_place_of_a_file_does_not_bear_its_tag(
    fronted: Fronted, tree: Path, tmp_path: Path, asked: dict[str, str]
) -> None:
    path = tree / "a.bin"
    path.write_bytes(LARGE)
    url = fronted.publish(path)
    secret = tmp_path / "secrets" / path.name
    secret.parent.mkdir()
    secret.write_bytes(b"secret" * 100_000)

    def nothing(_: Path) -> None:
        pass

    def later(elsewhere: Path) -> None:
        elsewhere.write_bytes(bytes(len(LARGE)))

    def longer(elsewhere: Path) -> None:
        elsewhere.write_bytes(bytes(len(LARGE) + 1))
        os.utime(elsewhere, (MODIFIED, MODIFIED))

    def link(elsewhere: Path) -> None:
        elsewhere.symlink_to(secret)

    def link_to_its_folder(elsewhere: Path) -> None:
        elsewhere.parent.rmdir()
        elsewhere.parent.symlink_to(secret.parent)

    with looking_elsewhere(fronted, tmp_path) as (other, files):
        elsewhere = files / path.relative_to("/")
        elsewhere.parent.mkdir(parents=True)
        tag = fetch(fronted.server.address, url, method="HEAD")["ETag"]
        for change in (later, longer):
            change(elsewhere)
            answer = fetch(other.nginx, url, asked)
            assert (answer.status, set(answer.body)) == (206 if asked else 200, {0})
            assert {"etag", "last-modified"}.isdisjoint(name.lower() for name in answer.names)
            # Nor is a part of it taken for a part of the file that the client knows.
            assert fetch(other.nginx, url, {**asked, "If-Range": tag}).status == 200
            elsewhere.unlink()
        for make in (nothing, os.mkfifo, link, link_to_its_folder):
            make(elsewhere)
            assert answer_both(other, url, asked).body == (LARGE[1:300_001] if asked else LARGE)
            elsewhere.unlink(missing_ok=True)


def test_a_folder_in_place_of_a_file_is_asked_for_again(fronted: Fronted, tree: Path, tmp_path: Path) -> None:
    (tree / "a.bin").write_bytes(LARGE)
    url = fronted.publish(tree / "a.bin")
    with looking_elsewhere(fronted, tmp_path) as (other, files):
        (files / tree.relative_to("/") / "a.bin").mkdir(parents=True)
        answer = fetch(other.nginx, f"{url}?v=1")
    assert (answer.status, answer["Location"]) == (307, f"{url}?v=1")
    assert str(tree) not in f"{answer.headers} {answer.body!r}"


def test_a_file_that_has_gone_since_is_answered_as_ever(fronted: Fronted, tree: Path, tmp_path: Path) -> None:
    path = tree / "a.bin"
    path.write_bytes(LARGE)
    url = fronted.publish(path, headers={"Content-Disposition": "attachment", "Cache-Control": "private, max-age=60"})
    # The server is asked a second time, with nginx's location as it would be if no file were there.
    with looking_elsewhere(fronted, tmp_path) as (other, _):
        assert answer_both(other, url).body == LARGE
        path.unlink()
        answer = answer_both(other, url)
        assert (answer.status, answer["Access-Control-Allow-Origin"]) == (404, "*")
        assert str(tree).encode() not in answer.body


def test_a_link_that_is_swapped_in_leads_nowhere(fronted: Fronted, tree: Path, tmp_path: Path) -> None:
    inside, outside, aside = tree / "sub", tmp_path / "outside", tree / "aside"
    for folder, body in ((inside, LARGE), (outside, b"secret" * 100_000)):
        folder.mkdir()
        (folder / "a.bin").write_bytes(body)
    time.sleep(LEFT_ALONE_SECONDS)
    url = fronted.server.hub.serve_tree(tree, visibility="public") + "sub/a.bin"
    assert fronted.is_handed_over(url)
    is_over = threading.Event()

    def swap() -> None:
        while not is_over.wait(0.001):
            inside.rename(aside)
            inside.symlink_to(outside)
            inside.unlink()
            aside.rename(inside)

    thread = threading.Thread(target=swap)
    thread.start()
    statuses = set()
    try:
        with Connection(fronted.nginx) as connection:
            for _ in range(300):
                answer = connection.request("GET", url)
                statuses.add(answer.status)
                assert answer.status == 404 or answer.body == LARGE
    finally:
        is_over.set()
        thread.join()
    assert 200 in statuses


def test_three_gigabytes_are_sent(fronted: Fronted, tree: Path) -> None:
    path, size = tree / "a.bin", 3 << 30
    with path.open("wb") as stream:
        stream.truncate(size - len(LARGE))
        stream.seek(size - len(LARGE))
        stream.write(LARGE)
    url = fronted.publish(path)
    answer = answer_both(fronted, url, {"Range": f"bytes=-{len(LARGE)}"})
    assert (answer.body, answer["Content-Range"]) == (LARGE, f"bytes {size - len(LARGE)}-{size - 1}/{size}")
    received, view = 0, memoryview(bytearray(1 << 20))
    with socket.create_connection(fronted.nginx, timeout=30) as connection:
        connection.sendall(f"GET {url} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(4096)
        head, _, begun = head.partition(b"\r\n\r\n")
        assert f"Content-Length: {size}".encode() in head
        received = len(begun)
        while count := connection.recv_into(view):
            received += count
    assert received == size


def test_a_file_that_shrinks_ends_the_connection(fronted: Fronted, tree: Path) -> None:
    path, size = tree / "a.bin", 200_000_000
    with path.open("wb") as stream:
        stream.truncate(size)
    url = fronted.publish(path)
    assert fronted.is_handed_over(url)
    with Connection(fronted.nginx) as connection:
        connection.send("GET", url)
        while len(connection.buffer) < 100_000:
            connection.buffer += connection.socket.recv(65536)
        os.truncate(path, 50_000)
        answer = connection.receive()
    assert (answer["Content-Length"], answer.is_whole) == (str(size), False)


def test_no_other_server_behind_nginx_is_obeyed(fronted: Fronted, tree: Path, tmp_path: Path) -> None:
    class Hostile(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("X-Accel-Redirect", f"/_kdr_files{tree}/secret")
            self.send_header("X-Offer", self.headers.get("KDR-Accel", "none"))
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"mine")

        def log_message(self, *_: object) -> None:
            pass

    (tree / "secret").write_bytes(b"secret")
    with ThreadingHTTPServer(("127.0.0.1", 0), Hostile) as server:
        threading.Thread(target=server.serve_forever).start()
        changed = {
            "        # location / {\n        #     proxy_pass http://127.0.0.1:8001;\n        # }\n": (
                f"location / {{ proxy_pass http://127.0.0.1:{server.server_port}; }}\n"
            )
        }
        try:
            with example_nginx(tmp_path, fronted.server.address[1], changed) as address:
                answer = fetch(address, "/user/eve/page", OFFER)
                assert (answer.status, answer.body, answer["X-Offer"]) == (200, b"mine", "none")
                assert fetch(address, f"/_kdr_files{tree}/secret").status == 404
        finally:
            server.shutdown()
