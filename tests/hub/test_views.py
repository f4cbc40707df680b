from __future__ import annotations

import os
from pathlib import Path

import pytest

from hub import views
from hub.views import EDGE_BYTES, MAX_ENTRIES, see

NONCE = bytes(range(32))


def digest(path: Path) -> bytes:
    view = see(os.fsencode(path), NONCE)
    assert view is not None
    return view.digest


def twin(path: Path, body: bytes | bytearray) -> Path:
    """Write a file with the times of its neighbours."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(body)
    os.utime(path, ns=(10**18, 10**18))
    return path


def test_equal_files_look_the_same_and_only_under_the_same_nonce(tmp_path: Path) -> None:
    one, other = (twin(tmp_path / name / "x", b"abc") for name in "ab")
    assert digest(one) == digest(other)
    first, second = see(os.fsencode(one)), see(os.fsencode(one))
    assert first is not None
    assert second is not None
    assert first.digest != second.digest


@pytest.mark.parametrize("place", [0, EDGE_BYTES - 1, -1, -EDGE_BYTES])
def test_a_byte_at_either_end_of_a_file_shows(tmp_path: Path, place: int) -> None:
    body = bytearray(5 * EDGE_BYTES)
    one = twin(tmp_path / "a", body)
    body[place] ^= 1
    assert digest(one) != digest(twin(tmp_path / "b", body))


def test_the_time_of_a_file_shows(tmp_path: Path) -> None:
    one, other = twin(tmp_path / "a", b"abc"), twin(tmp_path / "b", b"abc")
    os.utime(other, ns=(10**18, 10**18 + 1))
    assert digest(one) != digest(other)


def test_folders_look_the_same_where_their_first_entries_do(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name / "folder").mkdir(parents=True)
        (tmp_path / name / "link").symlink_to("nowhere")
        for number in range(2 * MAX_ENTRIES):
            (tmp_path / name / f"{number:04}").write_bytes(b"x")
    one, other = tmp_path / "a", tmp_path / "b"
    assert digest(one) == digest(other)
    (other / "0000").write_bytes(b"xy")
    assert digest(one) != digest(other)
    (one / "0000").write_bytes(b"xy")
    assert digest(one) == digest(other)
    (other / f"{2 * MAX_ENTRIES - 1:04}").unlink()
    assert digest(one) != digest(other)


def test_of_a_folder_with_very_many_entries_the_time_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "MAX_LISTED", 3)
    for name in "ab":
        for number in range(5):
            twin(tmp_path / name / f"{name}{number}", b"x")
        os.utime(tmp_path / name, ns=(10**18, 10**18))
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    os.utime(tmp_path / "b", ns=(10**18, 10**18 + 1))
    assert digest(tmp_path / "a") != digest(tmp_path / "b")


def test_a_file_and_a_folder_never_look_the_same_and_what_is_gone_has_no_view(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert digest(tmp_path / "folder") != digest(twin(tmp_path / "file", b""))
    assert see(os.fsencode(tmp_path / "none")) is None
