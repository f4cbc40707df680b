"""Which answers nginx is to send, and what it is told; `tests/e2e/test_nginx.py` has what it makes of that."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
from flask.testing import FlaskClient
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hub import InvalidOption, JupyterRelayHub
from hub.registration import Registration, check_headers
from kdr_wsgi import create_app
from kdr_wsgi.acceleration import _RENAMED, RESTORED, Acceleration
from kdr_wsgi.answers import Answer
from kdr_wsgi.catalog import Publication
from kdr_wsgi.files import OpenFile
from kdr_wsgi.media_types import find_media_type
from kdr_wsgi.proxies import TrustedProxies
from kdr_wsgi.settings import SettingError, read_settings

EXAMPLE = Path(__file__).parents[2] / "examples" / "nginx.conf"
PREFIX = "/_kdr_files"
OFFER = {"KDR-Accel": PREFIX}
SETTINGS = {"KDR_NGINX_ACCEL": PREFIX, "KDR_TRUSTED_PROXIES": "127.0.0.1"}
SIZE = 300_000

Start = Callable[..., FlaskClient]


@pytest.fixture(autouse=True)
def _old_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the files of this moment for files that have been left alone."""
    monkeypatch.setattr("kdr_wsgi.acceleration.LEFT_ALONE_NS", 0)


@pytest.fixture
def start(registry_path: Path) -> Iterator[Start]:
    apps = []

    def start(**changed: str) -> FlaskClient:
        apps.append(create_app({"KDR_REGISTRY": str(registry_path), **SETTINGS, **changed}))
        return apps[-1].test_client()

    yield start
    for app in apps:
        app.extensions["kdr"].close()


@pytest.fixture
def large(tree: Path) -> Path:
    path = tree / "large.bin"
    path.write_bytes(bytes(SIZE))
    return path


def publish(hub: JupyterRelayHub, path: Path, *, content: bool = False, headers: dict[str, str] | None = None) -> str:
    return hub.serve_tree(path.parent, visibility="public", content=content, headers=headers) + path.name


def order(client: FlaskClient, url: str, headers: dict[str, str] | None = None) -> str | None:
    """Return what nginx is told to send; None: it is told nothing, and gets the body, or an error."""
    with client.get(url, headers={**OFFER, **(headers or {})}) as answer:
        told, body = answer.headers.get("X-Accel-Redirect"), answer.data
        assert (told is None) == ("KDR-Size" not in answer.headers)
        assert told is None or (body == b"" and answer.headers["KDR-Size"] == str(SIZE))
        return told


def test_a_large_file_is_handed_over(start: Start, hub: JupyterRelayHub, large: Path) -> None:
    client, url = start(), publish(hub, large)
    assert order(client, url) == f"{PREFIX}{large}"
    assert order(client, url, {"Range": "bytes=0-299990"}) == f"{PREFIX}{large}"
    assert order(start(KDR_NGINX_ACCEL=PREFIX + "/"), url) == f"{PREFIX}{large}"


@pytest.mark.parametrize("changed", [{"KDR_NGINX_ACCEL": ""}, {"KDR_TRUSTED_PROXIES": "10.0.0.1, unix"}])
def test_nobody_is_told_a_path_but_nginx(
    start: Start, hub: JupyterRelayHub, large: Path, changed: dict[str, str]
) -> None:
    url = publish(hub, large)
    assert order(start(**changed), url) is None
    assert order(start(), url, {"KDR-Accel": ""}) is None
    assert order(start(), url, {"KDR-Accel": "/other"}) is None


def test_a_unix_socket_may_be_nginx(start: Start, hub: JupyterRelayHub, large: Path) -> None:
    client, url = start(KDR_TRUSTED_PROXIES="unix"), publish(hub, large)
    answer = client.get(url, headers=OFFER, environ_overrides={"REMOTE_ADDR": ""})
    assert answer.headers["X-Accel-Redirect"] == f"{PREFIX}{large}"


