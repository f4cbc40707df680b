"""What goes over the wire, byte by byte, from real servers."""

from __future__ import annotations

import os
import re
import time
from email.utils import formatdate
from pathlib import Path

import pytest

from tests.conftest import LiveServer, make_settled
from tests.raw_http import Answer, Connection, fetch

SMALL = bytes(range(256)) * 4
LARGE = os.urandom(300_000)
MODIFIED = 1_700_000_000

COMMON = {
    "server",
    "date",
    "access-control-allow-origin",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "access-control-expose-headers",
    "x-content-type-options",
    "cache-control",
}
OF_FILES = COMMON | {"accept-ranges", "etag", "last-modified"}
BODY = {"content-type", "content-length"}

EARLIER, LATER = formatdate(MODIFIED - 1, usegmt=True), formatdate(MODIFIED + 1, usegmt=True)
SAME = formatdate(MODIFIED, usegmt=True)

#: Request headers (@ stands for the file's ETag) and the answer's status.
PRECONDITIONS: list[tuple[dict[str, str], int]] = [
    ({}, 200),
    ({"If-None-Match": "@"}, 304),
    ({"If-None-Match": "W/@"}, 304),
    ({"If-None-Match": "*"}, 304),
    ({"If-None-Match": '"other", @'}, 304),
    ({"If-None-Match": '"other"'}, 200),
    ({"If-None-Match": ""}, 200),
    ({"If-None-Match": '"other"', "If-Modified-Since": LATER}, 200),
    ({"If-Modified-Since": SAME}, 304),
    ({"If-Modified-Since": LATER}, 304),
    ({"If-Modified-Since": EARLIER}, 200),
    ({"If-Modified-Since": "yesterday"}, 200),
    ({"If-Modified-Since": f"Sun, 06 Nov {'9' * 20} 08:49:37 GMT"}, 200),
    ({"If-Match": "@"}, 200),
    ({"If-Match": '"other", @'}, 200),
    ({"If-Match": "*"}, 200),
    ({"If-Match": '"other"'}, 412),
    ({"If-Match": "W/@"}, 412),
    ({"If-Match": "@", "If-Unmodified-Since": EARLIER}, 200),
    ({"If-Unmodified-Since": SAME}, 200),
    ({"If-Unmodified-Since": EARLIER}, 412),
    ({"If-Unmodified-Since": "yesterday"}, 200),
    ({"If-Match": "@", "If-None-Match": "@"}, 304),
    ({"If-Match": '"other"', "If-None-Match": "@"}, 412),
    ({"If-None-Match": "@", "Range": "bytes=0-9"}, 304),
    ({"If-Match": '"other"', "Range": "bytes=0-9"}, 412),
    ({"If-Match": '"other"', "Range": "bytes=999999999-"}, 412),
    ({"If-None-Match": "@", "Range": "bytes=999999999-"}, 304),
    ({"If-Range": "@"}, 200),
    ({"If-Range": "@", "Range": "bytes=0-9"}, 206),
    ({"If-Range": "W/@", "Range": "bytes=0-9"}, 200),
    ({"If-Range": '"other"', "Range": "bytes=0-9"}, 200),
    ({"If-Range": '"other"', "Range": "bytes=999999999-"}, 200),
    ({"If-Range": SAME, "Range": "bytes=0-9"}, 206),
    ({"If-Range": LATER, "Range": "bytes=0-9"}, 200),
    ({"If-Range": EARLIER, "Range": "bytes=0-9"}, 200),
    ({"If-Range": "yesterday", "Range": "bytes=0-9"}, 200),
]

#: A Range header for a file of 1,024 bytes: the span of a 206, 200 for the whole, or 416.
RANGES: list[tuple[str, tuple[int, int] | int]] = [
    ("bytes=0-0", (0, 1)),
    ("bytes=0-9", (0, 10)),
    ("BYTES=0-9", (0, 10)),
    ("bytes=5-", (5, 1024)),
    ("bytes=1023-", (1023, 1024)),
    ("bytes=0-1023", (0, 1024)),
    ("bytes=1000-99999999999999999999999", (1000, 1024)),
    ("bytes=-1", (1023, 1024)),
    ("bytes=-5000", (0, 1024)),
    ("bytes= 0-9 ", (0, 10)),
    ("bytes=,0-9,,", (0, 10)),
    ("bytes=0-9,5-20", (0, 21)),
    ("bytes=5-20,0-9", (0, 21)),
    ("bytes=0-9,2000-", (0, 10)),
    ("bytes=1024-", 416),
    ("bytes=-0", 416),
    ("bytes=5000-6000,7000-", 416),
    ("bytes=9-5", 200),
    ("bytes=-", 200),
    ("bytes=", 200),
    ("bytes", 200),
    ("bytes=a-b", 200),
    ("bytes=0-9,x", 200),
    ("bytes=0x1-5", 200),
    ("bytes=+1-5", 200),
    ("bytes=1 - 5", 200),
    ("items=0-9", 200),
    ("bytes=٣-٤".encode().decode("latin-1"), 200),
]


