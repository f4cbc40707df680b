from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
from blake3 import blake3
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hub import ManifestError, UnhashableEntry
from hub.content import trees, walking
from hub.content.manifests import ManifestStore, TreeWriter
from hub.content.trees import hash_tree
from tests.conftest import make_settled
from tests.hub.content.executors import Interrupted, Recording
from tests.hub.content.trees import hash_as_documented
from tests.hub.content.unprivileged import run_unprivileged


@pytest.fixture
def store(registry_path: Path) -> ManifestStore:
    return ManifestStore(registry_path)


def fill(tree: Path, files: int) -> None:
    for number in range(files):
        folder = tree / f"{number % 7}"
        folder.mkdir(exist_ok=True)
        (folder / f"{number}.png").write_bytes(b"%d" % number)
    make_settled(folder / f"{number}.png")


def files_of(store: ManifestStore) -> list[str]:
    return sorted(path.suffix for path in store.folder.rglob("*") if path.is_file())


def test_the_hash_is_the_one_of_the_docs(tree: Path, store: ManifestStore) -> None:
    tree.joinpath("a").mkdir()
    (tree / "a" / "b").write_bytes(b"hello")
    (tree / "a.b").write_bytes(b"")
    line = b"%b\0%d\0%b\n"
    lines = line % (b"a.b", 0, blake3(b"").hexdigest().encode()) + line % (
        b"a/b",
        5,
        blake3(b"hello").hexdigest().encode(),
    )
    assert hash_tree(os.fsencode(tree), store) == hash_as_documented(tree)
    assert hash_as_documented(tree) == blake3(lines, derive_key_context="kernel data relay 2026-11-25 tree").hexdigest()


def test_it_depends_on_nothing_but_names_and_bytes(tree: Path, tmp_path: Path, store: ManifestStore) -> None:
    fill(tree, 30)
    other = tmp_path / "other"
    for path in sorted(tree.rglob("*.png"), reverse=True):
        place = other / path.relative_to(tree)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes())
        place.chmod(0o600)
        os.utime(place, (1, 1))
    (other / "empty folder").mkdir()
    assert hash_tree(os.fsencode(other), store) == hash_tree(os.fsencode(tree), store)
    assert files_of(store) == [".index", ".index", ".manifest"]


def test_an_empty_tree_has_a_hash_too(tree: Path, store: ManifestStore) -> None:
    content = hash_tree(os.fsencode(tree), store)
    assert content == hash_as_documented(tree)
    assert hash_tree(os.fsencode(tree), store) == content
    assert len(store.open(content, os.fsencode(tree)).manifest) == 0


def test_a_tree_that_has_not_changed_is_not_read(tree: Path, store: ManifestStore) -> None:
    fill(tree, 100)
    first = Recording()
    content = hash_tree(os.fsencode(tree), store, first)
    assert len(first.entries) == 100
    second = Recording()
    assert hash_tree(os.fsencode(tree), store, second) == content
    assert second.entries == []


def test_a_change_costs_the_file_alone(tree: Path, store: ManifestStore) -> None:
    fill(tree, 100)
    hash_tree(os.fsencode(tree), store)
    for change, entry in (
        (lambda: (tree / "3" / "3.png").write_bytes(b"other"), b"3/3.png"),
        (lambda: (tree / "3" / "3a.png").write_bytes(b"new"), b"3/3a.png"),
        (lambda: os.utime(tree / "6" / "6.png"), b"6/6.png"),
        (lambda: (tree / "6" / "6.png").unlink(), None),
        (lambda: shutil.rmtree(tree / "0"), None),
        (lambda: (tree / "z").write_bytes(b"last"), b"z"),
        (lambda: (tree / "z").rename(tree / "A"), b"A"),
    ):
        change()
        recording = Recording()
        assert hash_tree(os.fsencode(tree), store, recording) == hash_as_documented(tree)
        assert recording.entries == ([entry] if entry else [])


