"""Files that are not there, and are made from one that is: ``X.wtml`` from ``X_rel.wtml``."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

from blake3 import blake3

from hub.registration import Registration
from kdr_wsgi.errors import (
    FileBeingChanged,
    FileChanged,
    IsDirectory,
    NoSuchEntry,
    UnusableWTML,
    WTMLNotInstalled,
)
from kdr_wsgi.files import SmallFile
from kdr_wsgi.media_types import find_media_type
from kdr_wsgi.store import FileStore

_SUFFIX = b".wtml"
_RELATIVE_SUFFIX = b"_rel.wtml"

#: More than any that has no more elements than are read.
MAX_SOURCE_BYTES = 4 * 1024 * 1024


def find_made_name(source: bytes) -> bytes | None:
    """Return the name of what can be made from a file called `source`; None if there is none such."""
    if not source.endswith(_RELATIVE_SUFFIX) or not _can_make():
        return None
    return source.removesuffix(_RELATIVE_SUFFIX) + _SUFFIX


@cache
def _can_make() -> bool:
    return find_spec("wwt_data_formats") is not None


class MadeFiles:
    """Makes what is asked for, where the store has what it is made from."""

    def __init__(self, store: FileStore) -> None:
        self._store = store

    def has_recipe(self, registration: Registration, entry: bytes) -> bool:
        """Whether `entry` can be made from another one, by its name."""
        return registration.kind != "file" and entry.endswith(_SUFFIX)

    def open(self, registration: Registration, entry: bytes, url: str) -> SmallFile:
        """Return the file that `entry`, which has a recipe, names to who reads it at `url`.

        Raises
        ------
        NoSuchEntry, NotReadable, FileBeingChanged
            As `FileStore.open` does, of the file that it is made from.
        UnusableWTML, WTMLNotInstalled
        """
        source = self._read(registration, entry.removesuffix(_SUFFIX) + _RELATIVE_SUFFIX)
        try:
            from kdr_wsgi.wtml import make_absolute  # Here, since it needs an extra, and takes 0.2 s to import.
        except ModuleNotFoundError as error:
            raise WTMLNotInstalled from error
        body = make_absolute(source.body, url)
        # The same source and URL could give other bytes with another version of what makes them.
        variant = blake3(url.encode()).update(body).hexdigest(8)
        return source.made_into(body, find_media_type(_SUFFIX), variant)

    def _read(self, registration: Registration, entry: bytes) -> SmallFile:
        try:
            file = self._store.open(registration, entry)
        except IsDirectory:
            raise NoSuchEntry from None
        file = file.open()
        if isinstance(file, SmallFile):
            return file
        with file:
            if file.version.size_bytes > MAX_SOURCE_BYTES:
                raise UnusableWTML(f"it is larger than {MAX_SOURCE_BYTES:,} bytes")
            try:
                return file.read_whole()
            except FileChanged:
                raise FileBeingChanged from None
