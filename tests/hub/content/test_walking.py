from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import EndlessTree, UnhashableEntry
from hub.content import walking
from hub.content.signatures import make_signature
from hub.content.walking import entry_of, signature_of, split_records, walk
from tests.hub.content.unprivileged import run_unprivileged


def entries(root: Path) -> list[bytes]:
    return [entry_of(record) for run in walk(os.fsencode(root.resolve())) for record in run]


#: What sorts otherwise with and without the slash that follows a folder's name, and what text is not.
NAMES = st.sampled_from([b"a", b"a.b", b"a-", b"a0", b"ab", b"A", b"\xff", b"\x01", b"a\nb", "ü".encode(), b"x" * 255])


@given(st.sets(st.lists(NAMES, min_size=1, max_size=4).map(tuple), max_size=25))
def test_entries_come_in_the_order_of_their_bytes(paths: set[tuple[bytes, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = os.fsencode(os.path.realpath(folder))
        made = set()
        for names in sorted(paths):
            # What is a folder cannot be a file too.
            path = os.path.join(root, *names)
            if any(os.path.isfile(os.path.join(root, *names[:end])) for end in range(1, len(names))):
                continue
            if os.path.isdir(path):
                continue
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb"):
                made.add(b"/".join(names))
        found = [record for run in walk(root) for record in run]
        assert [entry_of(record) for record in found] == sorted(made)
        assert list(split_records(b"".join(found))) == found
        for record in found:
            assert signature_of(record) == make_signature(os.stat(os.path.join(root, entry_of(record))))


def test_more_files_than_a_run_holds_come_in_runs(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walking, "RUN_RECORDS", 10)
    for folder in range(7):
        (tree / str(folder)).mkdir()
        for name in range(folder * 7):
            (tree / str(folder) / f"{name}").touch()
    runs = list(walk(os.fsencode(tree)))
    assert max(map(len, runs)) < 2 * 10
    assert [record for run in runs for record in run] == sorted(record for run in runs for record in run)
    assert sum(map(len, runs)) == 7 * (0 + 1 + 2 + 3 + 4 + 5 + 6)


def test_a_tree_may_be_deeper_than_pythons_stack(tree: Path) -> None:
    folder = os.fsencode(tree)
    for _ in range(1500):
        folder += b"/d"
        os.mkdir(folder)
    with open(folder + b"/f", "wb"):
        pass
    try:
        assert entries(tree) == [b"d/" * 1500 + b"f"]
    finally:
        # It is deeper than what cleans up behind the tests, too.
        subprocess.run(["rm", "-r", tree / "d"], check=True)


def test_links_to_files_and_folders_inside_are_followed(tree: Path) -> None:
    (tree / "data").mkdir()
    (tree / "data" / "1").write_bytes(b"one")
    (tree / "file").symlink_to("data/1")
    (tree / "folder").symlink_to("data")
    (tree / "again").symlink_to("folder")
    assert entries(tree) == [b"again/1", b"data/1", b"file", b"folder/1"]
    (record,) = [r for run in walk(os.fsencode(tree)) for r in run if entry_of(r) == b"file"]
    assert signature_of(record) == make_signature((tree / "data" / "1").stat())


def test_links_that_lead_outside_or_nowhere_have_no_entry(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "tree-beside").mkdir()
    (tmp_path / "tree-beside" / "secret").touch()
    (tree / "outside").symlink_to(tmp_path / "tree-beside" / "secret")
    (tree / "folder").symlink_to("../tree-beside")
    (tree / "broken").symlink_to("nothing")
    (tree / "itself").symlink_to("itself")
    assert entries(tree) == []


def test_links_to_a_folder_that_holds_them_are_not_followed(tree: Path) -> None:
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "f").touch()
    (tree / "a" / "b" / "up").symlink_to("..")
    (tree / "a" / "b" / "root").symlink_to(tree)
    (tree / "c").symlink_to("a/b")
    (tree / "a" / "b" / "c").symlink_to("../../c")
    assert entries(tree) == [b"a/f"]


def test_links_that_multiply_paths_end_with_an_error(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walking, "MAX_FILES_BEHIND_LINKS", 1000)
    for level in range(30):
        (tree / f"{level}").mkdir()
        (tree / f"{level}" / "one").symlink_to(f"../{level + 1}")
        (tree / f"{level}" / "two").symlink_to(f"../{level + 1}")
    (tree / "30").mkdir()
    with pytest.raises(EndlessTree, match="more than 1,000 files; remove links"):
        entries(tree)


def test_what_is_neither_file_nor_folder_has_no_entry(tree: Path) -> None:
    os.mkfifo(tree / "fifo")
    (tree / "link").symlink_to("fifo")
    (tree / "empty").mkdir()
    assert entries(tree) == []


def test_a_folder_that_is_removed_meanwhile_has_no_entries(tree: Path) -> None:
    for name in "abc":
        (tree / name).mkdir()
        (tree / name / "f").touch()
    runs = walk(os.fsencode(tree))
    real = os.scandir

    def remove_b(path: bytes) -> object:
        if path.endswith(b"/b"):
            (tree / "b" / "f").unlink()
            (tree / "b").rmdir()
        return real(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "scandir", remove_b)
        assert [entry_of(record) for run in runs for record in run] == [b"a/f", b"c/f"]


def test_a_folder_that_becomes_a_file_meanwhile_has_no_entries(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "b").mkdir()
    real = os.scandir

    def replace(path: bytes) -> object:
        if path.endswith(b"/b") and (tree / "b").is_dir():
            (tree / "b").rmdir()
            (tree / "b").touch()
        return real(path)

    monkeypatch.setattr(os, "scandir", replace)
    assert entries(tree) == []


def test_a_root_that_is_not_there_is_no_empty_tree(tree: Path) -> None:
    tree.rmdir()
    with pytest.raises(UnhashableEntry, match="No such file or directory"):
        entries(tree)


@pytest.mark.parametrize("times", [1, 99])
def test_a_folder_whose_names_change_while_it_is_read_is_read_again(
    times: int, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems leave out a name that is replaced meanwhile."""
    real = walking._scan_once
    scanned = []

    def scan_and_change(root: bytes, folder: walking._Folder) -> object:
        found = real(root, folder)
        scanned.append(found)
        if len(scanned) <= times:
            (tree / f"{len(scanned)}").touch()
        return found

    monkeypatch.setattr(walking, "_scan_once", scan_and_change)
    if times == 1:
        assert entries(tree) == [b"1"]
        assert len(scanned) == 2
    else:
        with pytest.raises(UnhashableEntry, match="names are added or removed each time that it is read; try again"):
            entries(tree)


def test_a_folder_that_cannot_be_read_is_told(tree: Path) -> None:
    (tree / "closed").mkdir(mode=0)
    message = run_unprivileged(f"list(__import__('hub.content.walking').content.walking.walk({os.fsencode(tree)!r}))")
    assert "UnhashableEntry" in message
    assert f"{tree}/closed' cannot be hashed: Permission denied" in message
