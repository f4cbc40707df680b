"""Content keys of objects in a real store: made of its checksums, and never passed off for what came later."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import obstore
import pytest
from blake3 import blake3

from hub import InvalidOption, JupyterRelayHub, UnusableURL
from hub.content import objects
from hub.content.manifests import TREE_CONTEXT
from kdr_wsgi.cli import main
from tests.conftest import INTERRUPTIBLE, LiveServer, live_server
from tests.raw_http import Answer, fetch
from tests.stores import Between, between, write_rules
from tests.swift import Swift

SMALL = b"small " * 100
LARGE = os.urandom(300_000)
FILES = {"tiles/a-b.png": SMALL, "tiles/a/b.png": SMALL, "tiles/large.bin": LARGE, "tiles/text.txt": b"x" * 5000}
PREFIX = "s3://promised/tiles/"


@pytest.fixture(scope="module")
def made_bucket(swift: Swift) -> Any:
    return swift.make_bucket("promised")


@pytest.fixture
def bucket(made_bucket: Any) -> Any:
    bucket = made_bucket
    obstore.delete(bucket, [each["path"] for page in obstore.list(bucket) for each in page])
    for name, body in FILES.items():
        obstore.put(bucket, name, body)
    return bucket


@pytest.fixture
def store(swift: Swift) -> Iterator[Between]:
    with between(swift.port) as store:
        yield store


@pytest.fixture
def rules(swift: Swift, store: Between, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the server and this process know of the store, which is asked where the test can see it."""
    options = {**swift.options, "endpoint": store.endpoint}
    rules = write_rules(tmp_path / "stores.json", {"prefix": "s3://promised/", "options": options})
    monkeypatch.setenv("KDR_STORES", str(rules))
    return rules


@pytest.fixture(params=["kdr_wsgi.serving.WatchfulWorker", "granian"])
def server(request: pytest.FixtureRequest, bucket: Any, rules: Path, tmp_path: Path) -> Iterator[LiveServer]:
    assert bucket
    assert rules
    with live_server(tmp_path, request.param) as running:
        yield running


def get(server: LiveServer, url: str, **headers: str) -> Answer:
    return fetch(server.address, url, {name.replace("_", "-"): value for name, value in headers.items()})


def test_what_a_content_key_names_is_served_for_ever(server: LiveServer, store: Between) -> None:
    url = server.hub.serve_tree(PREFIX, content=True, visibility="public")
    assert server.hub.serve_tree(PREFIX, content=True, visibility="public") == url
    for name, body in FILES.items():
        answer = get(server, url + name.removeprefix("tiles/"))
        assert (answer.status, answer.body) == (200, body)
        assert answer["Cache-Control"].endswith("immutable")
        part = get(server, url + name.removeprefix("tiles/"), Range="bytes=5-99")
        assert (part.status, part.body) == (206, body[5:100])
        known = get(server, url + name.removeprefix("tiles/"), If_None_Match=answer["ETag"])
        assert known.status == 304
    assert get(server, url + "text.txt", Accept_Encoding="gzip")["Content-Encoding"] == "gzip"
    store.requests.clear()
    # The manifest and the memory have all of it.
    assert {each["name"] for each in json.loads(get(server, url + "?format=json").body)["entries"]} == {
        "a-b.png",
        "a",
        "large.bin",
        "text.txt",
    }
    assert get(server, url + "a/b.png").body == SMALL
    assert get(server, url + "absent").status == 404
    assert store.requests == []


def test_folders_have_their_index_and_wtml_is_made(server: LiveServer, bucket: Any) -> None:
    obstore.put(bucket, "tiles/sub/index.html", b"<p>hello")
    obstore.put(bucket, "tiles/sub/image_rel.wtml", b'<Folder Url="a.wtml"/>')
    url = server.hub.serve_tree(PREFIX, content=True, visibility="public")
    assert get(server, url + "sub").status == 308
    index = get(server, url + "sub/")
    assert (index.body, index["Content-Security-Policy"]) == (b"<p>hello", "sandbox allow-scripts")
    host = "{}:{}".format(*server.address)
    assert f'Url="http://{host}{url}sub/a.wtml"'.encode() in get(server, url + "sub/image.wtml", Host=host).body


