"""Remove what content keys needed and no registration needs any more."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from hub.content.manifests import ManifestStore
from hub.content.snapshots import SnapshotFolder
from hub.content.trees import explained
from hub.registry import Registry

#: What was hashed within this time may be about to be registered; what was begun may go on.
_GRACE_SECONDS = 24 * 3600.0


def clean_up(registry: Registry, snapshots: Sequence[str]) -> Iterator[tuple[str, tuple[int, int]]]:
    """Remove manifests, and copies from folders of snapshots; yield of what how many files and bytes are gone.

    Raises
    ------
    RegistryError, ManifestError, SnapshotError
    """
    store = ManifestStore(registry.path)
    hashed = [registration for registration in registry.registrations() if registration.content]
    needed = [
        (registration.content, store.index_path(registration.content, registration.root))
        for registration in hashed
        if registration.kind == "tree"
    ]
    with explained(store):
        yield "manifests", store.clean_up(needed, time.time() - _GRACE_SECONDS)
    for name in snapshots:
        folder = SnapshotFolder(Path(os.path.realpath(os.path.expanduser(name))))
        kept = frozenset(
            registration.content for registration in hashed if registration.is_kept and registration.root == folder.root
        )
        yield f"snapshots in {name}", folder.clean_up(registry.path, kept)
