"""From a registration of a path to one with a content key."""

from __future__ import annotations

import os
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from hub.content.hashing import hash_batch
from hub.content.manifests import ManifestStore
from hub.content.progress import Progress
from hub.content.signatures import SIGNATURE_BYTES, make_signature, size_of
from hub.content.snapshots import SnapshotFolder
from hub.content.trees import explain_outcome, hash_tree
from hub.content.workers import HashingProcesses
from hub.errors import UnhashableEntry
from hub.keys import content_key
from hub.registration import Registration
from hub.registry import Registry


def give_content_key(
    registration: Registration, registry: Registry, executor: Executor | None, snapshot: Path | None
) -> Registration:
    """Return `registration` with the key that its file or tree hashes to.

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
    UnhashableEntry, EndlessTree, ManifestError, SnapshotError, RegistryError
    """
    registry.open()
    root, signature = registration.root, b""
    store = ManifestStore(registry.path)
    folder = SnapshotFolder(snapshot) if snapshot else None
    if registration.kind == "tree":
        content = hash_tree(root, store, executor)
        if folder:
            folder.keep_tree(root, store.open(content, root), store, registry.path)
    else:
        signature, content = _hash_file(root, registry, executor)
        if folder:
            signature = folder.keep_file(root, signature, content, registry.path)
    return replace(
        registration,
        key=content_key(content, registration.variant),
        root=folder.root if folder else root,
        content=content,
        signature=signature,
        is_kept=folder is not None,
    )


def _hash_file(path: bytes, registry: Registry, executor: Executor | None) -> tuple[bytes, str]:
    """Return a file's signature and what it hashes to, reading it only if a stat says something new."""
    signature = make_signature(os.stat(path))
    known = registry.recall_hash(path, signature)
    if known is not None:
        return signature, known
    folder, name = os.path.split(path)
    with ExitStack() as stack:
        progress = stack.enter_context(Progress("hashing"))
        progress.expect(size_of(signature))
        hashing = executor
        if hashing is None:
            hashing = stack.enter_context(HashingProcesses(progress.add))
            hashing.expect(1, size_of(signature))
        (outcome,) = hashing.submit(hash_batch, folder, [name]).result()
    if isinstance(outcome, int):
        raise UnhashableEntry(os.fsdecode(path), explain_outcome(outcome))
    signature, content = outcome[:SIGNATURE_BYTES], outcome[SIGNATURE_BYTES:].hex()
    registry.remember_hash(path, signature, content)
    return signature, content
