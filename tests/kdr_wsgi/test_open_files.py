from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from hub.registration import Registration
from hub.registry import Registry
from kdr_wsgi import open_files
from kdr_wsgi.archives import ArchiveIndexes, Archives
from kdr_wsgi.cache import FileCache
from kdr_wsgi.contents import Contents
from kdr_wsgi.errors import FileBeingChanged
from kdr_wsgi.files import PART_BYTES, KeptFile, OpenFile
from kdr_wsgi.objects.opening import Objects
from kdr_wsgi.objects.promised import PromisedObjects
from kdr_wsgi.objects.rules import StoreRules
from kdr_wsgi.objects.stores import Stores
from kdr_wsgi.ranges import Span
from kdr_wsgi.rehashing import Rehasher
from kdr_wsgi.store import FileStore


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "root" / "large.bin"
    path.parent.mkdir()
    path.write_bytes(os.urandom(300_000))
    time.sleep(0.05)  # Until the clock has ticked, and the version is settled.
    return path


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    registry = tmp_path / "kdr" / "registry.sqlite"
    Registry(registry).open()
    cache = FileCache(1 << 20)
    archives = Archives(ArchiveIndexes(registry, Rehasher()), cache)
    rules, stores = StoreRules(), Stores()
    objects, promised_objects = Objects(rules, stores, cache), PromisedObjects(rules, stores, None, cache)
    return FileStore(Contents(registry), cache, Rehasher(), archives, objects, promised_objects)


def find(store: FileStore, path: Path) -> KeptFile:
    file = store.open(Registration("key", "tree", os.fsencode(path.parent)), os.fsencode(path.name), in_parts=True)
    assert isinstance(file, KeptFile)
    return file


def open_descriptors(path: Path) -> int:
    """Return how many descriptors of this process are of `path`, also where it was removed."""
    found = 0
    for link in Path("/proc/self/fd").iterdir():
        try:
            found += os.readlink(link).startswith(os.fspath(path))
        except FileNotFoundError:
            continue
    return found


def test_a_file_is_opened_once_for_all_parts_of_it(store: FileStore, large: Path) -> None:
    content = large.read_bytes()
    first = find(store, large)
    for start in (0, 1000, 299_990):
        file = find(store, large)
        assert file is first
        part = file.open_part(10)
        assert part is file
        assert file.read(Span(start, start + 10)) == content[start : start + 10]
    assert open_descriptors(large) == 1


def test_a_large_part_has_a_descriptor_of_its_own_which_is_closed(store: FileStore, large: Path) -> None:
    file = find(store, large).open_part(PART_BYTES + 1)
    assert isinstance(file, OpenFile)
    assert open_descriptors(large) == 2
    with file:
        pass
    assert open_descriptors(large) == 1


def test_a_replaced_file_is_not_read_any_more(store: FileStore, large: Path) -> None:
    old = find(store, large)
    replacement = large.with_name("new")
    replacement.write_bytes(b"n" * 300_000)
    time.sleep(0.05)
    replacement.rename(large)
    new = find(store, large)
    assert new.etag != old.etag
    assert new.read(Span(0, 3)) == b"nnn"
    # Who was about to read all of the old one is not given the other under its tag.
    with pytest.raises(FileBeingChanged):
        old.open()


def test_a_file_that_was_written_to_has_another_tag(store: FileStore, large: Path) -> None:
    old = find(store, large)
    with large.open("r+b") as file:
        file.write(b"changed")
    time.sleep(0.05)
    assert find(store, large).etag != old.etag


def test_a_file_that_shrinks_meanwhile_is_said_to_be_changing(store: FileStore, large: Path) -> None:
    file = find(store, large)
    os.truncate(large, 10)
    with pytest.raises(FileBeingChanged):
        file.read(Span(100, 200))


def test_what_nobody_asks_for_is_closed(store: FileStore, large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_files, "OPEN_SECONDS", 0.1)
    find(store, large)
    large.unlink()
    assert open_descriptors(large) == 1
    deadline = time.monotonic() + 10
    while open_descriptors(large):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_so_many_are_open_at_the_most(store: FileStore, large: Path) -> None:
    content = large.read_bytes()
    for number in range(open_files.CAPACITY + 10):
        large.with_name(f"{number}.bin").write_bytes(content)
    time.sleep(0.05)
    for number in range(open_files.CAPACITY + 10):
        find(store, large.with_name(f"{number}.bin"))
    assert open_descriptors(large.parent) == open_files.CAPACITY
