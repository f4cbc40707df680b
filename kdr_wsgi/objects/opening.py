"""From a registration and an entry to an object, by as few requests to its store as can be."""

from __future__ import annotations

import math
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from hub.object_urls import find_fault
from hub.registration import Registration
from kdr_wsgi.beneath import split_entry
from kdr_wsgi.cache import CacheKey, FileCache
from kdr_wsgi.errors import IsDirectory, NoSuchEntry
from kdr_wsgi.files import AnyFile, SmallFile
from kdr_wsgi.media_types import MediaType, find_media_type
from kdr_wsgi.objects.files import SMALL_OBJECT_BYTES, ObjectFile, RedirectedObject
from kdr_wsgi.objects.rules import StoreRules
from kdr_wsgi.objects.stores import Found, Store, Stores, Unchanged
from kdr_wsgi.objects.versions import ObjectVersion
from kdr_wsgi.ranges import Span

#: Objects of which is kept for a moment what their stores have said, at about 500 bytes each.
_KNOWN = 8192

#: Up to here a range is asked for with the first request for an object.
_FIRST_RANGE_BYTES = 1 << 20

_ONE_RANGE = re.compile(r"bytes=([0-9]{1,18})-([0-9]{1,18})")

#: With these a GET may be answered without the body.
_CONDITIONS = ("HTTP_IF_NONE_MATCH", "HTTP_IF_MATCH", "HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE")

#: Of a request that is made for another one.
_NO_REQUEST: Mapping[str, Any] = {}


class _Known(NamedTuple):
    """What a store has said of a key: a version, or that nothing is there, or a folder."""

    version: ObjectVersion | None
    is_folder: bool
    until: float


