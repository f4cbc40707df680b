from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from hub import InvalidOption, JupyterRelayHub, SnapshotError, UnhashableEntry
from hub.content import snapshots
from hub.content.cleaning import clean_up
from hub.content.snapshots import SnapshotFolder
from tests.conftest import make_settled, need
from tests.hub.content.executors import Recording


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "kept"


def objects(kept: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (kept / "objects").rglob("*") if path.is_file()}


def test_each_file_is_kept_once_and_read_only(hub: JupyterRelayHub, tree: Path, kept: Path) -> None:
    (tree / "a").write_bytes(b"same")
    (tree / "b").write_bytes(b"same")
    (tree / "c").write_bytes(b"other")
    hub.serve_tree(tree, content=True, snapshot=kept)
    hub.serve_file(tree / "c", content=True, snapshot=kept)
    assert objects(kept) == {blake3(data).hexdigest(): data for data in (b"same", b"other")}
    for path in (kept / "objects").rglob("*/*"):
        assert path.stat().st_mode & 0o777 == 0o444
    assert kept.stat().st_mode & 0o777 == 0o700


def test_a_snapshot_is_registered_in_place_of_the_original(hub: JupyterRelayHub, tree: Path, kept: Path) -> None:
    (tree / "a").write_bytes(b"1")
    plain = hub.serve_tree(tree, content=True)
    snapshot = hub.serve_tree(tree, content=True, snapshot=kept)
    assert snapshot == plain
    registration = hub.registry.find(snapshot.key)
    assert registration is not None
    assert (registration.is_kept, registration.root) == (True, os.fsencode(kept))


def test_a_second_time_nothing_is_copied(
    hub: JupyterRelayHub, tree: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "a").write_bytes(b"1")
    hub.serve_tree(tree, content=True, snapshot=kept)
    hub.serve_file(tree / "a", content=True, snapshot=kept)
    monkeypatch.setattr(snapshots, "_copy", lambda *arguments: pytest.fail("it copied"))
    monkeypatch.setattr("hub.content.hashing._digest", lambda *arguments: pytest.fail("it read"))
    hub.serve_tree(tree, content=True, snapshot=kept)
    hub.serve_file(tree / "a", content=True, snapshot=kept)


def test_a_copy_that_was_damaged_is_made_again(hub: JupyterRelayHub, tree: Path, kept: Path) -> None:
    (tree / "a").write_bytes(b"right")
    hub.serve_file(tree / "a", content=True, snapshot=kept)
    (copy,) = (path for path in (kept / "objects").rglob("*/*"))
    copy.chmod(0o600)
    copy.write_bytes(b"wrong")
    hub.serve_file(tree / "a", content=True, snapshot=kept)
    assert objects(kept) == {blake3(b"right").hexdigest(): b"right"}


def test_a_file_that_changes_before_it_is_copied_is_told(
    hub: JupyterRelayHub, tree: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "a").write_bytes(b"old")
    make_settled(tree / "a")
    real = snapshots.SnapshotFolder.keep_tree

    def change_before(*arguments: object) -> None:
        (tree / "a").write_bytes(b"new")
        real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(snapshots.SnapshotFolder, "keep_tree", change_before)
    with pytest.raises(OSError, match="changed each time that it is read; try again"):
        hub.serve_tree(tree, content=True, snapshot=kept)
    assert objects(kept) == {}
    assert hub.registry.registrations() == []


def test_what_no_registration_needs_is_removed(hub: JupyterRelayHub, tree: Path, kept: Path) -> None:
    (tree / "a").write_bytes(b"both")
    (tree / "b").write_bytes(b"tree alone")
    whole = hub.serve_tree(tree, content=True, snapshot=kept)
    hub.serve_file(tree / "a", content=True, snapshot=kept)
    (kept / "objects" / "ab").mkdir(exist_ok=True)
    (kept / "objects" / "ab" / "left.tmp").write_bytes(b"by a killed process")
    assert dict(clean_up(hub.registry, [SnapshotFolder(kept, hub.registry)])) == {
        "manifests": (0, 0),
        f"snapshots in {kept}": (1, 19),
    }
    whole.revoke()
    assert dict(clean_up(hub.registry, [SnapshotFolder(kept, hub.registry)]))[f"snapshots in {kept}"] == (1, 10)
    assert list(objects(kept).values()) == [b"both"]


