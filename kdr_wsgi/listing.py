"""The listing of a folder without an index.html: a page for people, JSON for programs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from itertools import chain, islice
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_to_bytes

from jinja2 import Environment, PackageLoader

from hub.keys import shorten_key
from hub.previews import Preview, find_folder_preview, find_preview, preview_url
from kdr_wsgi.answers import Answer, prefers_json
from kdr_wsgi.catalog import Publication
from kdr_wsgi.contents import Child
from kdr_wsgi.folders import Children, Folder, Page
from kdr_wsgi.headers import add_vary
from kdr_wsgi.media_types import find_media_type
from kdr_wsgi.pages import page_policy
from kdr_wsgi.streams import Stream

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

#: How many rows the page has without its script, which fetches the others.
PAGE_ROWS = 300

#: A picture in each row costs whoever looks at a screen of rows no more than a few MB.
ICON_BYTES = 128 * 1024

#: What a row has a picture of once the viewer asks for pictures.
PICTURE_BYTES = 1024 * 1024

#: What browsers show as an image.
_PICTURES = frozenset(
    f"image/{kind}" for kind in ("apng", "avif", "bmp", "gif", "jpeg", "png", "svg+xml", "vnd.microsoft.icon", "webp")
)

#: Names that are the same in a URL and in JSON.
_PLAIN = re.compile(rb"[A-Za-z0-9_.~-]+")

#: So many entries are one piece of the JSON.
_ENTRIES_PER_PIECE = 256

_ENVIRONMENT = Environment(loader=PackageLoader("kdr_wsgi"), autoescape=True, trim_blocks=True, lstrip_blocks=True)


def _read_source(name: str) -> str:
    source, _, _ = PackageLoader("kdr_wsgi").get_source(_ENVIRONMENT, name)
    return source


_STYLE, _SCRIPT = _read_source("listing.css"), _read_source("listing.js")
_TEMPLATE = _ENVIRONMENT.get_template("listing.html", globals={"style": _STYLE, "script": _SCRIPT})

#: The page runs with the login of whoever looks at it, for its pictures and its JSON. Nothing else than its own script
#: ever runs in it, whatever the names in it say, and nothing comes from, or goes to, elsewhere.
_POLICY = page_policy([_SCRIPT], [_STYLE])


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the page.

    Attributes
    ----------
    href : str or None
        None: it is not served.
    name, type : str
    size : str
        For people.
    size_bytes : int or None
    modified : str
        As the JSON has it.
    picture : str
        Where in the row: "icon"; "large": only once the viewer asks for pictures; or nowhere.
    preview : str or None
        The address of the page that shows it.
    """

    href: str | None
    name: str
    type: str
    size: str
    size_bytes: int | None
    modified: str
    picture: str
    preview: str | None


@dataclass(frozen=True, slots=True)
class Crumb:
    """A folder on the way to the one that is listed."""

    href: str
    name: str


def answer_listing(environ: WSGIEnvironment, publication: Publication, entry: bytes, folder: Folder) -> Answer:
    """Return the listing of `folder`, which `entry` names, as the client prefers it.

    Raises
    ------
    NoSuchEntry, NotReadable, ManifestUnavailable
    """
    query = _parse_query(environ.get("QUERY_STRING", ""))
    # What is listed has no ranges.
    headers = [pair for pair in add_vary(publication.headers, "Accept") if pair[0] != "Accept-Ranges"]
    wanted = query.get("format", b"")
    is_json = prefers_json(environ, "text/html") if wanted not in (b"json", b"html") else wanted == b"json"
    if is_json:
        headers.append(("Content-Type", "application/json"))
    else:
        headers += [_POLICY, ("Content-Type", "text/html; charset=utf-8")]
    if environ["REQUEST_METHOD"] == "HEAD":
        folder.check()
        return Answer("200 OK", headers, ())
    if is_json:
        return Answer("200 OK", headers, _write_json(entry, folder.open()))
    after = query.get("after", b"")
    body = _render(publication.registration.key, entry, after, folder.find_page(after, PAGE_ROWS)).encode()
    return Answer("200 OK", [*headers, ("Content-Length", str(len(body)))], (body,))


def _parse_query(query: str) -> dict[str, bytes]:
    """Return the fields of a query; the values are bytes, as names of files are."""
    fields = (field.partition("=") for field in query.split("&"))
    return {name: unquote_to_bytes(value.replace("+", " ")) for name, _, value in fields}


# --- JSON ------------------------------------------------------------------------------------------------------------


def _write_json(entry: bytes, children: Children) -> Stream:
    """Return the JSON of a folder, one line for each entry, made as it is sent."""
    lines = _json_lines(entry, children)
    # What cannot be read at all shows before the answer begins.
    try:
        first = "".join(islice(lines, _ENTRIES_PER_PIECE)).encode()
    except BaseException:  # Ctrl-C too leaves no descriptor.
        children.close()
        raise
    return Stream(chain([first], _join(lines)), children.close)


def _json_lines(entry: bytes, children: Children) -> Iterator[str]:
    yield f'{{"path": {json.dumps(_show(entry.strip(b"/")))}, "entries": ['
    end = "\n"
    for child in children:
        yield end + _describe(child)
        end = ",\n"
    yield "\n]}\n"


