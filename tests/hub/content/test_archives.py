"""The directory of a zip archive against Python's zipfile, and against archives that are made to do harm."""

from __future__ import annotations

import os
import random
import stat
import struct
import time
import zipfile
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub import ArchiveError, InvalidOption, JupyterRelayHub, NotATree
from hub.content import archives
from hub.content.archives import (
    UNREADABLE,
    ArchiveIndex,
    Limits,
    index_archive,
    index_path,
    make_index,
    open_index,
)
from hub.content.cleaning import clean_up
from hub.content.manifests import ManifestStore
from hub.content.signatures import make_signature
from hub.errors import NoArchive
from hub.registry import Registry
from tests.archives import (
    CRC,
    DEFLATED,
    FLAGS,
    METHOD,
    PACKED_BYTES,
    START,
    STORED,
    changed,
    entry_of,
    make_zip,
    renamed,
    write_zip,
)


@pytest.fixture
def store(registry_path: Path) -> ManifestStore:
    return ManifestStore(registry_path)


def read(store: ManifestStore, path: Path, archive: bytes | None = None) -> ArchiveIndex:
    """Write an archive, and return its index."""
    if archive is not None:
        path.write_bytes(archive)
    root = os.fsencode(path)
    index_archive(store, root)
    index = open_index(store, root, make_signature(path.stat()))
    assert index is not None
    return index


def contents(index: ArchiveIndex) -> dict[str, tuple[int, int, int, int]]:
    """Return what is told of each member that is no folder."""
    told = {}
    for position in range(len(index)):
        member = index.member(position)
        name = index[position].decode()
        if not name.endswith("/"):
            told[name] = (member.size_bytes, member.packed_bytes, member.crc, member.header_start)
    return told


def as_zipfile_has_it(path: Path) -> dict[str, tuple[int, int, int, int]]:
    with zipfile.ZipFile(path) as archive:
        return {
            info.filename: (info.file_size, info.compress_size, info.CRC, info.header_offset)
            for info in archive.infolist()
            if not info.is_dir()
        }


names = st.text(st.sampled_from("ab./é\\ #%ü\u2603"), min_size=1, max_size=8).filter(
    lambda name: all(part not in ("", ".", "..") for part in name.split("/"))
)


@settings(max_examples=30)
@given(
    st.lists(st.tuples(names, st.binary(max_size=40), st.sampled_from([STORED, DEFLATED])), max_size=12),
    # With an end of an archive in its comment zipfile takes it for none.
    st.binary(max_size=10).filter(lambda comment: b"PK" not in comment),
    st.binary(max_size=10).filter(lambda before: b"PK" not in before),
)
def test_an_index_has_what_zipfile_has(
    tmp_path_factory: pytest.TempPathFactory, members: list[tuple[str, bytes, int]], comment: bytes, before: bytes
) -> None:
    folder = tmp_path_factory.mktemp("archive")
    path = folder / "a.zip"
    index = read(ManifestStore(folder / "kdr" / "registry.sqlite"), path, make_zip(members, comment, before))
    assert contents(index) == as_zipfile_has_it(path)
    assert [index[position] for position in range(len(index))] == sorted({name.encode() for name, _, _ in members})
    for name, *_ in members:
        assert index.find_member(name.encode()) is not None
        assert index.find_member(name.encode() + b"?") is None


def test_many_members_are_sorted_a_run_at_a_time(
    store: ManifestStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "_RUN_MEMBERS", 7)
    monkeypatch.setattr(archives, "_CHUNK_BYTES", 256)
    monkeypatch.setattr(archives, "_MEMBERS_PER_WRITE", 3)
    members = [(f"{number % 10}/{number}", b"%d" % number, STORED) for number in range(500)]
    path = tmp_path / "a.zip"
    assert contents(read(store, path, make_zip(members))) == as_zipfile_has_it(path)
    # Those that are in order already are not merged.
    assert contents(read(store, path, make_zip(sorted(members)))) == as_zipfile_has_it(path)


