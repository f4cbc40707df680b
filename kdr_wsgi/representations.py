"""From a file to the representation of it that a client prefers: as it is, or with a content coding (RFC 9110, 8.4).

One with a coding is a file beside it, ``X.br``, ``X.zst`` or ``X.gz`` of
``X``, or for gzip what is made here and kept in memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import copy
from functools import lru_cache
from threading import Lock
from typing import Any, TypeVar

from blake3 import blake3

from hub.registration import Registration
from kdr_wsgi.beneath import split_entry
from kdr_wsgi.cache import CacheKey
from kdr_wsgi.encodings import SUFFIXES, Coding, gzip_bytes, preferred_codings
from kdr_wsgi.errors import FileChanged, IsDirectory, NoSuchEntry, RelayError
from kdr_wsgi.files import AnyFile, KeptFile, PromisedFile, SmallFile
from kdr_wsgi.media_types import MediaType
from kdr_wsgi.members import ArchiveMember
from kdr_wsgi.store import FileStore

#: In one packet anyway; and what takes a long time, and memory, to compress.
MIN_GZIP_BYTES = 1024
MAX_GZIP_BYTES = 4 * 1024 * 1024

#: What a coding has to leave of a body at the most.
_WORTH = 0.9

#: Bodies that are compressed at one time; so many are in memory beside those that are kept.
_COMPRESSORS = 4

#: Entries of content keys of which is kept whether they have a file beside them.
_SIBLINGS = 4096

#: What speaks of the bytes of one representation (RFC 9530), or says that they are what they are to be.
_OF_ONE_REPRESENTATION = frozenset({"content-digest", "content-encoding", "content-md5", "digest", "repr-digest"})

_AnyFile = TypeVar("_AnyFile", bound=AnyFile)


def is_negotiated(registration: Registration, media_type: MediaType, *, is_packed: bool = False) -> bool:
    """Whether a file of this type may be answered with a coding, so that answers vary with Accept-Encoding.

    One that `is_packed` is at hand with a coding, whatever its type.
    """
    return (media_type.is_compressible or is_packed) and (
        not registration.headers or _OF_ONE_REPRESENTATION.isdisjoint(name.lower() for name, _ in registration.headers)
    )


class Representations:
    """Chooses representations, and makes those that there are no files of.

    Parameters
    ----------
    store : FileStore
        Which opens files, and keeps small ones.
    """

    def __init__(self, store: FileStore) -> None:
        self._store = store
        self._cache = store.cache
        self._locks = [Lock() for _ in range(_COMPRESSORS)]
        # What a registration with a content key promises of an entry never changes.
        self._find_promised_sibling = lru_cache(_SIBLINGS)(self._look_up_promised_sibling)

    def choose(
        self,
        environ: Mapping[str, Any],
        registration: Registration,
        entry: bytes,
        file: AnyFile,
        *,
        is_made: bool = False,
    ) -> AnyFile:
        """Return what to answer with instead of `file`, which `entry` names; `file` itself, or one more to be closed.

        Ranges are always of the file as it is. A `file` that was made of
        another one has no files beside it.
        """
        if ("HTTP_RANGE" in environ and file.has_ranges) or isinstance(file, KeptFile):
            return file
        codings = preferred_codings(environ.get("HTTP_ACCEPT_ENCODING"))
        for coding in codings:
            chosen: AnyFile | None = None
            if not is_made and _has_siblings(registration):
                chosen = self._find_sibling(registration, entry, file, coding)
            if chosen is None and coding == "gzip":
                chosen = self._find_gzip(registration, entry, file)
            if chosen is not None:
                return chosen
        return file

    def _find_sibling(self, registration: Registration, entry: bytes, file: AnyFile, coding: Coding) -> AnyFile | None:
        """Return the file beside `file` that has it with `coding`; None: there is none of use."""
        try:
            if isinstance(file, PromisedFile):
                promised = self._find_promised_sibling(registration, entry, file.media_type, coding)
                if promised is None or not _is_up_to_date(promised, file):
                    return None
                with promised.open():  # What has changed since is not promised, but as if absent.
                    return promised
            sibling = self._store.open(registration, entry + SUFFIXES[coding])
        except (RelayError, IsDirectory):
            return None
        if _is_up_to_date(sibling, file):
            return _with_coding(sibling, coding, file.media_type)
        with sibling:
            return None

    def _look_up_promised_sibling(
        self, registration: Registration, entry: bytes, media_type: MediaType, coding: Coding
    ) -> PromisedFile | None:
        try:
            sibling = self._store.open(registration, entry + SUFFIXES[coding])
        except (NoSuchEntry, IsDirectory):
            return None
        return _with_coding(sibling, coding, media_type) if isinstance(sibling, PromisedFile) else None

    def _find_gzip(self, registration: Registration, entry: bytes, file: AnyFile) -> AnyFile | None:
        """Return `file` compressed; None: it cannot be, or it is not worth it."""
        if isinstance(file, ArchiveMember) and file.is_packed:
            return file.gzipped()
        if not MIN_GZIP_BYTES <= file.version.size_bytes <= MAX_GZIP_BYTES or not file.version.is_settled:
            return None
        etag = f'{file.etag[:-1]}-gzip"'
        if not isinstance(file, PromisedFile):
            # With each spelling of an entry one more body would be kept.
            place = (registration.root, b"/".join(split_entry(entry)), (registration.name, "gzip"))
            made = self._keep_gzip(place, file, etag)
            return made if made is not None and made.body else None
        # With the owner: others have only said that they have these bytes.
        promised_place = (
            registration.root,
            registration.owner.encode(),
            (file.etag.encode(), f"gzip of {file.media_type.content_type}"),
        )
        made = self._keep_gzip(promised_place, file, etag)
        return _promise_made(file, made) if made is not None and made.body else None

    def _keep_gzip(self, place: CacheKey, file: AnyFile, etag: str) -> SmallFile | None:
        """Return `file` compressed, as it is kept; its body is empty where that is not worth it.

        Whoever asks for the same file meanwhile waits. None: it changes just
        now, or is not what is promised.
        """
        kept = self._cache.find_made(place, etag)
        if kept is not None:
            return kept
        with self._locks[hash(place) % _COMPRESSORS]:
            kept = self._cache.find_made(place, etag)
            if kept is not None:
                return kept
            plain = _read(file)
            if plain is None:
                return None
            body = gzip_bytes(plain.body)
            made = plain.made_into(body if len(body) <= _WORTH * len(plain.body) else b"", file.media_type, "gzip")
            made.etag = etag
            _set_coding(made, "gzip", file.media_type)
            # A hash names the same bytes for ever.
            self._cache.add_made(place, made, math.inf if isinstance(file, PromisedFile) else None)
            return made


def _read(file: AnyFile) -> SmallFile | None:
    """Return `file` with all its bytes; None where they may be of another version, or are not what is promised."""
    try:
        opened = file.open()
        if isinstance(opened, SmallFile):
            return opened
        if opened is file:
            return opened.read_whole()
        with opened:
            plain = opened.read_whole()
        if not isinstance(file, PromisedFile):
            return plain
    except (FileChanged, RelayError):
        return None
    if plain.etag == file.etag:  # Of a store, which has said so.
        return plain
    # What is kept under a hash is for all who have published it: it takes no word for it.
    return plain if f'"{blake3(plain.body).hexdigest()}"' == file.etag else None


def _promise_made(file: PromisedFile, made: SmallFile) -> PromisedFile:
    """Return the promise of what was made of a promised file, kept as long as that file is there."""

    def open_made() -> SmallFile:
        with file.open():
            return made

    promise = PromisedFile(file.version, file.media_type, b"", open_made, open_made)
    promise.etag, promise.content = made.etag, made.content
    return promise


def _has_siblings(registration: Registration) -> bool:
    """Whether files beside a file count; a snapshot's times are those of its copies, and say nothing of their order."""
    return registration.kind == "tree" and not any(source.is_kept for source in registration.sources)


def _is_up_to_date(sibling: AnyFile, file: AnyFile) -> bool:
    # Of a promised file that was not settled no time is known.
    is_known = not isinstance(file, PromisedFile) or file.version.is_settled
    return is_known and sibling.version.modified_ns >= file.version.modified_ns


def _with_coding(sibling: _AnyFile, coding: Coding, media_type: MediaType) -> _AnyFile:
    """Return a file as what has one of `media_type` in it; what is open belongs to it."""
    file = copy(sibling)
    _set_coding(file, coding, media_type)
    return file


def _set_coding(file: AnyFile, coding: Coding, media_type: MediaType) -> None:
    file.media_type = media_type
    file.content = (
        ("Content-Type", media_type.content_type),
        ("Content-Encoding", coding),
        ("Content-Length", str(file.version.size_bytes)),
    )
    file.head = None
