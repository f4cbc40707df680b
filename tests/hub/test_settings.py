from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from hub import InvalidOption
from hub.jupyter_servers import runtime_directory
from hub.servers import RunningServer, announced
from hub.settings import check_route, find_base_url, find_registry, find_route


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    folder = tmp_path / "runtime"
    folder.mkdir()
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(folder))
    return folder


def write_info(runtime: Path, process: int, base_url: str, age_seconds: float = 0) -> None:
    path = runtime / f"jpserver-{process}.json"
    path.write_text(json.dumps({"pid": process, "base_url": base_url, "port": 8888}))
    os.utime(path, (time.time() - age_seconds,) * 2)


def test_the_registry_argument_then_environment_then_runtime(monkeypatch: pytest.MonkeyPatch, runtime: Path) -> None:
    assert find_registry() == runtime / "kdr" / "registry.sqlite"
    monkeypatch.setenv("KDR_REGISTRY", "/named/by/environment")
    assert find_registry() == Path("/named/by/environment")
    assert find_registry("relative") == Path.cwd() / "relative"


def test_the_runtime_directory_follows_jupyters_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("HOME", "/home/ada")
    assert runtime_directory() == Path("/home/ada/.local/share/jupyter/runtime")
    monkeypatch.setenv("XDG_DATA_HOME", "/xdg")
    assert runtime_directory() == Path("/xdg/jupyter/runtime")
    monkeypatch.setenv("JUPYTER_DATA_DIR", "/data")
    assert runtime_directory() == Path("/data/runtime")
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", "/runtime")
    assert runtime_directory() == Path("/runtime")


def test_the_base_url_comes_from_the_first_that_says_it(monkeypatch: pytest.MonkeyPatch, runtime: Path) -> None:
    assert find_base_url() == "/"
    write_info(runtime, os.getpid(), "/from/server/")
    assert find_base_url() == "/from/server/"
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "/user/ada/")
    assert find_base_url() == "/user/ada/"
    monkeypatch.setenv("KDR_BASE_URL", "from/environment")
    assert find_base_url() == "/from/environment/"
    assert find_base_url("/argument") == "/argument/"


def test_the_route_comes_from_the_environment_or_from_the_jupyter_server_that_has_the_base_url(
    monkeypatch: pytest.MonkeyPatch, registry_path: Path, runtime: Path
) -> None:
    assert find_route(registry_path) == "wwtkdr"
    with announced(registry_path, "jupyter", "/", "kdr"):
        assert find_route(registry_path) == "wwtkdr", "it is not this user's youngest server"
        write_info(runtime, os.getpid(), "/")
        assert find_route(registry_path) == "kdr"
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as younger:
            os.utime(runtime / f"jpserver-{os.getpid()}.json", (1, 1))
            write_info(runtime, younger.pid, "/younger/")
            assert (find_base_url(), find_route(registry_path)) == ("/younger/", "wwtkdr")
            younger.communicate(b"\n")
        monkeypatch.setenv("KDR_ROUTE", "mine")
        assert find_route(registry_path) == "mine"


def test_the_route_is_not_that_of_a_container_that_has_ended(registry_path: Path, runtime: Path) -> None:
    write_info(runtime, os.getpid(), "/")
    folder = registry_path.with_name(registry_path.name + ".servers")
    folder.mkdir(parents=True)
    stale = RunningServer(os.getpid(), "old-container/1", "jupyter", "/", "kdr")
    (folder / "1.old-container.json").write_text(json.dumps(asdict(stale)))
    assert find_route(registry_path) == "wwtkdr"


@pytest.mark.parametrize("route", ["", "a/b", "/kdr", "kdr/", "a b", "_kdr", "..", ".", "a%20b", "é", "kdr\n"])
def test_a_route_is_one_plain_word(monkeypatch: pytest.MonkeyPatch, route: str) -> None:
    with pytest.raises(InvalidOption, match="write one word"):
        check_route(route)
    if route:
        monkeypatch.setenv("KDR_ROUTE", route)
        with pytest.raises(InvalidOption):
            find_route(Path("nowhere"))


def test_of_several_servers_the_one_that_started_this_kernel(monkeypatch: pytest.MonkeyPatch, runtime: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        write_info(runtime, os.getpid(), "/mine/", age_seconds=100)
        write_info(runtime, other.pid, "/younger/")
        assert find_base_url() == "/younger/"
        monkeypatch.setenv("JPY_PARENT_PID", str(os.getpid()))
        assert find_base_url() == "/mine/"
        other.communicate(b"\n")


def test_dead_servers_and_broken_files_are_passed_over(runtime: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        pass
    write_info(runtime, dead.pid, "/dead/")
    (runtime / "jpserver-1.json").write_text('{"pid": 1')
    (runtime / "jpserver-2.json").write_text("[]")
    (runtime / "nbserver-3.json").write_bytes(b"\xff")
    assert find_base_url() == "/"
