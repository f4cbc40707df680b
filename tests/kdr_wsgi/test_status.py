"""What the owner sees of what is registered, how it is ended, and that nobody else does either."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin

import pytest
from flask.testing import FlaskClient

from hub import JupyterRelayHub
from kdr_wsgi import create_app, overview, status
from kdr_wsgi.usage import UNUSED, Usage, add_usage, usage_path, write_all
from tests.conftest import LiveServer, make_settled
from tests.raw_http import fetch

STATUS = "/wwtkdr/_status"
API = "/wwtkdr/_api/registrations"

#: As gunicorn has it on a unix socket; Flask's client is at 127.0.0.1.
OVER_A_SOCKET = {"REMOTE_ADDR": ""}

BY_A_PAGE_ELSEWHERE = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "cross-site", "Origin": "https://elsewhere.example"}
IN_A_SANDBOX = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "cross-site", "Origin": "null"}
IN_A_FRAME_ELSEWHERE = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe", "Sec-Fetch-Site": "cross-site"}
BY_A_PAGE_NEXT_DOOR = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-site", "Origin": "http://localhost:8000"}
FOREIGN = [BY_A_PAGE_ELSEWHERE, IN_A_SANDBOX, IN_A_FRAME_ELSEWHERE, BY_A_PAGE_NEXT_DOOR]


@contextmanager
def served(registry: Path, **settings: str) -> Iterator[FlaskClient]:
    app = create_app({"KDR_REGISTRY": str(registry), **settings})
    with app.test_client() as client:
        yield client
    app.extensions["kdr"].close()


@pytest.fixture
def owner(registry_path: Path) -> Iterator[FlaskClient]:
    with served(registry_path, KDR_AS_OWNER="1") as client:
        yield client


def told(client: FlaskClient) -> dict[str, Any]:
    answer = client.get(f"{STATUS}?format=json")
    assert answer.status_code == 200
    assert answer.json is not None
    return dict(answer.json)


def by_key(client: FlaskClient) -> dict[str, dict[str, Any]]:
    return {each["key"]: each for each in told(client)["registrations"]}


# --- facts -----------------------------------------------------------------------------------------------------------


def test_the_owner_is_told_all_facts(owner: FlaskClient, hub: JupyterRelayHub, tree: Path) -> None:
    (tree / "a").write_bytes(b"1234567")
    (tree / "b.fits").write_bytes(b"123")
    url = hub.serve_tree(tree, visibility="users", trusted=True, ttl=1000)
    file = hub.serve_file(tree / "b.fits", visibility="public")
    assert owner.get(url + "a").data == b"1234567"
    write_all()
    facts = by_key(owner)
    first, second = facts[url.key], facts[file.key]
    assert abs(first.pop("last_access_at") - time.time()) < 60
    assert abs(first.pop("expires_at") - time.time() - 1000) < 60
    assert abs(first.pop("claimed_at") - time.time()) < 60
    assert first == {
        "key": url.key,
        "kind": "tree",
        "path": str(tree),
        "partial_url": str(url),
        "visibility": "users",
        "trusted": True,
        "content": None,
        "is_snapshot": False,
        "is_missing": False,
        "hits": 1,
        "body_bytes": 7,
    }
    assert (second["partial_url"], second["hits"], second["last_access_at"]) == (str(file), 0, None)


def test_what_is_not_there_any_more_says_so(owner: FlaskClient, hub: JupyterRelayHub, tree: Path) -> None:
    key = hub.serve_tree(tree).key
    assert not by_key(owner)[key]["is_missing"]
    shutil.rmtree(tree)
    assert by_key(owner)[key]["is_missing"]
    assert "missing on disk" in owner.get(STATUS).text


def test_counts_that_cannot_be_read_hide_nothing_else(
    owner: FlaskClient, hub: JupyterRelayHub, registry_path: Path, tree: Path
) -> None:
    key = hub.serve_tree(tree).key
    usage_path(registry_path).write_bytes(b"no database" * 1000)
    assert by_key(owner)[key]["hits"] is None
    assert "not a database" in told(owner)["trouble"]
    page = owner.get(STATUS).text
    assert "not a database" in page
    assert str(tree) in page


def test_a_registry_that_cannot_be_read_is_503(owner: FlaskClient, registry_path: Path) -> None:
    registry_path.write_bytes(b"no database" * 1000)
    for request in (owner.get(STATUS), owner.get(f"{STATUS}/size?key=a")):
        assert request.status_code == 503
        assert str(registry_path) not in request.text


def test_links_are_those_of_the_place_where_the_browser_is(
    registry_path: Path, hub: JupyterRelayHub, tree: Path
) -> None:
    hub.serve_tree(tree, "a:b/c")
    with served(registry_path, KDR_AS_OWNER="1", KDR_TRUSTED_PROXIES="127.0.0.1") as client:
        answer = client.get(f"{STATUS}?format=json", headers={"X-Forwarded-Prefix": "/behind/it"})
        assert answer.json is not None
        assert answer.json["registrations"][0]["partial_url"] == "/behind/it/wwtkdr/a%3Ab%2Fc/"
        assert 'href="./a%3Ab%2Fc/"' in client.get(STATUS).text


def test_names_cannot_write_the_page(owner: FlaskClient, hub: JupyterRelayHub, tmp_path: Path) -> None:
    hostile = tmp_path / "<script>alert(1)<" / "script>"
    hostile.mkdir(parents=True)
    hub.serve_tree(hostile, "<img src=x onerror=alert(2)>")
    odd = tmp_path / os.fsdecode(b"\xff")
    odd.mkdir()
    hub.serve_tree(odd, "odd")
    answer = owner.get(STATUS)
    assert "<script>alert" not in answer.text
    assert "<img" not in answer.text
    assert "&lt;script&gt;alert(1)" in answer.text
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["Cache-Control"] == "no-store"
    assert by_key(owner)["odd"]["path"] == str(odd)


def test_a_long_page_ends_and_says_so(
    owner: FlaskClient, hub: JupyterRelayHub, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "MAX_ROWS", 2)
    for number in range(5):
        hub.serve_tree(tree, f"key-{number}")
    text = owner.get(STATUS).text
    assert "key-4" in text
    assert "key-2" not in text
    assert "The latest 2 are shown" in text
    assert len(told(owner)["registrations"]) == 5


def test_who_has_nothing_is_told_how_to_publish(owner: FlaskClient) -> None:
    text = owner.get(STATUS).text
    assert "Nothing is published." in text
    assert "serve_tree" in text
    assert told(owner)["registrations"] == []


# --- sizes -----------------------------------------------------------------------------------------------------------


def size(client: FlaskClient, key: str) -> tuple[int | None, int | None, bool | None, str | None]:
    answer = client.get(f"{STATUS}/size", query_string={"key": key}).json
    assert answer is not None
    return answer["size_bytes"], answer["files"], answer["is_more"], answer["problem"]


def test_sizes_are_those_on_disk_and_of_content_keys_what_is_promised(
    owner: FlaskClient, hub: JupyterRelayHub, tree: Path, tmp_path: Path
) -> None:
    for number in range(5):
        folder = tree / str(number)
        folder.mkdir()
        (folder / "a").write_bytes(b"x" * 10)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "large").write_bytes(b"x" * 1000)
    (tree / "link").symlink_to(outside)
    (tree / "round").symlink_to(tree)
    os.mkfifo(tree / "fifo")
    plain = hub.serve_tree(tree)
    file = hub.serve_file(outside / "large")
    (tree / "fifo").unlink()
    (tree / "round").unlink()
    make_settled(outside / "large")
    content = hub.serve_tree(tree / "0", content=True)
    content_file = hub.serve_file(outside / "large", content=True)
    (tree / "0" / "later").write_bytes(b"x" * 77)
    assert size(owner, plain.key) == (127, 6, False, None)
    assert size(owner, file.key) == (1000, 1, False, None)
    assert size(owner, content.key) == (10, 1, False, None)
    assert size(owner, content_file.key) == (1000, 1, False, None)
    assert owner.get(f"{STATUS}/size?key=unknown").status_code == 404


@pytest.mark.parametrize(("name", "bound"), [("MAX_ENTRIES", 3), ("MAX_SECONDS", -1.0)])
def test_of_a_large_tree_as_much_is_told_as_there_is_time_for(
    owner: FlaskClient, hub: JupyterRelayHub, tree: Path, monkeypatch: pytest.MonkeyPatch, name: str, bound: float
) -> None:
    for number in range(5):
        (tree / str(number)).write_bytes(b"x")
    monkeypatch.setattr(overview, name, bound)
    size_bytes, files, is_more, _ = size(owner, hub.serve_tree(tree).key)
    assert is_more
    assert size_bytes == files
    assert files in range(5)


def test_what_can_be_shown_has_the_address_of_the_page_that_does(
    owner: FlaskClient, hub: JupyterRelayHub, tree: Path
) -> None:
    (tree / ".zgroup").touch()
    (tree / "a b.fits").touch()
    store, cube = hub.serve_tree(tree), hub.serve_file(tree / "a b.fits")
    for published, page in ((store, "zarr"), (cube, "fits")):
        told = owner.get(f"{STATUS}/size", query_string={"key": published.key}).json
        assert told is not None
        page_url, _, query = told["preview"].partition("?url=")
        assert page_url == f"/wwtkdr/_static/preview/{page}.html"
        assert urljoin(page_url, unquote(query)) == published
    assert owner.get(f"{STATUS}/size", query_string={"key": hub.serve_file(__file__).key}).json["preview"] is None  # type: ignore[index]


def test_what_has_no_size_says_why(owner: FlaskClient, hub: JupyterRelayHub, tree: Path) -> None:
    key = hub.serve_tree(tree).key
    shutil.rmtree(tree)
    assert size(owner, key) == (None, None, None, "What is published under this key has no such file.")


# --- who ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [STATUS, f"{STATUS}?format=json", f"{STATUS}/size?key=k"])
def test_to_others_nothing_is_here(registry_path: Path, hub: JupyterRelayHub, tree: Path, path: str) -> None:
    hub.serve_tree(tree, "k", visibility="public")
    with served(registry_path) as anyone:
        answer = anyone.get(path)
        nothing = anyone.get("/wwtkdr/unknown/")
        assert (answer.status_code, answer.data) == (404, nothing.data)
        assert anyone.delete(f"{API}?key=k", environ_overrides=OVER_A_SOCKET).status_code == 404


@pytest.mark.parametrize("headers", FOREIGN)
def test_a_page_of_another_origin_sees_and_ends_nothing(
    owner: FlaskClient, hub: JupyterRelayHub, tree: Path, headers: dict[str, str]
) -> None:
    """Whoever can connect to this server reads as its owner; but pages know neither keys nor paths."""
    key = hub.serve_tree(tree).key
    for path in (STATUS, f"{STATUS}?format=json", f"{STATUS}/size?key={key}"):
        assert owner.get(path, headers=headers).status_code == 404
    assert owner.delete(f"{API}?key={key}", headers=headers, environ_overrides=OVER_A_SOCKET).status_code == 404
    assert hub.registry.find(key) is not None


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"},
        {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe", "Sec-Fetch-Site": "same-origin"},
    ],
)
def test_the_owner_sees_it_by_a_program_a_window_or_the_page(owner: FlaskClient, headers: dict[str, str]) -> None:
    answer = owner.get(STATUS, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"


@pytest.mark.parametrize(
    ("viewer", "is_own_page", "code"),
    [("owner", True, 200), ("owner", False, 404), ("user", True, 404), ("anyone", True, 404)],
)
def test_behind_the_relay_its_word_counts(
    registry_path: Path, hub: JupyterRelayHub, tree: Path, viewer: str, is_own_page: bool, code: int
) -> None:
    hub.serve_tree(tree, "k")
    headers = {"KDR-Viewer": viewer, **({"KDR-Own-Page": "1"} if is_own_page else {})}
    with served(registry_path, KDR_BEHIND_RELAY="1") as client:
        assert client.get(STATUS, headers=headers, environ_overrides=OVER_A_SOCKET).status_code == code
        assert client.get(STATUS, headers=headers).status_code == 404  # Over TCP anybody may say so.
        assert client.delete(f"{API}?key=k", headers=headers).status_code == 404
        answer = client.delete(f"{API}?key=k", headers=headers, environ_overrides=OVER_A_SOCKET)
        assert answer.status_code == code
    assert (hub.registry.find("k") is None) is (code == 200)


# --- revoking --------------------------------------------------------------------------------------------------------


def test_over_a_unix_socket_the_owner_ends_a_registration(owner: FlaskClient, hub: JupyterRelayHub, tree: Path) -> None:
    (tree / "a").write_text("a")
    url, other = hub.serve_tree(tree, "k"), hub.serve_tree(tree, "other")
    assert owner.get(url + "a").status_code == 200
    assert told(owner)["may_revoke"] is False
    answer = owner.get(f"{STATUS}?format=json", environ_overrides=OVER_A_SOCKET)
    assert answer.json is not None
    assert answer.json["may_revoke"] is True
    assert owner.delete(f"{API}?key=k", environ_overrides=OVER_A_SOCKET).status_code == 200
    assert owner.get(url + "a").status_code == 404
    assert owner.get(other + "a").status_code == 200
    assert owner.delete(f"{API}?key=k", environ_overrides=OVER_A_SOCKET).status_code == 404


@pytest.mark.parametrize(
    ("settings", "environ"), [({}, {}), ({"KDR_TRUSTED_PROXIES": "unix"}, OVER_A_SOCKET)], ids=["tcp", "proxy"]
)
def test_where_others_read_as_the_owner_nobody_ends_anything(
    registry_path: Path, hub: JupyterRelayHub, tree: Path, settings: dict[str, str], environ: dict[str, str]
) -> None:
    hub.serve_tree(tree, "k")
    with served(registry_path, KDR_AS_OWNER="1", **settings) as client:
        answer = client.delete(f"{API}?key=k", environ_overrides=environ)
        assert (answer.status_code, "kdr revoke KEY" in answer.text) == (403, True)
    assert hub.registry.find("k") is not None


@pytest.mark.parametrize("worker_class", ["gunicorn", "granian"])
def test_kdr_serve_shows_its_owner_what_it_serves(
    start_server: Callable[..., LiveServer], tree: Path, worker_class: str
) -> None:
    server = start_server(worker_class=worker_class, environment={"KDR_AS_OWNER": "1"})
    url = server.hub.serve_tree(tree)
    page = fetch(server.address, STATUS)
    assert (page.status, url.key.encode() in page.body) == (200, True)
    assert fetch(server.address, f"{API}?key={url.key}", method="DELETE").status == 403
    assert fetch(server.address, STATUS, BY_A_PAGE_ELSEWHERE).status == 404


def test_each_key_has_its_own_counts(registry_path: Path, hub: JupyterRelayHub, tree: Path) -> None:
    for number in range(30):
        hub.serve_tree(tree, f"k{number}")
    add_usage(usage_path(registry_path), {f"k{number}": Usage(number, 2, 3.0) for number in range(1, 30)})
    found = overview.look_over(hub.registry.registrations(), registry_path)
    assert {each.registration.key: each.usage for each in found.published} == {
        "k0": UNUSED,
        **{f"k{number}": Usage(number, 2, 3.0) for number in range(1, 30)},
    }
