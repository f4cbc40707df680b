"""Read again what a content key promises, and tell what is not as promised."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import NamedTuple

from hub.content.hashing import Outcome
from hub.content.manifests import Manifest, ManifestStore
from hub.content.opening import GONE
from hub.content.progress import Progress
from hub.content.signatures import SIGNATURE_BYTES, size_of
from hub.content.snapshots import object_entry
from hub.content.trees import Known, Walked, explain_outcome, explained, hash_pieces
from hub.content.walking import RUN_RECORDS, Record, entry_of, walk
from hub.registration import Registration
from hub.registries import AnyRegistry


class Verified(NamedTuple):
    """A file that was looked at.

    Attributes
    ----------
    entry : bytes
    size_bytes : int
        What was read.
    difference : str
        Empty if the file is as promised.
    """

    entry: bytes
    size_bytes: int
    difference: str


def verify(registration: Registration, registry: AnyRegistry) -> Iterator[Verified]:
    """Yield what has become of each file that a content key promises, and each that has been added to its tree.

    All is read, whatever a stat says.

    Parameters
    ----------
    registration : Registration
        With a content key.
    registry : Registry

    Raises
    ------
    ManifestError, UnhashableEntry, EndlessTree
    """
    store = ManifestStore(registry.location, registration.owner)
    with explained(store), Progress("verifying") as progress:
        if registration.kind == "file":
            digest = bytes.fromhex(registration.content)
            folder, name = (
                (registration.root, object_entry(digest)) if registration.is_kept else os.path.split(registration.root)
            )
            record = name + b"\0" + registration.signature
            for _, outcome in _hash_again(folder, [[record]], progress):
                yield _judge(registration.name, outcome, digest)
            return
        manifest = store.open(registration.content, registration.root).manifest
        if registration.is_kept:
            yield from _verify_kept(registration.root, manifest, progress)
        else:
            yield from _verify_tree(registration.root, manifest, progress)


def _verify_tree(root: bytes, manifest: Manifest, progress: Progress) -> Iterator[Verified]:
    position = 0
    for record, outcome in _hash_again(root, walk(root), progress):
        entry = entry_of(record)
        while position < len(manifest) and manifest[position] < entry:
            yield Verified(manifest[position], 0, "missing")
            position += 1
        if position < len(manifest) and manifest[position] == entry:
            yield _judge(entry, outcome, manifest.hash(position))
            position += 1
        elif outcome not in GONE:
            yield Verified(entry, 0, "added")
    for missing in range(position, len(manifest)):
        yield Verified(manifest[missing], 0, "missing")


def _verify_kept(root: bytes, manifest: Manifest, progress: Progress) -> Iterator[Verified]:
    runs = (
        [_object_record(manifest, position) for position in range(start, min(start + RUN_RECORDS, len(manifest)))]
        for start in range(0, len(manifest), RUN_RECORDS)
    )
    for position, (_, outcome) in enumerate(_hash_again(root, runs, progress)):
        yield _judge(manifest[position], outcome, manifest.hash(position))


def _object_record(manifest: Manifest, position: int) -> Record:
    signature = manifest.size_bytes(position).to_bytes(SIGNATURE_BYTES, "little")
    return object_entry(manifest.hash(position)) + b"\0" + signature


def _hash_again(root: bytes, runs: Iterable[list[Record]], progress: Progress) -> Iterator[tuple[Record, Outcome]]:
    """Hash all files, and yield what became of each."""
    pieces = (Walked(run, [None] * len(run)) for run in runs)
    with closing(hash_pieces(root, pieces, None, progress)) as hashed:
        for piece in hashed:
            assert not isinstance(piece, Known)
            yield from zip(piece.records, piece.outcomes, strict=True)


def _judge(entry: bytes, outcome: Outcome, digest: bytes) -> Verified:
    if isinstance(outcome, bytes):
        is_same = outcome[SIGNATURE_BYTES:] == digest
        return Verified(entry, size_of(outcome), "" if is_same else "changed")
    return Verified(entry, 0, "missing" if outcome in GONE else f"cannot be read: {explain_outcome(outcome)}")
