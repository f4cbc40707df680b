"""Objects of Azure's and of Google's store: what their answers look like makes no difference to who reads."""

from __future__ import annotations

import json
import os
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from hub import UnusableURL
from tests.conftest import LiveServer, live_server
from tests.other_stores import OTHER_STORES, OtherStore
from tests.raw_http import Answer, fetch
from tests.stores import write_rules

LARGE = os.urandom(5_000_000)
SMALL = b"small " * 100
FILES = {"large.bin": LARGE, "0.png": SMALL, "a/ü x.txt": SMALL, "a-b": SMALL, "empty": b""}


@pytest.fixture(scope="module", params=[*OTHER_STORES])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OtherStore]:
    with OTHER_STORES[request.param](tmp_path_factory.mktemp("store")) as store:
        for name, body in FILES.items():
            store.put(f"tiles/{name}", body)
        yield store


@pytest.fixture
def server(store: OtherStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveServer]:
    rules = write_rules(tmp_path / "stores.json", {"prefix": store.prefix, "options": store.options})
    monkeypatch.setenv("KDR_STORES", str(rules))
    with live_server(tmp_path, "kdr_wsgi.serving.WatchfulWorker") as running:
        yield running


def get(server: LiveServer, url: str, method: str = "GET", **headers: str) -> Answer:
    return fetch(server.address, url, {name.replace("_", "-"): value for name, value in headers.items()}, method)


def test_objects_are_read_as_files_are(server: LiveServer, store: OtherStore) -> None:
    url = server.hub.serve_tree(f"{store.prefix}tiles/", visibility="public")
    for name, body in FILES.items():
        path = url + quote(name)
        whole = get(server, path)
        assert (whole.status, whole.body) == (200, body)
        assert get(server, path, If_None_Match=whole["ETag"]).status == 304
        assert get(server, path, If_Modified_Since=whole["Last-Modified"]).status == 304
        assert get(server, path, If_Match='"another"').status == 412
        assert (get(server, path, "HEAD")["Content-Length"], whole["ETag"][:1]) == (str(len(body)), '"')
        if body:
            assert get(server, path, Range="bytes=10-99").body == body[10:100]
            assert get(server, path, Range="bytes=-7").body == body[-7:]
            assert get(server, path, Range=f"bytes={len(body)}-").status == 416
    assert get(server, url + "absent").status == 404
    assert get(server, url + "a").status == 308
    listed = json.loads(get(server, url + "?format=json").body)["entries"]
    assert [(each["name"], each["size"]) for each in listed] == [
        ("0.png", 600),
        ("a-b", 600),
        ("a", None),
        ("empty", 0),
        ("large.bin", len(LARGE)),
    ]


def test_a_file_of_the_store_is_read(server: LiveServer, store: OtherStore) -> None:
    url = server.hub.serve_file(f"{store.prefix}tiles/large.bin", ".fits", visibility="public")
    answer = get(server, url)
    assert (answer.body, answer["Content-Type"]) == (LARGE, "image/fits")


def test_a_change_shows_and_a_content_key_is_410_then(server: LiveServer, store: OtherStore) -> None:
    store.put("changing/a.bin", LARGE)
    store.put("changing/b.bin", SMALL)
    by_path = server.hub.serve_tree(f"{store.prefix}changing/", visibility="public")
    by_content = server.hub.serve_tree(f"{store.prefix}changing/", content=True, visibility="public")
    for url in (by_path, by_content):
        assert get(server, url + "a.bin").body == LARGE
    store.put("changing/a.bin", LARGE[::-1])
    store.put("changing/b.bin", SMALL[::-1])
    assert [get(server, by_content + name).status for name in ("a.bin", "b.bin")] == [410, 410]
    time.sleep(1.1)
    assert get(server, by_path + "a.bin").body == LARGE[::-1]
    again = server.hub.serve_tree(f"{store.prefix}changing/", content=True, visibility="public")
    assert again != by_content
    assert get(server, again + "b.bin").body == SMALL[::-1]


def test_a_store_that_is_not_the_rules_is_not_asked(server: LiveServer, store: OtherStore) -> None:
    elsewhere = store.prefix.replace("survey", "elsewhere")
    url = server.hub.serve_tree(elsewhere, visibility="public")
    assert get(server, url + "0.png").status == 404
    with pytest.raises(UnusableURL, match="lies below these prefixes"):
        server.hub.serve_tree(elsewhere, content=True)


@pytest.mark.parametrize("store", ["azure"], indirect=True)
def test_browsers_are_sent_to_azure_with_an_address_that_is_signed(
    store: OtherStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = {"prefix": store.prefix, "options": store.options, "redirect": True}
    monkeypatch.setenv("KDR_STORES", str(write_rules(tmp_path / "stores.json", rule)))
    with live_server(tmp_path, "gunicorn") as server:
        url = server.hub.serve_tree(f"{store.prefix}tiles/", visibility="public")
        answer = get(server, url + "0.png")
        assert answer.status == 307
        with urllib.request.urlopen(answer["Location"], timeout=20) as found:
            assert found.read() == SMALL


@pytest.mark.parametrize("store", ["azure"], indirect=True)
def test_credentials_that_azure_refuses_are_502_and_stay_here(
    store: OtherStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**store.options, "account_key": "d3Jvbmc="}
    rules = write_rules(tmp_path / "stores.json", {"prefix": store.prefix, "options": options})
    monkeypatch.setenv("KDR_STORES", str(rules))
    with live_server(tmp_path, "gunicorn") as server:
        answer = get(server, server.hub.serve_tree(f"{store.prefix}tiles/", visibility="public") + "0.png")
        assert answer.status == 502
        assert b"d3Jvbmc" not in answer.body
