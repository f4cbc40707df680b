from __future__ import annotations

from pathlib import Path

import pytest

from hub.content.journals import Journal
from hub.content.signatures import pack_signature

RECORDS = [b"%d\0" % number + pack_signature(number, 0, 0, 1) for number in range(9)]
HASHES = [bytes([number]) * 32 for number in range(9)]


def test_what_was_kept_is_read_in_its_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for start in range(0, 9, 3):
        journal.add(RECORDS[start : start + 3], HASHES[start : start + 3])
    (earlier,) = Journal(tmp_path).earlier()
    assert list(earlier) == list(zip(RECORDS, HASHES, strict=True))


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_what_the_power_took_is_not_believed(damage: str, tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for start in range(0, 9, 3):
        journal.add(RECORDS[start : start + 3], HASHES[start : start + 3])
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    if damage == "cut":
        del data[-1]
    else:
        data[-1] ^= 1
    path.write_bytes(data)
    (earlier,) = Journal(tmp_path).earlier()
    assert list(earlier) == list(zip(RECORDS[:6], HASHES[:6], strict=True))


def test_garbage_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "1-2.journal").write_bytes(b"\x7f" * 100)
    (earlier,) = Journal(tmp_path).earlier()
    assert list(earlier) == []


def test_all_are_discarded_at_the_end(tmp_path: Path) -> None:
    Journal(tmp_path).add(RECORDS, HASHES)
    journal = Journal(tmp_path)
    journal.add(RECORDS, HASHES)
    journal.discard()
    assert list(tmp_path.iterdir()) == []
