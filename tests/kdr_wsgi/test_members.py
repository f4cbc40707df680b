"""What the server answers for members of archives."""

from __future__ import annotations

import gzip
import os
import random
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from hub import JupyterRelayHub
from hub.content import archives as hub_archives
from hub.content.archives import index_path
from hub.content.manifests import ManifestStore
from kdr_wsgi import archives
from kdr_wsgi.app import create_app
from kdr_wsgi.members import Inflation
from tests.archives import (
    CRC,
    DEFLATED,
    FLAGS,
    HEADER_EXTRA,
    HEADER_FLAGS,
    HEADER_METHOD,
    METHOD,
    PACKED_BYTES,
    SIZE_BYTES,
    STORED,
    changed,
    entry_of,
    header_of,
    make_zip,
    renamed,
)
from tests.conftest import make_settled

CHANCE = random.Random(7)
SMALL = b"a small text, again and again. " * 30
#: Larger than what is read at once, and larger than a chunk once it is packed.
LARGE = bytes(CHANCE.choices(b"abcdefgh", k=400_000))

MEMBERS = (
    ("small.txt", SMALL, STORED),
    ("small-packed.txt", SMALL, DEFLATED),
    ("large.bin", LARGE, STORED),
    ("large-packed.bin", LARGE, DEFLATED),
    ("folder/page.html", b"<p>", STORED),
)
BODIES = {name: body for name, body, _ in MEMBERS}


@pytest.fixture
def app(registry_path: Path) -> Flask:
    return create_app({"KDR_REGISTRY": str(registry_path)})


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.zip"


@pytest.fixture
def publish(hub: JupyterRelayHub, path: Path) -> Callable[[bytes], str]:
    """Write an archive and publish its members."""

    def write_and_publish(archive: bytes) -> str:
        path.write_bytes(archive)
        make_settled(path)
        return hub.serve_tree(path, visibility="public")

    return write_and_publish


@pytest.fixture
def url(publish: Callable[[bytes], str]) -> str:
    return publish(make_zip(MEMBERS))


def body_of(answer: TestResponse) -> bytes:
    data = answer.data
    return gzip.decompress(data) if answer.headers.get("Content-Encoding") == "gzip" else data


@pytest.mark.parametrize("coding", ["", "gzip"])
@pytest.mark.parametrize("name", BODIES)
def test_members_are_answered_as_files_are(client: FlaskClient, url: str, name: str, coding: str) -> None:
    for _ in range(2):  # The second time by the short way.
        answer = client.get(url + name, headers={"Accept-Encoding": coding})
        assert answer.status_code == 200
        assert answer.headers["Content-Length"] == str(len(answer.data))
        assert body_of(answer) == BODIES[name]
        head = client.head(url + name, headers={"Accept-Encoding": coding})
        assert dict(head.headers) == dict(answer.headers)
        again = client.get(url + name, headers={"Accept-Encoding": coding, "If-None-Match": answer.headers["ETag"]})
        assert (again.status_code, again.data) == (304, b"")
        since = client.get(url + name, headers={"If-Modified-Since": answer.headers["Last-Modified"]})
        assert since.status_code == 304
        assert client.get(url + name, headers={"If-Match": '"other"'}).status_code == 412


