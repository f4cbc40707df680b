"""What content keys promise of objects: those of stores, and what kernels have uploaded."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple, TypeVar

from blake3 import blake3

from hub.content.signatures import size_of
from kdr_wsgi.cache import CacheKey, FileCache
from kdr_wsgi.contents import Place
from kdr_wsgi.errors import ContentChanged, NoSuchEntry, ObjectChanged
from kdr_wsgi.files import SmallFile
from kdr_wsgi.media_types import MediaType
from kdr_wsgi.objects.files import SMALL_OBJECT_BYTES, OpenObject
from kdr_wsgi.objects.rules import StoreRules
from kdr_wsgi.objects.stores import Store, Stores
from kdr_wsgi.objects.streams import ObjectStream
from kdr_wsgi.objects.uploads import UploadStore
from kdr_wsgi.objects.versions import ObjectVersion
from kdr_wsgi.ranges import Span

#: Objects of which is kept which version of them is promised, at about 500 bytes each.
_KNOWN = 8192

_Read = TypeVar("_Read")


class _Located(NamedTuple):
    """Where a promised object is.

    Attributes
    ----------
    store : Store
    key : str
    is_upload : bool
        It was hashed as it came, and has that hash as its name.
    """

    store: Store
    key: str
    is_upload: bool

    def has(self, version: ObjectVersion, signature: bytes) -> bool:
        """Whether a version is the one that is promised."""
        # Of an upload its size is what the user has said, and stands in the head of the answer.
        return version.size_bytes == size_of(signature) if self.is_upload else version.has_signature(signature)


class PromisedObjects:
    """Opens objects that content keys name; small ones are kept, since what is promised of them never changes.

    Parameters
    ----------
    rules : StoreRules
    stores : Stores
    uploads : UploadStore or None
        Where a service keeps what kernels have uploaded.
    cache : FileCache
    """

    def __init__(self, rules: StoreRules, stores: Stores, uploads: UploadStore | None, cache: FileCache) -> None:
        self._rules = rules
        self._stores = stores
        self._uploads = uploads
        self._cache = cache
        self._find_version = lru_cache(_KNOWN)(self._look_up_version)

    def open(
        self, owner: str, where: Place, digest: bytes, media_type: MediaType, cache_key: CacheKey
    ) -> SmallFile | PromisedObject:
        """Return the object at a place, if it is what is promised.

        Parameters
        ----------
        owner : str
        where : Place
        digest : bytes
            What is promised.
        media_type : MediaType
        cache_key : CacheKey
            Under which it is kept, if it is small.

        Raises
        ------
        ContentChanged, StoreFailing
        """
        etag = f'"{digest.hex()}"'
        kept = self._cache.find_made(cache_key, etag)
        if kept is not None:
            return kept
        located = self._locate(owner, where)
        file = PromisedObject(located, where.signature, self._find_version(owner, where), media_type)
        file.etag = etag
        if file.version.size_bytes > SMALL_OBJECT_BYTES:
            return file
        small = file.read_whole()
        if located.is_upload:
            if blake3(small.body).digest() != digest:
                raise ContentChanged
            small.etag = etag
        self._cache.add_made(cache_key, small, math.inf)
        return small

    def _look_up_version(self, owner: str, where: Place) -> ObjectVersion:
        # What is promised has one tag, unless the same bytes are written once more.
        located = self._locate(owner, where)
        version = _find(located)
        if not located.has(version, where.signature):
            raise ContentChanged
        return version

    def _locate(self, owner: str, where: Place) -> _Located:
        if self._uploads is not None and where.below is not None and self._uploads.owns(where.root, owner):
            return _Located(*self._uploads.locate(where.root, where.below), is_upload=True)
        place = self._rules.find(where.root, owner)
        if place is None:
            raise ContentChanged
        names = (place.key, "" if where.below is None else where.below.decode())
        return _Located(self._stores.find(place.rule, place.bucket), "/".join(filter(None, names)), is_upload=False)


class PromisedObject(OpenObject):
    """An object that is read as it is sent; it is what is promised, or gone."""

    __slots__ = ("_located", "_signature")

    def __init__(self, located: _Located, signature: bytes, version: ObjectVersion, media_type: MediaType) -> None:
        super().__init__(located.store, located.key, version, media_type, None)
        self._located = located
        self._signature = signature

    def stream(self, parts: list[tuple[bytes, Span]], tail: bytes) -> ObjectStream:
        """Return the body of an answer, once its first bytes are at hand.

        Raises
        ------
        ContentChanged
            It is gone.
        StoreFailing
        """
        return self._read(lambda: super(PromisedObject, self).stream(parts, tail))

    def read_whole(self) -> SmallFile:
        """Return the object with all its bytes, which must not be many; see `stream`."""
        small = self._read(lambda: super(PromisedObject, self).read_whole())
        if not self._located.is_upload:
            small.etag = self.etag
        return small

    def _read(self, read: Callable[[], _Read]) -> _Read:
        try:
            return read()
        except NoSuchEntry:
            raise ContentChanged from None
        except ObjectChanged:
            # The same bytes, written once more, may have another tag; or they are gone.
            version = _find(self._located)
            if not self._located.has(version, self._signature):
                raise ContentChanged from None
            self.version = version
            return read()


def _find(located: _Located) -> ObjectVersion:
    try:
        return located.store.find(located.key)
    except NoSuchEntry:
        raise ContentChanged from None
