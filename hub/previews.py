"""Previews: which page of the relay server shows what a file, or a folder, holds, and where that page is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import quote

from hub.keys import STATIC_KEY
from hub.registration import Registration
from hub.wording import say_name

#: Where the pages are, below the reserved key of the server's static files.
_FOLDER = "preview"


class Preview(NamedTuple):
    """A page that shows what a file or a folder holds.

    Attributes
    ----------
    page : str
        The name of the page's file.
    """

    page: str


_PYRAMID = Preview("pyramid.html")
_ZARR = Preview("zarr.html")

_EXTENSIONS: dict[str, tuple[str, ...]] = {
    "fits.html": ("fits", "fit", "fts", "fits.gz"),
    "json.html": ("json", "geojson"),
    "map.html": ("pmtiles", "tif", "tiff"),
    "media.html": (
        *("apng", "avif", "bmp", "gif", "ico", "jpeg", "jpg", "png", "svg", "webp"),
        *("flac", "m4a", "mp3", "oga", "ogg", "opus", "wav"),
        *("m4v", "mp4", "ogv", "webm"),
    ),
    "pyramid.html": ("dzi",),
    "table.html": ("csv", "parquet", "tsv"),
}

_BY_EXTENSION = {extension: Preview(page) for page, extensions in _EXTENSIONS.items() for extension in extensions}

#: Files that say what the folder is that they are in: a Zarr store of version 3 or 2, a pyramid of toasty.
MARKS = {"zarr.json": _ZARR, ".zgroup": _ZARR, ".zarray": _ZARR, "index_rel.wtml": _PYRAMID}

#: More levels no pyramid of tiles has.
_MAX_LEVELS = 32

#: Names that end with a slash are of folders.
_ZARR_ENDS = (".zarr", ".zarr/")


def find_preview(name: str) -> Preview | None:
    """Return the preview of what is called `name`; None if there is none.

    Parameters
    ----------
    name : str
        Of a file; or of a folder, with a slash at its end.
    """
    if name.endswith("/"):
        return _ZARR if name.lower().endswith(_ZARR_ENDS) else None
    # Of "a.fits.gz" both: the page unpacks it.
    stem, dot, extension = name.lower().removesuffix(".gz").rpartition(".")
    packed = ".gz" if name.lower().endswith(".gz") else ""
    return _BY_EXTENSION.get(extension + packed) if stem and dot else None


def find_folder_preview(names: Iterable[str]) -> Preview | None:
    """Return the preview of a folder, by the names of what is in it; None if there is none.

    Parameters
    ----------
    names : iterable of str
        Those of folders end with a slash. They are taken only as far as that is needed.
    """
    found: Preview | None = None
    levels = 0
    are_levels = True
    for name in names:
        mark = MARKS.get(name)
        if mark is _ZARR:
            return mark
        found = found or mark
        # The folders of a pyramid whose tiles are Z/X/Y.png have the numbers of its levels.
        are_levels = are_levels and name[:-1].isdecimal() and name.isascii() and name.endswith("/")
        levels += 1
    if found is None and are_levels and 0 < levels <= _MAX_LEVELS:
        return _PYRAMID
    return found


def find_any_preview(registration: Registration, names: Iterable[str]) -> Preview | None:
    """Return what shows a registration: a file by its name, a folder or an archive by its own and those in it."""
    if registration.kind == "file":
        return find_preview(say_name(registration))
    return find_preview(f"{say_name(registration)}/") or find_folder_preview(names)


def preview_url(preview: Preview, key: str, entry: bytes, *, before: str) -> str:
    """Return the address of the page that shows an entry.

    Parameters
    ----------
    preview : Preview
    key : str
        Of the registration.
    entry : bytes
        The path below its root; that of a folder ends with a slash, or is empty.
    before : str
        What comes before the key in a URL, with a slash at its end: ``/user/ada/wwtkdr/``, or ``../`` once for each
        level that a page lies below that.
    """
    # Relative to the preview's page, which lies two folders below.
    shown = f"../../{quote(key, safe='')}/{quote(entry)}"
    return f"{before}{STATIC_KEY}/{_FOLDER}/{preview.page}?url={quote(shown, safe='/')}"