def test_a_file_has_a_content_key_too(server: LiveServer) -> None:
    url = server.hub.serve_file("s3://promised/tiles/large.bin", ".fits", content=True, visibility="public")
    answer = get(server, url)
    assert (answer.body, answer["Content-Type"]) == (LARGE, "image/fits")
    assert answer["ETag"] == f'"{url.key}"'


def test_what_was_changed_is_410_and_comes_back_with_its_bytes(server: LiveServer, bucket: Any) -> None:
    url = server.hub.serve_tree(PREFIX, content=True, visibility="public")
    assert get(server, url + "large.bin").status == 200
    obstore.put(bucket, "tiles/large.bin", LARGE[::-1])
    obstore.put(bucket, "tiles/a/b.png", b"other")
    obstore.delete(bucket, "tiles/text.txt")
    obstore.put(bucket, "tiles/new", b"new")
    for name in ("large.bin", "a/b.png", "text.txt"):
        answer = get(server, url + name)
        assert (answer.status, b"publish" in answer.body) == (410, True)
    assert get(server, url + "new").status == 404
    later = server.hub.serve_tree(PREFIX, content=True, visibility="public")
    assert later.key != url.key
    assert get(server, later + "a/b.png").body == b"other"
    # As many bytes as there were, at another time.
    for name, body in FILES.items():
        obstore.put(bucket, name, body)
    for name, body in FILES.items():
        assert get(server, url + name.removeprefix("tiles/")).body == body
    obstore.delete(bucket, "tiles/new")
    assert server.hub.serve_tree(PREFIX, content=True, visibility="public") == url


def test_an_object_that_changes_while_it_is_sent_is_never_passed_off_as_whole(
    server: LiveServer, bucket: Any, store: Between
) -> None:
    obstore.put(bucket, "tiles/huge.bin", bytes(40 << 20))
    url = server.hub.serve_file("s3://promised/tiles/huge.bin", content=True, visibility="public")
    store.stalls_after_bytes = 3 << 20
    connection = http.client.HTTPConnection(*server.address, timeout=60)
    connection.request("GET", url)
    answer = connection.getresponse()
    assert answer.read(1 << 20) == bytes(1 << 20)
    obstore.put(bucket, "tiles/huge.bin", b"\1" * (40 << 20))
    store.stalls_after_bytes = None
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        answer.read()
    connection.close()


def test_the_key_is_the_one_that_the_documentation_defines(
    bucket: Any, rules: Path, swift: Swift, hub: JupyterRelayHub
) -> None:
    assert rules

    def digest(name: str) -> str:
        tag = obstore.head(bucket, name)["e_tag"]
        told = f"s3://promised/{name}\0{tag}\0{len(FILES[name])}"
        return blake3(told.encode(), derive_key_context="kernel data relay 2026-11-27 object").hexdigest()

    assert swift
    records = [f"{name.removeprefix('tiles/')}\0{len(body)}\0{digest(name)}\n" for name, body in FILES.items()]
    tree = blake3("".join(sorted(records)).encode(), derive_key_context=TREE_CONTEXT).hexdigest()
    assert hub.serve_tree(PREFIX, content=True).key == tree
    assert hub.serve_file("s3://promised/tiles/large.bin", content=True).key == digest("tiles/large.bin")
    # Nothing was read.
    assert "4 files" in hub.list()[tree].url._repr_html_()


