"""From a registration of a path to one with a content key."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from hub.content.manifests import ManifestStore
from hub.content.progress import Progress
from hub.content.signatures import SIGNATURE_BYTES, make_signature, size_of
from hub.content.snapshots import SnapshotFolder
from hub.content.trees import explain_outcome, hash_tree
from hub.content.workers import hashing
from hub.errors import InvalidOption, MissingPath, UnhashableEntry
from hub.keys import content_key
from hub.locations import beside
from hub.registration import Registration
from hub.registries import AnyRegistry


@contextmanager
def content_key_given(
    registration: Registration, registry: AnyRegistry, executor: Executor | None, snapshot: Path | None
) -> Iterator[Registration]:
    """Give the block `registration` with the key that its file or tree hashes to; the block claims it.

    Parameters
    ----------
    registration : Registration
        Its key does not matter.
    registry : Registry
        What has been hashed is remembered there, and beside it.
    executor : concurrent.futures.Executor or None
        See `hub.content.trees.hash_tree`.
    snapshot : Path or None
        The folder of snapshots that keeps the files, and from which they are served then.

    Raises
    ------
    UnhashableEntry, EndlessTree, InvalidOption, MissingPath, ManifestError, SnapshotError, RegistryError
    """
    registry.open()
    root, signature = registration.root, b""
    store = ManifestStore(registry.location)
    if registration.kind == "tree":
        _check_apart(root, registry, snapshot)
        content = hash_tree(root, store, executor)
    else:
        signature, content = _hash_file(root, registry, executor)
    hashed = replace(registration, key=content_key(content, registration.variant), content=content, signature=signature)
    if snapshot is None:
        yield hashed
        return
    folder = SnapshotFolder(snapshot, registry)
    with folder.keeping():
        if registration.kind == "tree":
            folder.keep_tree(root, store.open(content, root), store)
        else:
            signature = folder.keep_file(root, signature, content)
        yield replace(hashed, root=folder.root, signature=signature, is_kept=True)


def _check_apart(root: bytes, registry: AnyRegistry, snapshot: Path | None) -> None:
    """Raise if publishing the tree would change it."""
    inside = os.path.join(root, b"")
    if os.fsencode(os.path.realpath(beside(registry.location))).startswith(inside):
        raise UnhashableEntry(
            str(beside(registry.location)),
            "it is the registry, which each publication changes; publish a folder that does not hold it, "
            "or name another registry in KDR_REGISTRY",
        )
    if snapshot is not None and os.path.join(os.fsencode(snapshot), b"").startswith(inside):
        raise InvalidOption(
            "snapshot", str(snapshot), "it is inside the tree that it is to keep; choose another folder"
        )


def _hash_file(path: bytes, registry: AnyRegistry, executor: Executor | None) -> tuple[bytes, str]:
    """Return a file's signature and what it hashes to, reading it only if a stat says something new."""
    try:
        signature = make_signature(os.stat(path))
    except FileNotFoundError:
        raise MissingPath(os.fsdecode(path)) from None
    known = registry.recall_hash(path, signature)
    if known is not None:
        return signature, known
    folder, name = os.path.split(path)
    size_bytes = size_of(signature)
    with Progress("hashing") as progress, hashing(executor, progress) as hasher:
        progress.expect(size_bytes)
        progress.expect_no_more()
        (outcome,) = hasher.submit(folder, [name], [size_bytes]).result()
    if isinstance(outcome, int):
        raise UnhashableEntry(os.fsdecode(path), explain_outcome(outcome))
    signature, content = outcome[:SIGNATURE_BYTES], outcome[SIGNATURE_BYTES:].hex()
    registry.remember_hash(path, signature, content)
    return signature, content
