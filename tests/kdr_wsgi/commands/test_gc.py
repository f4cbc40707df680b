from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from hub.content import cleaning
from tests.kdr_wsgi.commands.conftest import Kdr
from tests.terminals import plain, run_in_terminal


def test_gc_removes_the_manifests_that_nothing_needs(
    kdr: Kdr, tree: Path, registry_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "a").write_bytes(b"1")
    old = kdr("publish", "--content", tree)[1].split("/")[2]
    (tree / "a").write_bytes(b"2")
    new = kdr("publish", "--content", tree)[1].split("/")[2]
    kdr("revoke", old)
    folder = registry_path.with_name("registry.sqlite.manifests")
    assert kdr("gc") == (0, "0 removed\n", "")
    assert len(list(folder.glob("*.manifest"))) == 2
    monkeypatch.setattr(cleaning, "_GRACE_SECONDS", -1.0)
    code, out, _ = kdr("gc")
    assert (code, out.splitlines()[1].partition(",")[0]) == (0, "manifests: 2 files removed")
    assert [path.stem for path in folder.glob("*.manifest")] == [new]
    assert kdr("verify", new)[0] == 0


def test_gc_removes_the_snapshots_that_nothing_needs(kdr: Kdr, tree: Path, tmp_path: Path) -> None:
    (tree / "a").write_bytes(b"12345")
    key = kdr("publish", "--content", tree / "a", "--snapshot", tmp_path / "kept")[1].split("/")[2]
    assert kdr("gc", "--snapshots", tmp_path / "kept")[1].endswith("kept: 0 files removed, 0 bytes\n")
    kdr("revoke", key)
    kdr("publish", tree, "--key", "k", "--ttl", "0.01")
    time.sleep(0.02)
    code, out, err = kdr("gc", "--snapshots", tmp_path / "kept", "--snapshots", tree)
    assert (code, out) == (1, "")
    assert "nothing has been kept there" in err
    assert kdr("gc", "--snapshots", tmp_path / "kept")[1].endswith("kept: 1 files removed, 5 bytes\n")


def test_gc_removes_what_has_expired_and_on_demand_what_is_missing(kdr: Kdr, tree: Path) -> None:
    kdr("publish", tree, "--key", "expires", "--ttl", "0.01")
    kdr("publish", tree, "--key", "missing")
    time.sleep(0.05)
    tree.rmdir()
    assert kdr("gc") == (0, f"removed expires  {tree}\n1 removed\n", "")
    assert kdr("gc", "--missing") == (0, f"removed missing  {tree}\n1 removed\n", "")
    assert kdr("gc") == (0, "0 removed\n", "")


def test_work_that_lasts_shows_a_bar_on_a_terminal_and_prints_below_it(
    kdr: Kdr, tree: Path, tmp_path: Path, registry_path: Path
) -> None:
    (tree / "a").write_bytes(b"12345")
    key = kdr("publish", "--content", tree, "--snapshot", tmp_path / "kept")[1].split("/")[2]
    # Here everything lasts.
    program = (
        "import sys; from hub.content import progress; from kdr_wsgi.cli import main; progress._DELAY_SECONDS = 0.0; "
        f"sys.exit(main([*sys.argv[1:], '--registry', {str(registry_path)!r}]))"
    )
    command = [sys.executable, "-c", program]
    code, shown = run_in_terminal([*command, "verify", key], columns=250)
    assert (code, "verifying" in shown, "5 bytes: as the key promises" in shown) == (0, True, True)
    kdr("revoke", key)
    code, shown = run_in_terminal([*command, "gc", "--snapshots", str(tmp_path / "kept")], columns=250)
    assert (code, "looking at copies" in shown, "1 files" in shown) == (0, True, True)
    assert plain(shown).endswith("kept: 1 files removed, 5 bytes\n")
    run = subprocess.run([*command, "gc", "--snapshots", str(tmp_path / "kept")], capture_output=True, check=True)
    assert run.stderr == b""
