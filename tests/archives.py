"""Zip archives for tests, made by Python's zipfile, and changed behind its back."""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
from collections.abc import Iterable
from pathlib import Path

STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED

#: Where a field is in an entry of the directory, and in a member's header (APPNOTE.TXT 4.3.12, 4.3.7).
FLAGS, METHOD, CRC, PACKED_BYTES, SIZE_BYTES, START = (
    (8, "<H"),
    (10, "<H"),
    (16, "<L"),
    (20, "<L"),
    (24, "<L"),
    (42, "<L"),
)
HEADER_FLAGS, HEADER_METHOD, HEADER_EXTRA = (6, "<H"), (8, "<H"), (28, "<H")


def make_zip(members: Iterable[tuple[str, bytes, int]], comment: bytes = b"", before: bytes = b"") -> bytes:
    """Return an archive of members, each with its method."""
    file = io.BytesIO()
    file.write(before)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Two members with one name.
        with zipfile.ZipFile(file, "a" if before else "w") as archive:
            for name, body, method in members:
                archive.writestr(zipfile.ZipInfo(name), body, method)
            archive.comment = comment
    return file.getvalue()


def write_zip(path: Path, *members: tuple[str, bytes, int]) -> Path:
    """Write an archive, and return its path."""
    path.write_bytes(make_zip(members))
    return path


def entry_of(archive: bytes, name: str) -> int:
    """Return where the directory's entry of a member begins."""
    return archive.rindex(b"PK\1\2", 0, archive.rindex(name.encode()))


def header_of(archive: bytes, name: str) -> int:
    """Return where a member's header begins."""
    return archive.rindex(b"PK\3\4", 0, archive.index(name.encode()))


def changed(archive: bytes, at: int, field: tuple[int, str], value: int) -> bytes:
    """Return an archive with another number in it."""
    offset, form = field
    copy = bytearray(archive)
    struct.pack_into(form, copy, at + offset, value)
    return bytes(copy)


def renamed(archive: bytes, old: str, new: bytes) -> bytes:
    """Return an archive in which a member has a name of the same length, which zipfile would not write."""
    assert len(old.encode()) == len(new)
    return archive.replace(old.encode(), new)