def test_a_change_that_keeps_size_and_mtime_is_seen(tree: Path, store: ManifestStore) -> None:
    fill(tree, 10)
    content = hash_tree(os.fsencode(tree), store)
    path = tree / "3" / "3.png"
    before = path.stat()
    path.write_bytes(b"X")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert hash_tree(os.fsencode(tree), store) != content


def test_a_change_in_the_tick_in_which_it_was_hashed_is_seen(tree: Path, store: ManifestStore) -> None:
    for _ in range(20):
        (tree / "a").write_bytes(b"old")
        old = hash_tree(os.fsencode(tree), store)
        (tree / "a").write_bytes(b"new")
        assert hash_tree(os.fsencode(tree), store) != old


def test_a_file_whose_times_say_nothing_is_read_each_time(
    tree: Path, store: ManifestStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tree, 3)
    monkeypatch.setattr("hub.content.hashing.is_settled", lambda changed_ns: False)
    content = hash_tree(os.fsencode(tree), store, Recording())
    recording = Recording()
    assert hash_tree(os.fsencode(tree), store, recording) == content
    assert len(recording.entries) == 3


class ChangingTree(RuleBasedStateMachine):
    """A tree that is changed in all ways, hashed, and hashed in part."""

    paths = st.lists(st.sampled_from(["a", "a.b", "a-", "a0", "b", "\udcff", "c\nd"]), min_size=1, max_size=3).map(
        lambda names: "/".join(names)
    )

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.root = Path(self.folder.name) / "tree"
        self.root.mkdir()
        self.store = ManifestStore(Path(self.folder.name) / "registry")

    def teardown(self) -> None:
        self.folder.cleanup()

    @rule(path=paths, data=st.binary(max_size=3))
    def write(self, path: str, data: bytes) -> None:
        place = self.root / path
        self.remove(path)
        for above in [*place.parents][::-1]:
            if above.is_file():
                above.unlink()
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)

    @rule(path=paths)
    def remove(self, path: str) -> None:
        place = self.root / path
        if place.is_dir():
            shutil.rmtree(place)
        elif place.exists():
            place.unlink()

    @rule(old=paths, new=paths)
    def rename(self, old: str, new: str) -> None:
        place = self.root / new
        if (
            (self.root / old).exists()
            and place.parent.is_dir()
            and not place.exists()
            and not new.startswith(f"{old}/")
        ):
            (self.root / old).rename(place)

    @rule(batches=st.integers(0, 3))
    def interrupt(self, batches: int) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trees, "_BATCH_FILES", 2)
            patch.setattr("hub.content.walking.RUN_RECORDS", 2)
            patch.setattr(trees, "_PIECES_AHEAD", 1)
            with suppress(KeyboardInterrupt):
                hash_tree(os.fsencode(self.root), self.store, Interrupted(batches))

    @invariant()
    def hash(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("hub.content.walking.RUN_RECORDS", 2)
            assert hash_tree(os.fsencode(self.root), self.store, Recording()) == hash_as_documented(self.root)
        assert {".index", ".manifest"}.issuperset(files_of(self.store))


TestChangingTree = ChangingTree.TestCase
TestChangingTree.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)


def test_an_interrupted_call_is_gone_on_with(tree: Path, store: ManifestStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "_BATCH_FILES", 10)
    monkeypatch.setattr("hub.content.walking.RUN_RECORDS", 10)
    monkeypatch.setattr(trees, "_PIECES_AHEAD", 1)
    fill(tree, 100)
    first = Interrupted(6)
    with pytest.raises(KeyboardInterrupt):
        hash_tree(os.fsencode(tree), store, first)
    assert files_of(store) == [".journal"]
    second = Recording()
    assert hash_tree(os.fsencode(tree), store, second) == hash_as_documented(tree)
    assert len(set(first.entries) - set(second.entries)) >= 10
    assert len(set(first.entries) & set(second.entries)) <= 20
    assert set(first.entries) | set(second.entries) == {
        os.fsencode(path.relative_to(tree)) for path in tree.rglob("*.png")
    }
    assert files_of(store) == [".index", ".manifest"]


