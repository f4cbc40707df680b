"""Remove uploads that no registration needs any more."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import islice

from hub.content.manifests import ManifestStore
from hub.registration import Registration
from hub.registries import AnyRegistry
from kdr_wsgi.objects.uploads import UploadPlace, UploadStore

#: What was uploaded within this time may be about to be registered.
_GRACE_SECONDS = 24 * 3600.0

#: Objects that are removed with one call.
_BATCH = 1000


def clean_up_uploads(registry: AnyRegistry, place: UploadPlace) -> tuple[int, int]:
    """Remove what no registration of its owner needs, and is older than a day.

    Returns
    -------
    (int, int)
        How many files were removed, and their bytes.

    Raises
    ------
    RegistryError, StoreFailing
    ManifestError
        It cannot be told what a tree needs; of that user's nothing is removed.
    """
    store = UploadStore(place)
    older_than = time.time() - _GRACE_SECONDS
    files = size_bytes = 0
    for name in store.owner_folders():
        # Listed first: what is registered meanwhile is needed too.
        old = [each for each in store.list_folder(name) if each.modified_seconds < older_than]
        if not old:
            continue
        root = place.root + b"/" + name.encode()
        # A folder that has its owner's own name takes no look at those of all users.
        claimed = registry.registrations_of(name) if place.root_of(name) == root else registry.registrations()
        needed = set(_needed_digests(registry, claimed, place, root))
        removed = iter([each for each in old if each.digest not in needed])
        while batch := [*islice(removed, _BATCH)]:
            store.remove(name, [each.digest for each in batch])
            files += len(batch)
            size_bytes += sum(each.size_bytes for each in batch)
    return files, size_bytes


def _needed_digests(
    registry: AnyRegistry, claimed: Iterable[Registration], place: UploadPlace, root: bytes
) -> Iterator[bytes]:
    # Of a registration with very many places not all are told; this counts them all.
    kept = registry.kept_contents(root)
    for registration in claimed:
        if registration.content not in kept or place.root_of(registration.owner) != root:
            continue
        if registration.kind == "file":
            yield bytes.fromhex(registration.content)
            continue
        manifest = ManifestStore(registry.location, registration.owner).open(registration.content, root).manifest
        for position in range(len(manifest)):
            yield manifest.hash(position)