def _join(lines: Iterator[str]) -> Iterator[bytes]:
    while piece := "".join(islice(lines, _ENTRIES_PER_PIECE)):
        yield piece.encode()


def _describe(child: Child) -> str:
    # Written by hand, since there may be a million of them; of most names nothing is to be escaped.
    if _PLAIN.fullmatch(child.name):
        text = child.name.decode()
        name, href = f'"{text}"', f'"./{text}/"' if child.is_folder else f'"./{text}"'
    else:
        name, href = json.dumps(_show(child.name)), f'"{_href(child)}"'
    if not child.is_served:
        href = "null"
    size = "null" if child.size_bytes is None else child.size_bytes
    seconds = None if child.modified_ns is None else child.modified_ns // 1_000_000_000
    return (
        f'{{"name": {name}, "href": {href}, {_describe_kind(child)}, "size": {size}, '
        f'"modified": {_describe_seconds(seconds)}}}'
    )


@lru_cache(4096)
def _describe_seconds(seconds: int | None) -> str:
    return json.dumps(None if seconds is None else _format_seconds(seconds) or None)


def _describe_kind(child: Child) -> str:
    if not child.is_served:
        return '"type": null'
    start = child.name.rfind(b".")
    # A name that has nothing before its last dot has no extension.
    return _describe_extension(b"a"[:start] + child.name[start:] if start >= 0 else b"", child.is_folder)


@lru_cache(1024)
def _describe_extension(name: bytes, is_folder: bool) -> str:
    child = Child(name, is_folder)
    preview = _find_preview(child)
    return f'"type": {json.dumps(_type_of(child))}' + (f', "preview": "{preview.page}"' if preview else "")


# --- the page --------------------------------------------------------------------------------------------------------


def _render(key: str, entry: bytes, after: bytes, page: Page) -> str:
    depth = entry.count(b"/")
    root = shorten_key(key)
    crumbs = [Crumb("../" * depth or "./", root)]
    names = entry.split(b"/")[:-1]
    crumbs += [Crumb("../" * (depth - at) or "./", _show(name)) for at, name in enumerate(names, 1) if name]
    # What precedes the key, seen from this page.
    before = "../" * (depth + 1)
    rows = [_make_row(child, key, entry, before) for child in page.children]
    is_whole = page.next is None and not after
    shown = (f"{row.name}/" if row.type == "folder" else row.name for row in rows) if is_whole else ()
    found = find_folder_preview(chain(page.marks, shown))
    return _TEMPLATE.render(
        title=" / ".join(crumb.name for crumb in crumbs),
        crumbs=crumbs[:-1],
        name=crumbs[-1].name,
        rows=rows,
        is_whole=is_whole,
        is_first=not after,
        total=page.total,
        next=None if page.next is None else f"./?after={quote(page.next, safe='')}",
        preview=found and preview_url(found, key, entry, before=before),
        previews=f"{before}_static/preview/",
        shown=f"../../{quote(key, safe='')}/{quote(entry)}",
        icon_bytes=ICON_BYTES,
        picture_bytes=PICTURE_BYTES,
        pictures=" ".join(sorted(_PICTURES)),
    )


def _make_row(child: Child, key: str, entry: bytes, before: str) -> Row:
    kind = _type_of(child) if child.is_served else "not served"
    picture = ""
    if kind in _PICTURES and child.size_bytes is not None and child.size_bytes <= PICTURE_BYTES:
        picture = "icon" if child.size_bytes <= ICON_BYTES else "large"
    preview = _find_preview(child)
    below = entry + child.name + (b"/" if child.is_folder else b"")
    return Row(
        href=_href(child) if child.is_served else None,
        name=_show(child.name),
        type=kind,
        size="" if child.size_bytes is None else _format_size(child.size_bytes),
        size_bytes=child.size_bytes,
        modified=_format_time(child.modified_ns),
        picture=picture,
        preview=None if preview is None else preview_url(preview, key, below, before=before),
    )


def _find_preview(child: Child) -> Preview | None:
    if not child.is_served:
        return None
    return find_preview(_show(child.name) + ("/" if child.is_folder else ""))


def _type_of(child: Child) -> str:
    return "folder" if child.is_folder else find_media_type(child.name).content_type.partition(";")[0]


def _href(child: Child) -> str:
    # "./" keeps a colon in the name from making a scheme of what stands before it (RFC 3986, 4.2).
    return f"./{quote(child.name, safe='')}{'/' if child.is_folder else ''}"


def _show(name: bytes) -> str:
    return name.decode("utf-8", "replace")


def _format_size(size_bytes: int) -> str:
    if size_bytes < 1000:
        return f"{size_bytes} B"
    size = float(size_bytes)
    for unit in ("kB", "MB", "GB", "TB", "PB", "EB"):
        size /= 1000
        if size < 9.95:
            return f"{size:.1f} {unit}"
        if size < 999.5:
            break
    return f"{size:.0f} {unit}"


def _format_time(modified_ns: int | None) -> str:
    return "" if modified_ns is None else _format_seconds(modified_ns // 1_000_000_000)


def _format_seconds(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        # File systems hold years that a datetime does not.
        return ""
