"""All that is known of registrations, put together for the status page and for commands."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from hub.content.signatures import size_of
from hub.locations import Location
from hub.measuring import Measure, measure_folder
from hub.object_urls import is_object_root
from hub.registration import Registration
from kdr_wsgi import beneath
from kdr_wsgi.contents import Contents
from kdr_wsgi.errors import NoSuchEntry, NotReadable, StorageFailing, TooManyOpenFiles
from kdr_wsgi.usage import UNUSED, Usage, UsageUnavailable, read_usage

#: So much of a tree is looked at to tell its size; a larger one has "more than" that.
MAX_ENTRIES = 100_000
MAX_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Published:
    """A registration, and what is known of it now.

    Attributes
    ----------
    registration : Registration
    usage : Usage or None
        What was read of it; None: that cannot be told.
    is_missing : bool
        Whether nothing is on disk any more at any of its places.
    """

    registration: Registration
    usage: Usage | None
    is_missing: bool


class SizeUnknown(Exception):
    """How much there is in an object store, only a listing of all of it could tell."""

    sentence = "It is in an object store, which is not asked for the sizes of all."


class Overview(NamedTuple):
    """What is known of some registrations.

    Attributes
    ----------
    published : list of Published
        In the order in which they were given.
    trouble : str
        Why nobody can tell what was read; empty, where that can be told.
    """

    published: list[Published]
    trouble: str


def look_over(registrations: Iterable[Registration], registry: Location) -> Overview:
    """Return what is known of registrations of one registry."""
    registrations = list(registrations)
    trouble = ""
    counts: dict[str, Usage] = {}
    try:
        counts = read_usage(registry, [registration.key for registration in registrations])
    except UsageUnavailable as error:
        trouble = str(error)
    return Overview(
        [
            Published(
                registration,
                None if trouble else counts.get(registration.key, UNUSED),
                all(_is_missing(source.root) for source in registration.sources),
            )
            for registration in registrations
        ],
        trouble,
    )


def _is_missing(root: bytes) -> bool:
    """Whether nothing is at `root`; what cannot be looked at is not missing.

    Behind a link there is nothing. Where users share a server, a link that
    one of them has swapped in would tell of files of the others. Of what is
    in an object store only the store could tell, which may take long.
    """
    if is_object_root(root):
        return False
    folder, name = os.path.split(root)
    try:
        beneath.stat_entry(folder, [name])
    except NoSuchEntry:
        return True
    except (NotReadable, StorageFailing, TooManyOpenFiles):
        return False
    return False


def tell(published: Published, partial_url: str) -> dict[str, object]:
    """Return the facts for JSON, by the names that `kdr list --json` has; times in seconds since the epoch."""
    registration, usage = published.registration, published.usage
    return {
        "key": registration.key,
        "kind": registration.kind,
        "path": os.fsdecode(registration.root),
        "partial_url": partial_url,
        "visibility": list(registration.audience) or registration.visibility,
        "trusted": registration.trusted,
        "content": registration.content or None,
        "is_snapshot": registration.is_kept,
        "claimed_at": registration.claimed_at,
        "expires_at": registration.expires_at,
        "is_missing": published.is_missing,
        "hits": None if usage is None else usage.hits,
        "body_bytes": None if usage is None else usage.body_bytes,
        "last_access_at": None if usage is None else usage.last_at,
    }


def measure(registration: Registration, contents: Contents) -> Measure:
    """Return how much there is to read; of a content key what it promises, of the rest what is on disk.

    Of a tree on disk links, and folders that may not be read, are left out; of an archive the file itself is measured.

    Raises
    ------
    NoSuchEntry, NotReadable, StorageFailing, TooManyOpenFiles, ManifestUnavailable, SizeUnknown
    """
    if registration.content:
        if registration.kind == "file":
            return Measure(1, size_of(registration.signature))
        return contents.measure(registration)
    if is_object_root(registration.root):
        raise SizeUnknown
    if registration.kind == "tree":
        return measure_folder(partial(_open_folder, registration.root), MAX_ENTRIES, MAX_SECONDS)
    descriptor = beneath.open_root_file(registration.root)
    try:
        return Measure(1, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)


def _open_folder(root: bytes, names: Sequence[bytes]) -> int:
    try:
        return beneath.open_directory(root, [*names])
    except (NoSuchEntry, NotReadable):
        if not names:
            raise
        raise FileNotFoundError from None  # It is left out.
