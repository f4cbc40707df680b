"""What commands and pages say of objects in a real store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import obstore
import pytest

from hub import JupyterRelayHub
from kdr_wsgi.cli import main
from tests.conftest import LiveServer
from tests.raw_http import fetch
from tests.stores import between, write_rules
from tests.swift import Swift


@pytest.fixture(scope="module")
def bucket(swift: Swift) -> Any:
    bucket = swift.make_bucket("commands")
    obstore.put(bucket, "tiles/0.png", b"x")
    obstore.put(bucket, "cube.fits", b"x")
    return bucket


@pytest.fixture
def kdr(registry_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(command: str, *arguments: str) -> tuple[int, str, str]:
        code = main([command, "--registry", str(registry_path), *arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def test_commands_tell_of_objects(
    kdr: Callable[..., tuple[int, str, str]],
    swift: Swift,
    bucket: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert bucket
    for address, key in (
        ("s3://commands/tiles/", "tree"),
        ("s3://commands/cube.fits", "file"),
        ("s3://commands/gone/", "gone"),
        ("s3://commands/gone.fits", "gone-file"),
        ("s3://elsewhere/", "elsewhere"),
    ):
        assert kdr("publish", address, "--key", key)[0] == 0
    told = {entry["key"]: entry for entry in json.loads(kdr("list", "--json")[1])}
    assert (told["tree"]["kind"], told["tree"]["path"]) == ("tree", "s3://commands/tiles")
    assert (told["file"]["kind"], told["file"]["path"]) == ("file", "s3://commands/cube.fits")
    assert not any(entry["is_missing"] for entry in told.values())

    code, out, _ = kdr("doctor")
    assert code == 1
    assert "KDR_STORES names no file here" in out
    _, out, err = kdr("gc", "--missing")
    assert out.splitlines()[0] == "0 removed"
    assert "cannot tell whether s3://commands/gone is there" in err

    rules = write_rules(tmp_path / "stores.json", {"prefix": "s3://commands/", "options": swift.options})
    monkeypatch.setenv("KDR_STORES", str(rules))
    lines = {key: line for line in kdr("doctor")[1].splitlines() for key in told if repr(key) in line}
    assert lines["tree"].startswith("ok    tree 'tree' at 's3://commands/tiles': is there")
    assert lines["file"].startswith("ok    file 'file' at 's3://commands/cube.fits': is there")
    assert lines["gone"].startswith("bad   tree 'gone' at 's3://commands/gone': nothing is there; ")
    assert lines["elsewhere"].startswith("bad   tree 'elsewhere' at 's3://elsewhere': lies below no prefix")
    with between(swift.port) as down:
        down.close()
        options = {**swift.options, "endpoint": down.endpoint}
        write_rules(rules, {"prefix": "s3://commands/", "options": options, "answer_seconds": 1})
        lines = {key: line for line in kdr("doctor")[1].splitlines() for key in told if repr(key) in line}
        assert "no connection" in lines["gone"]
        assert kdr("gc", "--missing")[1].splitlines()[0] == "0 removed"
    write_rules(rules, {"prefix": "s3://commands/", "options": swift.options})
    removed = kdr("gc", "--missing")[1].splitlines()
    assert removed[:3] == [
        "removed gone  s3://commands/gone",
        "removed gone-file  s3://commands/gone.fits",
        "2 removed",
    ]


def test_the_status_page_shows_objects(
    swift: Swift, bucket: Any, start_server: Callable[..., LiveServer], tmp_path: Path
) -> None:
    assert bucket
    rules = write_rules(tmp_path / "stores.json", {"prefix": "s3://commands/", "options": swift.options})
    server = start_server(worker_class="gunicorn", environment={"KDR_STORES": str(rules), "KDR_AS_OWNER": "1"})
    server.hub.serve_tree("s3://commands/tiles/", key="tree")
    page = fetch(server.address, "/wwtkdr/_status")
    assert b"s3://commands/tiles" in page.body
    size = json.loads(fetch(server.address, "/wwtkdr/_status/size?key=tree").body)
    assert (size["size_bytes"], size["problem"][:27]) == (None, "It is in an object store, w")


def test_what_a_server_may_not_read_it_does_not_begin_to_publish(
    kdr: Callable[..., tuple[int, str, str]], hub: JupyterRelayHub
) -> None:
    code, _, err = kdr("serve", "--bind", "127.0.0.1:0", "--publish", "s3://elsewhere/")
    assert (code, "below no prefix of an object store" in err) == (1, True)
    assert len(hub.list()) == 0