def test_long_names_take_no_more_memory_than_short_ones(
    store: ManifestStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tracemalloc

    monkeypatch.setattr(archives, "_RUN_BYTES", 1 << 20, raising=False)
    monkeypatch.setattr(archives, "_CHUNK_BYTES", 1 << 17)
    monkeypatch.setattr(archives, "_MEMBERS_PER_WRITE", 8)
    members = [(f"{number:03}{'x' * 60_000}", b"", STORED) for number in range(300)]
    path = write_zip(tmp_path / "a.zip", *reversed(members))
    with open(path, "rb") as file:
        tracemalloc.start()
        try:
            index = make_index(store, os.fsencode(path), file.fileno())
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert [index[position] for position in range(len(index))] == [name.encode() for name, *_ in members]
    assert peak < 9 << 20, "half of what the names take"


@pytest.mark.parametrize("run", [3, 100])
def test_of_two_members_with_one_name_the_last_counts(
    store: ManifestStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: int
) -> None:
    monkeypatch.setattr(archives, "_RUN_MEMBERS", run)
    others = [(f"{number}", b"", STORED) for number in range(10)]
    archive = make_zip([("x", b"first", STORED), *others, ("x", b"the second", STORED), ("a", b"", STORED)])
    index = read(store, tmp_path / "a.zip", archive)
    found = index.find_member(b"x")
    assert found is not None
    assert (found.size_bytes, len(index)) == (10, 12)


def test_folders_are_those_of_the_names_and_those_with_an_entry(store: ManifestStore, tmp_path: Path) -> None:
    members = [("a/b/c", b"", STORED), ("a/x", b"", STORED), ("a.b", b"", STORED), ("empty/", b"", STORED)]
    index = read(store, tmp_path / "a.zip", make_zip([*members, ("a0", b"", STORED)]))

    def listed(prefix: bytes, after: bytes = b"") -> list[tuple[bytes, bool]]:
        return [(name, position is None) for name, position in index.children(prefix, after)]

    assert listed(b"") == [(b"a.b", False), (b"a", True), (b"a0", False), (b"empty", True)]
    assert listed(b"a/") == [(b"b", True), (b"x", False)]
    assert listed(b"empty/") == []
    assert index.folder(b"empty/") != index.folder(b"other/")
    assert listed(b"", b"a/") == [(b"a0", False), (b"empty", True)]


def test_an_empty_archive_has_no_members(store: ManifestStore, tmp_path: Path) -> None:
    assert len(read(store, tmp_path / "a.zip", make_zip([], b"comment"))) == 0


@pytest.mark.parametrize(
    "name",
    ["../etc/x", "/etc/pass", "a/../../b", "a//b", "./a", "a/./b", "..", ".", "a/..", "a\0b"],
)
def test_what_no_url_may_name_is_not_served(store: ManifestStore, tmp_path: Path, name: str) -> None:
    stand_in = "q" * len(name)
    archive = renamed(make_zip([(stand_in, b"bad", STORED), ("good", b"", STORED)]), stand_in, name.encode())
    index = read(store, tmp_path / "a.zip", archive)
    assert [index[position] for position in range(len(index))] == [b"good"]


def test_names_are_of_code_page_437_unless_they_say_that_they_are_utf_8(store: ManifestStore, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    archive = make_zip([("caf_.txt", b"old", STORED), ("é.txt", b"new", STORED)])
    index = read(store, path, renamed(archive, "caf_.txt", b"caf\x82.txt"))
    assert index.find_member("café.txt".encode()) is not None
    assert index.find_member("é.txt".encode()) is not None
    assert set(contents(index)) == set(as_zipfile_has_it(path))


def test_with_an_end_of_an_archive_in_a_comment_the_real_end_counts(store: ManifestStore, tmp_path: Path) -> None:
    fake_end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0, 0, 0, 0, 0)
    fake_directory = make_zip([("fake", b"", STORED)])[-200:]
    for comment in (fake_end, b"x" + fake_end, fake_end + b"xyz", fake_directory[:-1]):
        index = read(store, tmp_path / "a.zip", make_zip([("real", b"", STORED)], comment))
        assert list(contents(index)) == ["real"], comment


def test_bytes_behind_an_archive_do_not_belong_to_it(store: ManifestStore, tmp_path: Path) -> None:
    assert list(contents(read(store, tmp_path / "a.zip", make_zip([("a", b"", STORED)]) + b"\0" * 500))) == ["a"]


def test_sizes_and_places_of_more_than_four_gib_are_read(store: ManifestStore, tmp_path: Path) -> None:
    path = tmp_path / "large.zip"
    with zipfile.ZipFile(path, "w", allowZip64=True) as archive:
        archive.writestr("first", b"1")
    # A hole of 5 GiB as a member, as zipfile would write it if it took the time.
    size_bytes = 5 << 30
    with open(path, "r+b") as file:
        file.seek(0)
        header = struct.pack("<4s5H3L2H", b"PK\3\4", 45, 0, 0, 0, 0, 0, 0xFFFFFFFF, 0xFFFFFFFF, 4, 20)
        extra = struct.pack("<HHQQ", 1, 16, size_bytes, size_bytes)
        file.write(header + b"hole" + extra)
        file.seek(len(header) + 4 + 20 + size_bytes)
        second = file.tell()
        file.write(struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 0, 0, 0, 0, 3, 3, 6, 0) + b"second" + b"end")
        start = file.tell()

        def entry(name: bytes, size: int, place: int) -> bytes:
            large = [number for number in (size, size, place) if number >= 0xFFFFFFFF]
            more = struct.pack(f"<HH{len(large)}Q", 1, 8 * len(large), *large) if large else b""
            size, place = min(size, 0xFFFFFFFF), min(place, 0xFFFFFFFF)
            fixed = (20, 45, 0, 0, 0, 0, 0, size, size, len(name), len(more), 0, 0, 0, 0, place)
            return struct.pack("<4s6H3L5H2L", b"PK\1\2", *fixed) + name + more

        directory = entry(b"hole", size_bytes, 0) + entry(b"second", 3, second)
        file.write(directory)
        end = file.tell()
        file.write(struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 2, 2, len(directory), start))
        file.write(struct.pack("<4sLQL", b"PK\6\7", 0, end, 1))
        file.write(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 2, 2, len(directory), 0xFFFFFFFF, 0))
        file.truncate()
    assert contents(read(store, path)) == as_zipfile_has_it(path)
    assert contents(read(store, path))["second"][-1] > 1 << 32


