"""Remove what content keys and archives needed and no registration needs any more."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence

from hub.content.archives import index_name
from hub.content.manifests import ManifestStore
from hub.content.snapshots import SnapshotFolder
from hub.content.trees import explained
from hub.registration import Registration
from hub.registries import AnyRegistry

#: What was hashed within this time may be about to be registered; what was begun may go on.
_GRACE_SECONDS = 24 * 3600.0


def needed_by(registrations: Iterable[Registration]) -> set[str]:
    """Return what the manifests and indexes are called, but for suffixes, that registrations need."""
    return {index_name(each.root) if each.kind == "archive" else each.content for each in registrations}


def clean_up(registry: AnyRegistry, folders: Sequence[SnapshotFolder]) -> Iterator[tuple[str, tuple[int, int]]]:
    """Remove manifests, and copies from folders of snapshots; yield of what how many files and bytes are gone.

    Raises
    ------
    RegistryError, ManifestError, SnapshotError
    """
    store = ManifestStore(registry.location)
    older_than = time.time() - _GRACE_SECONDS
    needed = needed_by(registry.registrations())
    with explained(store):
        removed = [each.clean_up(needed, older_than) for each in store.with_owners()]
    yield "manifests", (sum(files for files, _ in removed), sum(size_bytes for _, size_bytes in removed))
    for folder in folders:
        yield f"snapshots in {folder.path}", folder.clean_up()
