"""Folders of objects in a real store, some with more than anybody wants in memory."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest

from kdr_wsgi.objects import stores
from kdr_wsgi.objects.folders import FolderOfObjects
from kdr_wsgi.objects.rules import StoreRule
from tests.conftest import LiveServer, live_server
from tests.raw_http import fetch
from tests.stores import write_rules
from tests.swift import Swift

FLAT = 10_050


def register(swift: Swift, bucket: str, names: list[str]) -> None:
    """Tell Swift's container server of objects, as its object servers do: of 10,000 in seconds."""
    partition = swift.database_of(bucket).parents[2].name
    connection = http.client.HTTPConnection("127.0.0.1", swift.ports["container"])
    for name in names:
        headers = {
            "X-Timestamp": f"{time.time():.5f}",
            "X-Size": "1",
            "X-Content-Type": "image/png",
            "X-Etag": "c4ca4238a0b923820dcc509a6f75849b",
            "X-Backend-Storage-Policy-Index": "0",
        }
        connection.request("PUT", f"/d1/{partition}/AUTH_test/{bucket}/{name}", headers=headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 201
    connection.close()


@pytest.fixture(scope="module")
def bucket(swift: Swift) -> Any:
    bucket = swift.make_bucket("listing")
    names = [f"flat/{number:05}.png" for number in range(FLAT)]
    names += [f"deep/{folder:02}/{number:04}.png" for folder in range(3) for number in range(1100)]
    names += ["deep/00.png", "deep/02a.png", "deep/zarr.json"]
    register(swift, "listing", names)
    obstore.put(bucket, "small/b.png", b"1")
    obstore.put(bucket, "small/a/x", b"1")
    obstore.put(bucket, "small/a/y/z", b"1")
    obstore.put(bucket, "small/ü%20.txt", b"1")
    obstore.put(bucket, "small/index_rel.wtml", b"1")
    return bucket


@pytest.fixture(scope="module")
def server(swift: Swift, bucket: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("server")
    rules = write_rules(folder / "stores.json", {"prefix": "s3://listing/", "options": swift.options})
    with live_server(folder, "gunicorn", environment={"KDR_STORES": str(rules)}) as running:
        yield running


@pytest.fixture
def folder(
    swift: Swift, bucket: Any, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> FolderOfObjects:
    """One that is read in pages, since the store does not give all of it in a moment."""
    monkeypatch.setattr(stores, "DELIMITED_SECONDS", 0.0)
    return FolderOfObjects(stores.Store(StoreRule("s3://listing", swift.options), "listing"), request.param)


def test_a_page_and_json_tell_what_is_in_a_folder(server: LiveServer) -> None:
    url = server.hub.serve_tree("s3://listing/small/", visibility="public")
    page = fetch(server.address, url).body.decode()
    for href in ("./a/", "./b.png", "./%C3%BC%2520.txt", "./index.wtml"):
        assert f'href="{href}"' in page
    told = json.loads(fetch(server.address, url + "?format=json").body)
    assert [(entry["name"], entry["size"]) for entry in told["entries"]] == [
        ("a", None),
        ("b.png", 1),
        ("index_rel.wtml", 1),
        ("ü%20.txt", 1),
    ]
    assert fetch(server.address, url, method="HEAD").status == 200
    assert fetch(server.address, url + "nothing/").status == 404
    assert fetch(server.address, url + "a").status == 308


def test_the_json_of_a_large_folder_has_all_of_it_in_order(server: LiveServer) -> None:
    url = server.hub.serve_tree("s3://listing/", visibility="public")
    answer = fetch(server.address, url + "flat/?format=json")
    names = [entry["name"] for entry in json.loads(answer.body)["entries"]]
    assert names == [f"{number:05}.png" for number in range(FLAT)]
    top = json.loads(fetch(server.address, url + "?format=json").body)
    assert [entry["name"] for entry in top["entries"]] == ["deep", "flat", "small"]


def test_pages_of_a_large_folder_follow_each_other(server: LiveServer) -> None:
    url = server.hub.serve_tree("s3://listing/flat/", visibility="public")
    first = fetch(server.address, url).body.decode()
    assert 'href="./00299.png"' in first
    assert 'href="./00300.png"' not in first
    second = fetch(server.address, url + "?after=00299.png").body.decode()
    assert 'href="./00299.png"' not in second
    assert 'href="./00300.png"' in second
    last = fetch(server.address, url + "?after=09999.png").body.decode()
    assert 'href="./10049.png"' in last


@pytest.mark.parametrize("folder", ["flat/"], indirect=True)
def test_a_folder_is_read_in_pages(folder: FolderOfObjects) -> None:
    after, names = b"", []
    while True:
        page = folder.find_page(after, 1000)
        names += [child.name for child in page.children]
        if page.next is None:
            break
        after = page.next
    assert names == [f"{number:05}.png".encode() for number in range(FLAT)]


@pytest.mark.parametrize("folder", ["flat/"], indirect=True)
def test_who_turns_pages_waits_once_for_what_does_not_come_at_once(
    folder: FolderOfObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert folder.find_page(b"", 10).total is None
    # The whole of it would come in time now, but nobody waits for that with each page.
    monkeypatch.setattr(stores, "DELIMITED_SECONDS", 60.0)
    assert folder.find_page(b"00010.png", 10).total is None


@pytest.mark.parametrize("folder", ["deep/"], indirect=True)
def test_large_folders_in_a_folder_are_passed_over(folder: FolderOfObjects) -> None:
    expected = [b"00.png", b"00", b"01", b"02", b"02a.png", b"zarr.json"]
    page = folder.find_page(b"", 1000)
    assert [child.name for child in page.children] == expected
    assert [child.is_folder for child in page.children] == [False, True, True, True, False, False]
    assert (page.next, page.marks) == (None, ["zarr.json"])
    assert [child.name for child in folder.open()] == expected
    pages = [folder.find_page(b"", 2), folder.find_page(b"00/", 2), folder.find_page(b"02/", 2)]
    assert [[child.name for child in page.children] for page in pages] == [
        [b"00.png", b"00"],
        [b"01", b"02"],
        [b"02a.png", b"zarr.json"],
    ]
    assert [page.next for page in pages] == [b"00/", b"02/", None]


@pytest.mark.parametrize("folder", ["none/"], indirect=True)
def test_an_empty_folder_is_none(folder: FolderOfObjects) -> None:
    from kdr_wsgi.errors import NoSuchEntry

    for look in (folder.check, folder.open, lambda: folder.find_page(b"", 10)):
        with pytest.raises(NoSuchEntry):
            look()


def test_the_type_of_a_path_is_not_asked_of_the_disk(
    server: LiveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:" / "listing" / "small").mkdir(parents=True)
    (tmp_path / "s3:" / "listing" / "small" / "b.png").write_text("of this machine")
    url = server.hub.serve_tree("s3://listing/small/", visibility="public")
    assert fetch(server.address, url + "b.png").body == b"1"