@pytest.fixture(params=["small", "large", "small, content key", "large, content key"])
def published(request: pytest.FixtureRequest, server: LiveServer, tree: Path) -> tuple[str, bytes]:
    """The URL path of a file of the year 2023, once from memory and once from disk, and its bytes."""
    body = SMALL if "small" in request.param else LARGE
    (tree / "a.png").write_bytes(body)
    os.utime(tree / "a.png", (MODIFIED, MODIFIED))
    make_settled(tree / "a.png")
    return server.hub.serve_tree(tree, content="content" in request.param, visibility="public") + "a.png", body


def ask(server: LiveServer, path: str, headers: dict[str, str], method: str = "GET") -> Answer:
    """Ask with `headers`, and then see that the connection is fit for another request, or closed."""
    with Connection(server.address) as connection:
        answer = connection.request(method, path, headers)
        assert answer.is_whole
        assert connection.buffer == b""
        if "Connection" in answer and answer["Connection"] == "close":
            assert connection.socket.recv(1) == b""
        else:
            assert connection.request("GET", "/wwtkdr/_probe").status == 200
    return answer


@pytest.mark.parametrize(("headers", "status"), PRECONDITIONS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_preconditions_in_the_order_of_rfc_9110(
    server: LiveServer, published: tuple[str, bytes], headers: dict[str, str], status: int, method: str
) -> None:
    path, body = published
    etag = fetch(server.address, path, method="HEAD")["ETag"]
    answer = ask(server, path, {name: value.replace("@", etag) for name, value in headers.items()}, method)
    if method == "HEAD" and status == 206:
        status = 200
    assert answer.status == status
    if status in (200, 206, 304):
        assert answer["ETag"] == etag
        assert answer["Last-Modified"] == SAME
    if status == 304:
        assert answer.names == OF_FILES
    if status == 200:
        assert answer.names == OF_FILES | BODY
        assert answer["Content-Length"] == str(len(body))
        assert answer.body == (body if method == "GET" else b"")
    if status == 206:
        assert answer.names == OF_FILES | BODY | {"content-range"}
        assert answer.body == body[:10]
    if status == 412:
        assert answer.names == COMMON | BODY


@pytest.mark.parametrize("content", [False, True], ids=["path key", "content key"])
@pytest.mark.parametrize(("header", "expected"), RANGES)
def test_ranges(server: LiveServer, tree: Path, header: str, expected: tuple[int, int] | int, content: bool) -> None:
    (tree / "a.fits").write_bytes(SMALL)
    path = server.hub.serve_tree(tree, content=content, visibility="public") + "a.fits"
    answer = ask(server, path, {"Range": header})
    if expected == 200:
        assert (answer.status, answer.body) == (200, SMALL)
        assert "Content-Range" not in answer
    elif expected == 416:
        assert answer.status == 416
        assert answer["Content-Range"] == "bytes */1024"
        assert answer.names == COMMON | BODY | {"content-range"}
    else:
        assert isinstance(expected, tuple)
        start, stop = expected
        assert (answer.status, answer.reason) == (206, "Partial Content")
        assert answer["Content-Range"] == f"bytes {start}-{stop - 1}/1024"
        assert answer["Content-Length"] == str(stop - start)
        assert answer["Content-Type"] == "image/fits"
        assert answer.body == SMALL[start:stop]
    head = ask(server, path, {"Range": header}, "HEAD")
    assert (head.status, head["Content-Length"], head.body) == (200, "1024", b"")


@pytest.mark.parametrize("content", [False, True], ids=["path key", "content key"])
@pytest.mark.parametrize("large", [False, True])
def test_several_ranges_come_as_multipart_in_the_order_asked(
    server: LiveServer, tree: Path, large: bool, content: bool
) -> None:
    body = LARGE if large else SMALL * 8
    (tree / "a.png").write_bytes(body)
    path = server.hub.serve_tree(tree, content=content, visibility="public") + "a.png"
    answer = ask(server, path, {"Range": "bytes=5000-5009,0-4,-3,999999999-"})
    assert answer.status == 206
    assert answer.names == OF_FILES | BODY
    boundary = answer["Content-Type"].removeprefix("multipart/byteranges; boundary=")
    parts = answer.body.split(b"\r\n--" + boundary.encode())
    assert parts[0] == b""
    assert parts[-1] == b"--\r\n"
    found = []
    for part in parts[1:-1]:
        head, _, data = part.partition(b"\r\n\r\n")
        match = re.fullmatch(rb"\r\nContent-Type: image/png\r\nContent-Range: bytes (\d+)-(\d+)/(\d+)", head)
        assert match is not None
        assert int(match[3]) == len(body)
        found.append((int(match[1]), int(match[2]) + 1, data))
    size = len(body)
    assert found == [(5000, 5010, body[5000:5010]), (0, 5, body[:5]), (size - 3, size, body[-3:])]


def test_many_tiny_ranges_never_cost_more_than_the_file(server: LiveServer, tree: Path) -> None:
    (tree / "a.bin").write_bytes(LARGE)
    path = server.hub.serve_tree(tree, visibility="public") + "a.bin"
    tiny = ",".join(f"{first}-{first}" for first in range(0, 299_000, 600))
    answer = ask(server, path, {"Range": f"bytes={tiny}"})
    assert answer.status in (200, 206)
    assert len(answer.body) <= len(LARGE)
    overlapping = ",".join(["0-"] * 1000)
    answer = ask(server, path, {"Range": f"bytes={overlapping}"})
    assert (answer.status, answer.body) == (206, LARGE)


def test_an_empty_file_has_no_last_bytes_but_is_no_error(server: LiveServer, tree: Path) -> None:
    (tree / "empty").touch()
    path = server.hub.serve_tree(tree, visibility="public") + "empty"
    assert ask(server, path, {}).status == 200
    assert ask(server, path, {"Range": "bytes=-5"}).status == 200
    answer = ask(server, path, {"Range": "bytes=0-"})
    assert (answer.status, answer["Content-Range"]) == (416, "bytes */0")


def test_the_headers_of_an_answer_are_the_contracts(server: LiveServer, tree: Path) -> None:
    (tree / "a.csv").write_text("a,b\n")
    answer = ask(server, server.hub.serve_tree(tree, visibility="public") + "a.csv", {})
    assert answer["Access-Control-Allow-Origin"] == "*"
    assert answer["Access-Control-Allow-Methods"] == "GET, HEAD"
    allowed = set(answer["Access-Control-Allow-Headers"].split(", "))
    assert allowed >= {"Content-Disposition", "Content-Encoding", "Content-Length", "Content-Type"}
    assert allowed >= {"Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since"}
    exposed = set(answer["Access-Control-Expose-Headers"].split(", "))
    assert exposed == {"Content-Range", "Content-Length", "Accept-Ranges", "ETag", "Last-Modified"}
    assert answer["Cache-Control"] == "private, no-cache"
    assert answer["Accept-Ranges"] == "bytes"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert re.fullmatch(r'"[0-9a-f-]+"', answer["ETag"])


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "PROPFIND"])
def test_other_methods_are_refused_with_what_is_allowed(server: LiveServer, tree: Path, method: str) -> None:
    answer = ask(server, server.hub.serve_tree(tree, visibility="public"), {"Content-Length": "0"}, method)
    assert answer.status == 405
    assert answer["Allow"] == "GET, HEAD, OPTIONS"