def test_what_a_killed_process_has_hashed_is_not_hashed_again(tree: Path, store: ManifestStore) -> None:
    fill(tree, 4000)
    program = f"""
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {os.fspath(Path.cwd())!r})
from hub.content import trees, walking
from hub.content.journals import Journal
trees._PIECES_AHEAD = 1
add = Journal.add
def add_and_die(self, records, hashes):
    add(self, records, hashes)
    os.kill(os.getpid(), signal.SIGKILL)
Journal.add = add_and_die
trees.hash_tree({os.fsencode(tree)!r}, trees.ManifestStore(Path({os.fspath(store.folder.with_suffix(""))!r})))
"""
    killed = subprocess.run([sys.executable, "-c", program], check=False)
    assert killed.returncode == -9
    recording = Recording()
    assert hash_tree(os.fsencode(tree), store, recording) == hash_as_documented(tree)
    assert 0 < len(recording.entries) <= 4000 - 1024


def test_a_file_that_is_removed_before_it_is_read_is_not_in_the_tree(tree: Path, store: ManifestStore) -> None:
    fill(tree, 3)

    class Removing(Recording):
        def submit(self, function, /, *arguments, **options):  # type: ignore[no-untyped-def]
            (tree / "1" / "1.png").unlink()
            return super().submit(function, *arguments, **options)

    assert hash_tree(os.fsencode(tree), store, Removing()) == hash_as_documented(tree)


@pytest.mark.parametrize("name", ["b", "b/secret"])
def test_a_link_that_is_swapped_in_lets_nothing_outside_in(
    tree: Path, tmp_path: Path, store: ManifestStore, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"SECRET")
    (tree / "a").write_bytes(b"1")
    expected = hash_as_documented(tree)
    (tree / "b").mkdir()
    (tree / "b" / "secret").write_bytes(b"own")
    real = walking._scan

    def swap(root: bytes, folder: walking._Folder) -> object:
        if folder.prefix != b"b/":
            return real(root, folder)
        found = real(root, folder)
        if not (tree / name).is_symlink():
            shutil.rmtree(tree / "b")
            (tree / name).parent.mkdir(exist_ok=True)
            (tree / name).symlink_to(outside / name.removeprefix("b").lstrip("/"))
        return found if name == "b/secret" else real(root, folder)

    monkeypatch.setattr(walking, "_scan", swap)
    assert hash_tree(os.fsencode(tree), store, Recording()) == expected


def test_a_root_that_is_a_link_on_another_machine_is_found(tree: Path, tmp_path: Path, store: ManifestStore) -> None:
    fill(tree, 3)

    class Elsewhere(Recording):
        def submit(self, function, /, *arguments, **options):  # type: ignore[no-untyped-def]
            real = tmp_path / "real"
            tree.rename(real)
            tree.symlink_to(real)
            return super().submit(function, *arguments, **options)

    assert hash_tree(os.fsencode(tree), store, Elsewhere()) == hash_as_documented(tmp_path / "real")


def test_a_file_that_never_stays_the_same_is_told(
    tree: Path, store: ManifestStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "a").write_bytes(b"1")
    monkeypatch.setattr("hub.content.hashing._digest", lambda *arguments: None)
    with pytest.raises(UnhashableEntry, match="changed each time that it is read; try again when nobody writes"):
        hash_tree(os.fsencode(tree), store)
    assert files_of(store) == []


def test_a_file_that_cannot_be_read_is_told_by_name(tree: Path, registry_path: Path) -> None:
    (tree / "open").write_bytes(b"1")
    (tree / "closed").write_bytes(b"2")
    (tree / "closed").chmod(0)
    printed = run_unprivileged(
        "from pathlib import Path; from hub.content import trees; "
        f"trees.hash_tree({os.fsencode(tree)!r}, trees.ManifestStore(Path({os.fspath(registry_path)!r})))"
    )
    assert f"{tree}/closed' cannot be hashed: Permission denied; make it readable, or move it elsewhere" in printed


