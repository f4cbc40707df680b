"""What content keys promise: from a registration and an entry to what its file is, without looking at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import NamedTuple

from hub.content.manifests import ManifestStore, Tree
from hub.content.signatures import unpack_signature
from hub.content.snapshots import object_entry
from hub.errors import ManifestError
from hub.locations import Location
from hub.measuring import Measure, measure_entries
from hub.registration import Registration, Source
from kdr_wsgi.beneath import split_entry
from kdr_wsgi.errors import IsDirectory, ManifestUnavailable, NoSuchEntry

#: Trees that are kept open; each is a map of two files.
_OPEN_TREES = 32


class Place(NamedTuple):
    """Where a promised file may be.

    Attributes
    ----------
    root : bytes
        A folder, or the file itself.
    below : bytes or None
        The entry of the file below the folder.
    signature : bytes
        What a stat said of the file that had the promised bytes (`hub.content.signatures`).
    """

    root: bytes
    below: bytes | None
    signature: bytes


class Promise(NamedTuple):
    """What a content key says of one file.

    Attributes
    ----------
    digest : bytes
        The BLAKE3 hash of the file's bytes.
    latest : Place
        Where it was published last.
    find_places : callable
        Looks up all places where it may be, the latest first; each as it is asked for.
    """

    digest: bytes
    latest: Place
    find_places: Callable[[], Iterator[Place]]


class Child(NamedTuple):
    """What is in a folder.

    Attributes
    ----------
    name : bytes
    is_folder : bool
    size_bytes : int or None
        None where it is not known, as of a folder.
    modified_ns : int or None
        Nanoseconds since the epoch.
    is_served : bool
        Whether it has a URL: a pipe has none, nor what a link leads to outside.
    """

    name: bytes
    is_folder: bool
    size_bytes: int | None = None
    modified_ns: int | None = None
    is_served: bool = True


class Contents:
    """Looks up what registrations with a content key promise.

    Parameters
    ----------
    registry : Path
        Beside which the manifests are.
    """

    def __init__(self, registry: Location) -> None:

        @lru_cache(_OPEN_TREES)
        def open_tree(owner: str, content: str, root: bytes, claimed_at: float | None) -> Tree:  # noqa: ARG001  # a claim may bring a new index
            return ManifestStore(registry, owner).open(content, root)

        self._open_tree = open_tree

    def find(self, registration: Registration, entry: bytes) -> Promise:
        """Return what is promised of `entry`; of a file, whatever the entry.

        Raises
        ------
        NoSuchEntry, IsDirectory
        ManifestUnavailable
        """
        if registration.kind == "file":
            digest = bytes.fromhex(registration.content)
            find_places = partial(self._places_of_file, registration, digest)
        else:
            _, tree = next(self._trees(registration))
            position = _find_position(tree, entry)
            digest = tree.manifest.hash(position)
            find_places = partial(self._places_in_tree, registration, tree.manifest[position], position)
        return Promise(digest, next(find_places()), find_places)

    def _places_of_file(self, registration: Registration, digest: bytes) -> Iterator[Place]:
        for source in registration.sources:
            yield Place(source.root, object_entry(digest) if source.is_kept else None, source.signature)

    def _places_in_tree(self, registration: Registration, name: bytes, position: int) -> Iterator[Place]:
        for source, tree in self._trees(registration):
            below = object_entry(tree.manifest.hash(position)) if source.is_kept else name
            yield Place(source.root, below, tree.signature(position))

    def list_folder(self, registration: Registration, folder: bytes, after: bytes = b"") -> Iterator[Child]:
        """Return what is in a folder of a tree, in the order of the entries.

        Parameters
        ----------
        registration : Registration
        folder : bytes
        after : bytes
            A name, with a slash at its end if it is that of a folder; all that comes before it is left out, and it too.

        Raises
        ------
        NoSuchEntry
            There is no such folder.
        ManifestUnavailable
        """
        _, tree = next(self._trees(registration))
        prefix = b"".join(name + b"/" for name in split_entry(folder))
        start, stop = tree.manifest.folder(prefix)
        if prefix and start == stop:
            raise NoSuchEntry
        return _children(tree, prefix, after)

    def has_file(self, registration: Registration, entry: bytes) -> bool:
        """Whether a tree has a file `entry`.

        Raises
        ------
        ManifestUnavailable
        """
        _, tree = next(self._trees(registration))
        return tree.manifest.find(b"/".join(split_entry(entry))) is not None

    def measure(self, registration: Registration) -> Measure:
        """Return how much is promised of a tree.

        Raises
        ------
        ManifestUnavailable
        """
        _, tree = next(self._trees(registration))
        return measure_entries(tree.manifest)

    def _trees(self, registration: Registration) -> Iterator[tuple[Source, Tree]]:
        """Yield the tree at each source of which that is known; there is one at least.

        Raises
        ------
        ManifestUnavailable
            There is none.
        """
        failure: ManifestError | None = None
        found = False
        for source in registration.sources:
            try:
                tree = self._open_tree(registration.owner, registration.content, source.root, registration.claimed_at)
            except ManifestError as error:
                failure = failure or error
                continue
            found = True
            yield source, tree
        if failure and not found:
            raise ManifestUnavailable(str(failure)) from failure


def _children(tree: Tree, prefix: bytes, after: bytes) -> Iterator[Child]:
    for name, position in tree.manifest.children(prefix, after):
        if position is None:
            yield Child(name, is_folder=True)
        else:
            size_bytes, modified_ns, _, _ = unpack_signature(tree.signature(position))
            yield Child(name, is_folder=False, size_bytes=size_bytes, modified_ns=modified_ns)


def _find_position(tree: Tree, entry: bytes) -> int:
    """Return the position of an entry, as a URL spells it, in a tree.

    Raises
    ------
    NoSuchEntry, IsDirectory
    """
    name = b"/".join(split_entry(entry))
    position = None if entry.endswith(b"/") else tree.manifest.find(name)
    if position is not None:
        return position
    start, stop = tree.manifest.folder(name + b"/" if name else b"")
    raise IsDirectory if start < stop or not name else NoSuchEntry
