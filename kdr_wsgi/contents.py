"""What content keys promise: from a registration and an entry to what its file is, without looking at it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from hub.content.manifests import ManifestStore, Tree
from hub.content.snapshots import object_entry
from hub.errors import ManifestError
from hub.registration import Registration
from kdr_wsgi.beneath import split_entry
from kdr_wsgi.errors import IsDirectory, ManifestUnavailable, NoSuchEntry

#: Trees that are kept open; each is a map of two files.
_OPEN_TREES = 128


class Promise(NamedTuple):
    """What a content key says of one file.

    Attributes
    ----------
    digest : bytes
        The BLAKE3 hash of the file's bytes.
    signature : bytes
        What a stat said of the file that had them (`hub.content.signatures`).
    below : bytes or None
        Where it is below the registration's root; None: the root itself is the file.
    """

    digest: bytes
    signature: bytes
    below: bytes | None


class Child(NamedTuple):
    """What is in a folder; `promise` is None for a folder."""

    name: bytes
    promise: Promise | None


class Contents:
    """Looks up what registrations with a content key promise.

    Parameters
    ----------
    registry : Path
        Beside which the manifests are.
    """

    def __init__(self, registry: Path) -> None:
        store = ManifestStore(registry)

        @lru_cache(_OPEN_TREES)
        def open_tree(content: str, root: bytes, claimed_at: float | None) -> Tree:  # noqa: ARG001  # a claim may bring a new index
            return store.open(content, root)

        self._open_tree = open_tree

    def find(self, registration: Registration, entry: bytes) -> Promise:
        """Return what is promised of `entry`.

        Raises
        ------
        NoSuchEntry, IsDirectory
        ManifestUnavailable
        """
        if registration.kind == "file":
            if entry != registration.name and entry not in registration.other_names:
                raise NoSuchEntry
            digest = bytes.fromhex(registration.content)
            return Promise(digest, registration.signature, object_entry(digest) if registration.is_kept else None)
        tree = self._tree(registration)
        name = b"/".join(split_entry(entry))
        position = None if entry.endswith(b"/") else tree.manifest.find(name)
        if position is None:
            start, stop = tree.manifest.folder(name + b"/" if name else b"")
            raise IsDirectory if start < stop or not name else NoSuchEntry
        return self._promise(registration, tree, position)

    def list_folder(self, registration: Registration, folder: bytes, limit: int) -> tuple[list[Child], int]:
        """Return the first `limit` of what is in a folder of a tree, and how many files are behind these.

        Raises
        ------
        NoSuchEntry
            There is no such folder.
        ManifestUnavailable
        """
        tree = self._tree(registration)
        manifest = tree.manifest
        prefix = b"".join(name + b"/" for name in split_entry(folder))
        position, stop = manifest.folder(prefix)
        if prefix and position == stop:
            raise NoSuchEntry
        children: list[Child] = []
        while position < stop and len(children) < limit:
            name, slash, _ = manifest[position][len(prefix) :].partition(b"/")
            if slash:
                children.append(Child(name, None))
                _, position = manifest.folder(prefix + name + slash)
            else:
                children.append(Child(name, self._promise(registration, tree, position)))
                position += 1
        return children, stop - position

    def _promise(self, registration: Registration, tree: Tree, position: int) -> Promise:
        digest = tree.manifest.hash(position)
        entry = object_entry(digest) if registration.is_kept else tree.manifest[position]
        return Promise(digest, tree.signature(position), entry)

    def _tree(self, registration: Registration) -> Tree:
        try:
            return self._open_tree(registration.content, registration.root, registration.claimed_at)
        except ManifestError as error:
            raise ManifestUnavailable(str(error)) from error
