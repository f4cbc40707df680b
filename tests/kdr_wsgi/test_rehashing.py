from __future__ import annotations

import os
from pathlib import Path

import pytest
from blake3 import blake3

from kdr_wsgi.errors import ContentChanged, FileBeingHashed
from kdr_wsgi.files import OpenFile
from kdr_wsgi.media_types import find_media_type
from kdr_wsgi.rehashing import Rehasher

DATA = b"x" * 1000


def check(rehasher: Rehasher, path: Path, digest: bytes, owner: str = "") -> None:
    file = OpenFile(os.open(path, os.O_RDONLY), find_media_type(b"a"))
    try:
        rehasher.check(file, digest, owner)
    finally:
        os.close(file.detach())


def test_each_owner_has_an_allowance_of_its_own(tmp_path: Path) -> None:
    rehasher = Rehasher(bytes_per_minute=1500)
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(DATA + name.encode())
    digests = {name: blake3(DATA + name.encode()).digest() for name in ("a", "b", "c")}
    check(rehasher, tmp_path / "a", digests["a"], "ada")
    with pytest.raises(FileBeingHashed):
        check(rehasher, tmp_path / "b", digests["b"], "ada")
    check(rehasher, tmp_path / "c", digests["c"], "bob")


def test_a_file_with_other_bytes_is_not_what_was_promised(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(DATA)
    with pytest.raises(ContentChanged):
        check(Rehasher(), tmp_path / "a", blake3(b"other").digest())
