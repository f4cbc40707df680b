from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.content.signatures import (
    is_settled,
    make_signature,
    make_unsettled,
    pack_signature,
    seconds_until_settled,
    size_of,
    unpack_signature,
)

TIMES = st.integers(-(1 << 63), (1 << 63) - 1)


@given(st.integers(0, (1 << 63) - 1), TIMES, TIMES, st.integers(0, (1 << 64) - 1))
def test_all_numbers_come_back(size_bytes: int, modified_ns: int, changed_ns: int, inode: int) -> None:
    signature = pack_signature(size_bytes, modified_ns, changed_ns, inode)
    assert unpack_signature(signature) == (size_bytes, modified_ns, changed_ns, inode)
    assert size_of(signature) == size_of(make_unsettled(signature)) == size_bytes


def test_a_time_in_the_far_future_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    status = (tmp_path / "a").stat()
    for modified_ns in (status.st_mtime_ns, -5, 1 << 63):
        future = os.stat_result((*status[:10],), {"st_mtime_ns": modified_ns, "st_ctime_ns": status.st_ctime_ns})
        assert make_signature(future) == pack_signature(status.st_size, modified_ns, status.st_ctime_ns, status.st_ino)


def test_a_rewrite_that_keeps_size_and_mtime_shows(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x")
    before = path.stat()
    time.sleep(0.05)
    path.write_bytes(b"y")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert make_signature(path.stat()) != make_signature(before)


NOW_NS = 1_800_000_000_123_456_789


@pytest.mark.parametrize(
    ("changed_ns", "settled", "wait"),
    [
        (NOW_NS - 30_000_000, True, 0.0),
        (NOW_NS - 5_000_000, False, 0.015),
        (NOW_NS, False, 0.02),
        # Whole seconds: a file system that may keep no more.
        (NOW_NS - 123_456_789, False, 1.877),
        (NOW_NS - 2_123_456_789, True, 0.0),
        # From another clock: waiting does not help.
        (NOW_NS + 3_600_000_000_000, True, 0.0),
        (NOW_NS + 5_000_000, False, 0.0),
    ],
)
def test_a_file_is_settled_once_its_clock_has_moved_on(
    changed_ns: int, settled: bool, wait: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: NOW_NS)
    assert is_settled(changed_ns) is settled
    assert seconds_until_settled(changed_ns) == pytest.approx(wait, abs=0.001)
