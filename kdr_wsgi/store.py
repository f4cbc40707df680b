"""From a registration and an entry to its file."""

from __future__ import annotations

import os

from hub.registration import Registration
from kdr_wsgi import beneath
from kdr_wsgi.cache import FileCache, Place
from kdr_wsgi.errors import FileBeingChanged, FileChanged, IsDirectory, NoSuchEntry
from kdr_wsgi.files import File, OpenFile
from kdr_wsgi.media_types import find_media_type

#: Up to here a file is read when it is opened: for so few bytes, sendfile(2) costs more than it saves.
SMALL_FILE_BYTES = 65536

#: How often a file that changes under our eyes is read before we give up.
_ATTEMPTS = 3


class FileStore:
    """Opens the files of registrations; small ones come from memory where nothing has changed.

    Parameters
    ----------
    capacity_bytes : int
        What the files in memory may take.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self._cache = FileCache(capacity_bytes)

    def open(self, registration: Registration, entry: bytes) -> File:
        """Return the file that `entry` names.

        Raises
        ------
        NoSuchEntry, NotReadable, IsDirectory, FileBeingChanged
        """
        if registration.kind == "file":
            if entry != registration.name:
                raise NoSuchEntry
            path = registration.root
        else:
            path = registration.root + b"/" + entry
        place = (registration.root, entry, registration.name)
        try:
            # Links on the way may lead this stat outside. It is believed in what it says of a file that was found
            # beneath this very root before, and where nothing is there at all.
            kept = self._cache.find(place, os.stat(path, follow_symlinks=False))
        except (FileNotFoundError, NotADirectoryError):
            raise NoSuchEntry from None
        except OSError:
            kept = None
        return kept or self._open_anew(registration, entry, place)

    def _open_anew(self, registration: Registration, entry: bytes, place: Place) -> File:
        media_type = find_media_type(entry[entry.rfind(b"/") + 1 :])
        for _ in range(_ATTEMPTS):
            file = OpenFile(_open(registration, entry), media_type)
            if file.version.size_bytes > SMALL_FILE_BYTES:
                return file
            with file:
                try:
                    small = file.read_whole()
                except FileChanged:
                    continue
            self._cache.add(place, small)
            return small
        raise FileBeingChanged


def _open(registration: Registration, entry: bytes) -> int:
    if registration.kind == "file":
        return beneath.open_root_file(registration.root)
    names = beneath.split_entry(entry)
    if entry.endswith(b"/"):
        raise IsDirectory
    return beneath.open_file(registration.root, names)
