"""What a URL has led to before changes no answer."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub import JupyterRelayHub
from kdr_wsgi import create_app, shortcuts
from kdr_wsgi.hosts import HostCheck
from kdr_wsgi.relay import FileRelay

ENTRIES = (
    "tile.png",
    "page.html",
    "page.html?x=%2F",
    "t%69le.png",
    "table.json",
    "large.bin",
    "empty",
    "",
    "sub/",
    "sub",
)
NOW = "Sun, 01 Jan 2040 00:00:00 GMT"


@pytest.fixture
def app(registry_path: Path) -> Iterator[Flask]:
    app = create_app({"KDR_REGISTRY": str(registry_path)})
    yield app
    app.extensions["kdr"].close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def urls(hub: JupyterRelayHub, tree: Path) -> list[str]:
    """The same tree under a path key and under a content key, its files older than a clock's tick."""
    (tree / "sub").mkdir()
    for name, body in {
        "tile.png": b"png" * 100,
        "page.html": b"<p>page</p>" * 200,
        "table.json": b'{"a": 1}' * 300,
        "large.bin": bytes(range(256)) * 1000,
        "empty": b"",
        "sub/index.html": b"<p>index</p>",
    }.items():
        (tree / name).write_bytes(body)
    time.sleep(0.02)
    return [hub.serve_tree(tree, visibility="public"), hub.serve_tree(tree, visibility="public", content=True)]


def answer_of(app: Flask, url: str, method: str, headers: dict[str, str]) -> tuple[int, list[tuple[str, str]], bytes]:
    with app.test_client().open(url, method=method, headers=headers) as answer:
        return answer.status_code, sorted(answer.headers), answer.data


def relay_of(app: Flask) -> FileRelay:
    assert isinstance(app.wsgi_app, HostCheck)
    assert isinstance(app.wsgi_app.app, FileRelay)
    return app.wsgi_app.app


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(data=st.data())
def test_the_second_answer_is_the_first(app: Flask, urls: list[str], data: st.DataObject) -> None:
    url = data.draw(st.sampled_from(urls)) + data.draw(st.sampled_from(ENTRIES))
    plain = dict(answer_of(app, url, "HEAD", {})[1])
    etag, modified = plain.get("ETag", '"none"'), plain.get("Last-Modified", NOW)
    tags = st.sampled_from([etag, f"W/{etag}", '"other"', "*", f'"other", {etag}'])
    dates = st.sampled_from([modified, NOW, "Thu, 01 Jan 1970 00:00:00 GMT", "no date"])
    headers = data.draw(
        st.fixed_dictionaries(
            {},
            optional={
                "If-None-Match": tags,
                "If-Match": tags,
                "If-Modified-Since": dates,
                "If-Unmodified-Since": dates,
                "If-Range": st.one_of(tags, dates),
                "Range": st.sampled_from(["bytes=0-9", "bytes=-5", "bytes=0-1,5-6", "bytes=9999999-", "lines=1-2"]),
                "Accept-Encoding": st.sampled_from(["gzip", "br, gzip;q=0.5", "identity;q=0, *"]),
            },
        )
    )
    method = data.draw(st.sampled_from(["GET", "HEAD", "OPTIONS", "POST"]))
    relay_of(app)._shortcuts = shortcuts.Shortcuts()
    first = answer_of(app, url, method, headers)
    answer_of(app, url, "GET", {})  # Whatever was asked for, the path is known from here on.
    second = answer_of(app, url, method, headers)
    if "multipart/byteranges" in str(first[1]):
        assert (second[0], len(second[2])) == (first[0], len(first[2]))  # The boundary is another one each time.
    else:
        assert second == first


def known_paths(app: Flask) -> set[str]:
    return set(relay_of(app)._shortcuts._by_path)


def test_small_files_and_promises_have_a_short_way(app: Flask, urls: list[str]) -> None:
    for url in urls:
        for entry in ENTRIES:
            answer_of(app, url + entry, "GET", {})
    ways = {path.rpartition("/")[2] for path in known_paths(app)}
    assert ways == {"tile.png", "page.html", "table.json", "large.bin", "empty", ""}
    assert urls[0] + "large.bin" not in known_paths(app)