def test_more_members_than_16_bits_count_are_found(store: ManifestStore, tmp_path: Path) -> None:
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(70_000):
            archive.writestr(zipfile.ZipInfo(f"{number % 7}/{number}"), b"")
    index = read(store, path)
    assert len(index) == 70_000
    assert all(index.find_member(b"%d/%d" % (number % 7, number)) for number in range(0, 70_000, 997))


def overlapping() -> bytes:
    """Two entries of the directory lead to one member."""
    archive = make_zip([("a", b"x" * 50, STORED), ("b", b"y" * 50, STORED)])
    return changed(archive, entry_of(archive, "b"), START, 0)


def reaching_into_the_next() -> bytes:
    archive = make_zip([("a", b"x" * 50, STORED), ("b", b"y" * 50, STORED)])
    return changed(archive, entry_of(archive, "a"), PACKED_BYTES, 60)


def reaching_into_the_directory() -> bytes:
    archive = make_zip([("a", b"x" * 50, STORED)])
    return changed(archive, entry_of(archive, "a"), PACKED_BYTES, 60)


def of_several_parts() -> bytes:
    archive = make_zip([("a", b"x", STORED)])
    return changed(archive, archive.rindex(b"PK\5\6"), (4, "<H"), 1)


def with_a_wrong_count() -> bytes:
    archive = make_zip([("a", b"x", STORED), ("b", b"x", STORED)])
    return changed(archive, archive.rindex(b"PK\5\6"), (10, "<H"), 1)


def with_a_damaged_directory() -> bytes:
    archive = make_zip([("a", b"x", STORED), ("b", b"x", STORED)])
    return changed(archive, entry_of(archive, "b"), (0, "<H"), 0)


def without_a_size() -> bytes:
    archive = make_zip([("first", b"x", STORED), ("second", b"x", STORED)])
    at = entry_of(archive, "first")
    directory = archive[at:]
    # An extra field for Zip64 with nothing in it, behind the name.
    larger = changed(directory, 0, PACKED_BYTES, 0xFFFFFFFF)
    larger = changed(larger, 0, (30, "<H"), 4)
    larger = larger[:51] + struct.pack("<HH", 1, 0) + larger[51:]
    made = archive[:at] + larger
    end = made.rindex(b"PK\5\6")
    return changed(made, end, (12, "<L"), end - at)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (overlapping, "share bytes"),
        (reaching_into_the_next, "share bytes"),
        (reaching_into_the_directory, "reaches into its directory"),
        (of_several_parts, "one of several parts"),
        (with_a_wrong_count, "says that it has 1 members, and has 2"),
        (with_a_damaged_directory, "its directory is damaged"),
        (without_a_size, "a size for Zip64 is missing"),
    ],
)
def test_an_archive_that_contradicts_itself_is_refused_when_it_is_published(
    hub: JupyterRelayHub, tmp_path: Path, make: object, reason: str
) -> None:
    path = tmp_path / "bad.zip"
    assert callable(make)
    path.write_bytes(make())
    with pytest.raises(ArchiveError, match=reason):
        hub.serve_tree(path)
    assert hub.registry.registrations() == []


