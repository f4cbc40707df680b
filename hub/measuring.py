"""How much a registration publishes, found in a moment or not at all."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from hub.errors import ManifestError
from hub.locations import Location
from hub.object_urls import is_object_root
from hub.registration import Registration

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hub.content.archives import ArchiveIndex
    from hub.content.manifests import Manifest

#: Who shows a link does not want to wait for a walk over a million tiles.
MAX_ENTRIES = 20_000
MAX_SECONDS = 0.25

#: Names that are looked at to find out what kind of folder it is.
MAX_NAMES = 1000


@dataclass(frozen=True, slots=True)
class Measure:
    """How much is published.

    Attributes
    ----------
    files : int
    size_bytes : int
    is_all : bool
        False: there are more, which were not counted.
    names : tuple of str
        Of a tree: what is directly in it, as far as it was looked at; folders end with a slash.
    """

    files: int
    size_bytes: int
    is_all: bool = True
    names: tuple[str, ...] = ()


def measure(registration: Registration, registry: Location) -> Measure:
    """Return how much `registration` publishes.

    A content key's manifest and an archive's index, which lie beside `registry`, know it exactly. Else the files on
    disk are counted, up to `MAX_ENTRIES` or for `MAX_SECONDS`; links are not.

    Raises
    ------
    OSError
        What was published is not there any more, or cannot be read.
    """
    if registration.kind == "file":
        if registration.signature:
            from hub.content.signatures import unpack_signature  # Here, since few publish by content.

            return Measure(1, unpack_signature(registration.signature)[0])
        return Measure(1, os.stat(registration.root).st_size)
    if registration.content:
        from hub.content.manifests import ManifestStore

        try:
            manifest = ManifestStore(registry).open(registration.content, registration.root).manifest
        except ManifestError as error:
            raise FileNotFoundError(str(error)) from error
        return measure_entries(manifest)
    if registration.kind == "archive":
        return _measure_archive(registration.root, registry)
    return measure_folder(partial(_open_folder, registration.root), MAX_ENTRIES, MAX_SECONDS)


def find_names(registration: Registration) -> tuple[str, ...]:
    """Return some names of what is directly in a tree, folders with a slash at their end; none where it is gone."""
    if registration.kind != "tree" or registration.is_kept or is_object_root(registration.root):
        return ()
    try:
        with os.scandir(registration.root) as found:
            return tuple(_name(item) for item in islice(found, MAX_NAMES))
    except OSError:
        return ()


def measure_folder(open_folder: Callable[[Sequence[bytes]], int], max_entries: int, max_seconds: float) -> Measure:
    """Count the files below a folder, without its links.

    Parameters
    ----------
    open_folder : callable
        Returns a descriptor of the folder that some names lead to from the topmost one. An OSError leaves a folder out;
        of the topmost one it is raised.
    max_entries : int
    max_seconds : float
        What is beyond these is not counted.
    """
    deadline = time.monotonic() + max_seconds
    entries = files = size_bytes = 0
    names: list[str] = []
    folders: list[list[bytes]] = [[]]
    while folders:
        folder = folders.pop()
        try:
            descriptor = open_folder(folder)
        except OSError:
            if not folder:
                raise
            continue  # It was removed a moment ago, or is not for us to read; then nobody is served what is in it.
        try:
            with os.scandir(descriptor) as found:
                for item in found:
                    entries += 1
                    if entries > max_entries or time.monotonic() > deadline:
                        return Measure(files, size_bytes, is_all=False, names=tuple(names))
                    if not folder and len(names) < MAX_NAMES:
                        names.append(_name(item))
                    try:
                        if item.is_dir(follow_symlinks=False):
                            folders.append([*folder, os.fsencode(item.name)])
                        elif item.is_file(follow_symlinks=False):
                            size_bytes += item.stat(follow_symlinks=False).st_size
                            files += 1
                    except FileNotFoundError:
                        continue  # Removed since its folder was read.
        finally:
            os.close(descriptor)
    return Measure(files, size_bytes, names=tuple(names))


def _open_folder(root: bytes, names: Sequence[bytes]) -> int:
    return os.open(b"/".join([root, *names]), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _name(item: os.DirEntry[bytes] | os.DirEntry[str]) -> str:
    return os.fsdecode(item.name) + ("/" if item.is_dir(follow_symlinks=False) else "")


def measure_entries(entries: Manifest | ArchiveIndex) -> Measure:
    """Return how much a manifest, or the index of an archive, has."""
    found = islice(entries.children(b""), MAX_NAMES)
    names = tuple(os.fsdecode(name) + ("/" if position is None else "") for name, position in found)
    return Measure(len(entries), entries.total_bytes(), names=names)


def _measure_archive(root: bytes, registry: Location) -> Measure:
    from hub.content.archives import open_index  # Here, since few publish archives.
    from hub.content.manifests import ManifestStore
    from hub.content.signatures import make_signature

    index = open_index(ManifestStore(registry), root, make_signature(os.stat(root)))
    if index is None:
        raise FileNotFoundError("it has changed since it was published, and is read anew when somebody asks for it")
    return measure_entries(index)