def test_what_cannot_be_hashed_is_told_of_and_nothing_is_registered(
    bucket: Any, rules: Path, store: Between, hub: JupyterRelayHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bucket
    for publish, url in ((hub.serve_file, "s3://promised/gone"), (hub.serve_tree, "s3://promised/gone/")):
        with pytest.raises(UnusableURL, match="nothing is there"):
            publish(url, content=True)
    with pytest.raises(UnusableURL, match=r"lies below these prefixes: s3://promised/$"):
        hub.serve_tree("s3://elsewhere/", content=True)
    store.close()
    with pytest.raises(UnusableURL, match=r"listing of 'tiles/': no connection"):
        hub.serve_tree(PREFIX, content=True)
    monkeypatch.delenv("KDR_STORES")
    with pytest.raises(UnusableURL, match="KDR_STORES names no file"):
        hub.serve_tree(PREFIX, content=True)
    rules.write_text("{}")
    monkeypatch.setenv("KDR_STORES", str(rules))
    with pytest.raises(UnusableURL, match="list of stores"):
        hub.serve_tree(PREFIX, content=True)
    monkeypatch.setattr(objects, "_PROGRAM", "kdr_wsgi.absent")
    with pytest.raises(UnusableURL, match=r"No module named kdr_wsgi\.absent"):
        hub.serve_tree(PREFIX, content=True)
    monkeypatch.setattr(objects, "_PROGRAM", "this")
    with pytest.raises(UnusableURL, match="says what is not its own"):
        hub.serve_tree(PREFIX, content=True)
    with pytest.raises(InvalidOption, match="is not copied"):
        hub.serve_tree(PREFIX, content=True, snapshot="kept")
    assert not hub.list()


def test_ctrl_c_leaves_no_process_and_no_draft(bucket: Any, rules: Path, store: Between, tmp_path: Path) -> None:
    assert bucket
    assert rules
    store.stalls_after_bytes = 10
    registry = str(tmp_path / "registry.sqlite")
    program = (
        f"{INTERRUPTIBLE}; import hub; hub.JupyterRelayHub(registry={registry!r}).serve_tree({PREFIX!r}, content=True)"
    )
    process = subprocess.Popen([sys.executable, "-c", program], start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while not store.requests and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) != 0
        with pytest.raises(ProcessLookupError):  # Its group has no process.
            os.killpg(process.pid, 0)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert not [*tmp_path.rglob("*.manifest")]


def test_processes_that_have_asked_a_store_end_as_they_should(bucket: Any, rules: Path) -> None:
    assert bucket
    assert rules
    command = [sys.executable, "-m", "kdr_wsgi.objects.hashing", "file", "s3://promised/tiles/large.bin"]

    def run(_: int) -> int:
        return subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode

    # Where more of them run than there are processors, obstore's threads are late.
    with ThreadPoolExecutor(6) as threads:
        assert {*threads.map(run, range(18))} == {0}


def test_kdr_verify_asks_the_store(
    bucket: Any, rules: Path, hub: JupyterRelayHub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rules
    registry = str(hub.registry.location)
    assert main(["publish", "--registry", registry, "--content", PREFIX]) == 0
    tree = capsys.readouterr().out.split("/")[-2]
    file = hub.serve_file("s3://promised/tiles/text.txt", content=True).key
    assert main(["verify", "--registry", registry, tree]) == 0
    assert "4 files" in capsys.readouterr().out
    obstore.put(bucket, "tiles/a/b.png", b"other")
    obstore.put(bucket, "tiles/new", b"new")
    obstore.delete(bucket, "tiles/text.txt")
    assert main(["verify", "--registry", registry, tree]) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[:3] == ["changed  a/b.png", "added  new", "missing  text.txt"]
    assert main(["verify", "--registry", registry, file]) == 1
    assert capsys.readouterr().out.startswith("missing  text.txt")
    monkeypatch.delenv("KDR_STORES")
    assert main(["verify", "--registry", registry, tree]) == 1
    assert "KDR_STORES as the relay server has it" in capsys.readouterr().err
