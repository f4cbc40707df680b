"""HTTP of objects in a real store: the rules that hold for files (`test_http`) hold for them."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from email.utils import formatdate, parsedate_to_datetime
from typing import Any

import obstore
import pytest

from tests.conftest import LiveServer, live_server
from tests.e2e.test_http import BODY, COMMON, EARLIER, LARGE, LATER, OF_FILES, PRECONDITIONS, RANGES, SAME, SMALL, ask
from tests.stores import write_rules
from tests.swift import Swift


@pytest.fixture(scope="module")
def bucket(swift: Swift) -> Any:
    bucket = swift.make_bucket("conformance")
    for name, body in {"small.png": SMALL, "large.png": LARGE, "a.fits": SMALL, "some.png": SMALL * 8}.items():
        obstore.put(bucket, f"files/{name}", body)
    obstore.put(bucket, "files/empty", b"")
    # What was changed this second has no strong date (RFC 9110, 8.8.2.2).
    time.sleep(1.5)
    return bucket


@pytest.fixture(scope="module", params=["kdr_wsgi.serving.WatchfulWorker", "sync", "granian"])
def server(
    request: pytest.FixtureRequest, swift: Swift, bucket: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("server")
    rules = write_rules(folder / "stores.json", {"prefix": "s3://conformance/", "options": swift.options})
    with live_server(folder, request.param, environment={"KDR_STORES": str(rules)}) as running:
        yield running


@pytest.fixture
def root(server: LiveServer) -> str:
    return server.hub.serve_tree("s3://conformance/files/", visibility="public")


@pytest.fixture(scope="module", params=[False, True], ids=["path", "content"])
def any_root(server: LiveServer, request: pytest.FixtureRequest) -> str:
    """The same objects by a path key, and by a content key."""
    with pytest.MonkeyPatch.context() as patch:
        # As the server has it: a process beside this one lists the bucket.
        patch.setenv("KDR_STORES", str(server.folder / "stores.json"))
        return server.hub.serve_tree("s3://conformance/files/", content=request.param, visibility="public")


@pytest.mark.parametrize(("headers", "status"), PRECONDITIONS)
@pytest.mark.parametrize("name", ["small.png", "large.png"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_preconditions_in_the_order_of_rfc_9110(
    server: LiveServer, any_root: str, headers: dict[str, str], status: int, name: str, method: str
) -> None:
    path, body = any_root + name, SMALL if name == "small.png" else LARGE
    known = ask(server, path, {}, "HEAD")
    modified = parsedate_to_datetime(known["Last-Modified"]).timestamp()
    dates = {SAME: modified, EARLIER: modified - 1, LATER: modified + 1}
    headers = {
        name: formatdate(dates[value], usegmt=True) if value in dates else value for name, value in headers.items()
    }
    answer = ask(server, path, {name: value.replace("@", known["ETag"]) for name, value in headers.items()}, method)
    if method == "HEAD" and status == 206:
        status = 200
    assert answer.status == status
    if status in (200, 206, 304):
        assert answer["ETag"] == known["ETag"]
        assert answer["Last-Modified"] == known["Last-Modified"]
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


@pytest.mark.parametrize(("header", "expected"), RANGES)
def test_ranges(server: LiveServer, any_root: str, header: str, expected: tuple[int, int] | int) -> None:
    answer = ask(server, any_root + "a.fits", {"Range": header})
    if expected == 200:
        assert (answer.status, answer.body) == (200, SMALL)
        assert "Content-Range" not in answer
    elif expected == 416:
        assert answer.status == 416
        assert answer["Content-Range"] == "bytes */1024"
    else:
        assert isinstance(expected, tuple)
        start, stop = expected
        assert answer.status == 206
        assert answer["Content-Range"] == f"bytes {start}-{stop - 1}/1024"
        assert answer["Content-Length"] == str(stop - start)
        assert answer["Content-Type"] == "image/fits"
        assert answer.body == SMALL[start:stop]
    head = ask(server, any_root + "a.fits", {"Range": header}, "HEAD")
    assert (head.status, head["Content-Length"], head.body) == (200, "1024", b"")


@pytest.mark.parametrize("span", [(0, 1), (0, 299_999), (1, 300_000), (299_999, 300_000), (100_000, 200_000)])
def test_ranges_of_a_large_object(server: LiveServer, any_root: str, span: tuple[int, int]) -> None:
    start, stop = span
    answer = ask(server, any_root + "large.png", {"Range": f"bytes={start}-{stop - 1}"})
    assert (answer.status, answer["Content-Range"]) == (206, f"bytes {start}-{stop - 1}/300000")
    assert answer.body == LARGE[start:stop]


@pytest.mark.parametrize("name", ["large.png", "some.png"])
def test_several_ranges_come_as_multipart_in_the_order_asked(server: LiveServer, any_root: str, name: str) -> None:
    body = LARGE if name == "large.png" else SMALL * 8
    answer = ask(server, any_root + name, {"Range": "bytes=5000-5009,0-4,-3,999999999-"})
    assert (answer.status, answer.names) == (206, OF_FILES | BODY)
    boundary = answer["Content-Type"].removeprefix("multipart/byteranges; boundary=")
    first, *parts, last = answer.body.split(b"\r\n--" + boundary.encode())
    assert (first, last) == (b"", b"--\r\n")
    found = []
    for part in parts:
        head, _, data = part.partition(b"\r\n\r\n")
        match = re.fullmatch(rb"\r\nContent-Type: image/png\r\nContent-Range: bytes (\d+)-(\d+)/(\d+)", head)
        assert match is not None
        found.append((int(match[1]), int(match[2]) + 1, data))
    size = len(body)
    assert found == [(5000, 5010, body[5000:5010]), (0, 5, body[:5]), (size - 3, size, body[-3:])]


def test_many_ranges_never_cost_more_than_the_object(server: LiveServer, any_root: str) -> None:
    overlapping = ",".join(["0-"] * 1000)
    answer = ask(server, any_root + "large.png", {"Range": f"bytes={overlapping}"})
    assert (answer.status, answer.body) == (206, LARGE)


def test_an_empty_object(server: LiveServer, any_root: str) -> None:
    assert ask(server, any_root + "empty", {}).body == b""
    assert ask(server, any_root + "empty", {"Range": "bytes=-5"}).status == 200
    answer = ask(server, any_root + "empty", {"Range": "bytes=0-"})
    assert (answer.status, answer["Content-Range"]) == (416, "bytes */0")


def test_the_same_object_has_the_same_tag_under_each_key_and_other_objects_have_others(
    server: LiveServer, root: str, bucket: Any
) -> None:
    obstore.put(bucket, "files/copy.png", SMALL)
    url = server.hub.serve_file("s3://conformance/files/small.png", visibility="public")
    tags = [ask(server, path, {}, "HEAD")["ETag"] for path in (root + "small.png", url, root + "copy.png")]
    assert tags[0] == tags[1] != tags[2]
    assert re.fullmatch(r'"[0-9a-f]{32}"', tags[0])


@pytest.mark.parametrize(
    "name", ["", "missing", "small.png/", "small.png/x", "../files/small.png", "..", "a%00b", "x" * 2000]
)
def test_what_is_no_object_is_404(server: LiveServer, root: str, name: str) -> None:
    expected = {"": 200, "a%00b": 400}
    assert ask(server, root + name, {}).status == expected.get(name, 404)


def test_a_folder_without_its_slash_is_redirected_and_has_its_index(server: LiveServer, root: str, bucket: Any) -> None:
    obstore.put(bucket, "files/süb dir#?/index.html", b"<p>hello")
    answer = ask(server, root + "s%C3%BCb%20dir%23%3F?a=b", {})
    assert (answer.status, answer["Location"]) == (308, "./s%C3%BCb%20dir%23%3F/?a=b")
    answer = ask(server, root + "s%C3%BCb%20dir%23%3F/", {})
    assert (answer.status, answer.body) == (200, b"<p>hello")
    assert answer["Content-Security-Policy"] == "sandbox allow-scripts"


@pytest.mark.parametrize(
    "name",
    ["ü ö.png", "a#b?c&d.png", "a%20b%2Fc.png", "a+b.png", "~'()*!.png", "a\\b.png", "a:b;c=d.png", "\U0001f30c.png"],
)
def test_each_name_of_an_object_works_in_a_url(server: LiveServer, root: str, bucket: Any, name: str) -> None:
    from urllib.parse import quote

    obstore.put(bucket, f"files/names/{name}", name.encode())
    assert ask(server, f"{root}names/{quote(name, safe='')}", {}).body == name.encode()
    listing = ask(server, f"{root}names/?format=json", {})
    assert quote(name, safe="") in listing.body.decode()


def test_the_extension_decides_the_media_type_and_the_name(server: LiveServer, bucket: Any) -> None:
    obstore.put(bucket, "files/cube.dat", b"SIMPLE")
    url = server.hub.serve_file("s3://conformance/files/cube.dat", ".fits", visibility="public")
    assert url.endswith("/cube.dat.fits")
    assert ask(server, url, {})["Content-Type"] == "image/fits"
    plain = server.hub.serve_file("s3://conformance/files/cube.dat", visibility="public")
    assert ask(server, plain, {})["Content-Type"] == "application/octet-stream"
    assert ask(server, url, {})["Content-Type"] == "image/fits"
    assert ask(server, url.removesuffix(".fits"), {}).status == 404


def test_only_public_registrations_are_readable_by_whoever_connects(server: LiveServer) -> None:
    url = server.hub.serve_file("s3://conformance/files/small.png", key=f"mine-{os.urandom(4).hex()}")
    assert ask(server, url, {}).status == 404
    assert url.revoke()


def test_text_is_compressed_and_siblings_are_chosen(server: LiveServer, root: str, bucket: Any) -> None:
    text = b"lorem ipsum " * 1000
    obstore.put(bucket, "files/text.json", text)
    answer = ask(server, root + "text.json", {"Accept-Encoding": "gzip"})
    assert (answer["Content-Encoding"], answer["Vary"]) == ("gzip", "Accept-Encoding")
    assert len(answer.body) < 1000
    obstore.put(bucket, "files/text.json.br", b"brotli, says its name")
    time.sleep(1.1)
    answer = ask(server, root + "text.json", {"Accept-Encoding": "br, gzip"})
    assert (answer["Content-Encoding"], answer.body) == ("br", b"brotli, says its name")


def test_wtml_is_made_from_the_relative_one(server: LiveServer, root: str, bucket: Any) -> None:
    relative = b'<?xml version="1.0"?><Folder Name="x" Url="tiles/x"/>'
    obstore.put(bucket, "files/index_rel.wtml", relative)
    answer = ask(server, root + "index.wtml", {})
    assert answer.status == 200
    assert f"http://localhost{root}tiles/x".encode() in answer.body
