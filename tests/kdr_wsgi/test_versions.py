from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdr_wsgi.versions import FileVersion, read_version
from tests.conftest import make_settled


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "a", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


def test_a_file_of_this_moment_is_waited_for(descriptor: int) -> None:
    os.write(descriptor, b"x")
    started = time.monotonic()
    version = read_version(descriptor)
    assert version.is_settled
    assert 0.01 < time.monotonic() - started < 2


def test_an_older_file_is_not_waited_for(descriptor: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_settled(tmp_path / "a")
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it waited"))
    assert read_version(descriptor).is_settled


def test_a_version_that_is_not_settled_never_gets_the_same_tag_twice() -> None:
    settled = FileVersion(1, 2, 3, 4, 5, is_settled=True)
    assert settled.make_etag() == settled.make_etag()
    unsettled = settled._replace(is_settled=False)
    assert unsettled.make_etag() != unsettled.make_etag()


def test_whole_seconds_are_taken_for_a_coarse_clock(descriptor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    status = os.fstat(descriptor)
    now = (status.st_ctime_ns // 10**9) * 10**9

    class Coarse:
        st_ctime_ns = now
        st_mtime_ns = now
        st_size = st_dev = st_ino = 1

    monkeypatch.setattr(os, "fstat", lambda _: Coarse())
    monkeypatch.setattr(time, "time_ns", lambda: now + 1_900_000_000)
    assert not read_version(descriptor).is_settled
    monkeypatch.setattr(time, "time_ns", lambda: now + 2_100_000_000)
    assert read_version(descriptor).is_settled


@pytest.mark.parametrize("change", ["size_bytes", "device", "inode", "modified_ns", "changed_ns"])
def test_any_number_makes_another_version(descriptor: int, change: str) -> None:
    status = os.fstat(descriptor)
    version = read_version(descriptor)
    assert version.is_of(status)
    other = FileVersion(**{**version._asdict(), change: -1})
    assert not other.is_of(status)


def test_last_modified_is_neither_in_the_future_nor_before_the_epoch() -> None:
    version = FileVersion(1, 2, 3, 5_000_000_000, 5, is_settled=True)
    assert version.last_modified(100.5) == 5
    assert version._replace(modified_ns=10**20).last_modified(100.5) == 100
    assert version._replace(modified_ns=-(10**12)).last_modified(100.5) == 0
