"""A tree's manifest and index on their way to a shared relay server: record and hash of each entry, in their order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hub.content.hashing import HASH_BYTES
from hub.content.manifests import Columns, Tree
from hub.content.signatures import SIGNATURE_BYTES
from hub.content.walking import Record, entry_of, split_records

#: The longest entry that is taken: Linux takes no longer path.
MAX_ENTRY_BYTES = 4096

_BEHIND_ENTRY_BYTES = 1 + SIGNATURE_BYTES + HASH_BYTES


def send_tree(tree: Tree) -> Iterator[bytes]:
    """Yield what `receive_tree` takes."""
    for columns in tree.pieces(0, len(tree.manifest)):
        hashes = (columns.hashes[start : start + HASH_BYTES] for start in range(0, len(columns.hashes), HASH_BYTES))
        yield b"".join([record + digest for record, digest in zip(split_records(columns.records), hashes, strict=True)])


def receive_tree(chunks: Iterable[bytes]) -> Iterator[Columns]:
    """Yield the columns of what `send_tree` has yielded, in whatever pieces it comes.

    Raises
    ------
    ValueError
        It is something else: an entry is no path below a folder, or they do not ascend.
    """
    rest = b""
    last = b""
    for chunk in chunks:
        rest += chunk
        records: list[Record] = []
        hashes: list[bytes] = []
        start = 0
        while (end := rest.find(b"\0", start)) >= 0 and end + _BEHIND_ENTRY_BYTES <= len(rest):
            stop = end + _BEHIND_ENTRY_BYTES
            record = rest[start : stop - HASH_BYTES]
            entry = entry_of(record)
            _check_entry(entry, last)
            records.append(record)
            hashes.append(rest[stop - HASH_BYTES : stop])
            start, last = stop, entry
        rest = rest[start:]
        if len(rest) > MAX_ENTRY_BYTES + _BEHIND_ENTRY_BYTES:
            raise ValueError("an entry is too long")
        if records:
            yield Columns.of(records, hashes)
    if rest:
        raise ValueError("it ends within an entry")


def _check_entry(entry: bytes, last: bytes) -> None:
    if not last < entry:  # An empty one too.
        raise ValueError("its entries do not ascend")
    if len(entry) > MAX_ENTRY_BYTES or not {b"", b".", b".."}.isdisjoint(entry.split(b"/")):
        raise ValueError("an entry is no path below a folder")