@pytest.mark.parametrize(
    ("headers", "is_handed_over"),
    [
        ({"Range": "bytes=0-"}, True),
        ({"Range": "bytes=5-299000"}, True),
        ({"Range": "bytes=-290000"}, True),
        ({"Range": "bytes=-999999"}, True),
        ({"Range": "bytes=0-9999999"}, True),
        ({"Range": f"bytes=0-{'9' * 19}"}, False),
        ({"Range": "bytes = 0-290000"}, False),
        ({"Range": "bytes=0-290000,"}, False),
        ({"Range": "BYTES=0-290000"}, False),
        ({"Range": "bytes=0-140000,150000-299999"}, False),
        ({"Range": "bytes=x"}, False),
        ({"Range": "lines=0-1"}, False),
        ({"Range": "bytes=300000-"}, False),
        ({"Range": "bytes=0-290000", "If-Range": "@"}, True),
        ({"Range": "bytes=0-290000", "If-Range": "DATE"}, True),
        ({"Range": "bytes=0-290000", "If-Range": '"other"'}, False),
        ({"Range": "bytes=0-290000", "If-Range": "W/@"}, False),
        ({"Range": "bytes=0-290000", "If-Range": "Thu, 01 Jan 1970 00:00:00 GMT"}, False),
        ({"If-Range": '"other"'}, True),
        ({"If-None-Match": "@"}, False),
        ({"If-None-Match": '"other"'}, True),
        ({"If-Modified-Since": "DATE"}, False),
        ({"If-Modified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"}, True),
        ({"If-Match": "@"}, False),
        ({"If-Match": '"other"'}, False),
        ({"If-Unmodified-Since": "DATE"}, False),
    ],
)
def test_what_nginx_might_judge_otherwise_is_kept(
    start: Start, hub: JupyterRelayHub, large: Path, headers: dict[str, str], is_handed_over: bool
) -> None:
    os.utime(large, (1_700_000_000, 1_700_000_000))
    client, url = start(), publish(hub, large)
    known = client.head(url).headers
    asked = {
        name: value.replace("@", known["ETag"]).replace("DATE", known["Last-Modified"])
        for name, value in headers.items()
    }
    assert (order(client, url, asked) is not None) is is_handed_over


def test_content_keys_and_small_files_are_kept(start: Start, hub: JupyterRelayHub, large: Path, tree: Path) -> None:
    (tree / "small").write_bytes(b"x" * 65_536)
    client = start()
    assert order(client, publish(hub, large, content=True)) is None
    assert order(client, publish(hub, tree / "small")) is None
    assert order(client, publish(hub, large) + "/nothing") is None
    assert "X-Accel-Redirect" not in client.head(publish(hub, large), headers=OFFER).headers