@pytest.mark.parametrize("name", [name for name, *_ in MEMBERS if "packed" in name])
def test_what_is_deflated_goes_out_as_it_is_to_who_takes_gzip(
    client: FlaskClient, url: str, path: Path, name: str
) -> None:
    plain = client.get(url + name)
    packed = client.get(url + name, headers={"Accept-Encoding": "br, gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(name)
    assert len(packed.data) == info.compress_size + 18
    assert packed.data[10:-8] in path.read_bytes()
    for answer in (plain, packed):
        assert answer.headers["Vary"] == "Accept-Encoding"
        assert not answer.headers["ETag"].startswith("W/")
    assert plain.headers["ETag"] != packed.headers["ETag"]


def test_tags_tell_members_versions_and_equal_members_apart(
    client: FlaskClient, publish: Callable[[bytes], str]
) -> None:
    members = [("one", b"same", STORED), ("two", b"same", STORED)]
    seen = set()
    for comment in (b"", b"other"):
        url = publish(make_zip(members, comment))
        tags = [client.get(url + name).headers["ETag"] for name, *_ in members]
        assert tags == [client.get(url + name).headers["ETag"] for name, *_ in members]
        seen.update(tags)
    assert len(seen) == 4


@pytest.mark.parametrize("name", ["small.txt", "small-packed.txt", "large.bin"])
@pytest.mark.parametrize("span", ["0-0", "5-99", "-7", "100-", "0-300000"])
def test_ranges_of_members(client: FlaskClient, url: str, name: str, span: str) -> None:
    body = BODIES[name]
    first, _, last = span.partition("-")
    expected = body[-int(last) :] if not first else body[int(first) : int(last) + 1 if last else None]
    for _ in range(2):
        answer = client.get(url + name, headers={"Range": f"bytes={span}", "Accept-Encoding": "gzip"})
        assert (answer.status_code, answer.data) == (206, expected)
        assert "Content-Encoding" not in answer.headers


def test_several_ranges_of_a_member_are_a_multipart(client: FlaskClient, url: str) -> None:
    for several, body in (("0-1,300000-300003", LARGE), ("0-1,90000-399999", LARGE)):
        answer = client.get(url + "large.bin", headers={"Range": f"bytes={several}"})
        assert answer.status_code == 206
        assert answer.headers["Content-Length"] == str(len(answer.data))
        for span in several.split(","):
            first, last = map(int, span.split("-"))
            assert b"\r\n\r\n" + body[first : last + 1] + b"\r\n--" in answer.data
    assert client.get(url + "large.bin", headers={"Range": "bytes=400000-"}).status_code == 416


def test_of_a_large_deflated_member_no_range_is_given_and_it_says_so(client: FlaskClient, url: str) -> None:
    name = url + "large-packed.bin"
    for headers in ({"Range": "bytes=5-9"}, {}, {"Range": "bytes=5-9", "If-Range": '"x"'}):
        answer = client.get(name, headers=headers)
        assert (answer.status_code, answer.data, answer.headers["Accept-Ranges"]) == (200, LARGE, "none")
    packed = client.get(name, headers={"Range": "bytes=5-9", "Accept-Encoding": "gzip"})
    assert (packed.headers["Accept-Ranges"], gzip.decompress(packed.data)) == ("none", LARGE)
    assert client.get(url + "small-packed.txt").headers["Accept-Ranges"] == "bytes"


def test_a_name_that_only_the_directory_says_is_utf_8_is_that_name(
    client: FlaskClient, publish: Callable[[bytes], str]
) -> None:
    archive = make_zip([("\u2603.txt", b"snow", STORED)])
    url = publish(changed(archive, header_of(archive, "\u2603.txt"), HEADER_FLAGS, 0))
    assert client.get(url + "%E2%98%83.txt").data == b"snow"


def test_nginx_is_not_told_to_send_the_archive(hub: JupyterRelayHub, path: Path, registry_path: Path) -> None:
    path.write_bytes(make_zip(MEMBERS))
    make_settled(path)
    settings = {"KDR_REGISTRY": str(registry_path), "KDR_NGINX_ACCEL": "/_files", "KDR_TRUSTED_PROXIES": "127.0.0.1"}
    client = create_app(settings).test_client()
    os.utime(path, (1_700_000_000,) * 2)
    time.sleep(2.1)
    members, whole = hub.serve_tree(path, visibility="public"), hub.serve_file(path, visibility="public")
    assert "X-Accel-Redirect" in client.get(whole, headers={"KDR-Accel": "/_files"}).headers
    for name, body in BODIES.items():
        with client.get(members + name, headers={"KDR-Accel": "/_files"}) as answer:
            assert (answer.data, "X-Accel-Redirect" in answer.headers) == (body, False)


def test_folders_of_archives_are_listed(client: FlaskClient, url: str) -> None:
    page = client.get(url).text
    assert 'href="./folder/"' in page
    assert "400,000" in page
    assert 'href="./page.html"' in client.get(url + "folder/").text
    answer = client.get(url + "folder")
    assert (answer.status_code, answer.headers["Location"]) == (308, "./folder/")
    assert client.get(url[:-1]).status_code == 308
    for missing in ("nothing", "nothing/", "small.txt/", "small.txt/x", "../a.zip", "folder/../small.txt"):
        assert client.get(url + missing).status_code == 404, missing


def test_a_folder_with_an_index_shows_it(client: FlaskClient, publish: Callable[[bytes], str]) -> None:
    url = publish(make_zip([("index.html", b"<h1>", DEFLATED), ("sub/index.html", b"<h2>", STORED)]))
    assert client.get(url).data == b"<h1>"
    answer = client.get(url + "sub/")
    assert (answer.data, answer.headers["Content-Security-Policy"]) == (b"<h2>", "sandbox allow-scripts")


@pytest.mark.parametrize("name", ["a b", "é.txt", "#?%41&", "back\\slash", "\u2603/x"])
def test_names_in_urls_are_utf_8(client: FlaskClient, publish: Callable[[bytes], str], name: str) -> None:
    from urllib.parse import quote

    url = publish(make_zip([(name, b"it", STORED)])) + quote(name)
    assert client.get(url, environ_overrides={"RAW_URI": url}).data == b"it"


def with_crc(name: str) -> Callable[[bytes], bytes]:
    return lambda archive: changed(archive, entry_of(archive, name), CRC, 1)


def with_size(name: str, size_bytes: int) -> Callable[[bytes], bytes]:
    return lambda archive: changed(archive, entry_of(archive, name), SIZE_BYTES, size_bytes)


def with_damage(name: str) -> Callable[[bytes], bytes]:
    def damage(archive: bytes) -> bytes:
        with_damage = bytearray(archive)
        start = header_of(archive, name) + 30 + len(name) + 60
        with_damage[start : start + 40] = b"\xff" * 40
        return bytes(with_damage)

    return damage


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("small.txt", lambda a: changed(a, entry_of(a, "small.txt"), FLAGS, 1), "encrypted"),
        ("small.txt", lambda a: changed(a, entry_of(a, "small.txt"), METHOD, 12), "compressed by method 12"),
        ("small.txt", lambda a: changed(a, header_of(a, "small.txt"), HEADER_FLAGS, 1), "contradict each other"),
        ("small.txt", lambda a: changed(a, header_of(a, "small.txt"), HEADER_METHOD, 8), "contradict each other"),
        ("small.txt", lambda a: changed(a, header_of(a, "small.txt"), HEADER_EXTRA, 9), "contradict each other"),
        ("small.txt", lambda a: changed(a, header_of(a, "small.txt"), (0, "<H"), 0), "contradict each other"),
        ("small.txt", lambda a: changed(a, header_of(a, "small.txt"), (30, "<H"), 0x4141), "contradict each other"),
        ("small.txt", with_size("small.txt", 5), "cannot have as many bytes"),
        ("small.txt", with_crc("small.txt"), "its checksum is wrong"),
        ("small-packed.txt", with_crc("small-packed.txt"), "its checksum is wrong"),
        ("small-packed.txt", with_size("small-packed.txt", len(SMALL) - 1), "not as many bytes"),
        ("small-packed.txt", with_size("small-packed.txt", len(SMALL) + 1), "not as many bytes"),
        ("small-packed.txt", with_size("small-packed.txt", 0xFFFFFFFE), "cannot have as many bytes"),
    ],
)
def test_a_member_that_cannot_be_served_says_why(
    client: FlaskClient,
    publish: Callable[[bytes], str],
    name: str,
    change: Callable[[bytes], bytes],
    reason: str,
) -> None:
    url = publish(change(make_zip(MEMBERS)))
    answer = client.get(url + name)
    assert answer.status_code == 422
    assert reason in answer.text
    assert "a.zip" not in answer.text
    # The others are served all the same.
    assert client.get(url + "large.bin").data == LARGE


