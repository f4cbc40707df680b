"""The page that lists a directory without an index.html."""

from __future__ import annotations

import heapq
import os
import stat
from dataclasses import dataclass
from datetime import datetime, timezone
from urllib.parse import quote

from jinja2 import Environment, PackageLoader

from kdr_wsgi.answers import Answer
from kdr_wsgi.beneath import open_directory, split_entry
from kdr_wsgi.catalog import Publication

#: A page with more rows than this helps nobody.
MAX_ROWS = 10_000

#: The page needs its own style and nothing else, whatever the names in it say.
_POLICY = ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox")

_TEMPLATE = Environment(loader=PackageLoader("kdr_wsgi"), autoescape=True).get_template("listing.html")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the page."""

    href: str
    name: str
    size: str
    modified: str


def answer_listing(publication: Publication, entry: bytes, *, with_body: bool) -> Answer:
    """Return the page of the directory `entry`.

    Raises
    ------
    NoSuchEntry, NotReadable
    """
    descriptor = open_directory(publication.registration.root, split_entry(entry))
    try:
        with os.scandir(descriptor) as found:
            names = [os.fsencode(item.name) for item in found]
        shown = heapq.nsmallest(MAX_ROWS, names)
        rows = [_describe(descriptor, name) for name in shown]
    finally:
        os.close(descriptor)
    path = entry.strip(b"/").decode("utf-8", "replace")
    page = _TEMPLATE.render(title=f"/{path}", is_root=not path, rows=rows, left_out=len(names) - len(shown)).encode()
    headers = [
        *publication.headers,
        _POLICY,
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Length", str(len(page))),
    ]
    return Answer("200 OK", headers, (page,) if with_body else ())


def _describe(directory: int, name: bytes) -> Row:
    # "./" keeps a colon in the name from making a scheme of what stands before it (RFC 3986, 4.2).
    href, shown = f"./{quote(name, safe='')}", name.decode("utf-8", "replace")
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
