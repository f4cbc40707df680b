"""The page that lists a directory without an index.html."""

from __future__ import annotations

import heapq
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from urllib.parse import quote

from jinja2 import Environment, PackageLoader

from hub.content.signatures import unpack_signature
from kdr_wsgi.answers import Answer
from kdr_wsgi.beneath import open_directory, split_entry
from kdr_wsgi.catalog import Publication
from kdr_wsgi.contents import Child
from kdr_wsgi.headers import STYLE_ONLY

#: A page with more rows than this helps nobody.
MAX_ROWS = 10_000

_TEMPLATE = Environment(loader=PackageLoader("kdr_wsgi"), autoescape=True).get_template("listing.html")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the page."""

    href: str
    name: str
    size: str
    modified: str


@dataclass(frozen=True, slots=True)
class Folder:
    """What the page shows.

    Attributes
    ----------
    path : str
        Below the root, without slashes at its ends.
    rows : list of Row
    left_out : int
        How many there are besides.
    """

    path: str
    rows: list[Row]
    left_out: int


def list_on_disk(root: bytes, entry: bytes) -> Folder:
    """Return what is in the directory `entry` below `root`.

    Raises
    ------
    NoSuchEntry, NotReadable
    """
    descriptor = open_directory(root, split_entry(entry))
    try:
        with os.scandir(descriptor) as found:
            names = [os.fsencode(item.name) for item in found]
        shown = heapq.nsmallest(MAX_ROWS, names)
        rows = [_describe(descriptor, name) for name in shown]
    finally:
        os.close(descriptor)
    return Folder(_show(entry), rows, len(names) - len(shown))


def list_promised(entry: bytes, children: Sequence[Child], left_out: int) -> Folder:
    """Return what a content key promises to be in the directory `entry`."""
    return Folder(_show(entry), [_describe_promised(child) for child in children], left_out)


def answer_listing(publication: Publication, folder: Folder, *, with_body: bool) -> Answer:
    """Return the page of a directory."""
    page = _TEMPLATE.render(
        title=f"/{folder.path}", is_root=not folder.path, rows=folder.rows, left_out=folder.left_out
    ).encode()
    headers = [
        *publication.headers,
        *STYLE_ONLY,
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Length", str(len(page))),
    ]
    return Answer("200 OK", headers, (page,) if with_body else ())


def _show(entry: bytes) -> str:
    return entry.strip(b"/").decode("utf-8", "replace")


def _describe_promised(child: Child) -> Row:
    href, shown = _link(child.name)
    if child.signature is None:
        return Row(f"{href}/", f"{shown}/", "", "")
    size_bytes, modified_ns, _, _ = unpack_signature(child.signature)
    return Row(href, shown, f"{size_bytes:,}", _format_time(modified_ns / 1e9))


def _link(name: bytes) -> tuple[str, str]:
    """Return where a name links to, and how it is shown."""
    # "./" keeps a colon in the name from making a scheme of what stands before it (RFC 3986, 4.2).
    return f"./{quote(name, safe='')}", name.decode("utf-8", "replace")


def _describe(directory: int, name: bytes) -> Row:
    href, shown = _link(name)
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        # Removed since the directory was read.
        return Row(href, shown, "", "")
    if stat.S_ISDIR(status.st_mode):
        return Row(f"{href}/", f"{shown}/", "", _format_time(status.st_mtime))
    size = f"{status.st_size:,}" if stat.S_ISREG(status.st_mode) else ""
    return Row(href, shown, size, _format_time(status.st_mtime))


def _format_time(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError):
        # File systems hold years that a datetime does not.
        return ""
