from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from blake3 import blake3

from hub.content import hashing
from hub.content.hashing import CHANGING, LARGE_FILE_BYTES, hash_batch, hash_descriptor
from hub.content.signatures import SIGNATURE_BYTES, make_signature
from tests.conftest import make_settled


@pytest.mark.parametrize("may_map", [False, True], ids=["read", "mapped"])
@pytest.mark.parametrize("size_bytes", [0, 1, 1023, LARGE_FILE_BYTES - 1, LARGE_FILE_BYTES, 3 * LARGE_FILE_BYTES + 7])
def test_a_hash_is_plain_blake3(
    size_bytes: int, may_map: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "_WINDOW_BYTES", LARGE_FILE_BYTES)
    data = os.urandom(size_bytes)
    (tmp_path / "f").write_bytes(data)
    (outcome,) = hash_batch(os.fsencode(tmp_path), [b"f"], may_map=may_map)
    assert outcome == make_signature((tmp_path / "f").stat()) + blake3(data).digest()


def test_each_file_has_an_outcome_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "f").write_bytes(b"x")
    outcomes = hash_batch(os.fsencode(tmp_path), [b"nothing", b"folder", b"fifo", b"f/below", b"f"])
    assert outcomes[:4] == [errno.ENOENT, errno.ENOENT, errno.ENOENT, errno.ENOTDIR]
    assert outcomes[4] == make_signature((tmp_path / "f").stat()) + blake3(b"x").digest()


@pytest.mark.parametrize("size_bytes", [5, 2 * LARGE_FILE_BYTES])
@pytest.mark.parametrize("change", ["grow", "shrink", "rewrite"])
def test_a_file_that_changes_each_time_has_no_hash(
    change: str, size_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f"
    path.write_bytes(bytes(size_bytes))
    read = hashing._digest
    times = []

    def read_and_change(descriptor: int, size: int, may_map: bool, report: hashing.Report | None) -> bytes | None:
        times.append(size)
        if change == "shrink":
            os.truncate(path, size - 1)
        digest = read(descriptor, size, may_map, report)
        if change == "grow":
            os.truncate(path, size + 1)
        if change == "rewrite":
            make_settled(path)
            path.write_bytes(bytes(size))
        return digest

    monkeypatch.setattr(hashing, "_digest", read_and_change)
    assert hash_batch(os.fsencode(tmp_path), [b"f"], may_map=True) == [CHANGING]
    assert len(times) == 3


def test_a_file_that_changes_once_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    read = hashing._digest

    def read_and_change(*arguments: object) -> bytes | None:
        monkeypatch.setattr(hashing, "_digest", read)
        digest = read(*arguments)  # type: ignore[arg-type]
        path.write_bytes(b"newer")
        return digest

    monkeypatch.setattr(hashing, "_digest", read_and_change)
    (outcome,) = hash_batch(os.fsencode(tmp_path), [b"f"])
    assert outcome == make_signature(path.stat()) + blake3(b"newer").digest()


def test_a_change_in_the_tick_of_the_one_before_is_not_overlooked(tmp_path: Path) -> None:
    path = tmp_path / "f"
    for _ in range(20):
        path.write_bytes(b"old")
        descriptor = os.open(path, os.O_RDONLY)
        hashed = hash_descriptor(descriptor)
        os.close(descriptor)
        path.write_bytes(b"new")
        assert hashed is not None
        assert hashed[SIGNATURE_BYTES:] == blake3(b"old").digest()
        assert hashed[:SIGNATURE_BYTES] != make_signature(path.stat())


def test_what_cannot_be_settled_gets_a_signature_that_is_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x")
    monkeypatch.setattr(hashing, "is_settled", lambda changed_ns: False)
    (outcome,) = hash_batch(os.fsencode(tmp_path), [b"f"])
    assert isinstance(outcome, bytes)
    assert outcome[:SIGNATURE_BYTES] != make_signature(path.stat())
    assert outcome[SIGNATURE_BYTES:] == blake3(b"x").digest()


def test_of_a_large_file_it_is_told_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "_WINDOW_BYTES", LARGE_FILE_BYTES)
    (tmp_path / "f").write_bytes(bytes(3 * LARGE_FILE_BYTES))
    told: list[int] = []
    hash_batch(os.fsencode(tmp_path), [b"f"], may_map=True, report=told.append)
    assert told == [LARGE_FILE_BYTES] * 3
