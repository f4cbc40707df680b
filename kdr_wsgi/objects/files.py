"""Objects, as an answer reads them."""

from __future__ import annotations

from collections.abc import Callable

from kdr_wsgi.files import FileToOpen, SmallFile, StreamedFile
from kdr_wsgi.media_types import MediaType
from kdr_wsgi.objects.stores import Found, Store
from kdr_wsgi.objects.streams import ObjectStream
from kdr_wsgi.objects.versions import ObjectVersion
from kdr_wsgi.ranges import Span

#: Up to here an object is read when it is opened, and kept, as a small file is.
SMALL_OBJECT_BYTES = 65536


class ObjectFile(FileToOpen):
    """An object of which is known what the store says of it, and perhaps some bytes.

    Parameters
    ----------
    store : Store
    key : str
    version : ObjectVersion
    media_type : MediaType
    given : Found or None
        Bytes of this version that are at hand.
    keep : callable
        Keeps it, if it is small.
    """

    __slots__ = ("_given", "_keep", "_key", "_store")

    def __init__(
        self,
        store: Store,
        key: str,
        version: ObjectVersion,
        media_type: MediaType,
        given: Found | None,
        keep: Callable[[SmallFile], None],
    ) -> None:
        super().__init__(version, media_type)
        self._store = store
        self._key = key
        self._given = given
        self._keep = keep

    def open(self) -> SmallFile | OpenObject:
        """Return the object, for one reader; a small one is read.

        Raises
        ------
        ObjectChanged, StoreFailing
        """
        opened = self._open()
        if self.version.size_bytes > SMALL_OBJECT_BYTES:
            return opened
        small = opened.read_whole()
        self._keep(small)
        return small

    def open_part(self, size_bytes: int) -> SmallFile | OpenObject:
        """Return the object, for reading so many bytes of it; for none nothing is read."""
        return self.open() if size_bytes else self._open()

    def _open(self) -> OpenObject:
        assert isinstance(self.version, ObjectVersion)
        return OpenObject(self._store, self._key, self.version, self.media_type, self._given)


class OpenObject(StreamedFile):
    """An object that is read as it is sent."""

    __slots__ = ("_given", "_key", "_store")

    def __init__(
        self, store: Store, key: str, version: ObjectVersion, media_type: MediaType, given: Found | None
    ) -> None:
        super().__init__(version, media_type)
        self._store = store
        self._key = key
        self._given = given

    def stream(self, parts: list[tuple[bytes, Span]], tail: bytes) -> ObjectStream:
        """Return the body of an answer, once its first bytes are at hand.

        Raises
        ------
        ObjectChanged, StoreFailing
        """
        assert isinstance(self.version, ObjectVersion)
        given = None if self._given is None else (self._given.span, self._given.body)
        stream = ObjectStream(self._store, self._key, self.version, parts, tail, given)
        stream.begin()
        return stream

    def read_whole(self) -> SmallFile:
        """Return the object with all its bytes, which must not be many.

        Raises
        ------
        ObjectChanged, StoreFailing
        """
        assert isinstance(self.version, ObjectVersion)
        whole = Span(0, self.version.size_bytes)
        if not whole.size_bytes:
            body = b""
        elif self._given is not None and self._given.span == whole:
            body = self._given.body
        else:
            body = self._store.read_version(self._key, whole, self.version)
        return SmallFile(self.version, self.media_type, body)


class RedirectedObject(FileToOpen):
    """An object that browsers ask the store for, at an address that is signed for them."""

    __slots__ = ("_key", "_store")

    def __init__(self, store: Store, key: str, version: ObjectVersion, media_type: MediaType) -> None:
        super().__init__(version, media_type)
        self._store = store
        self._key = key

    def sign(self, method: str) -> str:
        """Return the address, for a short time.

        Raises
        ------
        StoreFailing
        """
        return self._store.sign(method, self._key)

    @property
    def seconds(self) -> int:
        """For how long the address holds."""
        return self._store.rule.redirect_seconds