def test_a_file_of_this_moment_is_kept(
    start: Start, hub: JupyterRelayHub, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, url = start(), publish(hub, large)
    monkeypatch.undo()
    monkeypatch.setattr("kdr_wsgi.acceleration.LEFT_ALONE_NS", 60_000_000_000)
    assert order(client, url) is None


@pytest.mark.parametrize("modified_seconds", [-5.0, 0.0, 4_000_000_000.0])
def test_a_date_that_nginx_cannot_compare_is_kept(
    start: Start, hub: JupyterRelayHub, large: Path, modified_seconds: float
) -> None:
    os.utime(large, (modified_seconds, modified_seconds))
    assert order(start(), publish(hub, large)) is None


@pytest.mark.parametrize(
    ("headers", "is_handed_over"),
    [
        ({"Content-Disposition": "attachment", "Cache-Control": "no-store"}, True),
        ({"Content-Encoding": "gzip", "Content-Language": "de", "Vary": "Accept"}, True),
        ({"X-Own": "1"}, False),
        ({"Expires": "0"}, False),
        ({"Link": "<a>; rel=next"}, False),
        ({"Content-Disposition": "x" * 1800}, True),
        ({"Content-Language": "x" * 2000}, False),
    ],
)
def test_headers_that_nginx_would_lose_are_kept(
    start: Start, hub: JupyterRelayHub, large: Path, headers: dict[str, str], is_handed_over: bool
) -> None:
    for _ in range(6 if "Content-Language" in headers and not is_handed_over else 0):
        (large.parent / ("d" * 250)).mkdir()
        large = large.rename(large.parent / ("d" * 250) / large.name)
    assert (order(start(), publish(hub, large, headers=headers)) is not None) is is_handed_over


def test_a_file_beside_with_a_coding_is_handed_over_itself(start: Start, hub: JupyterRelayHub, tree: Path) -> None:
    (tree / "a.json").write_bytes(b" " * 5_000_000)
    (tree / "a.json.gz").write_bytes(bytes(SIZE))
    answer = start().get(publish(hub, tree / "a.json"), headers={**OFFER, "Accept-Encoding": "gzip"})
    assert answer.headers["X-Accel-Redirect"] == f"{PREFIX}{tree}/a.json.gz"
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Content-Encoding"] == "gzip"


def hand_over(path: bytes, change: Callable[[], object] = lambda: None) -> Answer | None:
    file = OpenFile(os.open(path, os.O_RDONLY), find_media_type(path))
    with file:
        change()
        asked = {"HTTP_KDR_ACCEL": PREFIX, "REMOTE_ADDR": "127.0.0.1"}
        return Acceleration(PREFIX, TrustedProxies("127.0.0.1")).hand_over(asked, file, [], None)


@given(st.lists(st.binary(min_size=1, max_size=80), min_size=1, max_size=4))
@example([b"a?b", b"%2e%2e", b"x#y", b"new\nline\r\nX-Accel-Redirect: "])
@example([b"m\xfcll\xff", b" ", b"a (deleted)", b"...", b"\\..\\"])
@settings(max_examples=150)
def test_any_path_arrives_byte_by_byte(names: list[bytes]) -> None:
    names = [name.replace(b"/", b"_").replace(b"\0", b"_") for name in names]
    names = [name + b"_" if name in (b".", b"..") else name for name in names]
    top = tempfile.mkdtemp().encode()
    try:
        path = os.path.join(top, *names)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as stream:
            stream.write(b"x")
        answer = hand_over(path)
        assert answer is not None
        told = dict(answer.headers)["X-Accel-Redirect"]
        assert re.fullmatch(r"/_kdr_files(/([0-9A-Za-z_.~-]|%[0-9A-F]{2})+)+", told)
        assert unquote_to_bytes(told.removeprefix(PREFIX)) == os.path.realpath(path)
    finally:
        shutil.rmtree(top)


def test_a_file_that_is_not_there_any_more_is_kept(tmp_path: Path) -> None:
    path, other = tmp_path / "a", tmp_path / "b"

    def write() -> None:
        path.write_bytes(b"x")
        other.write_bytes(b"x")

    def remove_with_another_of_the_name_that_is_told() -> None:
        path.unlink()
        other.rename(tmp_path / "a (deleted)")

    def append() -> None:
        with path.open("ab") as stream:
            stream.write(b"x")

    write()
    assert hand_over(os.fsencode(path)) is not None
    for change in (path.unlink, lambda: other.rename(path), remove_with_another_of_the_name_that_is_told, append):
        write()
        assert hand_over(os.fsencode(path), change) is None
    write()
    path.rename(tmp_path / "c")
    path.symlink_to("c")
    answer = hand_over(os.fsencode(path))
    assert answer is not None
    assert dict(answer.headers)["X-Accel-Redirect"] == f"{PREFIX}{tmp_path}/c"


def test_the_example_restores_what_is_said_to_be_restored() -> None:
    restored: dict[str, str] = dict(re.findall(r"^ +add_header ([\w-]+) \$(\w+);$", EXAMPLE.read_text(), re.MULTILINE))
    assert {name.lower() for name in restored} == RESTORED
    for name, variable in restored.items():
        sent = _RENAMED.get(name.lower(), name).lower().replace("-", "_")
        assert variable in (f"upstream_http_{sent}", "kdr_etag", "kdr_modified")
    assert f"location ^~ {PREFIX}/ {{\n            internal;" in EXAMPLE.read_text()


@pytest.mark.parametrize(
    "name", ["X-Accel-Redirect", "x-accel-buffering", "X-ACCEL-ANYTHING", "X-Sendfile", "X-Sendfile2", "KDR-Size"]
)
def test_a_registration_gives_no_orders_to_servers_in_front(name: str) -> None:
    for trusted in (False, True):
        with pytest.raises(InvalidOption, match="speaks to the servers in front"):
            check_headers({name: "/_kdr_files/etc/passwd"}, trusted=trusted)
    # As a registry of an older version may have it.
    old = Registration("k", "tree", b"/data", trusted=True, headers=((name, "/_kdr_files/etc/passwd"), ("X-Own", "1")))
    publication = Publication.prepare(old, has_login=True)
    for headers in (publication.headers, publication.immutable_headers):
        assert name not in dict(headers)
        assert dict(headers)["X-Own"] == "1"


@pytest.mark.parametrize(
    "value",
    ["_kdr_files", "/", "//a", "/a//b", "/a/../b", "/a b", "/a;b", "/a%41", "/a?b", "/a.b", "/a\nb", "/ä", "/a\n"],
)
def test_a_prefix_is_plain(value: str) -> None:
    with pytest.raises(SettingError, match=r"KDR_NGINX_ACCEL cannot be used: .* is no path of letters"):
        read_settings({**SETTINGS, "KDR_NGINX_ACCEL": value})


def test_nginx_must_be_named_and_jupyter_is_not_nginx() -> None:
    with pytest.raises(SettingError, match="KDR_TRUSTED_PROXIES must say where nginx is"):
        read_settings({"KDR_NGINX_ACCEL": PREFIX, "KDR_TRUSTED_PROXIES": " , "})
    assert read_settings({**SETTINGS, "KDR_BEHIND_RELAY": "1"}).nginx_prefix == ""
    assert read_settings({**SETTINGS, "KDR_NGINX_ACCEL": "/a/b-c/"}).nginx_prefix == "/a/b-c"