class Objects:
    """Opens the objects of registrations; small ones come from memory where their store says that nothing has changed.

    Parameters
    ----------
    rules : StoreRules
    stores : Stores
    cache : FileCache
    """

    def __init__(self, rules: StoreRules, stores: Stores, cache: FileCache) -> None:
        self._rules = rules
        self._stores = stores
        self._cache = cache
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, registration: Registration, entry: bytes, environ: Mapping[str, Any] | None) -> AnyFile:
        """Return the object that `entry` names.

        Parameters
        ----------
        registration : Registration
            Of an object root.
        entry : bytes
        environ : mapping or None
            The request, by which is chosen what the store is asked; None: another object is what it asks for.

        Raises
        ------
        NoSuchEntry, IsDirectory, StoreFailing
        """
        store, key = self._find(registration, entry)
        media_type = find_media_type(entry[entry.rfind(b"/") + 1 :])
        if environ is not None and store.rule.redirect and not registration.headers:
            return RedirectedObject(store, key, self._version(registration, store, key), media_type)
        known = self._find_known(store, key)
        given: Found | None = None
        if known is None:
            given = self._ask(registration, store, key, _NO_REQUEST if environ is None else environ)
            version = given.version
        else:
            version = _version_of(known)
        small = self._find_kept(store, key, version)
        if small is not None:
            return small if small.media_type is media_type else _with_type(small, media_type)
        file = ObjectFile(store, key, version, media_type, given, partial(self._keep, store, key))
        is_whole = given is not None and given.span == Span(0, version.size_bytes)
        return file.open() if is_whole and version.size_bytes <= SMALL_OBJECT_BYTES else file

    def finder(self, registration: Registration, entry: bytes, file: AnyFile) -> Callable[[], AnyFile | None] | None:
        """Return what finds `file`, which was opened for `entry`, again, while it is in memory and believed."""
        if not isinstance(file, SmallFile):
            return None
        store, key = self._find(registration, entry)
        assert isinstance(file.version, ObjectVersion)
        # Not the file itself, which the cache may let go.
        return partial(self._find_believed, store, key, file.version, file.media_type)

    def forget(self, registration: Registration, entry: bytes) -> None:
        """Believe nothing any more of what a store has said of an object."""
        store, key = self._find(registration, entry)
        with self._lock:
            self._known.pop((store.url, key), None)

    def locate(self, registration: Registration, entry: bytes) -> tuple[Store, str]:
        """Return the store of a folder, and what the keys of all that is in it begin with: with a slash, or empty.

        Raises
        ------
        NoSuchEntry
        """
        place = self._rules.find(registration.root, registration.owner)
        if place is None:
            raise NoSuchEntry
        names = _names(entry)
        prefix = "/".join([*([place.key] if place.key else []), *names])
        return self._stores.find(place.rule, place.bucket), f"{prefix}/" if prefix else ""

    def _find(self, registration: Registration, entry: bytes) -> tuple[Store, str]:
        place = self._rules.find(registration.root, registration.owner)
        if place is None:
            raise NoSuchEntry
        store = self._stores.find(place.rule, place.bucket)
        if registration.kind == "file":
            if entry != registration.name:
                raise NoSuchEntry
            return store, place.key
        names = _names(entry)
        if not names or entry.endswith(b"/"):
            raise IsDirectory
        return store, "/".join([*([place.key] if place.key else []), *names])

    def _ask(self, registration: Registration, store: Store, key: str, environ: Mapping[str, Any]) -> Found:
        """Ask the store of an object, and for those bytes of it that the request will most likely be answered with."""
        span = _wanted(environ)
        try:
            if span is None:
                version = store.find(key)
                found = Found(version, Span(0, 0), b"")
            else:
                found = self._read(store, key, span)
        except NoSuchEntry:
            is_folder = registration.kind == "tree" and store.has_below(f"{key}/")
            self._learn(store, key, None, is_folder=is_folder)
            raise (IsDirectory if is_folder else NoSuchEntry) from None
        self._learn(store, key, found.version)
        return found

    def _read(self, store: Store, key: str, span: Span) -> Found:
        kept = self._cache.find_any(_place(store, key)) if span.start == 0 else None
        if kept is None or not isinstance(kept.version, ObjectVersion):
            return store.read(key, span)
        try:
            return store.read(key, span, unless=kept.version.tag)
        except Unchanged:
            return Found(kept.version, Span(0, len(kept.body)), kept.body)

    def _version(self, registration: Registration, store: Store, key: str) -> ObjectVersion:
        known = self._find_known(store, key)
        return _version_of(known) if known else self._ask(registration, store, key, _ONLY_HEAD).version

    def _find_known(self, store: Store, key: str) -> _Known | None:
        with self._lock:
            known = self._known.get((store.url, key))
        return known if known is not None and time.monotonic() < known.until else None

    def _learn(self, store: Store, key: str, version: ObjectVersion | None, *, is_folder: bool = False) -> None:
        known = _Known(version, is_folder, time.monotonic() + store.rule.fresh_seconds)
        with self._lock:
            self._known[store.url, key] = known
            self._known.move_to_end((store.url, key))
            if len(self._known) > _KNOWN:
                self._known.popitem(last=False)

    def _keep(self, store: Store, key: str, file: SmallFile) -> None:
        # It counts only for as long as the store says so.
        self._cache.add_made(_place(store, key), file, math.inf)

    def _find_kept(self, store: Store, key: str, version: ObjectVersion) -> SmallFile | None:
        if version.size_bytes > SMALL_OBJECT_BYTES:
            return None
        return self._cache.find_made(_place(store, key), version.make_etag())

    def _find_believed(self, store: Store, key: str, version: ObjectVersion, media_type: MediaType) -> SmallFile | None:
        known = self._find_known(store, key)
        if known is None or known.version != version:
            return None
        small = self._find_kept(store, key, version)
        return small if small is not None and small.media_type is media_type else None


_ONLY_HEAD: Mapping[str, Any] = {"REQUEST_METHOD": "HEAD"}


def _place(store: Store, key: str) -> CacheKey:
    return store.url.encode(), key.encode(), (b"", "object")


def _names(entry: bytes) -> list[str]:
    """Return the segments of a key; raise NoSuchEntry where they can be none."""
    try:
        names = [name.decode("utf-8") for name in split_entry(entry)]
    except UnicodeDecodeError:
        raise NoSuchEntry from None
    if any(map(find_fault, names)):
        raise NoSuchEntry
    return names


def _version_of(known: _Known) -> ObjectVersion:
    if known.version is None:
        raise IsDirectory if known.is_folder else NoSuchEntry
    return known.version


def _wanted(environ: Mapping[str, Any]) -> Span | None:
    """Return the bytes that are asked for first; None: it is enough to know of the object."""
    if environ.get("REQUEST_METHOD") == "HEAD" or any(name in environ for name in _CONDITIONS):
        return None
    requested = environ.get("HTTP_RANGE")
    if requested is None:
        return Span(0, SMALL_OBJECT_BYTES)
    match = _ONE_RANGE.fullmatch(requested)
    if match is None:
        return None
    start, stop = int(match[1]), int(match[2]) + 1
    return Span(start, stop) if 0 < stop - start <= _FIRST_RANGE_BYTES else None


def _with_type(file: SmallFile, media_type: MediaType) -> SmallFile:
    """Return a kept object as one of another type: it is published under other names, too."""
    return SmallFile(file.version, media_type, file.body)
