from __future__ import annotations

import os
from pathlib import Path

import pytest

from hub import JupyterRelayHub
from hub.content.verifying import Verified, verify
from tests.conftest import make_settled


def differences(hub: JupyterRelayHub, key: str) -> list[tuple[bytes, str]]:
    registration = hub.registry.find(key)
    assert registration is not None
    return [(found.entry, found.difference) for found in verify(registration, hub.registry) if found.difference]


def test_all_is_read_and_each_difference_told(hub: JupyterRelayHub, tree: Path) -> None:
    for name in ("a", "b", "c", "d", "z"):
        (tree / name).write_bytes(name.encode())
    make_settled(tree / "z")
    key = hub.serve_tree(tree, content=True).key
    assert differences(hub, key) == []
    (tree / "a").unlink()
    before = (tree / "b").stat()
    (tree / "b").write_bytes(b"B")
    os.utime(tree / "b", ns=(before.st_atime_ns, before.st_mtime_ns))
    (tree / "bb").write_bytes(b"new")
    (tree / "z").unlink()
    assert differences(hub, key) == [(b"a", "missing"), (b"b", "changed"), (b"bb", "added"), (b"z", "missing")]


def test_no_stat_is_believed(hub: JupyterRelayHub, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "a").write_bytes(b"1")
    key = hub.serve_tree(tree, content=True).key
    monkeypatch.setattr("hub.content.hashing.blake3", lambda data: _Other())
    assert differences(hub, key) == [(b"a", "changed")]


class _Other:
    def digest(self) -> bytes:
        return bytes(32)


def test_what_cannot_be_read_is_told(hub: JupyterRelayHub, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "a").write_bytes(b"1")
    key = hub.serve_tree(tree, content=True).key
    monkeypatch.setattr("hub.content.hashing._digest", lambda *arguments: None)
    ((entry, difference),) = differences(hub, key)
    assert (entry, difference) == (
        b"a",
        "cannot be read: it is changed each time that it is read; try again when nobody writes to it",
    )


def test_a_file_alone_is_verified(hub: JupyterRelayHub, tree: Path) -> None:
    (tree / "a.fits").write_bytes(b"12345")
    key = hub.serve_file(tree / "a.fits", content=True).key
    registration = hub.registry.find(key)
    assert registration is not None
    assert list(verify(registration, hub.registry)) == [Verified(b"a.fits", 5, "")]
    (tree / "a.fits").write_bytes(b"1234")
    assert differences(hub, key) == [(b"a.fits", "changed")]
    (tree / "a.fits").unlink()
    assert differences(hub, key) == [(b"a.fits", "missing")]


def test_of_a_snapshot_the_copies_are_read(hub: JupyterRelayHub, tree: Path, tmp_path: Path) -> None:
    (tree / "a").write_bytes(b"1")
    (tree / "b").write_bytes(b"1")
    (tree / "c").write_bytes(b"3")
    keys = [hub.serve_tree(tree, content=True, snapshot=tmp_path / "kept").key]
    keys.append(hub.serve_file(tree / "c", content=True, snapshot=tmp_path / "kept").key)
    (tree / "a").write_bytes(b"other")
    assert [differences(hub, key) for key in keys] == [[], []]
    for path in (tmp_path / "kept" / "objects").rglob("*/*"):
        path.chmod(0o600)
        path.write_bytes(b"damaged")
    assert differences(hub, keys[0]) == [(b"a", "changed"), (b"b", "changed"), (b"c", "changed")]
    assert differences(hub, keys[1]) == [(b"c", "changed")]