def test_a_member_that_reaches_into_the_next_by_its_own_header_is_not_served(
    client: FlaskClient, publish: Callable[[bytes], str]
) -> None:
    """Its extra field pushes its bytes into what follows, which the directory does not show."""
    archive = make_zip([("one", b"x" * 50, STORED), ("two", b"y" * 50, STORED)])
    url = publish(changed(archive, header_of(archive, "one"), HEADER_EXTRA, 40))
    # Not only its checksum is wrong: of a large one nobody would notice.
    assert "contradict each other" in client.get(url + "one").text
    assert client.get(url + "two").data == b"y" * 50


def read_stream(packed: bytes, **changes: int) -> bytes:
    body = LARGE
    member = hub_archives.Member(0, len(packed), len(body), zlib.crc32(body), DEFLATED, 0)._replace(**changes)
    reading, writing = os.pipe()
    os.close(reading)
    os.close(writing)
    descriptor = os.memfd_create("packed")
    os.write(descriptor, b"before" + packed + b"behind")
    stream = Inflation(descriptor, len(b"before"), member)
    try:
        return b"".join(iter(lambda: stream.read(10_000), b""))
    finally:
        stream.close()


def deflate(body: bytes) -> bytes:
    packing = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packing.compress(body) + packing.flush()


PACKED = deflate(LARGE)


def test_a_large_member_is_inflated_as_it_is_read() -> None:
    assert read_stream(PACKED) == LARGE