def test_a_full_disk_is_told_and_nothing_is_left(tree: Path, registry_path: Path) -> None:
    fill(tree, 500)
    program = f"""
import resource, signal
from pathlib import Path
from hub.content import trees, walking
from hub.content.journals import Journal
Journal.add = lambda *arguments: None
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
trees.hash_tree({os.fsencode(tree)!r}, trees.ManifestStore(Path({os.fspath(registry_path)!r})))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "ManifestError: the manifest" in run.stderr
    assert "File too large" in run.stderr
    assert files_of(ManifestStore(registry_path)) == []


def test_a_folder_that_cannot_be_written_is_told(tree: Path, registry_path: Path) -> None:
    fill(tree, 5)
    registry_path.parent.mkdir()
    registry_path.with_name(registry_path.name + ".manifests").write_bytes(b"no folder")
    with pytest.raises(ManifestError, match=r"registry.sqlite.manifests.*Not a directory"):
        hash_tree(os.fsencode(tree), ManifestStore(registry_path))


def test_manifests_that_others_could_have_written_are_not_believed(tree: Path, store: ManifestStore) -> None:
    fill(tree, 3)
    hash_tree(os.fsencode(tree), store)
    store.folder.chmod(0o777)
    recording = Recording()
    with pytest.raises(ManifestError, match=r"other users can write to .*; run: chmod go-w"):
        hash_tree(os.fsencode(tree), store, recording)
    assert recording.entries == []


@pytest.mark.parametrize("written_at", [1, 2**33], ids=["long ago", "before the clock was set back"])
def test_drafts_of_killed_processes_are_removed(
    tree: Path, store: ManifestStore, monkeypatch: pytest.MonkeyPatch, written_at: int
) -> None:
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)  # As on NFS, where drafts have names.
    fill(tree, 3)
    folder = store.root_folder(os.fsencode(tree))
    folder.mkdir(parents=True)
    (folder / "abandoned.tmp").touch()
    os.utime(folder / "abandoned.tmp", (written_at, written_at))
    with TreeWriter(store, os.fsencode(tree)):
        drafts = set(folder.glob("*.tmp"))
        for draft in drafts:
            os.utime(draft, (written_at, written_at))
        assert len(drafts) == 4
        hash_tree(os.fsencode(tree), store)
        assert set(folder.glob("*.tmp")) == drafts
    assert files_of(store) == [".index", ".manifest"]


def test_threads_and_processes_that_hash_the_same_tree_at_once_agree(tree: Path, store: ManifestStore) -> None:
    fill(tree, 3000)
    program = f"""
from pathlib import Path
from hub.content import trees, walking
print(trees.hash_tree({os.fsencode(tree)!r}, trees.ManifestStore(Path({os.fspath(store.folder.with_suffix(""))!r}))))
"""
    processes = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    with ThreadPoolExecutor(3) as threads:
        found = set(threads.map(lambda _: hash_tree(os.fsencode(tree), store), range(3)))
    for process in processes:
        printed, _ = process.communicate(timeout=60)
        found.add(printed.strip())
    assert found == {hash_as_documented(tree)}
    assert files_of(store) == [".index", ".manifest"]
    recording = Recording()
    hash_tree(os.fsencode(tree), store, recording)
    assert recording.entries == []


def test_a_tree_that_is_written_to_while_it_is_hashed_is_hashed_right_later(tree: Path, store: ManifestStore) -> None:
    fill(tree, 200)
    random = Random(5)
    deadline = time.monotonic() + 3
    with ThreadPoolExecutor(1) as threads:

        def disturb() -> None:
            while time.monotonic() < deadline:
                path = tree / "3" / f"{random.randrange(0, 40) * 7 + 3}.png"
                path.write_bytes(random.randbytes(3))
                time.sleep(0.001)

        disturbing = threads.submit(disturb)
        while time.monotonic() < deadline:
            with suppress(UnhashableEntry):
                hash_tree(os.fsencode(tree), store, Recording())
        disturbing.result()
    assert hash_tree(os.fsencode(tree), store) == hash_as_documented(tree)