def test_what_another_registry_needs_stays(hub: JupyterRelayHub, tree: Path, kept: Path, tmp_path: Path) -> None:
    (tree / "a").write_bytes(b"1")
    other = JupyterRelayHub(registry=tmp_path / "other" / "registry.sqlite", base_url="/")
    for relay in (hub, other):
        relay.serve_tree(tree, content=True, snapshot=kept)
    for registration in hub.registry.registrations():
        hub.registry.revoke(registration.key)
    list(clean_up(hub.registry, [SnapshotFolder(kept, hub.registry)]))
    assert list(objects(kept).values()) == [b"1"]
    other.registry.close()


def test_registries_at_one_path_need_what_each_has_kept(tree: Path, kept: Path, tmp_path: Path) -> None:
    """In two containers, say."""
    for name in ("alice", "bob"):
        (tree / "a").write_bytes(name.encode())
        relay = JupyterRelayHub(registry=tmp_path / "home" / "registry.sqlite", base_url="/")
        relay.serve_tree(tree, content=True, snapshot=kept)
        if name == "bob":
            list(clean_up(relay.registry, [SnapshotFolder(kept, relay.registry)]))
        relay.registry.close()
        (tmp_path / "home").rename(tmp_path / name)
    assert sorted(objects(kept).values()) == [b"alice", b"bob"]


def test_nothing_is_removed_that_is_about_to_be_registered(
    hub: JupyterRelayHub, tree: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "a").write_bytes(b"1")
    copying, go_on = threading.Event(), threading.Event()
    copy = snapshots._copy

    def slow(*arguments: Any) -> bool:
        copying.set()
        assert go_on.wait(10)
        return copy(*arguments)

    monkeypatch.setattr(snapshots, "_copy", slow)
    with ThreadPoolExecutor(2) as threads:
        published = threads.submit(hub.serve_tree, tree, content=True, snapshot=kept)
        assert copying.wait(10)
        cleaned = threads.submit(lambda: dict(clean_up(hub.registry, [SnapshotFolder(kept, hub.registry)])))
        with pytest.raises(FutureTimeoutError):
            cleaned.result(0.3)
        go_on.set()
        published.result(10)
        assert cleaned.result(10)[f"snapshots in {kept}"] == (0, 0)
    assert list(objects(kept).values()) == [b"1"]


@pytest.mark.parametrize("kind", ["file", "tree"])
def test_a_copy_with_other_bytes_is_found_out_whatever_its_times_say(
    hub: JupyterRelayHub, tree: Path, kept: Path, kind: str
) -> None:
    (tree / "a").write_bytes(b"right")

    def publish() -> None:
        if kind == "file":
            hub.serve_file(tree / "a", content=True, snapshot=kept)
        else:
            hub.serve_tree(tree, content=True, snapshot=kept)

    publish()
    (copy,) = (kept / "objects").rglob("*/*")
    make_settled(copy)
    before = copy.stat()
    copy.chmod(0o644)
    copy.write_bytes(b"wrong")
    copy.chmod(0o444)
    os.utime(copy, ns=(before.st_atime_ns, before.st_mtime_ns))
    publish()
    assert list(objects(kept).values()) == [b"right"]


