from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hub.client import STATIC_DIRECTORY
from hub.registration import Registration
from hub.registry import Registry
from hub.version import VERSION
from kdr_wsgi.doctor import PAGES, Finding
from tests.kdr_wsgi.commands.conftest import KDR, Kdr, Serving
from tests.terminals import plain, run_in_terminal


def test_the_doctor_sees_a_lost_manifest(kdr: Kdr, tree: Path, registry_path: Path, tmp_path: Path) -> None:
    (tree / "a").write_bytes(b"1")
    kdr("publish", "--content", tree)
    kdr("publish", "--content", tree / "a", "--snapshot", tmp_path / "kept")
    _, out, _ = kdr("doctor")
    assert out.count(": readable on disk, private") == 2
    assert "snapshot of a file" in out
    for path in registry_path.with_name("registry.sqlite.manifests").glob("*.manifest"):
        path.unlink()
    code, out, _ = kdr("doctor")
    assert code == 1
    assert "No such file or directory; publish it again, with content=True" in out


def test_doctor_says_what_is_wrong_and_what_to_do(kdr: Kdr, registry_path: Path, tree: Path) -> None:
    code, out, _ = kdr("doctor")
    assert (code, f"note  registry {registry_path}: not there yet" in out) == (0, True)
    kdr("publish", tree, "--key", "good")
    code, out, _ = kdr("doctor")
    assert code == 0
    assert "note  server: nothing runs for this registry; start JupyterLab, or kdr serve" in out
    assert f"ok    tree 'good' at '{tree}': readable on disk, private; only kdr serve --as-owner serves it\n" in out
    (tree / "file").touch()
    kdr("publish", tree / "file", "--key", "gone")
    (tree / "file").unlink()
    registry_path.parent.chmod(0o755)
    code, out, _ = kdr("doctor")
    assert code == 1
    assert "bad   file 'gone' at" in out
    assert "No such file or directory; publish it again, or run: kdr revoke gone\n" in out
    assert f"others have some (755); run: chmod 700 {registry_path.parent}\n" in out
    registry_path.write_bytes(b"garbage" * 100)
    code, out, _ = kdr("doctor")
    assert code == 1
    assert "\nbad   the registry " in out


def test_doctor_tells_of_a_link_that_was_put_on_the_way(kdr: Kdr, tmp_path: Path) -> None:
    folder = tmp_path / "above" / "tiles"
    folder.mkdir(parents=True)
    kdr("publish", folder, "--key", "moved")
    (tmp_path / "above").rename(tmp_path / "elsewhere")
    (tmp_path / "above").symlink_to(tmp_path / "elsewhere")
    code, out, _ = kdr("doctor")
    assert (code, f"bad   tree 'moved' at '{folder}': a link leads there now" in out) == (1, True)


def test_doctor_knows_the_registry_of_a_hubs_service(kdr: Kdr, registry_path: Path, tree: Path) -> None:
    registry = Registry(registry_path)
    registry.claim(Registration("ada~tiles", "tree", bytes(tree), owner="ada"))
    registry.close()
    code, out, _ = kdr("doctor")
    assert (code, "note  server: this is the registry of a service of a JupyterHub" in out) == (0, True)
    assert "--as-owner" not in out


def test_doctor_tells_of_versions_that_do_not_fit(
    serve: Callable[..., Serving], kdr: Kdr, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve("--bind", "127.0.0.1:0")
    monkeypatch.setattr("kdr_wsgi.doctor.VERSION", "9.9")
    code, out, _ = kdr("doctor")
    assert (code, f"answers with version {VERSION} (here 9.9, which fits)\n" in out) == (0, True)
    monkeypatch.setattr("hub.registries.SCHEMA_VERSION", 99)
    code, out, _ = kdr("doctor")
    assert (code, "install the same version in both environments\n" in out) == (1, True)


def test_doctor_tells_of_a_jupyter_server_without_the_relay(
    kdr: Kdr, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    info = {"pid": os.getpid(), "base_url": "/x/", "url": "http://127.0.0.1:1/x/", "token": ""}
    (tmp_path / f"jpserver-{os.getpid()}.json").write_text(json.dumps(info))
    code, out, _ = kdr("doctor")
    told = f"bad   Jupyter server http://127.0.0.1:1/x/ (process {os.getpid()}): has no relay for this registry; in its"
    assert (code, told in out) == (1, True)


def test_a_finding_that_is_bad_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="without a remedy"):
        Finding("bad", "all is lost")
    assert Finding("bad", "all is lost", "begin anew").text == "all is lost; begin anew"


def test_on_a_terminal_marks_are_coloured_and_each_finding_is_one_line(kdr: Kdr, registry_path: Path) -> None:
    lines = kdr("doctor")[1]
    command = [*KDR, "doctor", "--registry", str(registry_path)]
    shown = run_in_terminal(command, columns=40)[1]
    assert "\x1b[32mok   \x1b[0m viewer pages" in shown
    assert "\x1b[33mnote \x1b[0m registry" in shown
    # What it says to run can be copied: the terminal folds the lines, not we.
    assert plain(shown) == lines
    assert run_in_terminal(command, TERM="dumb")[1].replace("\r\n", "\n") == lines


def test_doctor_tells_of_pages_that_are_not_there(kdr: Kdr, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("kdr_wsgi.doctor.STATIC_DIRECTORY", tmp_path)
    for name in PAGES[1:]:
        (tmp_path / name).touch()
    code, out, _ = kdr("doctor")
    assert (code, f"bad   viewer pages: {PAGES[0]} is not in {tmp_path}; run: pip install" in out) == (1, True)


def test_all_the_pages_that_are_bundled_are_looked_for() -> None:
    assert {path.name for path in STATIC_DIRECTORY.iterdir()} == set(PAGES)