@pytest.mark.parametrize(
    ("packed", "changes"),
    [
        (PACKED, {"crc": 1}),
        (PACKED, {"size_bytes": len(LARGE) + 1}),
        (PACKED, {"size_bytes": len(LARGE) - 1}),
        (PACKED[:-100], {}),
        (PACKED[:100] + b"\xff" * 100 + PACKED[200:], {}),
        (deflate(LARGE + b"more"), {}),
        (deflate(bytes(1 << 28)), {}),
    ],
)
def test_what_is_not_what_it_should_be_never_comes_to_its_end(packed: bytes, changes: dict[str, int]) -> None:
    with pytest.raises(ConnectionAbortedError, match="a member of an archive is"):
        read_stream(packed, **changes)


def test_a_member_of_empty_blocks_holds_no_thread_for_long() -> None:
    with pytest.raises(ConnectionAbortedError, match="blocks with nothing in"):
        read_stream(b"\0\0\0\xff\xff" * 500_000 + PACKED)


def test_a_member_that_was_flushed_after_each_byte_is_read() -> None:
    packing = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = b"".join(
        packing.compress(LARGE[at : at + 1]) + packing.flush(zlib.Z_SYNC_FLUSH) for at in range(len(LARGE))
    )
    assert read_stream(packed + packing.flush()) == LARGE


def test_a_bomb_ends_where_it_says_that_it_ends_and_takes_no_memory(
    client: FlaskClient, publish: Callable[[bytes], str]
) -> None:
    import tracemalloc

    archive = make_zip([("bomb", bytes(200 << 20), DEFLATED)])
    url = publish(changed(archive, entry_of(archive, "bomb"), SIZE_BYTES, 100 << 20))
    tracemalloc.start()
    answer = client.get(url + "bomb", buffered=False)
    received = 0
    with pytest.raises(ConnectionAbortedError):  # noqa: PT012  # it is the whole of the loop that ends so
        for chunk in answer.response:
            received += len(chunk)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    answer.close()
    assert received < 100 << 20
    assert peak_bytes < 4 << 20


def test_an_archive_that_is_replaced_shows_at_once(
    client: FlaskClient, publish: Callable[[bytes], str], path: Path, tmp_path: Path
) -> None:
    url = publish(make_zip([("a", b"old", STORED), ("gone", b"", STORED)]))
    first = client.get(url + "a")
    assert (first.data, client.get(url + "gone").status_code) == (b"old", 200)
    other = tmp_path / "other.zip"
    other.write_bytes(make_zip([("before", b"", STORED), ("a", b"new", DEFLATED)]))
    other.rename(path)
    second = client.get(url + "a", headers={"If-None-Match": first.headers["ETag"]})
    assert (second.status_code, second.data) == (200, b"new")
    assert client.get(url + "gone").status_code == 404
    path.unlink()
    assert client.get(url + "a").status_code == 404
    assert client.get(url).status_code == 404


def test_an_archive_that_was_replaced_by_what_is_none_says_so(
    client: FlaskClient, publish: Callable[[bytes], str], path: Path
) -> None:
    url = publish(make_zip(MEMBERS))
    path.write_bytes(b"no archive")
    for _ in range(2):
        answer = client.get(url + "small.txt")
        assert answer.status_code == 422
        assert "it is none, or was cut off" in answer.text
    path.unlink()
    path.mkdir()
    (path / "small.txt").write_bytes(b"of a folder")
    assert client.get(url + "small.txt").status_code == 404