def test_options_answers_a_preflight_without_telling_what_exists(server: LiveServer, tree: Path) -> None:
    known = server.hub.serve_tree(tree, visibility="public")
    preflight = {"Origin": "https://elsewhere.example", "Access-Control-Request-Headers": "range"}
    answers = [ask(server, path, preflight, "OPTIONS") for path in (known, "/wwtkdr/unknown/x")]
    for answer in answers:
        assert answer.status == 204
        assert answer["Access-Control-Allow-Origin"] == "*"
        assert "Range" in answer["Access-Control-Allow-Headers"]
        assert answer["Allow"] == "GET, HEAD, OPTIONS"
    assert answers[0].names == answers[1].names


def test_errors_are_short_text_or_json_with_cors(server: LiveServer) -> None:
    text = ask(server, "/wwtkdr/unknown/x", {})
    assert (text.status, text["Content-Type"]) == (404, "text/plain; charset=utf-8")
    assert text["Access-Control-Allow-Origin"] == "*"
    assert text.body.count(b"\n") == 1
    as_json = ask(server, "/wwtkdr/unknown/x", {"Accept": "application/json"})
    assert as_json["Content-Type"] == "application/json"
    assert as_json.body.startswith(b'{"status": 404, "error": "')
    assert ask(server, "/wwtkdr/unknown/x", {}, "HEAD").body == b""


