from __future__ import annotations

import os
from pathlib import Path

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
        cache.add((b"r", b"scan%d" % number, b""), small_file(status, b"x" * 400))
    kept = [number for number in range(100) if cache.find((b"r", b"scan%d" % number, b""), status)]
    assert 5 <= len(kept) <= 10


def test_what_is_larger_than_the_capacity_is_let_go(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    status = os.stat(tmp_path / "a")
    cache = FileCache(10)
    cache.add((b"r", b"a", b""), small_file(status, b"x"))
    assert cache.find((b"r", b"a", b""), status) is None
