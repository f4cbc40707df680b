"""Which servers are told of, and which are alive."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from hub.servers import RunningServer, announced, find_servers


@pytest.fixture
def folder(registry_path: Path) -> Path:
    made = registry_path.with_name("registry.sqlite.servers")
    made.mkdir(parents=True)
    return made


def dead_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_a_server_is_told_of_as_long_as_it_runs(registry_path: Path) -> None:
    assert find_servers(registry_path) == []
    with announced(registry_path, "kdr serve", "http://127.0.0.1:1", "wwtkdr"):
        (server,) = find_servers(registry_path)
        assert (server.process, server.program) == (os.getpid(), "kdr serve")
        assert (server.url, server.route) == ("http://127.0.0.1:1", "wwtkdr")
    assert find_servers(registry_path) == []


def test_a_server_that_was_killed_is_forgotten(registry_path: Path, folder: Path) -> None:
    with announced(registry_path, "jupyter", "/", "wwtkdr"):
        (path,) = folder.iterdir()
        told = json.loads(path.read_text())
        killed = folder / "killed.json"
        killed.write_text(json.dumps({**told, "process": dead_process()}))
        assert [server.process for server in find_servers(registry_path)] == [os.getpid()]
        assert not killed.exists()


def test_who_starts_forgets_those_that_were_killed(registry_path: Path, folder: Path) -> None:
    with announced(registry_path, "jupyter", "/", "wwtkdr"):
        (path,) = folder.iterdir()
        told = json.loads(path.read_text())
    (folder / "killed.json").write_text(json.dumps({**told, "process": dead_process()}))
    with announced(registry_path, "jupyter", "/", "wwtkdr"):
        assert [*folder.iterdir()] == [path]


def test_of_another_host_nothing_is_forgotten(registry_path: Path, folder: Path) -> None:
    elsewhere = RunningServer(dead_process(), "another-host/1", "jupyter", "/", "wwtkdr")
    path = folder / "elsewhere.json"
    path.write_text(json.dumps(asdict(elsewhere)))
    assert find_servers(registry_path) == [elsewhere]
    assert path.exists()


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "{", "\xff", "{}", '{"process": null, "place": "", "program": "", "url": ""}'],
)
def test_what_is_no_announcement_is_passed_over(registry_path: Path, folder: Path, text: str) -> None:
    (folder / "odd.json").write_bytes(text.encode("latin-1"))
    assert find_servers(registry_path) == []


@pytest.mark.parametrize("process", [-1, 0, 10**30])
def test_no_such_number_is_a_process(registry_path: Path, folder: Path, process: int) -> None:
    with announced(registry_path, "jupyter", "/", "wwtkdr"):
        (path,) = folder.iterdir()
        told = json.loads(path.read_text())
        (folder / "odd.json").write_text(json.dumps({**told, "process": process}))
        assert [server.process for server in find_servers(registry_path)] == [os.getpid()]