@pytest.mark.parametrize("entry", ["tile.png", "table.json", "sub/"])
def test_what_has_changed_is_answered_as_it_is_now(
    client: FlaskClient, hub: JupyterRelayHub, urls: list[str], tree: Path, entry: str
) -> None:
    url = urls[0] + entry
    file = tree / (f"{entry}index.html" if entry.endswith("/") else entry)
    before = client.get(url)
    file.write_bytes(b"new")
    after = client.get(url)
    assert (after.data, after.headers["ETag"] != before.headers["ETag"]) == (b"new", True)
    assert client.get(url, headers={"If-None-Match": before.headers["ETag"]}).status_code == 200
    replacement = tree / "replacement"
    replacement.write_bytes(b"nex")
    os.utime(replacement, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    replacement.rename(file)
    assert client.get(url).data == b"nex"
    file.unlink()
    gone = client.get(url)
    if entry == "sub/":
        assert (gone.status_code, b"Index of" in gone.data or b"<title>" in gone.data) == (200, True)
    else:
        assert gone.status_code == 404
    file.write_bytes(b"back")
    assert client.get(url).data == b"back"


def test_what_is_registered_otherwise_is_answered_so_from_then_on(
    client: FlaskClient, hub: JupyterRelayHub, urls: list[str], tree: Path
) -> None:
    page = urls[0] + "page.html"
    assert "sandbox" in client.get(page).headers["Content-Security-Policy"]
    old = client.get(page).headers["ETag"]
    hub.serve_tree(tree, visibility="public", headers={"X-Own": "1"})
    answer = client.get(page, headers={"If-None-Match": old})
    assert (answer.status_code, answer.headers["X-Own"]) == (200, "1")
    hub.serve_tree(tree)  # Private: none of a stranger's business.
    assert client.get(page).status_code == 404


@pytest.mark.parametrize("content", [False, True])
def test_what_is_revoked_has_no_short_way(
    client: FlaskClient, hub: JupyterRelayHub, urls: list[str], tree: Path, content: bool
) -> None:
    published = hub.serve_tree(tree, visibility="public", content=content)
    assert client.get(published + "tile.png").status_code == 200
    assert published.revoke()
    assert client.get(published + "tile.png").status_code == 404


def test_a_registration_that_has_ended_has_no_short_way(client: FlaskClient, hub: JupyterRelayHub, tree: Path) -> None:
    (tree / "a").write_bytes(b"a")
    time.sleep(0.02)
    url = hub.serve_tree(tree, visibility="public", ttl=1.0) + "a"
    assert client.get(url).status_code == 200
    time.sleep(1.1)
    assert client.get(url).status_code == 404


def test_a_name_with_an_escape_is_not_taken_for_one_that_looks_like_it(
    client: FlaskClient, hub: JupyterRelayHub, tree: Path
) -> None:
    below, other = tree / "below" / "b", tree / "other"
    below.mkdir(parents=True)
    other.mkdir()
    (below / "c").write_bytes(b"b/c of the key a")
    (other / "c").write_bytes(b"c of the key a/b")
    time.sleep(0.02)
    hub.serve_tree(below.parent, key="a", visibility="public")
    hub.serve_tree(other, key="a/b", visibility="public")
    for _ in range(2):
        for target, body in (("/wwtkdr/a/b/c", b"b/c of the key a"), ("/wwtkdr/a%2Fb/c", b"c of the key a/b")):
            assert client.get(target, environ_overrides={"RAW_URI": target}).data == body


def test_spellings_of_a_name_do_not_fill_the_memory(
    app: Flask, client: FlaskClient, urls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shortcuts, "CAPACITY", 8)
    for count in range(1, 30):
        assert client.get(urls[0] + "./" * count + "tile.png").status_code == 200
        assert len(known_paths(app)) <= 8
    long_path = urls[0] + "./" * shortcuts.MAX_CHARACTERS + "tile.png"
    assert client.get(long_path).status_code == 200
    assert long_path not in known_paths(app)


def test_a_key_that_another_folder_has_taken_over_leads_there(
    client: FlaskClient, hub: JupyterRelayHub, tree: Path
) -> None:
    for folder in ("old", "new"):
        (tree / folder).mkdir()
        (tree / folder / "a").write_bytes(folder.encode())
    time.sleep(0.02)
    for folder in ("old", "new"):
        url = hub.serve_tree(tree / folder, "mine", visibility="public") + "a"
        for _ in range(2):
            assert client.get(url).data == folder.encode()