def test_probe_and_health_answer_json(server: LiveServer) -> None:
    probe = ask(server, "/wwtkdr/_probe", {})
    assert (probe.status, probe["Content-Type"]) == (200, "application/json")
    assert b'"status":"ok"' in probe.body
    assert b'"status":"ok"' in ask(server, "/wwtkdr/_health", {}).body


@pytest.mark.parametrize(
    "path", ["/", "/wwtkdr", "/wwtkdr/", "/wwtkdr//x", "/wwtkdr/_status", "/wwtkdr/_x/y", "/favicon.ico"]
)
def test_what_is_no_registration_is_404(server: LiveServer, path: str) -> None:
    answer = ask(server, path, {})
    assert answer.status == 404
    assert answer["Content-Type"].startswith("text/plain")
    assert answer["Access-Control-Allow-Origin"] == "*"


def test_a_directory_without_its_slash_is_redirected_relatively(server: LiveServer, tree: Path) -> None:
    (tree / "süb dir#?").mkdir()
    root = server.hub.serve_tree(tree, visibility="public")
    answer = ask(server, root + "s%C3%BCb%20dir%23%3F?a=b", {})
    assert (answer.status, answer["Location"]) == (308, "./s%C3%BCb%20dir%23%3F/?a=b")
    key = ask(server, root.rstrip("/"), {})
    assert (key.status, key["Location"]) == (308, f"./{root.split('/')[2]}/")