def test_what_is_no_archive_or_was_cut_off_is_refused(hub: JupyterRelayHub, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    archive = make_zip([("a", b"x" * 100, STORED)])
    for part in (b"", b"PK", archive[:-1], archive[:-22], archive[:50], b"\0" * 100_000):
        path.write_bytes(part)
        with pytest.raises(NotATree, match="no zip archive, or not all of one"):
            hub.serve_tree(path)


@settings(max_examples=60)
@given(st.data())
def test_a_damaged_archive_is_read_or_refused_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("archive")
    archive = bytearray(make_zip([("a/b", b"x" * 40, DEFLATED), ("c", b"y" * 40, STORED)], b"comment"))
    for _ in range(data.draw(st.integers(1, 4))):
        archive[data.draw(st.integers(len(archive) - 160, len(archive) - 1))] = data.draw(st.integers(0, 255))
    path = folder / "a.zip"
    try:
        index = read(ManifestStore(folder / "kdr" / "registry.sqlite"), path, bytes(archive))
    except (ArchiveError, NoArchive):
        return
    spans = []
    for position in range(len(index)):
        member = index.member(position)
        stop = member.header_start + 30 + member.room_bytes + member.packed_bytes
        assert 0 <= member.header_start < stop <= len(archive)
        spans.append((member.header_start, stop))
    spans.sort()
    assert all(one[1] <= other[0] for one, other in pairwise(spans))


def test_what_is_encrypted_is_told(store: ManifestStore, tmp_path: Path) -> None:
    archive = make_zip([("a", b"x", STORED), ("b", b"x", STORED)])
    archive = changed(archive, entry_of(archive, "a"), FLAGS, 1)
    index = read(store, tmp_path / "a.zip", changed(archive, entry_of(archive, "b"), METHOD, 93))
    assert [index.member(position).method for position in range(2)] == [UNREADABLE, 93]


def test_an_index_is_for_its_user_alone_and_made_once_for_each_version(
    hub: JupyterRelayHub, store: ManifestStore, tmp_path: Path
) -> None:
    path = write_zip(tmp_path / "a.zip", ("a", b"1", STORED))
    hub.serve_tree(path)
    made = index_path(store, os.fsencode(path))
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    first = made.stat().st_ino
    hub.serve_tree(path)
    assert made.stat().st_ino == first
    write_zip(path, ("a", b"1", STORED), ("b", b"2", STORED))
    hub.serve_tree(path)
    assert made.stat().st_ino != first


def test_a_damaged_index_is_made_again(hub: JupyterRelayHub, store: ManifestStore, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", ("a", b"1", STORED))
    hub.serve_tree(path)
    made = index_path(store, os.fsencode(path))
    made.write_bytes(bytes([made.read_bytes()[0] ^ 1]) + made.read_bytes()[1:])
    assert open_index(store, os.fsencode(path), make_signature(path.stat())) is None
    hub.serve_tree(path)
    assert open_index(store, os.fsencode(path), make_signature(path.stat())) is not None


def test_an_archive_and_its_members_have_keys_of_their_own(hub: JupyterRelayHub, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", ("a", b"1", STORED))
    as_file, as_tree = hub.serve_file(path), hub.serve_tree(path)
    assert as_file.key != as_tree.key
    assert as_tree == f"/wwtkdr/{as_tree.key}/"
    assert sorted(found.kind for found in hub.registry.registrations()) == ["archive", "file"]
    assert hub.serve_tree(path) == as_tree


def test_no_content_key_is_made_of_members(hub: JupyterRelayHub, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", ("a", b"1", STORED))
    with pytest.raises(InvalidOption, match="publish the archive itself, with serve_file, or unpack it"):
        hub.serve_tree(path, content=True)


def test_an_index_that_no_registration_needs_is_removed(
    hub: JupyterRelayHub, store: ManifestStore, tmp_path: Path
) -> None:
    kept, gone = (write_zip(tmp_path / name, ("a", b"1", STORED)) for name in ("kept.zip", "gone.zip"))
    hub.serve_tree(kept)
    hub.serve_tree(gone).revoke()
    for path in store.folder.glob("*/*"):
        os.utime(path, (time.time() - 10**6,) * 2)
    list(clean_up(hub.registry, []))
    assert index_path(store, os.fsencode(kept)).exists()
    assert not index_path(store, os.fsencode(gone)).exists()


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(members=2, directory_bytes=10**6, index_bytes=10**6), "has 3 members, and may have 2 here"),
        (Limits(members=9, directory_bytes=100, index_bytes=10**6), "too much here"),
        (Limits(members=9, directory_bytes=10**6, index_bytes=100), "more room than you may have here"),
    ],
)
def test_an_index_has_limits_where_others_share_the_disk(
    store: ManifestStore, tmp_path: Path, limits: Limits, reason: str
) -> None:
    path = write_zip(tmp_path / "a.zip", *((f"member {number}", b"", STORED) for number in range(3)))
    with open(path, "rb") as file, pytest.raises(ArchiveError, match=reason):
        make_index(store, os.fsencode(path), file.fileno(), limits)
    assert not index_path(store, os.fsencode(path)).exists()


def test_what_an_index_would_be_is_not_written_far_beyond_the_limit(
    store: ManifestStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "_RUN_MEMBERS", 3)
    monkeypatch.setattr(archives._Sorting, "finish", lambda _: pytest.fail("all was written"))
    path = write_zip(tmp_path / "a.zip", *((f"member {number}", b"", STORED) for number in range(9)))
    with open(path, "rb") as file, pytest.raises(ArchiveError, match="more room than you may have here"):
        make_index(store, os.fsencode(path), file.fileno(), Limits(99, 10**6, index_bytes=200))


def test_a_count_that_lies_does_not_get_past_the_limit(store: ManifestStore, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(with_a_wrong_count())
    with open(path, "rb") as file, pytest.raises(ArchiveError, match="more than 1 members"):
        make_index(store, os.fsencode(path), file.fileno(), Limits(1, 10**6, 10**6))


def test_an_archive_that_is_being_written_is_not_published(
    hub: JupyterRelayHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_zip(tmp_path / "a.zip", ("a", b"1", STORED))
    make = archives.make_index

    def make_and_touch(*arguments: object) -> ArchiveIndex:
        index = make(*arguments)  # type: ignore[arg-type]
        with open(path, "ab") as file:
            file.write(b"more")
        return index

    monkeypatch.setattr(archives, "make_index", make_and_touch)
    with pytest.raises(ArchiveError, match="it is being changed"):
        hub.serve_tree(path)


def test_a_registry_of_an_older_version_takes_archives(registry_path: Path, tmp_path: Path) -> None:
    import sqlite3

    from hub.registry import MIGRATIONS

    registry_path.parent.mkdir(mode=0o700)
    registry_path.touch(0o600)
    connection = sqlite3.connect(registry_path)
    for statements in MIGRATIONS[:4]:
        for statement in statements:
            connection.execute(statement)
    connection.execute(
        "INSERT INTO registration (key, kind, root, name, visibility, trusted, headers) "
        "VALUES ('old', 'tree', x'2f64', x'', 'private', 0, '[]')"
    )
    connection.execute("PRAGMA user_version = 4")
    connection.commit()
    connection.close()
    hub = JupyterRelayHub(registry=registry_path, base_url="/", key_prefix="")
    key = hub.serve_tree(write_zip(tmp_path / "a.zip", ("a", b"", STORED))).key
    registry = Registry(registry_path)
    old, new = registry.find("old"), registry.find(key)
    assert old is not None
    assert new is not None
    assert (old.kind, new.kind) == ("tree", "archive")
    registry.close()
    hub.registry.close()


def test_random_damage_of_larger_archives_is_survived(store: ManifestStore, tmp_path: Path) -> None:
    chance = random.Random(1)
    members = [(f"{number % 5}/{number}.bin", chance.randbytes(30), DEFLATED) for number in range(50)]
    whole = make_zip(members)
    path = tmp_path / "a.zip"
    for _ in range(200):
        archive = bytearray(whole)
        for _ in range(chance.randrange(1, 6)):
            archive[chance.randrange(len(archive) - 4000, len(archive))] = chance.randrange(256)
        path.write_bytes(archive[: chance.choice([len(archive), chance.randrange(len(archive))])])
        with open(path, "rb") as file, suppress(ArchiveError, NoArchive):
            make_index(store, os.fsencode(path), file.fileno())


def test_the_checksum_in_the_directory_is_what_counts(store: ManifestStore, tmp_path: Path) -> None:
    archive = make_zip([("a", b"x", STORED)])
    index = read(store, tmp_path / "a.zip", changed(archive, entry_of(archive, "a"), CRC, 7))
    assert index.member(0).crc == 7
