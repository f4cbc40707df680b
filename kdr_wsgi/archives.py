"""Zip archives whose members are served: from a registration and an entry to a member."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

from hub.content.archives import ArchiveIndex, Limits, index_name, make_index, open_index
from hub.content.manifests import ManifestStore
from hub.errors import ArchiveError, ManifestError, NoArchive
from hub.filesystems import make_private_directories
from hub.locations import Location
from hub.registration import Registration
from kdr_wsgi import beneath
from kdr_wsgi.cache import FileCache
from kdr_wsgi.contents import Child
from kdr_wsgi.errors import (
    ArchiveBeingIndexed,
    FileBeingChanged,
    FileBeingHashed,
    IndexUnavailable,
    IsDirectory,
    NoSuchEntry,
    UnusableArchive,
)
from kdr_wsgi.files import KeptFile, OpenFile
from kdr_wsgi.media_types import MediaType, find_media_type
from kdr_wsgi.members import ArchiveMember, Place
from kdr_wsgi.open_files import OpenFiles
from kdr_wsgi.rehashing import Rehasher
from kdr_wsgi.versions import FileVersion, MemberVersion

#: Indexes that are kept open; each is a map of one file.
_OPEN_INDEXES = 32

#: Of so many archives that cannot be served is kept why.
_FAILURES = 1000

#: How long a request waits while another one has an index made.
_PATIENCE_SECONDS = 10.0

#: What users who share a server may have indexed of one archive: the members, and the bytes of its directory.
MAX_MEMBERS = 1_000_000
MAX_DIRECTORY_BYTES = 256 << 20

#: To read a byte of a directory takes as long as to hash so many.
_COST = 64

_Owned = tuple[str, bytes]


class ArchiveIndexes:
    """Finds the index of a version of an archive, and makes it where there is none yet.

    Parameters
    ----------
    registry : Path
        Beside which the indexes are.
    rehasher : Rehasher
        Which counts what is read for each user who shares the server.
    max_bytes : int, optional
        What manifests and indexes may take of each such user.
    """

    def __init__(self, registry: Location, rehasher: Rehasher, max_bytes: int = 0) -> None:
        self._registry = registry
        self._rehasher = rehasher
        self._max_bytes = max_bytes
        self._indexes: dict[_Owned, ArchiveIndex] = {}
        self._failures: dict[tuple[str, bytes, bytes], str] = {}
        self._lock = threading.Lock()
        self._making: dict[_Owned, threading.Lock] = {}

    def find(self, owner: str, root: bytes, descriptor: int, version: FileVersion) -> ArchiveIndex:
        """Return the index of the archive at `root`, which is open in this version.

        Raises
        ------
        UnusableArchive, FileBeingChanged, ArchiveBeingIndexed, IndexUnavailable
        """
        if not version.is_settled:
            raise FileBeingChanged
        signature = version.make_signature()
        index = self._indexes.get((owner, root))
        if index is None or index.signature != signature:
            reason = self._failures.get((owner, root, signature))
            if reason is not None:
                raise UnusableArchive(reason)
            index = self._open(owner, root, descriptor, version)
            if index.signature != signature:
                raise FileBeingChanged
        return index

    def _open(self, owner: str, root: bytes, descriptor: int, version: FileVersion) -> ArchiveIndex:
        signature = version.make_signature()
        store = ManifestStore(self._registry, owner)
        with self._one_at_a_time((owner, root)):
            known = self._indexes.get((owner, root))
            if known is not None and known.signature == signature:
                return known
            index = open_index(store, root, signature)
            if index is None:
                try:
                    with _alone(store, root):
                        index = open_index(store, root, signature) or self._make(owner, store, root, descriptor)
                except NoArchive:
                    raise self._failed(owner, root, signature, "it is none, or was cut off") from None
                except ArchiveError as error:
                    raise self._failed(owner, root, signature, error.reason) from None
                except ManifestError as error:
                    raise IndexUnavailable(str(error)) from error
                except OSError as error:
                    raise IndexUnavailable(f"no index of an archive can be written: {error}") from error
            if not version.is_of(os.fstat(descriptor)):
                raise FileBeingChanged
            with self._lock:
                self._indexes.pop((owner, root), None)
                self._indexes[owner, root] = index
                if len(self._indexes) > _OPEN_INDEXES:
                    del self._indexes[next(iter(self._indexes))]
        return index

    def _make(self, owner: str, store: ManifestStore, root: bytes, descriptor: int) -> ArchiveIndex:
        if not owner:
            return make_index(store, root, descriptor)
        limits = Limits(MAX_MEMBERS, MAX_DIRECTORY_BYTES, self._max_bytes - store.size_bytes())
        try:
            return make_index(
                store, root, descriptor, limits, lambda size_bytes: self._rehasher.spend(owner, size_bytes * _COST)
            )
        except FileBeingHashed:
            raise ArchiveBeingIndexed from None
        except ArchiveError:
            with suppress(OSError):  # There may be an index of another version.
                store.root_folder(root).rmdir()
            raise

    def _failed(self, owner: str, root: bytes, signature: bytes, reason: str) -> UnusableArchive:
        with self._lock:
            if len(self._failures) >= _FAILURES:
                self._failures.clear()
            self._failures[owner, root, signature] = reason
        return UnusableArchive(reason)

    @contextmanager
    def _one_at_a_time(self, place: _Owned) -> Iterator[None]:
        """Let the other threads wait that want the same index.

        Raises
        ------
        ArchiveBeingIndexed
            For too long.
        """
        with self._lock:
            making = self._making.setdefault(place, threading.Lock())
        if not making.acquire(timeout=_PATIENCE_SECONDS):
            raise ArchiveBeingIndexed
        try:
            yield
        finally:
            with self._lock:
                self._making.pop(place, None)
            making.release()


@contextmanager
def _alone(store: ManifestStore, root: bytes) -> Iterator[None]:
    """Let the other processes wait that would make the same index.

    Raises
    ------
    ArchiveBeingIndexed
        For too long.
    """
    # One for many archives: what cannot be indexed leaves nothing, however many names somebody gives it.
    lock = store.folder / f"{index_name(root)[:2]}.lock"
    make_private_directories(lock)
    until = time.monotonic() + _PATIENCE_SECONDS
    with open(lock, "wb") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise ArchiveBeingIndexed from None
                time.sleep(0.02)
        yield


class Archives:
    """Opens the archives of registrations.

    Parameters
    ----------
    indexes : ArchiveIndexes
    cache : FileCache
        Where small members are kept.
    """

    def __init__(self, indexes: ArchiveIndexes, cache: FileCache) -> None:
        self._indexes = indexes
        self._cache = cache
        self._open_files = OpenFiles()

    def find(self, registration: Registration, entry: bytes, media_type: MediaType) -> ArchiveMember:
        """Return the member that `entry` names, which is opened only when that is needed.

        Raises
        ------
        NoSuchEntry, NotReadable, IsDirectory, UnusableMember
        UnusableArchive, FileBeingChanged, ArchiveBeingIndexed, IndexUnavailable
        """
        root = registration.root
        names = beneath.split_entry(entry)
        archive, index = self._open(registration)
        name = b"/".join(names)
        member = None if entry.endswith(b"/") else index.find_member(name)
        if member is None:
            start, stop = index.folder(name + b"/" if name else b"")
            raise IsDirectory if start < stop or not name else NoSuchEntry
        assert isinstance(archive.version, FileVersion)
        version = MemberVersion(member.size_bytes, archive.version, member.header_start, member.crc)
        reopen = partial(self._open_version, root, archive.version)
        return ArchiveMember(Place(root, name, self._cache, reopen), member, version, media_type)

    def list_folder(self, registration: Registration, folder: bytes, after: bytes = b"") -> Iterator[Child]:
        """Return what is in a folder of an archive, in the order of the names, as `Contents.list_folder` does.

        Raises
        ------
        NoSuchEntry, NotReadable
        UnusableArchive, FileBeingChanged, ArchiveBeingIndexed, IndexUnavailable
        """
        names = beneath.split_entry(folder)
        archive, index = self._open(registration)
        prefix = b"".join(name + b"/" for name in names)
        start, stop = index.folder(prefix)
        if prefix and start == stop:
            raise NoSuchEntry
        return _children(index, prefix, after, archive.version.modified_ns)

    def has_file(self, registration: Registration, entry: bytes) -> bool:
        """Whether an archive has a member `entry`; raises what `list_folder` does."""
        _, index = self._open(registration)
        return index.find(b"/".join(beneath.split_entry(entry))) is not None

    def _open(self, registration: Registration) -> tuple[KeptFile, ArchiveIndex]:
        archive = self._open_at(registration.root)
        assert isinstance(archive.version, FileVersion)
        index = self._indexes.find(registration.owner, registration.root, archive.fileno(), archive.version)
        return archive, index

    def _open_version(self, root: bytes, version: FileVersion) -> KeptFile:
        """Return the archive at `root`, if it is of that version.

        Raises
        ------
        NoSuchEntry, NotReadable, FileBeingChanged
        """
        archive = self._open_at(root)
        if archive.version != version:
            raise FileBeingChanged
        return archive

    def _open_at(self, root: bytes) -> KeptFile:
        """Return the archive at `root` as it is now, open for all who read from it."""
        place = (root, b"", b"")
        try:
            status = os.stat(root, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            raise NoSuchEntry from None
        except OSError as error:
            raise beneath.explain(error) from error
        kept = self._open_files.find(place, status)
        if kept is None:
            file = _open_archive(root)
            file.is_promised = True  # What is read in parts is of the version of the index.
            kept = KeptFile(file, partial(_open_archive, root))
            if kept.version.is_settled:
                self._open_files.add(place, kept)
        return kept


_ARCHIVE = find_media_type(b"archive.zip")


def _open_archive(root: bytes) -> OpenFile:
    return OpenFile(beneath.open_root_file(root), _ARCHIVE)


def _children(index: ArchiveIndex, prefix: bytes, after: bytes, modified_ns: int) -> Iterator[Child]:
    for name, position in index.children(prefix, after):
        if position is None:
            yield Child(name, is_folder=True)
        else:
            size_bytes = index.member(position).size_bytes
            yield Child(name, is_folder=False, size_bytes=size_bytes, modified_ns=modified_ns)