def put_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def put_link_outside(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


@pytest.mark.parametrize("change", [put_fifo, put_link_outside, Path.unlink])
def test_what_is_no_file_any_more_is_not_copied(
    hub: JupyterRelayHub, tree: Path, kept: Path, change: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "a").write_bytes(b"1")
    real = snapshots.SnapshotFolder.keep_tree

    def change_before(*arguments: Any) -> None:
        change(tree / "a")
        real(*arguments)

    monkeypatch.setattr(snapshots.SnapshotFolder, "keep_tree", change_before)
    with pytest.raises(UnhashableEntry, match="No such file or directory"):
        hub.serve_tree(tree, content=True, snapshot=kept)
    assert objects(kept) == {}


def test_what_somebody_else_put_there_is_left_alone(hub: JupyterRelayHub, tree: Path, kept: Path) -> None:
    (tree / "a").write_bytes(b"1")
    hub.serve_tree(tree, content=True, snapshot=kept)
    (kept / "kept" / "README").write_text("mine")
    list(clean_up(hub.registry, [SnapshotFolder(kept, hub.registry)]))
    assert (kept / "kept" / "README").exists()
    assert list(objects(kept).values()) == [b"1"]


def test_cleaning_up_forgets_nothing_of_the_original(
    hub: JupyterRelayHub, tree: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.content.cleaning._GRACE_SECONDS", -1.0)
    (tree / "a").write_bytes(b"1")
    url = hub.serve_tree(tree, content=True, snapshot=kept)
    list(clean_up(hub.registry, []))
    recording = Recording()
    assert hub.serve_tree(tree, content=True, snapshot=kept, executor=recording) == url
    assert recording.entries == []


def test_a_folder_that_keeps_nothing_is_not_cleaned(hub: JupyterRelayHub, tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="nothing has been kept there"):
        list(clean_up(hub.registry, [SnapshotFolder(tmp_path, hub.registry)]))
    assert list(tmp_path.glob("lock")) == []


def test_a_folder_that_cannot_be_written_is_told(hub: JupyterRelayHub, tree: Path, tmp_path: Path) -> None:
    (tree / "a").write_bytes(b"1")
    (tmp_path / "file").touch()
    with pytest.raises(SnapshotError, match="Not a directory"):
        hub.serve_tree(tree, content=True, snapshot=tmp_path / "file" / "kept")
    assert hub.registry.registrations() == []


@pytest.mark.parametrize("folder", ["", "objects", "kept"])
def test_a_folder_that_others_can_write_is_refused(hub: JupyterRelayHub, tree: Path, kept: Path, folder: str) -> None:
    (tree / "a").write_bytes(b"1")
    (kept / folder).mkdir(parents=True)
    (kept / folder).chmod(0o777)
    with pytest.raises(SnapshotError, match=r"other users can write to .*; run: chmod go-w"):
        hub.serve_tree(tree, content=True, snapshot=kept)
    assert list(kept.rglob("*/*/*")) == []


def test_a_folder_that_somebody_put_elsewhere_is_refused(
    hub: JupyterRelayHub, tree: Path, kept: Path, tmp_path: Path
) -> None:
    (tree / "a").write_bytes(b"1")
    (tmp_path / "elsewhere").mkdir()
    kept.mkdir()
    (kept / "objects").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SnapshotError, match="is a link"):
        hub.serve_tree(tree, content=True, snapshot=kept)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_snapshot_needs_a_content_key(hub: JupyterRelayHub, tree: Path, kept: Path) -> None:
    with pytest.raises(InvalidOption, match=r"snapshot=.* it needs content=True"):
        hub.serve_tree(tree, snapshot=kept)


@pytest.fixture
def cloning_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder on XFS, where files share blocks."""
    need("mkfs.xfs", is_there=shutil.which("mkfs.xfs") is not None, remedy="apt-get install xfsprogs")
    image, folder = tmp_path / "xfs.img", tmp_path / "xfs"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(400 << 20)
    subprocess.run(["mkfs.xfs", "-q", image], check=True)
    mounted = subprocess.run(["mount", "-o", "loop", image, folder], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"needs to mount a file system: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_where_the_file_system_can_a_copy_shares_the_originals_blocks(
    hub: JupyterRelayHub, cloning_folder: Path
) -> None:
    original = cloning_folder / "big"
    original.write_bytes(os.urandom(100 << 20))
    os.sync()
    before = shutil.disk_usage(cloning_folder).used
    url = hub.serve_file(original, content=True, snapshot=cloning_folder / "kept")
    os.sync()
    assert shutil.disk_usage(cloning_folder).used - before < 10 << 20
    original.write_bytes(b"overwritten")
    (copy,) = (cloning_folder / "kept" / "objects").rglob("*/*")
    assert blake3(copy.read_bytes()).hexdigest() == url.key


def test_a_full_disk_is_told_and_nothing_is_left(hub: JupyterRelayHub, tree: Path, kept: Path) -> None:
    (tree / "a").write_bytes(bytes(100_000))
    program = (
        "import resource, signal, hub; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        f"relay = hub.JupyterRelayHub(registry={str(hub.registry.location)!r}, base_url='/'); "
        f"relay.registry.open(); resource.setrlimit(resource.RLIMIT_FSIZE, (90_000, 90_000)); "
        f"relay.serve_file({os.fspath(tree / 'a')!r}, content=True, snapshot={os.fspath(kept)!r})"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "SnapshotError" in run.stderr
    assert "File too large" in run.stderr
    assert objects(kept) == {}
