from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdr_wsgi.cache import FileCache
from kdr_wsgi.files import SmallFile
from kdr_wsgi.media_types import find_media_type
from kdr_wsgi.versions import FileVersion


def small_file(status: os.stat_result, body: bytes, *, is_settled: bool = True) -> SmallFile:
    version = FileVersion(
        status.st_size, status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns, is_settled=is_settled
    )
    return SmallFile(version, find_media_type(b"a.png"), body)


def test_a_file_is_found_until_its_status_differs(tmp_path: Path) -> None:
    cache = FileCache(10_000)
    (tmp_path / "a").write_bytes(b"x")
    status = os.stat(tmp_path / "a")
    kept = small_file(status, b"x")
    cache.add((b"r", b"a", b""), kept)
    assert cache.find((b"r", b"a", b""), status) is kept
    assert cache.find((b"r", b"a", b"other name"), status) is None
    os.utime(tmp_path / "a", (1, 1))
    assert cache.find((b"r", b"a", b""), os.stat(tmp_path / "a")) is None


def test_a_version_that_might_hide_a_change_is_not_kept(tmp_path: Path) -> None:
    cache = FileCache(10_000)
    status = os.stat(tmp_path)
    cache.add((b"r", b"a", b""), small_file(status, b"x", is_settled=False))
    assert cache.find((b"r", b"a", b""), status) is None


def test_the_capacity_is_kept_and_what_is_asked_for_stays(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 400)
    status = os.stat(tmp_path / "a")
    cache = FileCache(10 * (400 + FileCache.OVERHEAD_BYTES + 10))
    wanted = (b"r", b"wanted", b"")
    cache.add(wanted, small_file(status, b"x" * 400))
    for number in range(100):
        assert cache.find(wanted, status) is not None
        cache.add((b"r", b"scan%d" % number, b""), small_file(status, b"%400d" % number))
    kept = [number for number in range(100) if cache.find((b"r", b"scan%d" % number, b""), status)]
    assert 5 <= len(kept) <= 10


def test_a_walk_over_a_large_tree_pushes_out_nothing_that_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 400)
    status = os.stat(tmp_path / "a")
    cache = FileCache(100 * (400 + FileCache.OVERHEAD_BYTES + 10))
    read_again = [(b"r", b"again%d" % number, b"") for number in range(50)]
    for place in read_again:
        cache.add(place, small_file(status, place[1].ljust(400)))
        assert cache.find(place, status) is not None
    for number in range(2000):
        cache.add((b"r", b"walk%d" % number, b""), small_file(status, b"%400d" % number))
    assert all(cache.find(place, status) for place in read_again)


def test_equal_bodies_are_held_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(50_000))
    status = os.stat(tmp_path / "a")
    cache = FileCache(400_000)
    places = [(b"r", b"%d" % number, b"") for number in range(20)]
    for place in places:
        cache.add(place, small_file(status, bytes(50_000)))
    found = [cache.find(place, status) for place in places]
    assert len({id(file.body) for file in found if file}) == 1
    assert all(found)
    # What is let go leaves room.
    for number in range(200):
        cache.add((b"r", b"other%d" % number, b""), small_file(status, b"%50000d" % number))
    kept = [number for number in range(200) if cache.find((b"r", b"other%d" % number, b""), status)]
    assert 5 <= len(kept) <= 7


@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.integers(0, 4), st.integers(0, 3000), st.booleans()), min_size=1, max_size=60
    )
)
def test_what_is_kept_never_takes_more_than_the_capacity(steps: list[tuple[int, int, int, bool]]) -> None:
    cache = FileCache(12_000)
    status = os.stat(__file__)
    for number, kind, size_bytes, is_asked_for in steps:
        place = (b"r", b"%d" % number, b"")
        body = bytes([kind]) * size_bytes
        cache.add(place, small_file(status, body))
        kept = [place for n in range(13) if cache.find(place := (b"r", b"%d" % n, b""), status) and is_asked_for]
        bodies = {cache.find(place, status).body for place in kept}  # type: ignore[union-attr]  # it was just found
        assert sum(map(len, bodies)) + len(kept) * FileCache.OVERHEAD_BYTES <= 12_000


def test_a_file_that_was_left_alone_is_kept_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"x")
    status = os.stat(tmp_path / "a")
    begun = time.monotonic()
    for age_seconds, is_kept in ((10, False), (100, True)):
        monkeypatch.setattr(time, "time", lambda age=age_seconds: status.st_ctime + age)
        cache = FileCache(10_000)
        cache.add((b"r", b"a", b""), small_file(status, b"x"))
        monkeypatch.setattr(time, "monotonic", lambda: begun + 30)
        assert (cache.find((b"r", b"a", b""), status) is not None) is is_kept
        monkeypatch.setattr(time, "monotonic", lambda: begun + 90)
        assert cache.find((b"r", b"a", b""), status) is None
        monkeypatch.undo()


def test_what_was_made_is_found_by_its_tag_for_as_long_as_it_was_kept(tmp_path: Path) -> None:
    cache = FileCache(10_000)
    made = small_file(os.stat(tmp_path), b"x").made_into(b"yy", find_media_type(b"a.txt"), "gzip")
    cache.add_made((b"r", b"a", b""), made)
    assert cache.find_made((b"r", b"a", b""), made.etag) is made
    assert cache.find_made((b"r", b"a", b""), '"other"') is None
    assert cache.find_made((b"r", b"b", b""), made.etag) is None
    cache.add_made((b"r", b"a", b""), made, for_seconds=-1.0)
    assert cache.find_made((b"r", b"a", b""), made.etag) is None


def test_what_is_larger_than_the_capacity_is_let_go(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    status = os.stat(tmp_path / "a")
    cache = FileCache(10)
    cache.add((b"r", b"a", b""), small_file(status, b"x"))
    assert cache.find((b"r", b"a", b""), status) is None
