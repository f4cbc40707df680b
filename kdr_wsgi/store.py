"""From a registration and an entry to its file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from itertools import chain, islice
from typing import Any, TypeVar, overload

from blake3 import blake3

from hub.content.signatures import size_of
from hub.object_urls import is_object_root
from hub.registration import Registration
from kdr_wsgi import beneath
from kdr_wsgi.archives import Archives
from kdr_wsgi.cache import CacheKey, FileCache
from kdr_wsgi.contents import Contents, Place, Promise
from kdr_wsgi.errors import ContentChanged, FileBeingChanged, FileChanged, IsDirectory, NoSuchEntry, RelayError
from kdr_wsgi.files import AnyFile, File, KeptFile, OpenFile, PromisedFile, SmallFile
from kdr_wsgi.media_types import MediaType, find_media_type
from kdr_wsgi.members import ArchiveMember
from kdr_wsgi.objects.opening import Objects
from kdr_wsgi.objects.promised import PromisedObjects
from kdr_wsgi.open_files import OpenFiles
from kdr_wsgi.rehashing import Rehasher
from kdr_wsgi.versions import FileVersion

#: Up to here a file is read when it is opened: for so few bytes, sendfile(2) costs more than it saves.
SMALL_FILE_BYTES = 65536

#: What is promised of so many entries is kept ready, at about 2 kB each.
_PROMISES = 4096

_Opened = TypeVar("_Opened")
_Opening = Callable[[str, Place, bytes, MediaType], _Opened]

#: How often a file that changes under our eyes is read before we give up.
_ATTEMPTS = 3


class FileStore:
    """Opens the files of registrations; small ones come from memory where nothing has changed.

    Parameters
    ----------
    contents : Contents
        What content keys promise.
    cache : FileCache
    rehasher : Rehasher
    archives : Archives
    objects : Objects
    promised_objects : PromisedObjects
    """

    def __init__(
        self,
        contents: Contents,
        cache: FileCache,
        rehasher: Rehasher,
        archives: Archives,
        objects: Objects,
        promised_objects: PromisedObjects,
    ) -> None:
        self._contents = contents
        self._cache = cache
        self._rehasher = rehasher
        self._archives = archives
        self._objects = objects
        self._promised_objects = promised_objects
        self._open_files = OpenFiles()
        # What a registration with a content key promises of an entry never changes.
        self._promise = lru_cache(_PROMISES)(self._make_promise)

    @property
    def cache(self) -> FileCache:
        """Where small files are kept."""
        return self._cache

    def open(
        self,
        registration: Registration,
        entry: bytes,
        *,
        in_parts: bool = False,
        environ: Mapping[str, Any] | None = None,
    ) -> AnyFile:
        """Return the file that `entry` names; one that a content key names is opened only when that is needed.

        With `in_parts` a large file stays open for those who ask for further
        parts of it. An object store is asked for no more than what the
        request `environ` will be answered with.

        Raises
        ------
        NoSuchEntry, NotReadable, IsDirectory, FileBeingChanged, ManifestUnavailable
        UnusableArchive, UnusableMember, ArchiveBeingIndexed, IndexUnavailable
            Of an archive.
        StoreFailing
            Of an object.
        """
        if is_object_root(registration.root) and not registration.content:
            return self._objects.open(registration, entry, environ)
        if registration.content:
            if registration.kind == "file" and entry != registration.name and entry not in registration.other_names:
                raise NoSuchEntry
            return self._promise(_bare(registration), entry)
        if registration.kind == "archive":
            return self._archives.find(registration, entry, _media_type(entry))
        if registration.kind == "file" and entry != registration.name:
            raise NoSuchEntry
        place = (registration.root, entry, registration.name)
        below = _below(registration, entry)
        kept = self._find_kept(place, below, place if in_parts else None)
        if kept is not None:
            return kept
        open_once = partial(_open, registration.root, below, _media_type(entry))
        file = open_once()
        if isinstance(file, SmallFile):
            self._cache.add(place, file)
            return file
        return self._keep_open(place, file, open_once) if in_parts else file

    def finder(self, registration: Registration, entry: bytes, file: AnyFile) -> Callable[[], AnyFile | None] | None:
        """Return what finds `file`, which was opened for `entry`, again, if it is in memory then and has not changed.

        None: it is opened each time.
        """
        if is_object_root(registration.root) and not registration.content:
            return self._objects.finder(registration, entry, file)
        if isinstance(file, PromisedFile):
            return lambda: file
        if isinstance(file, ArchiveMember):
            return partial(_find_member, file)
        if isinstance(file, SmallFile):
            place = (registration.root, entry, registration.name)
            return partial(self._find_small, place, _path(registration.root, _below(registration, entry)))
        return None

    def _find_small(self, place: CacheKey, path: bytes) -> SmallFile | None:
        try:
            return self._cache.find(place, os.stat(path, follow_symlinks=False))
        except OSError:
            return None

    def _keep_open(self, place: CacheKey, file: OpenFile, open_once: Callable[[], File]) -> OpenFile | KeptFile:
        if not file.version.is_settled:
            return file
        kept = KeptFile(file, open_once)
        self._open_files.add(place, kept)
        return kept

    def _make_promise(self, registration: Registration, entry: bytes) -> PromisedFile:
        promise = self._contents.find(registration, entry)
        media_type = _media_type(entry)
        version = FileVersion.of(promise.latest.signature)
        opening = partial(self._open_promised, registration.owner, promise, media_type)
        return PromisedFile(
            version,
            media_type,
            promise.digest,
            partial(opening, self._open_at),
            partial(opening, self._open_parts_at),
        )

    def _open_promised(
        self, owner: str, promise: Promise, media_type: MediaType, open_at: _Opening[_Opened]
    ) -> _Opened:
        """Return the file from the first place that has the bytes that are promised.

        Raises
        ------
        ContentChanged
            None has them any more.
        """
        failure: RelayError = ContentChanged()
        for where in chain([promise.latest], islice(promise.find_places(), 1, None)):
            try:
                return open_at(owner, where, promise.digest, media_type)
            except (NoSuchEntry, IsDirectory, ContentChanged):
                continue
            except RelayError as error:
                failure = error
            except OSError as error:  # Of a disk that fails once the file is open.
                explained = beneath.explain(error)
                if not isinstance(explained, RelayError):
                    raise
                failure = explained
        raise failure

    def _open_parts_at(self, owner: str, where: Place, digest: bytes, media_type: MediaType) -> File | KeptFile:
        """Return the same as `_open_at`, and keep it open."""
        place = _promised_place(where, digest, media_type)
        if is_object_root(where.root):
            return self._promised_objects.open(owner, where, digest, media_type, place)
        # A large file has been believed its owner's word for this signature, which is nobody else's.
        open_place = (where.root, where.below or b"", (digest + where.signature, f"{media_type.content_type} {owner}"))
        kept = self._find_kept(place, where.below, open_place)
        if kept is not None:
            return kept
        open_once = partial(self._open_at, owner, where, digest, media_type)
        file = open_once()
        return self._keep_open(open_place, file, open_once) if isinstance(file, OpenFile) else file

    def _open_at(self, owner: str, where: Place, digest: bytes, media_type: MediaType) -> File:
        """Return the file if its bytes are those that are promised, whatever has happened to it."""
        place = _promised_place(where, digest, media_type)
        if is_object_root(where.root):
            return self._promised_objects.open(owner, where, digest, media_type, place)
        kept = self._find_kept(place, where.below)
        if kept is not None:
            return kept
        file = _open(where.root, where.below, media_type)
        if isinstance(file, SmallFile):
            if blake3(file.body).digest() != digest:
                raise ContentChanged
            self._cache.add(place, file)
            return file
        try:
            if not file.version.has_signature(where.signature):
                if file.version.size_bytes != size_of(where.signature):
                    raise ContentChanged
                self._rehasher.check(file, digest, owner)
        except BaseException:  # Ctrl-C too leaves no descriptor.
            os.close(file.detach())
            raise
        file.is_promised = True
        return file

    @overload
    def _find_kept(self, place: CacheKey, below: bytes | None) -> SmallFile | None: ...

    @overload
    def _find_kept(
        self, place: CacheKey, below: bytes | None, open_place: CacheKey | None
    ) -> SmallFile | KeptFile | None: ...

    def _find_kept(
        self, place: CacheKey, below: bytes | None, open_place: CacheKey | None = None
    ) -> SmallFile | KeptFile | None:
        """Return the file that was kept for `place`, if that on disk has not changed since.

        Raises
        ------
        NoSuchEntry
            There is nothing on disk.
        """
        try:
            # Links on the way may lead this stat outside. It is believed in what it says of a file that was found
            # beneath this very root before, and where nothing is there at all.
            status = os.stat(_path(place[0], below), follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            raise NoSuchEntry from None
        except OSError:
            return None
        kept = self._cache.find(place, status)
        return self._open_files.find(open_place, status) if kept is None and open_place is not None else kept


def _find_member(member: ArchiveMember) -> ArchiveMember | None:
    """Return `member`, if its archive is as it was."""
    try:
        return member if member.version.is_of(os.stat(member.root, follow_symlinks=False)) else None
    except OSError:
        return None


def _below(registration: Registration, entry: bytes) -> bytes | None:
    return None if registration.kind == "file" else entry


def _path(root: bytes, below: bytes | None) -> bytes:
    return root if below is None else root + b"/" + below


def _promised_place(where: Place, digest: bytes, media_type: MediaType) -> CacheKey:
    return (where.root, where.below or b"", (digest, media_type.content_type))


@lru_cache(256)
def _bare(registration: Registration) -> Registration:
    """Return a registration with what its promises depend on, since thousands of them are kept."""
    bare = Registration("", registration.kind, registration.root)
    return replace(
        bare,
        owner=registration.owner,
        content=registration.content,
        signature=registration.signature,
        is_kept=registration.is_kept,
        claimed_at=registration.claimed_at,
        other_sources=registration.other_sources,
    )


def _media_type(entry: bytes) -> MediaType:
    return find_media_type(entry[entry.rfind(b"/") + 1 :])


def _open(root: bytes, below: bytes | None, media_type: MediaType) -> SmallFile | OpenFile:
    """Open the file `root`, or what is `below` it; read it if it is small."""
    for _ in range(_ATTEMPTS):
        file = OpenFile(_open_on_disk(root, below), media_type)
        if file.version.size_bytes > SMALL_FILE_BYTES:
            return file
        with file:
            try:
                return file.read_whole()
            except FileChanged:
                continue
    raise FileBeingChanged


def _open_on_disk(root: bytes, below: bytes | None) -> int:
    if below is None:
        return beneath.open_root_file(root)
    names = beneath.split_entry(below)
    if below.endswith(b"/"):
        raise IsDirectory
    return beneath.open_file(root, names)
