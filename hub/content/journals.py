"""Journals: what an interrupted hashing had done, for the next one to go on from."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from blake3 import blake3

from hub.content.hashing import HASH_BYTES
from hub.content.walking import Record, split_records
from hub.filesystems import make_private_directories

_SUFFIX = ".journal"

#: Before a block: how long it is, of how many files it is, and its hash, since the power may have failed.
_HEAD = struct.Struct("<QQ32s")


class Journal:
    """Keeps what has been hashed, in ascending order, until the tree is written.

    Parameters
    ----------
    folder : Path
        What is known of the root; it may hold journals of others, too.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._earlier = sorted(folder.glob(f"*{_SUFFIX}"))
        self._own: Path | None = None

    def earlier(self) -> list[Iterator[tuple[Record, bytes]]]:
        """Return what each earlier journal holds: records, in ascending order, and hashes."""
        return [_read_blocks(path) for path in self._earlier]

    def add(self, records: Sequence[Record], hashes: Sequence[bytes]) -> None:
        """Keep some more."""
        block = b"".join((*hashes, *records))
        head = _HEAD.pack(len(block), len(records), blake3(block).digest())
        if self._own is None:
            make_private_directories(self._folder / "file")
            self._own = self._folder / f"{os.getpid()}-{os.urandom(8).hex()}{_SUFFIX}"
        # Opened for each block: hours may pass between two.
        with open(os.open(self._own, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "ab") as file:
            file.write(head + block)

    def discard(self) -> None:
        """Remove it, and those that were here before: the tree is written."""
        for path in (*self._earlier, self._own):
            if path is not None:
                path.unlink(missing_ok=True)


def _read_blocks(path: Path) -> Iterator[tuple[Record, bytes]]:
    """Yield what a journal holds, up to where it is whole."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # Another process has finished.
        return
    with open(descriptor, "rb") as file:
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            length, count, digest = _HEAD.unpack(head)
            if length > os.fstat(descriptor).st_size:
                return
            block = file.read(length)
            if blake3(block).digest() != digest:
                return
            hashes = count * HASH_BYTES
            for position, record in enumerate(split_records(block[hashes:])):
                yield record, block[position * HASH_BYTES : (position + 1) * HASH_BYTES]