def test_the_directory_is_read_once_for_each_version_and_all_workers(
    client: FlaskClient, url: str, registry_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("it is read again")

    monkeypatch.setattr(archives, "make_index", refuse)
    assert client.get(url + "small.txt").data == SMALL
    other_worker = create_app({"KDR_REGISTRY": str(registry_path)}).test_client()
    assert other_worker.get(url + "large.bin").data == LARGE
    monkeypatch.undo()
    # Somebody has cleaned up: it is made again.
    index_path(ManifestStore(registry_path), os.fsencode(path)).unlink()
    third = create_app({"KDR_REGISTRY": str(registry_path)}).test_client()
    assert third.get(url + "large.bin").data == LARGE


def test_an_index_that_cannot_be_written_is_a_503(
    app: Flask, client: FlaskClient, url: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archives, "make_index", fail)
    path.write_bytes(make_zip([*MEMBERS, ("new", b"", STORED)]))
    answer = client.get(url + "new")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")


def test_small_members_are_kept_and_read_again_when_the_archive_changes(
    client: FlaskClient, url: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = url + "small-packed.txt"
    assert client.get(name).data == SMALL
    assert gzip.decompress(client.get(name, headers={"Accept-Encoding": "gzip"}).data) == SMALL
    with monkeypatch.context() as patch:
        patch.setattr("kdr_wsgi.members.ArchiveMember._read_packed", lambda _: pytest.fail("it is read again"))
        assert client.get(name).data == SMALL
        assert gzip.decompress(client.get(name, headers={"Accept-Encoding": "gzip"}).data) == SMALL
    path.write_bytes(make_zip([("small-packed.txt", b"other", DEFLATED)]))
    make_settled(path)
    assert client.get(name).data == b"other"


def test_a_text_that_is_stored_is_compressed_here(client: FlaskClient, publish: Callable[[bytes], str]) -> None:
    text = b"some words " * 20_000
    url = publish(make_zip([("small.csv", SMALL * 3, STORED), ("large.csv", text, STORED)]))
    for name, body in (("small.csv", SMALL * 3), ("large.csv", text)):
        answer = client.get(url + name, headers={"Accept-Encoding": "gzip"})
        assert answer.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(answer.data) == body


def test_a_wtml_is_made_of_a_relative_one_in_an_archive(client: FlaskClient, publish: Callable[[bytes], str]) -> None:
    relative = b'<Folder Name="f"><ImageSet Url="{1}.png"/></Folder>'
    url = publish(make_zip([("a_rel.wtml", relative, DEFLATED), ("b_rel.wtml", relative, STORED)]))
    for name in ("a.wtml", "b.wtml"):
        assert f"http://localhost{url}{{1}}.png" in client.get(url + name).text


def test_headers_of_the_registration_are_those_of_its_members(
    client: FlaskClient, hub: JupyterRelayHub, path: Path
) -> None:
    path.write_bytes(make_zip(MEMBERS))
    make_settled(path)
    url = hub.serve_tree(path, visibility="public", headers={"Content-Encoding": "x-own"})
    answer = client.get(url + "large-packed.bin", headers={"Accept-Encoding": "gzip"})
    # Whoever says what the bytes are gets them as they are.
    assert (answer.headers["Content-Encoding"], answer.data) == ("x-own", LARGE)


def test_no_descriptor_is_left_open(client: FlaskClient, url: str) -> None:
    def ask_all() -> None:
        for name in BODIES:
            for headers in ({}, {"Range": "bytes=1-2"}, {"Accept-Encoding": "gzip"}, {"If-Match": '"x"'}):
                with client.get(url + name, headers=headers) as answer:
                    assert answer.data
                client.head(url + name, headers=headers).close()

    ask_all()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        ask_all()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_one_index_is_made_at_a_time(
    registry_path: Path, url: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    made: list[float] = []
    make = hub_archives.make_index

    def make_slowly(*arguments: object) -> hub_archives.ArchiveIndex:
        made.append(time.monotonic())
        time.sleep(0.3)
        return make(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(archives, "make_index", make_slowly)
    path.write_bytes(make_zip([*MEMBERS, ("new", b"1", STORED)]))
    make_settled(path)
    workers = [create_app({"KDR_REGISTRY": str(registry_path)}) for _ in range(2)]
    bodies: list[bytes] = []
    threads = [
        threading.Thread(target=lambda app=app: bodies.append(app.test_client().get(url + "new").data))
        for app in workers * 3
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (bodies, len(made)) == ([b"1"] * 6, 1)


def test_who_waits_too_long_for_an_index_is_told_to_come_again(
    client: FlaskClient, url: str, path: Path, registry_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "_PATIENCE_SECONDS", 0.1)
    path.write_bytes(make_zip([*MEMBERS, ("new", b"1", STORED)]))
    make_settled(path)
    with archives._alone(ManifestStore(registry_path), os.fsencode(path)):
        answer = client.get(url + "new")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    assert client.get(url + "new").data == b"1"


def test_a_name_that_leads_outside_leads_nowhere(
    client: FlaskClient, publish: Callable[[bytes], str], tmp_path: Path
) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    url = publish(renamed(make_zip([("qqqsecret", b"bad", STORED)]), "qqqsecret", b"../secret"))
    for name in ("../secret", "%2e%2e/secret", "..%2fsecret"):
        assert client.get(url + name, environ_overrides={"RAW_URI": url + name}).status_code == 404


def test_packed_bytes_beyond_what_is_said_are_not_read_into_memory(
    client: FlaskClient, publish: Callable[[bytes], str]
) -> None:
    """A member that says that it is small, and takes much of the archive."""
    archive = make_zip([("a", LARGE, DEFLATED)])
    assert changed(archive, entry_of(archive, "a"), PACKED_BYTES, 10) != archive
    url = publish(changed(archive, entry_of(archive, "a"), SIZE_BYTES, 10))
    with pytest.raises(ConnectionAbortedError):
        client.get(url + "a")