def test_a_directory_answers_with_its_index_or_a_listing(server: LiveServer, tree: Path) -> None:
    root = server.hub.serve_tree(tree, visibility="public")
    (tree / "<b>&.txt").write_text("x")
    (tree / "a:b").mkdir()
    os.mkfifo(tree / "pipe")
    listing = ask(server, root, {})
    assert listing.status == 200
    assert listing["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in listing["Content-Security-Policy"]
    assert b'href="./%3Cb%3E%26.txt" title="&lt;b&gt;&amp;.txt">&lt;b&gt;&amp;.txt</a>' in listing.body
    assert b'href="./a%3Ab/" title="a:b">a:b/</a>' in listing.body
    assert ask(server, root, {}, "HEAD").names == listing.names - {"content-length"}
    (tree / "index.html").write_text("<p>hello")
    assert ask(server, root, {}).body == b"<p>hello"


@pytest.mark.parametrize("name", ["page.html", "page.xhtml", "drawing.svg", "data.xml", "style.xsl"])
def test_active_files_are_sandboxed_unless_trusted(server: LiveServer, tree: Path, name: str) -> None:
    (tree / name).write_text("<p>")
    data = server.hub.serve_tree(tree, key=f"data-{time.time_ns()}", visibility="public")
    page = server.hub.serve_tree(tree, key=f"page-{time.time_ns()}", visibility="public", trusted=True)
    assert ask(server, data + name, {})["Content-Security-Policy"] == "sandbox allow-scripts"
    assert "Content-Security-Policy" not in ask(server, page + name, {})


def test_headers_of_the_registration_are_sent_and_replace_defaults(server: LiveServer, tree: Path) -> None:
    (tree / "a.bin").write_bytes(b"x")
    own = {"Content-Encoding": "gzip", "Cache-Control": "max-age=60"}
    answer = ask(server, server.hub.serve_tree(tree, visibility="public", headers=own) + "a.bin", {})
    assert answer["Content-Encoding"] == "gzip"
    assert answer["Cache-Control"] == "max-age=60"


def test_the_extension_decides_the_media_type_and_the_name(server: LiveServer, tree: Path) -> None:
    (tree / "cube.dat").write_bytes(b"SIMPLE")
    url = server.hub.serve_file(tree / "cube.dat", ".fits", visibility="public")
    assert url.endswith("/cube.dat.fits")
    assert ask(server, url, {})["Content-Type"] == "image/fits"
    plain = server.hub.serve_file(tree / "cube.dat", visibility="public")
    assert ask(server, plain, {})["Content-Type"] == "application/octet-stream"
    assert ask(server, url, {})["Content-Type"] == "image/fits"
    for wrong in ("cube.dat", "", "other", "cube.dat.fits/", "cube.dat.fits/x"):
        assert ask(server, url.removesuffix("cube.dat.fits") + wrong, {}).status == 404
    assert ask(server, url.removesuffix("/cube.dat.fits"), {}).status == 404


def test_only_public_registrations_are_readable_by_whoever_connects(server: LiveServer, tree: Path) -> None:
    (tree / "a").write_text("secret")
    unknown = ask(server, "/wwtkdr/unknown/a", {})
    for visibility in ("private", "users"):
        path = server.hub.serve_tree(tree, visibility=visibility) + "a"
        answer = ask(server, path, {"X-Forwarded-User": "owner", "X-Forwarded-For": "127.0.0.1"})
        assert (answer.status, answer.body) == (unknown.status, unknown.body)
    assert ask(server, server.hub.serve_tree(tree, visibility="public") + "a", {}).body == b"secret"


def test_revoked_and_expired_registrations_are_gone_at_once(server: LiveServer, tree: Path) -> None:
    (tree / "a").write_text("x")
    url = server.hub.serve_tree(tree, visibility="public", ttl=0.4)
    assert ask(server, url + "a", {}).status == 200
    time.sleep(0.5)
    assert ask(server, url + "a", {}).status == 404
    again = server.hub.serve_tree(tree, visibility="public")
    assert ask(server, again + "a", {}).status == 200
    assert again.revoke()
    assert ask(server, again + "a", {}).status == 404
    assert not again.revoke()


@pytest.mark.parametrize("key", ["a/b", "ü ö", "a%2Fb", "?#&", "..x", "k" * 300, "a\nb", '"quoted"'])
def test_a_key_may_hold_any_character(server: LiveServer, tree: Path, key: str) -> None:
    (tree / "a").write_text(key)
    url = server.hub.serve_tree(tree, key=key, visibility="public")
    assert ask(server, url + "a", {}).body == key.encode()


def test_absolute_form_and_query_are_understood(server: LiveServer, tree: Path) -> None:
    (tree / "a b").write_text("x")
    url = server.hub.serve_tree(tree, visibility="public")
    assert ask(server, f"http://localhost{url}a%20b?x=%2F..%2F", {}).body == b"x"


def test_over_long_paths_are_refused(server: LiveServer, tree: Path) -> None:
    url = server.hub.serve_tree(tree, visibility="public")
    assert ask(server, url + "x" * 300, {}).status == 404
    assert ask(server, url + "x/" * 1000, {}).status == 404
    with Connection(server.address) as connection:
        # Gunicorn refuses a longer line than 8,190 bytes; granian, one of 64 KiB.
        assert connection.request("GET", url + "x" * 9000).status in (404, 414)
    with Connection(server.address) as connection:
        assert connection.request("GET", url + "x" * 70_000).status == 414


def test_a_registration_that_changes_its_headers_is_sent_anew(server: LiveServer, tree: Path) -> None:
    (tree / "a.html").write_text("<p>")
    url = server.hub.serve_tree(tree, visibility="public", trusted=True) + "a.html"
    trusted = ask(server, url, {})
    server.hub.serve_tree(tree, visibility="public")
    plain = ask(server, url, {"If-None-Match": trusted["ETag"]})
    assert (plain.status, plain["Content-Security-Policy"]) == (200, "sandbox allow-scripts")
    server.hub.serve_tree(tree, visibility="public", headers={"Content-Encoding": "gzip"})
    assert ask(server, url, {"If-None-Match": plain["ETag"]}).status == 200
    assert ask(server, url, {"If-None-Match": ask(server, url, {})["ETag"]}).status == 304


def test_headers_of_any_length_are_answered_at_once(server: LiveServer, tree: Path) -> None:
    (tree / "a").write_bytes(SMALL)
    url = server.hub.serve_tree(tree, visibility="public") + "a"
    # Our own worker takes 64 KiB of them, granian 400.
    count = 7 if "kdr_wsgi.serving.WatchfulWorker" in server.process.args else 45  # type: ignore[operator]
    for name, text, path, status in (
        ("Accept", "x" + " " * 8000 + "y", "/wwtkdr/unknown/a", 404),
        ("Range", "bytes=" + "0-0," * 2000, url, 200),
        ("If-None-Match", '"a",' * 2000, url, 200),
        ("If-Match", '"a",' * 2000, url, 412),
    ):
        with Connection(server.address) as connection:
            lines = "".join(f"{name}: {text}\r\n" for _ in range(count))
            connection.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode())
            started = time.monotonic()
            assert connection.receive().status == status
            assert time.monotonic() - started < 3


def test_a_doubled_slash_is_not_redirected_to_the_host_of_the_request(server: LiveServer) -> None:
    assert fetch(server.address, "/wwtkdr//_probe").status == 404
