from __future__ import annotations

import errno
import os
import struct
import tempfile
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from hub import ManifestError
from hub.content.manifests import Columns, Manifest, ManifestStore, Tree, TreeWriter
from hub.content.signatures import pack_signature
from hub.drafts import Draft

SEGMENTS = st.binary(min_size=1, max_size=4).filter(lambda name: not set(name) & set(b"\0/"))
ENTRIES = st.sets(st.lists(SEGMENTS, min_size=1, max_size=3).map(b"/".join), max_size=30)

ROOT = b"/data/m\xfcll"


def write(store: ManifestStore, entries: list[bytes], root: bytes = ROOT) -> tuple[str, list[bytes], list[bytes]]:
    records = [entry + b"\0" + pack_signature(number, 5, 6, 7) for number, entry in enumerate(entries)]
    hashes = [blake3(entry).digest() for entry in entries]
    with TreeWriter(store, root) as writer:
        for start in range(0, len(entries), 7):
            writer.add(Columns.of(records[start : start + 7], hashes[start : start + 7]))
        return writer.finish(), records, hashes


@given(ENTRIES, st.lists(SEGMENTS, min_size=1, max_size=3).map(b"/".join))
def test_all_that_was_written_is_found(made: set[bytes], other: bytes) -> None:
    entries = sorted(made)
    with tempfile.TemporaryDirectory() as folder:
        store = ManifestStore(Path(folder) / "registry")
        content, records, hashes = write(store, entries)
        tree = store.open(content, ROOT)
        manifest = tree.manifest
        assert [manifest[position] for position in range(len(manifest))] == entries
        assert [tree.record(position) for position in range(len(manifest))] == records
        assert [manifest.hash(position) for position in range(len(manifest))] == hashes
        assert [manifest.size_bytes(position) for position in range(len(manifest))] == list(range(len(entries)))
        assert [manifest.find(entry) for entry in entries] == list(range(len(entries)))
        if other not in made:
            assert manifest.find(other) is None
        start, stop = manifest.folder(other + b"/")
        assert entries[start:stop] == [entry for entry in entries if entry.startswith(other + b"/")]
        assert tree.has_records(0, b"".join(records[:3]))
        assert b"".join(columns.records for columns in tree.pieces(0, len(entries))) == b"".join(records)


def test_equal_trees_share_their_manifest(tmp_path: Path) -> None:
    store = ManifestStore(tmp_path / "registry")
    content, _, _ = write(store, [b"a", b"b"])
    before = len(list(store.folder.glob("*.manifest")))
    assert write(store, [b"a", b"b"], b"/elsewhere")[0] == content
    assert before == len(list(store.folder.glob("*.manifest"))) == 1
    assert store.open(content, ROOT).manifest.digest == store.open(content, b"/elsewhere").manifest.digest


def test_what_is_written_is_for_the_user_alone(tmp_path: Path) -> None:
    store = ManifestStore(tmp_path / "registry")
    write(store, [b"a"])
    for path in (store.folder, *store.folder.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path


def test_nothing_is_left_of_what_was_not_finished(tmp_path: Path) -> None:
    store = ManifestStore(tmp_path / "registry")
    with TreeWriter(store, ROOT) as writer:
        writer.add(Columns.of([b"a\0" + pack_signature(1, 2, 3, 4)], [bytes(32)]))
    assert [path for path in store.folder.rglob("*") if path.is_file()] == []
    assert store.find_latest(ROOT) is None


def test_nothing_is_left_of_what_could_not_be_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ManifestStore(tmp_path / "registry")
    made: list[Draft] = []

    def fail_at_the_third(folder: Path) -> Draft:
        if len(made) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        made.append(Draft(folder))
        return made[-1]

    monkeypatch.delattr(os, "O_TMPFILE", raising=False)  # Where drafts have names, something could be left.
    monkeypatch.setattr("hub.content.manifests.Draft", fail_at_the_third)
    with pytest.raises(OSError, match="No space left"):
        TreeWriter(store, ROOT)
    assert [path for path in store.folder.rglob("*") if path.is_file()] == []


def test_the_latest_is_what_was_written_last(tmp_path: Path) -> None:
    store = ManifestStore(tmp_path / "registry")
    first, _, _ = write(store, [b"a"])
    second, _, _ = write(store, [b"b"])
    os.utime(store.index_path(first, ROOT), (1, 1))
    latest = store.find_latest(ROOT)
    assert latest is not None
    assert latest.manifest.digest.hex() == second
    store.index_path(second, ROOT).write_bytes(b"garbage")
    latest = store.find_latest(ROOT)
    assert latest is not None
    assert latest.manifest.digest.hex() == first


@given(st.data())
def test_a_file_that_is_not_whole_is_refused(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = ManifestStore(Path(folder) / "registry")
        content, _, _ = write(store, [b"a", b"b/c", b"d"])
        paths = [store.manifest_path(content), store.index_path(content, ROOT)]
        damaged = data.draw(st.sampled_from(paths))
        whole = damaged.read_bytes()
        position = data.draw(st.integers(0, len(whole) - 1))
        flipped = whole[:position] + bytes([whole[position] ^ data.draw(st.integers(1, 255))]) + whole[position + 1 :]
        damaged.write_bytes(data.draw(st.sampled_from([whole[:position], flipped])))
        with pytest.raises(ManifestError, match="it is damaged; remove it and publish again"):
            Tree(*paths)


@pytest.mark.parametrize(
    ("names", "starts"),
    [
        (b"a\0b\0", [0, 0]),
        (b"a\0b\0", [2, 0]),
        (b"a\0b\0", [0, 4]),
        (b"a\0b\0", [0, 1 << 63]),
        (b"a\0b\0", [1, 2]),
        (b"a\0", []),
    ],
)
def test_no_entry_lies_outside_of_the_names_whoever_has_written_them(
    tmp_path: Path, names: bytes, starts: list[int]
) -> None:
    count = len(starts)
    body = names + struct.pack(f"<{count}Q", *starts) + bytes(40 * count) + struct.pack("<Q32s", count, bytes(32))
    path = tmp_path / "manifest"
    path.write_bytes(body + blake3(body).digest() + b"kdr-tree")
    with pytest.raises(ManifestError, match="it is damaged"):
        Manifest(path)


def test_who_comes_through_a_link_finds_the_same(tmp_path: Path) -> None:
    content, _, _ = write(ManifestStore(tmp_path / "registry"), [b"a"])
    (tmp_path / "registry").touch()
    (tmp_path / "link").symlink_to("registry")
    assert len(ManifestStore(tmp_path / "link").open(content, ROOT).manifest) == 1


def test_a_manifest_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="No such file or directory"):
        ManifestStore(tmp_path / "registry").open("ab" * 32, ROOT)
