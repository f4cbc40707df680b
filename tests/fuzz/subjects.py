"""What is fuzzed: functions from bytes to nothing, which fail where the code breaks a rule on them.

Each gives its bytes to the code as they would come from outside, and holds the
outcome against the rules, or against a slow second way to it. An exception that
the code does not declare is left to fail. What has several parts is one to a line.
"""

from __future__ import annotations

import atexit
import gzip
import io
import json
import os
import re
import shutil
import socket
import struct
import tempfile
import threading
import warnings
import zipfile
import zlib
from calendar import timegm
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch
from urllib.parse import quote, unquote_to_bytes, urlsplit
from xml.etree import ElementTree

from blake3 import blake3
from wwt_data_formats.folder import Folder, make_absolutizing_url_mutator

from hub import ArchiveError, HubError, InvalidKey, InvalidOption, JupyterRelayHub, ManifestError
from hub.content.archives import DEFLATED, Member, make_index
from hub.content.manifests import Columns, Manifest, ManifestStore, Tree, TreeWriter
from hub.content.signatures import SIGNATURE_BYTES, make_signature, pack_signature
from hub.content.transfer import MAX_ENTRY_BYTES, receive_tree, send_tree
from hub.errors import NoArchive
from hub.keys import check_chosen_key, check_key
from hub.locations import beside
from hub.registrar import Claim
from hub.registration import Registration
from hub.service import ServiceRegistrar
from hub.settings import normalise_base_url
from hub.wire import MAX_NAME_BYTES, claim_from_json, claim_to_json, registration_from_json, registration_to_json
from kdr_wsgi import beneath
from kdr_wsgi.answers import answer_error
from kdr_wsgi.app import create_app
from kdr_wsgi.cache import FileCache
from kdr_wsgi.encodings import MAX_CHARACTERS, SUFFIXES, preferred_codings
from kdr_wsgi.errors import (
    FileBeingChanged,
    IsDirectory,
    MalformedHost,
    MalformedTarget,
    NoSuchEntry,
    TruncatedBody,
    UnknownKey,
    UnusableMember,
    UnusableWTML,
)
from kdr_wsgi.files import File, KeptFile, OpenFile, SmallFile, WholeFile
from kdr_wsgi.locations import location_finder
from kdr_wsgi.media_types import find_media_type
from kdr_wsgi.members import SMALL_MEMBER_BYTES, ArchiveMember, Place
from kdr_wsgi.origins import Origins
from kdr_wsgi.preconditions import Verdict, evaluate, is_range_current
from kdr_wsgi.proxies import TrustedProxies
from kdr_wsgi.ranges import Span, coalesce, parse_range
from kdr_wsgi.settings import SettingError, read_settings
from kdr_wsgi.targets import Target, find_target
from kdr_wsgi.versions import FileVersion, MemberVersion
from kdr_wsgi.wtml import MAX_CHARACTERS as MAX_CHARACTERS_OF_WTML
from kdr_wsgi.wtml import _parse, make_absolute

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication


class Subject(NamedTuple):
    """Something to fuzz.

    Attributes
    ----------
    check : callable
        Fails on bytes on which a rule is broken.
    seeds : tuple of bytes
        What to begin from.
    tokens : tuple of bytes
        What is worth putting in.
    """

    check: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    tokens: tuple[bytes, ...]


def lines_of(data: bytes, count: int) -> list[str]:
    """Return the first lines as a server has them in its environ, as many as are asked for."""
    lines = data.decode("latin-1").split("\n", count - 1)
    return [*lines, *[""] * (count - len(lines))]


def variables_of(data: bytes) -> dict[str, str]:
    """Return the header lines in `data` as WSGI has them."""
    variables: dict[str, str] = {}
    for line in data.decode("latin-1").split("\n"):
        name, colon, value = line.partition(":")
        if colon:
            variable = "HTTP_" + name.strip().upper().replace("-", "_")
            value = value.strip(" \t\r")
            variables[variable] = f"{variables[variable]},{value}" if variable in variables else value
    return variables


def number_in(text: str) -> int:
    return int("0" + "".join(character for character in text if character in "0123456789")[:7])


@cache
def workplace() -> Path:
    """Return a folder for files, which goes with the process."""
    folder = Path(os.path.realpath(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


# Ranges.


def check_range(data: bytes) -> None:
    size, header = lines_of(data, 2)
    size_bytes = number_in(size)
    spans = parse_range(header, size_bytes)
    assert spans == range_by_the_rules(header, size_bytes)
    if not spans:
        return
    assert len(spans) <= header.count(",") + 1
    assert all(0 <= span.start < span.stop <= size_bytes for span in spans)
    again = "bytes=" + ",".join(f"{span.start}-{span.stop - 1}" for span in spans)
    assert len(again) > 8192 or parse_range(again, size_bytes) == spans
    gap_bytes = len(header) % 100
    joined = coalesce(spans, gap_bytes)
    assert all(before.stop + gap_bytes < after.start for before, after in pairwise(sorted(joined)))
    holders = [[whole for whole in joined if whole.start <= span.start and span.stop <= whole.stop] for span in spans]
    assert list(dict.fromkeys(holder for (holder,) in holders)) == joined


def range_by_the_rules(header: str, size_bytes: int) -> list[Span] | None:
    """Return what `parse_range` is to return; `Decimal`, unlike `int`, takes any number of digits."""
    unit, _, items = header.partition("=")
    if unit.strip().lower() != "bytes" or len(header) > 8192 or not items.strip(" \t,"):
        return None
    spans: list[Span] = []
    for item in items.split(","):
        first, dash, last = item.strip(" \t").partition("-")
        if not item.strip(" \t"):
            continue
        if not dash or not first + last or set(first + last) - set("0123456789"):
            return None
        if first:
            if last and Decimal(first) > Decimal(last):
                return None
            start, stop = Decimal(first), min(Decimal(last) + 1, Decimal(size_bytes)) if last else Decimal(size_bytes)
        elif size_bytes == 0:
            return None
        else:
            start, stop = max(size_bytes - Decimal(last), Decimal(0)), Decimal(size_bytes)
        if start < stop:
            spans.append(Span(int(start), int(stop)))
    return spans


# Preconditions.

ETAG = '"5f-a1"'
MODIFIED = 784_111_777
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


def check_conditions(data: bytes) -> None:
    variables = variables_of(data)
    verdict = evaluate(variables, ETAG, MODIFIED)
    assert verdict in verdicts_by_the_rules(variables)
    if_range = variables.get("HTTP_IF_RANGE")
    if if_range is not None:
        is_current = is_range_current(if_range, ETAG, MODIFIED, MODIFIED + 60)
        assert not is_range_current(if_range, ETAG, MODIFIED, MODIFIED + 0.5) or if_range == ETAG
        if if_range.startswith(('"', "W/")):
            assert is_current == (if_range == ETAG)
        elif (seconds := seconds_of(if_range)) is not None:
            assert is_current == (seconds == MODIFIED)


def verdicts_by_the_rules(variables: dict[str, str]) -> set[Verdict]:
    """Return the verdicts that RFC 9110, 13.2.2, allows; of a header of wrong syntax nothing is known."""
    verdicts: set[Verdict] = set()
    if_match, if_none_match = variables.get("HTTP_IF_MATCH"), variables.get("HTTP_IF_NONE_MATCH")
    if if_match is not None:
        passed = matches(if_match, may_be_weak=False)
    else:
        passed = is_before(variables.get("HTTP_IF_UNMODIFIED_SINCE"), otherwise=True)
    if False in passed:
        verdicts.add(Verdict.FAILED)
    if True in passed:
        if if_none_match is not None:
            same = matches(if_none_match, may_be_weak=True)
        else:
            same = is_before(variables.get("HTTP_IF_MODIFIED_SINCE"), otherwise=False)
        verdicts |= {Verdict.NOT_MODIFIED if is_same else Verdict.PROCEED for is_same in same}
    return verdicts


def matches(header: str, *, may_be_weak: bool) -> set[bool]:
    """Return whether a list has our entity tag; both where its syntax is wrong and it may be said to."""
    if header.strip(" \t") == "*":
        return {True}
    tags = tags_of(header) if len(header) <= 8192 else []
    if tags is None:
        return {False, True} if ETAG.strip('"') in header or "*" in header else {False}
    return {any(tag == ETAG and (may_be_weak or not is_weak) for is_weak, tag in tags)}


def tags_of(header: str) -> list[tuple[bool, str]] | None:
    """Return the entity tags of a list (RFC 9110, 8.8.3 and 5.6.1); None where it is none."""
    tags = []
    position, may_follow = 0, True
    while position < len(header):
        if header[position] in " \t,":
            may_follow = may_follow or header[position] == ","
            position += 1
            continue
        is_weak = header.startswith("W/", position)
        start = position + 2 * is_weak
        stop = header.find('"', start + 1)
        if not may_follow or header[start : start + 1] != '"' or stop < 0:
            return None
        tag = header[start : stop + 1]
        if any(character <= " " or character == "\x7f" for character in tag):
            return None
        tags.append((is_weak, tag))
        position, may_follow = stop + 1, False
    return tags


def is_before(date: str | None, *, otherwise: bool) -> set[bool]:
    """Return whether our file is no younger than a date; both where the date is in no form of today."""
    if date is None:
        return {otherwise}
    seconds = seconds_of(date)
    return {False, True} if seconds is None else {seconds >= MODIFIED}


def seconds_of(date: str) -> int | None:
    """Return an IMF-fixdate (RFC 9110, 5.6.7) as seconds; None where it is none."""
    form = "%a, %d %b %Y %H:%M:%S GMT"
    with suppress(ValueError):
        parsed = datetime.strptime(date, form)  # its zone is in the form
        if parsed.strftime(form) == date:
            return timegm(parsed.timetuple())
    return None


# Accept-Encoding and Accept.


def check_preferences(data: bytes) -> None:
    encodings, types = lines_of(data, 2)
    assert preferred_codings(encodings) == codings_by_the_rules(encodings)
    answer = answer_error({"HTTP_ACCEPT": types, "REQUEST_METHOD": "GET"}, NoSuchEntry())
    headers = dict(answer.headers)
    (body,) = answer.body
    assert headers["Content-Length"] == str(len(body))
    if headers["Content-Type"] == "application/json":
        assert json.loads(body) == {"status": 404, "error": NoSuchEntry.sentence}
        assert "json" in types.lower() or "*" in types
    else:
        assert (headers["Content-Type"], body) == ("text/plain; charset=utf-8", f"{NoSuchEntry.sentence}\n".encode())


def codings_by_the_rules(header: str) -> tuple[str, ...]:
    weights: dict[str, int] = {}
    for part in header.split(",") if len(header) <= MAX_CHARACTERS else ():
        name, semicolon, weight = part.strip(" \t").partition(";")
        name, weight = name.rstrip(" \t"), weight.strip(" \t").lower()
        quality = weight[2:] if semicolon else "1"
        whole, _, decimals = quality.partition(".")
        if (
            (not semicolon or weight.startswith("q="))
            and (whole, set(decimals) - {"0"}) in (("1", set()), ("0", set(decimals) & set("123456789")))
            and len(decimals) <= 3
            and name
            and all(c.isascii() and (c.isalnum() or c in "!#$%&'*+-.^_`|~") for c in name)
        ):
            name = name.lower()
            weights["gzip" if name == "x-gzip" else name] = int(whole + decimals.ljust(3, "0"))
    others = weights.get("*", 0)
    least = max(1, weights.get("identity", others))
    ordered = [(weights.get(coding, others), coding) for coding in SUFFIXES]
    return tuple(coding for weight in range(1000, least - 1, -1) for other, coding in ordered if other == weight)


# Where the browser sees the server.

_PROXIES = TrustedProxies("10.0.0.0/8, ::1, unix")
_IN_URLS = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]*")


def check_locations(data: bytes) -> None:
    variables = variables_of(data)
    own = {"wsgi.url_scheme": "http", "SERVER_NAME": "machine", "SERVER_PORT": "8000"}
    environ = {**own, **variables, "SCRIPT_NAME": variables.get("HTTP_SCRIPT_NAME", "")}
    told = [variables.get(f"HTTP_X_FORWARDED_{name}", "") for name in ("PROTO", "HOST", "PREFIX")]
    unforwarded = {name: value for name, value in environ.items() if "FORWARDED" not in name}
    assert (variables.get("HTTP_PEER", "") in _PROXIES) in (False, True)
    for peer, is_believed in (("10.1.2.3", True), ("::ffff:10.1.2.3", True), ("", True), ("192.0.2.1", False)):
        assert (peer in _PROXIES) == is_believed
        find = location_finder(_PROXIES)
        try:
            url = find({**environ, "REMOTE_ADDR": peer})
        except MalformedHost:
            continue
        parts = urlsplit(url)
        assert (parts.scheme, f"{parts.scheme}://{parts.netloc}{parts.path}") in (("http", url), ("https", url))
        assert _IN_URLS.fullmatch(url)
        assert len(url) < 3 * len(environ["SCRIPT_NAME"]) + 1400
        assert parts.username is None
        assert parts.hostname
        assert (parts.port or 0) < 65536
        first = told[1].partition(",")[0].strip()
        assert parts.netloc == (first if is_believed and first else variables.get("HTTP_HOST") or "machine:8000")
        if not is_believed:
            assert url == find({**unforwarded, "REMOTE_ADDR": peer})


# Which page asks.


def check_origins(data: bytes) -> None:
    names = ("Origin", "Referer", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest")
    variables = variables_of(data)
    headers = {
        name: variables[f"HTTP_{name.upper().replace('-', '_')}"]
        for name in names
        if f"HTTP_{name.upper().replace('-', '_')}" in variables
    }
    origins = Origins(frozenset({"https://viewer.example"}))
    is_foreign = origins.is_foreign(headers, ("own.example:8888",))
    site = headers.get("Sec-Fetch-Site")
    if "Origin" in headers:
        page = headers["Origin"]
    elif (
        site in ("same-origin", "none")
        or (site is None and "Referer" not in headers)
        or (
            site is not None
            and (headers.get("Sec-Fetch-Mode"), headers.get("Sec-Fetch-Dest"))
            == (
                "navigate",
                "document",
            )
        )
    ):
        assert not is_foreign
        return
    else:
        page = headers.get("Referer", "")
    if not is_foreign:
        scheme, _, rest = page.partition("://")
        host = re.split(r"[/?#\s]", rest, maxsplit=1)[0]  # Of what browsers write, no host has white space.
        assert host == "own.example:8888" or (scheme, host) == ("https", "viewer.example")


# Targets.


def check_targets(data: bytes) -> None:
    mount, sent = (line.replace("\r", "") for line in lines_of(data, 2))
    path = re.split(r"[?#]", sent, maxsplit=1)[0]
    as_sent = {"RAW_URI": mount + sent}
    decoded = {
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "SCRIPT_NAME": unquote_to_bytes(mount).decode("latin-1"),
    }
    # A middleware has rewritten the path: it is understood as if it had not, or not at all.
    with suppress(MalformedTarget, UnknownKey):
        rewritten = find_target({**decoded, "RAW_URI": "/old" + sent, "SCRIPT_NAME": ""}, "/wwtkdr/")
        if rewritten is not None:
            assert rewritten == find_target(quoted_environ(path), "/wwtkdr/")
    for environ in ({**decoded, **as_sent}, {**decoded, "REQUEST_URI": sent}, decoded):
        try:
            target = find_target(environ, "/wwtkdr/")
        except (MalformedTarget, UnknownKey):
            continue
        if target is None:
            continue
        assert target.key
        assert not target.key.startswith("_")
        assert "\0" not in target.key
        assert b"\0" not in (target.entry or b"")
        # However it is split, it is what the server says that the path is.
        named = target.key.encode() + (b"" if target.entry is None else b"/" + target.entry)
        assert f"/wwtkdr/{named.decode('latin-1')}" == decoded["PATH_INFO"]
        # As a key is quoted here, it comes back.
        encoded = f"/wwtkdr/{quote(target.key, safe='')}"
        if target.entry is not None:
            encoded += "/" + quote(target.entry)
        assert find_target(quoted_environ(encoded), "/wwtkdr/") == target
    key, name = (line.encode("latin-1") for line in lines_of(data, 2))
    with suppress(InvalidKey, UnicodeDecodeError):
        registration = Registration(check_key(key.decode()), "file", b"/", name.replace(b"\0", b""))
        found = find_target(quoted_environ(f"/wwtkdr/{registration.target}"), "/wwtkdr/")
        assert found == Target(registration.key, registration.name)
        assert check_chosen_key(registration.key) == registration.key


def quoted_environ(encoded: str) -> dict[str, Any]:
    return {"PATH_INFO": unquote_to_bytes(encoded).decode("latin-1"), "RAW_URI": encoded, "SCRIPT_NAME": ""}


# Paths.


@cache
def linked_tree() -> bytes:
    """Return a tree with links in, out and around."""
    place = workplace() / "paths"
    tree = place / "tree"
    (tree / "sub" / "deep").mkdir(parents=True)
    (place / "tree2").mkdir()
    for path in (place / "outside", place / "tree2" / "a"):
        path.write_text("SECRET")
    for path in (tree / "a", tree / "sub" / "a", tree / "sub" / "deep" / "%2e%2e"):
        path.write_text(str(path))
    os.mkfifo(tree / "fifo")
    for link, leads_to in {
        "in": "sub",
        "up": "..",
        "out": "../outside",
        "absolute": str(tree / "sub"),
        "passwd": "/etc/passwd",
        "loop": "loop",
        "self": ".",
        "sub/back": "../sub",
        "sub/far": "../../tree2",
        "sub/deep/root": str(tree),
        "nowhere": "nothing",
        "proc": "/proc/self/root",
    }.items():
        (tree / link).symlink_to(leads_to)
    return os.fsencode(tree)


def check_paths(data: bytes) -> None:
    root, entry = linked_tree(), data.replace(b"\0", b"")
    outcomes = []
    for open_file in (beneath.open_file, lambda root, names: beneath._follow(root, names, beneath._walk_to_file)):
        try:
            descriptor = open_file(root, beneath.split_entry(entry))
        except (NoSuchEntry, IsDirectory) as error:
            outcomes.append(type(error).__name__)
            continue
        with open(descriptor, "rb") as file:
            assert os.readlink(f"/proc/self/fd/{descriptor}").encode().startswith(root + b"/")
            outcomes.append(file.read().decode())
    assert outcomes == [where_links_lead(root, entry)] * 2
    with suppress(NoSuchEntry):
        descriptor = beneath.open_directory(root, beneath.split_entry(entry))
        place = os.readlink(f"/proc/self/fd/{descriptor}").encode()
        os.close(descriptor)
        assert f"{place.decode()}/".startswith(f"{root.decode()}/")


def where_links_lead(root: bytes, entry: bytes) -> str:
    if b".." in entry.split(b"/"):
        return "NoSuchEntry"
    real = Path(os.fsdecode(os.path.realpath(root + b"/" + entry.strip(b"/"))))
    if not real.is_relative_to(os.fsdecode(root)):
        return "NoSuchEntry"
    if os.path.isdir(real):
        return "IsDirectory"
    return real.read_text() if os.path.isfile(real) else "NoSuchEntry"


# WTML.

_PLACE = "https://hub.example/user/ada/wwtkdr/k/set/index.wtml"


def check_wtml(data: bytes) -> None:
    try:
        made = make_absolute(data, _PLACE)
    except UnusableWTML:
        return
    root = ElementTree.fromstring(made)
    assert ElementTree.canonicalize(made) == ElementTree.canonicalize(made_in_one_go(data))
    assert b"url-" not in made or b"url-" in data
    assert len(made) <= 4 * MAX_CHARACTERS_OF_WTML
    sources = urls_in(_parse(data))
    for url in urls_in(root):
        assert url == "" or url.startswith("https://hub.example/") or url in sources
    assert ElementTree.canonicalize(make_absolute(made, _PLACE)) == ElementTree.canonicalize(made)


def made_in_one_go(data: bytes) -> str:
    folder = Folder.from_xml(_parse(data))
    folder.mutate_urls(make_absolutizing_url_mutator(_PLACE))
    return str(folder.to_xml_string())


def urls_in(root: ElementTree.Element) -> set[str]:
    """Return what stands where WTML has URLs."""
    names = ("Url", "Thumbnail", "CreditsUrl", "ThumbnailUrl", "DemUrl")
    return {element.attrib[name] for element in root.iter() for name in names if name in element.attrib} | {
        element.text or "" for element in root.iter() if element.tag in names
    }


# Whole requests, through the whole application.


class Site(NamedTuple):
    """An application that serves files, and what is in these."""

    application: WSGIApplication
    content_key: str
    files: dict[int, bytes]


@cache
def site() -> Site:
    place = workplace() / "site"
    tree, kept, hidden = place / "tree", place / "kept", place / "private"
    for folder in (tree / "folder", tree / "with" / "index", kept, hidden):
        folder.mkdir(parents=True)
    written = {
        tree / "with" / "index.html": b"<p>index",
        tree / "made_rel.wtml": b'<Folder Url="x.png"/>',
        tree / "bad_rel.wtml": b"<Folder>is not whole",
        tree / "a": b"small",
        tree / "n\u00e4me": b"a name",
        tree / "empty": b"",
        tree / "large": b"".join(struct.pack("<I", number) for number in range(100_000)),
        tree / "table.json": b'{"number": 12345}\n' * 1000,
        kept / "kept.json": b'{"kept": 1}\n' * 500,
    }
    for path, body in written.items():
        path.write_bytes(body)
    (hidden / "a").write_text("SECRET")
    (tree / "out").symlink_to(hidden / "a")
    (tree / "up").symlink_to(place)
    hub = JupyterRelayHub(registry=place / "registry.sqlite", base_url="/", key_prefix="")
    hub.serve_tree(tree, "k", visibility="public")
    hub.serve_file(tree / "a", ".bin", "a/f", visibility="public", headers={"X-Own": "1"})
    hub.serve_tree(hidden, "private")
    content = hub.serve_tree(kept, content=True, visibility="public").key
    hub.registry.close()
    app = create_app({"KDR_REGISTRY": str(place / "registry.sqlite"), "KDR_TRUSTED_PROXIES": "unix"})
    atexit.register(app.extensions["kdr"].close)
    return Site(app.wsgi_app, content, {len(body): body for body in written.values()})


_STATUSES = frozenset("200 204 206 304 308 400 404 405 412 416 422".split())


def check_requests(data: bytes) -> None:
    made = site()
    line, *headers = data.replace(b"CONTENT", made.content_key.encode()).decode("latin-1").split("\n")
    # What no server lets pass: RFC 9112, 3 and 5.
    method, _, sent = line.partition(" ")
    if not sent.startswith("/") or re.search(r"[\0-\x20\x7f-\xff]", sent) or not re.fullmatch(r"[A-Z]{1,20}", method):
        return
    if any(re.search(r"[\0\r]", header) for header in headers):
        return
    path, _, query = sent.partition("#")[0].partition("?")
    environ: dict[str, Any] = {
        **variables_of("\n".join(headers).encode("latin-1")),
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query,
        "RAW_URI": sent,
        "SERVER_NAME": "machine",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> Callable[[bytes], None]:
        started.append((status, headers))
        return lambda written: None

    answer: StartResponse = start_response
    chunks = made.application(environ, answer)
    try:
        body = b"".join(chunks)
    finally:
        if hasattr(chunks, "close"):
            chunks.close()
    ((status, told),) = started
    check_answer(made, method, status[:3], told, body)


def check_answer(made: Site, method: str, status: str, told: list[tuple[str, str]], body: bytes) -> None:
    assert status in _STATUSES
    assert b"SECRET" not in body
    headers = {name.lower(): value for name, value in told}
    assert len(headers) == len(told), "one is there twice"
    for name, value in told:
        assert re.fullmatch(r"[A-Za-z-]+", name)
        assert not re.search(rb"[\0-\x08\x0a-\x1f\x7f]", value.encode("latin-1"))
    assert headers["access-control-allow-origin"] == "*"
    if method == "HEAD" or status in ("204", "304"):
        assert body == b""
        return
    assert len(body) == int(headers["content-length"])
    if status == "206" and headers["content-type"].startswith("multipart/byteranges"):
        boundary = headers["content-type"].partition("boundary=")[2].encode()
        before, *parts, end = body.split(b"\r\n--" + boundary)
        assert (before, end) == (b"", b"--\r\n")
        for head, _, piece in (part.partition(b"\r\n\r\n") for part in parts):
            size_bytes = check_part(made, head.decode().partition("Content-Range: ")[2], piece)
            assert len(body) < size_bytes
    elif status == "206":
        check_part(made, headers["content-range"], body)
    elif status == "200" and "etag" in headers:
        plain = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
        assert made.files.get(len(plain)) == plain or plain.startswith(b"<?xml")


def check_part(made: Site, content_range: str, piece: bytes) -> int:
    """Return the size of the file that a part is of; each has a size of its own, but what is made for the request."""
    match = re.fullmatch(r"bytes ([0-9]+)-([0-9]+)/([0-9]+)", content_range)
    assert match is not None
    first, last, size_bytes = map(int, match.groups())
    assert first <= last < size_bytes
    whole = made.files.get(size_bytes)
    assert whole is None or piece == whole[first : last + 1]
    assert len(piece) == last + 1 - first
    return size_bytes


# Manifests: two bytes how long the manifest is, one how many entries; manifest, index.

_END = struct.Struct("<Q32s")
_ROOT = b"/data"


def check_manifests(data: bytes) -> None:
    cut, count = int.from_bytes(data[:2], "big"), int.from_bytes(data[2:3], "big")
    parts = ((data[3 : 3 + cut], b"kdr-tree"), (data[3 + cut :], b"kdr-stat"))
    paths = [workplace() / f"{word.decode()}.{os.getpid()}" for _, word in parts]
    for path, (part, _) in zip(paths, parts, strict=True):
        path.write_bytes(part)
        with suppress(ManifestError):
            Manifest(path)
            raise AssertionError("nobody has sealed it")
    for path, (part, word) in zip(paths, parts, strict=True):
        body = part + _END.pack(count, bytes(32))
        path.write_bytes(body + blake3(body).digest() + word)
    try:
        tree = Tree(*paths)
    except ManifestError:
        return
    manifest = tree.manifest
    names_bytes = manifest.start(len(manifest))
    stop = 0
    for position in range(len(manifest)):
        entry, start = manifest[position], manifest.start(position)
        assert start == stop, "what is between two entries?"
        stop = start + len(entry) + 1
        assert stop <= names_bytes, "it leaves its column"
        assert parts[0][0][start : stop - 1] == entry
        assert len(manifest.hash(position)) == 32
        assert 0 <= manifest.size_bytes(position) < 1 << 64
        assert len(tree.signature(position)) == SIGNATURE_BYTES
        found = manifest.find(entry)
        assert found is None or manifest[found] == entry
        first, last = manifest.folder(entry + b"/")
        assert 0 <= first <= len(manifest) >= last >= 0
    assert stop == names_bytes
    records = b"".join(tree.record(position) for position in range(len(manifest)))
    assert records == tree.records(0, len(manifest)) == b"".join(c.records for c in tree.pieces(0, len(manifest)))
    assert records == parts[1][0]


@cache
def manifest_seeds() -> tuple[bytes, ...]:
    seeds = []
    for entries in ([], [b"a"], [b"a", b"b/c", b"b/d"], [b"\xff%d" % number for number in range(10, 20)]):
        store = ManifestStore(workplace() / "registry")
        with TreeWriter(store, _ROOT) as writer:
            records = [entry + b"\0" + pack_signature(1, 2, 3, 4) for entry in entries]
            writer.add(Columns.of(records, [blake3(entry).digest() for entry in entries]))
            content = writer.finish()
        end = _END.size + 40
        manifest = store.manifest_path(content).read_bytes()[:-end]
        index = store.index_path(content, _ROOT).read_bytes()[:-end]
        seeds.append(len(manifest).to_bytes(2, "big") + bytes([len(entries)]) + manifest + index)
    return tuple(seeds)


# Manifests on their way: one byte how large the pieces are that they come in.


def check_transfer(data: bytes) -> None:
    size, sent = data[0] + 1 if data else 1, data[1:]
    outcomes: list[list[bytes] | None] = []
    for step in (size, len(sent) + 1):
        try:
            pieces = list(receive_tree(sent[start : start + step] for start in range(0, len(sent), step)))
        except ValueError:
            outcomes.append(None)
            continue
        outcomes.append([b"".join(column) for column in zip(*pieces, strict=True)])
    assert outcomes[0] == outcomes[1], "it depends on the pieces"
    if not outcomes[0]:
        assert outcomes[0] is None or sent == b""
        return
    columns = Columns(*outcomes[0])
    entries = columns.names.split(b"\0")[:-1]
    assert entries == sorted(set(entries))
    for entry in entries:
        assert len(entry) <= MAX_ENTRY_BYTES
        assert os.path.normpath(b"/folder/" + entry) == b"/folder/" + entry
    store = ManifestStore(workplace() / "received")
    with TreeWriter(store, _ROOT) as writer:
        writer.add(columns)
        content = writer.finish()
    assert b"".join(send_tree(store.open(content, _ROOT))) == sent
    shutil.rmtree(store.folder)


# Zip archives.


def check_archives(data: bytes) -> None:
    path = workplace() / "a.zip"
    path.write_bytes(data)
    root = os.fsencode(path)
    descriptor = os.open(path, os.O_RDONLY)
    with open(descriptor, "rb"):
        try:
            index = make_index(ManifestStore(workplace() / "archives"), root, descriptor)
        except (ArchiveError, NoArchive):
            return
        names = [index[position] for position in range(len(index))]
        assert names == sorted(set(names))
        members = [index.member(position) for position in range(len(index))]
        ends = sorted((m.header_start, m.header_start + 30 + m.room_bytes + m.packed_bytes) for m in members)
        assert all(one[1] <= other[0] for one, other in pairwise(ends)), "members share bytes"
        assert not ends or ends[-1][1] <= len(data)
        bodies = {}
        for name, member in zip(names, members, strict=True):
            assert index.find_member(name) == member
            assert not name.startswith(b"/")
            assert not {b"", b".", b".."} & {*name.rstrip(b"/").split(b"/")}
            if not name.endswith(b"/"):
                bodies[name] = _body_of(root, name, member)
        assert {name.split(b"/")[0] for name in names} == {name for name, _ in index.children(b"")}
    with (
        suppress(zipfile.BadZipFile, NotImplementedError, UnicodeError, struct.error),
        zipfile.ZipFile(path) as archive,
    ):
        infos = {info.filename.encode("utf-8", "surrogateescape"): info for info in archive.infolist()}
        if [info.header_offset for name, info in sorted(infos.items()) if name in names] != [
            member.header_start for member in members
        ]:
            return  # It has found another directory.
        for name, body in bodies.items():
            if body is not None:
                with suppress(zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error, OSError):
                    assert body == archive.read(infos[name])


_ARCHIVE = find_media_type(b"a.zip")


def _body_of(root: bytes, name: bytes, member: Member) -> bytes | None:
    """Return what is served of a member, after the same with the coding gzip; None if it is none."""

    def open_again() -> OpenFile:
        again = os.open(root, os.O_RDONLY)
        return OpenFile(again, _ARCHIVE, FileVersion.of(make_signature(os.fstat(again))))

    version = FileVersion.of(make_signature(os.stat(root)))
    place = Place(root, name, FileCache(0), lambda: KeptFile(open_again(), open_again))
    try:
        file = ArchiveMember(place, member, MemberVersion(member.size_bytes, version, member.header_start, 0), _ARCHIVE)
        body = _read_all(file.open())
        assert len(body) == member.size_bytes
        if member.method == DEFLATED or len(body) <= SMALL_MEMBER_BYTES:
            assert zlib.crc32(body) == member.crc
        gzipped = file.gzipped()
        if gzipped is not None:
            assert gzip.decompress(_read_all(gzipped.open())) == body
        return body
    except (UnusableMember, FileBeingChanged, TruncatedBody):
        return None


def _read_all(file: File) -> bytes:
    with file:
        if isinstance(file, SmallFile):
            return file.body
        body = file.make_body({}) if isinstance(file, WholeFile) else [file.read_whole().body]
        try:
            return b"".join(body)
        finally:
            getattr(body, "close", lambda: None)()


def _archives() -> tuple[bytes, ...]:
    made = []
    for names in (["a"], ["a/b.txt", "a/", "c"], ["\u00e9", "x", "x"]):
        for comment in (b"", b"comment"):
            file = io.BytesIO()
            with warnings.catch_warnings(), zipfile.ZipFile(file, "w") as archive:
                warnings.simplefilter("ignore")  # Two members with one name.
                for number, name in enumerate(names):
                    archive.writestr(zipfile.ZipInfo(name), b"body " * 9, zipfile.ZIP_DEFLATED if number else 0)
                archive.comment = comment
            made.append(file.getvalue())
    large = io.BytesIO()
    with zipfile.ZipFile(large, "w") as archive, archive.open(zipfile.ZipInfo("z"), "w", force_zip64=True) as member:
        member.write(b"body")
    return (*made, b"before" + made[0], made[1] + b"behind", large.getvalue())


# Claims and registrations as JSON.


def check_wire(data: bytes) -> None:
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(told, dict):
        return
    with suppress(InvalidOption):
        claim = claim_from_json(told)
        registration = claim.registration
        for path in (registration.root, claim.place):
            assert path.startswith(b"/")
            assert b"\0" not in path
        assert (registration.name == b"") == (registration.kind != "file")
        assert len(registration.name) <= MAX_NAME_BYTES
        assert not set(registration.name + claim.extension) & set(b"/\0")
        assert registration.content == "" or len(bytes.fromhex(registration.content)) == 32
        assert len(registration.signature) in (0, SIGNATURE_BYTES)
        assert not any(set(text) & set("\r\n\0") for pair in registration.headers for text in pair)
        assert claim_from_json(json.loads(json.dumps(claim_to_json(claim)))) == claim
        told = {**claim_to_json(claim), **told, "headers": dict(registration.headers)}
    with suppress(InvalidOption):
        registration = registration_from_json(told)
        again = json.loads(json.dumps(registration_to_json(registration)))
        assert registration_from_json(again) == registration
        assert registration.is_expired() in (False, True)


# What answers where a shared relay server should.


@cache
def answering_server() -> tuple[str, list[bytes]]:
    """Return the URL of a server that answers what is in the list."""
    answers = [b""]
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                request = b""
                while b"\r\n\r\n" not in request:
                    request += connection.recv(65536) or b"\r\n\r\n"
                connection.sendall(answers[0])

    threading.Thread(target=serve, daemon=True).start()
    atexit.register(listener.close)
    return f"http://127.0.0.1:{listener.getsockname()[1]}/services/kdr/", answers


def check_service(data: bytes) -> None:
    url, answers = answering_server()
    answers[0] = data if data.startswith(b"HTTP/") else b"HTTP/1.1 200 OK\r\n\r\n" + data
    registrar = ServiceRegistrar(url, "token", workplace() / "own.sqlite")
    claim = Claim(Registration("k", "tree", b"/data"), b"/data", b"", None)
    for ask in (
        registrar.registrations,
        registrar.static_files,
        lambda: registrar.revoke("k"),
        lambda: registrar.register(claim),
    ):
        with suppress(HubError):
            ask()


# Settings.


def check_settings(data: bytes) -> None:
    told = {}
    for line in data.replace(b"\0", b"").split(b"\n"):
        name, equals, value = line.partition(b"=")
        if equals and re.fullmatch(rb"(KDR|JUPYTERHUB)_[A-Z_]{1,30}", name):
            told[name.decode()] = os.fsdecode(value)
    with patch.dict(os.environ, {"HOME": "/nonexistent", **told}, clear=True):
        try:
            settings = read_settings()
        except SettingError:
            return
    assert re.fullmatch(r"/|(/[^/\s?#]+)+/|/[^\s?#]*/", settings.base_url)
    assert normalise_base_url(settings.base_url) == settings.base_url
    assert settings.base_url.isascii()
    assert "/" not in settings.route
    assert beside(settings.registry).is_absolute()
    assert settings.grace_seconds >= 0
    assert 0 < settings.cache_bytes < 1 << 60
    assert not settings.nginx_prefix or settings.proxies
    assert not re.search(r"[\s;{}\"'\\]|/$", settings.nginx_prefix)
    if settings.service is not None:
        assert "api_token" not in repr(settings)
        for owner, path in (("ada", b"/etc/passwd"), ("..", b"/home/x"), ("a/b", b"/home/a/b/c"), ("", b"/home/c")):
            located = settings.service.roots.locate(owner, path)
            assert located is None or (located.startswith(b"/") and owner == "ada")


_CLAIM = claim_to_json(
    Claim(Registration("k", "file", b"/data/a", b"a", headers=(("X-A", "b"),), audience=()), b"/data/a", b".fits", 3.5)
)
_CONTENT = {**_CLAIM, "kind": "tree", "name": "", "content": "0f" * 32, "visibility": ["user:bob", "group:\u00e9"]}
_TOLD = registration_to_json(Registration("k", "tree", b"/data", visibility="users", owner="ada", expires_at=5.0))


def _json(told: object) -> bytes:
    return json.dumps(told).encode()


def _http(status: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


_HEADERS = b"Range: bytes=0-9,20-29,-5|If-Range: |If-None-Match: |If-Match: |If-Modified-Since: |Accept-Encoding: gzip"

SUBJECTS = {
    "ranges": Subject(
        check_range,
        (
            b"100\nbytes=0-9,90-100",
            b"40\nBytes=0-0, 5-,,-3,\t7-8",
            b"0\nbytes=-1",
            b"1000\nbytes=0-1,500-600,100-200,1-2",
        ),
        (*(b"bytes=", b"-", b",", b" ", b"\t", b"9" * 20, b"0" * 20, b"9" * 5000, b"\xb2", b"=", b"0-", b"-1"),),
    ),
    "conditions": Subject(
        check_conditions,
        (
            b'If-Match: "a", "5f-a1"',
            b'If-Match: W/"5f-a1"',
            b'If-Range: W/"5f-a1"',
            b'If-None-Match: W/"5f-a1" ,, "b,c"\nIf-Modified-Since: ' + DATE.encode(),
            b"If-Unmodified-Since: " + DATE.encode() + b"\nIf-None-Match: *",
            b"If-Range: " + DATE.encode(),
            b'If-Range: "5f-a1"\nIf-Match: *',
            b"If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT",
            b"If-Modified-Since: Sun Nov  6 08:49:37 1994",
        ),
        (
            *(ETAG.encode(), b"W/", b"w/", b'"', b"*", b",", b"5f-a1", b"\nIf-Match: ", b"\nIf-None-Match: "),
            *(
                b"\nIf-Range: ",
                b"\nIf-Modified-Since: ",
                b"\nIf-Unmodified-Since: ",
                b"1994",
                b"GMT",
                b"-0000",
                b"\xa0",
            ),
        ),
    ),
    "preferences": Subject(
        check_preferences,
        (
            b"gzip, deflate, br, zstd\napplication/json",
            b"*;q=0.5, gzip ; Q=0.\ntext/*;q=0.3, application/json;q=0.7",
            b"identity;q=0, x-gzip;q=1.000\n*/*",
            b"identity;q=0.5, gzip;q=0.4",
            b'br;q=0.001,\t,zstd\ntext/html;level="1\\"",application/*',
        ),
        (*(b";q=", b"0.5", b"1.0", b"*", b"gzip", b"br", b"zstd", b"identity", b"/", b"\n", b'"', b"\\", b"json"),),
    ),
    "locations": Subject(
        check_locations,
        (
            b"Host: hub.example:8888\nPeer: 10.0.0.1",
            b"Host: a\nX-Forwarded-Proto: https, http\nX-Forwarded-Host: b:1, c\nX-Forwarded-Prefix: /outer/,/i",
            b"Host: [2001:db8::1]:65535\nScript-Name: /caf\xc3\xa9\nForwarded: for=1;host=evil;proto=https",
            b"X-Forwarded-Host: [::ffff:1.2.3.4]\nPeer: ::ffff:10.0.0.1",
        ),
        (
            *(b"\nHost: ", b"\nX-Forwarded-Host: ", b"\nX-Forwarded-Proto: ", b"\nX-Forwarded-Prefix: ", b"https"),
            *(
                b"\nForwarded: ",
                b"\nScript-Name: ",
                b"[::1]",
                b"%41",
                b"//",
                b"@",
                b"\\",
                b":65536",
                b"%",
                b",",
                b"..",
                b"?",
            ),
        ),
    ),
    "origins": Subject(
        check_origins,
        (
            b"Origin: https://viewer.example",
            b"Origin: http://own.example:8888.evil.example",
            b"Origin: null\nSec-Fetch-Site: same-origin",
            b"Referer: http://own.example:8888/lab?a\nSec-Fetch-Site: cross-site",
            b"Sec-Fetch-Site: cross-site\nSec-Fetch-Mode: navigate\nSec-Fetch-Dest: document",
            b"Referer: https://evil.example/own.example:8888",
        ),
        (b"own.example:8888", b"://", b"@", b"/", b"\\", b"#", b"?", b"\nReferer: ", b"\nOrigin: ", b"none", b"null"),
    ),
    "targets": Subject(
        check_targets,
        (
            b"\n/wwtkdr/k/a",
            b"/user/ada\n/wwtkdr/a%2Fb/c%20d/%FF?query#fragment",
            b"/caf%C3%A9\n/%77wtkdr/k%00/a",
            b"\n/wwtkdr/k/%41%2Fb",
            b"\n/wwtkdr/a%2fb/c",
            b"http://host\n/wwtkdr/k/a//b/../%2e%2e/c",
            b"key \xc3\xa9#?%\nname\xff%#?.fits",
        ),
        (
            b"/wwtkdr/",
            b"%2F",
            b"%2f",
            b"%",
            b"%00",
            b"%FF",
            b"//",
            b"?",
            b"#",
            b"://",
            b"%77wtkdr",
            b"_probe",
            b"\n",
            b"..",
        ),
    ),
    "paths": Subject(
        check_paths,
        (
            b"sub/deep/%2e%2e",
            b"in/a",
            b"up/outside",
            b"sub/far/a",
            b"sub/deep/root/absolute/a",
            b"self/self/./sub//back/a",
            b"fifo",
        ),
        tuple(
            b"../|..|./|//|in/|up/|out|absolute/|passwd|loop|self/|sub/|back/|far/|deep/|root/|nowhere|proc/|a|fifo|etc/passwd".split(
                b"|"
            )
        ),
    ),
    "wtml": Subject(
        check_wtml,
        (
            b'<Folder Url="more.wtml" Thumbnail="../t.jpg"><Place Name="a &lt;b> &amp; c" RA="1.5" Dec="-2" '
            b'Thumbnail="p.jpg"><ForegroundImageSet><ImageSet Url="{1}/{3}/{3}_{2}.png" DataSetType="Sky" '
            b'Projection="Tan"><Credits>x</Credits><CreditsUrl>https://c.example/</CreditsUrl><ThumbnailUrl>t.jpg'
            b"</ThumbnailUrl></ImageSet></ForegroundImageSet></Place></Folder>",
            b'<?xml version="1.0" encoding="latin-1"?><Folder Name="\xe9" Url="//other.example/{1}"/>',
            '<?xml version="1.0" encoding="utf-16"?><Folder Url="/top"/>'.encode("utf-16"),
            b'<!DOCTYPE F [<!ENTITY x SYSTEM "file:///etc/passwd">]><Folder><Place><Description>&x;</Description>'
            b"</Place></Folder>",
            b'<Folder><ImageSet Url="javascript:alert(1)"/><Folder Url="http://[broken/"/></Folder>',
        ),
        (
            *(
                b"<Folder ",
                b"<Place ",
                b"<ImageSet ",
                b'Url="',
                b"/>",
                b"&#10;",
                b"&#x85;",
                b"&amp;",
                b"<![CDATA[",
                b"]]>",
            ),
            *(
                b"https://",
                b"//",
                b"javascript:",
                b"../",
                b"http://[",
                b'Type="',
                b"<!--",
                b"-->",
                b"&#xD800;",
                b"<ImageSet>",
            ),
        ),
    ),
    "requests": Subject(
        check_requests,
        tuple(
            f"{method} {path}\n{header}".encode()
            for method, path, header in (
                ("GET", "/wwtkdr/k/large", "Range: bytes=0-9,1000-1999,-5"),
                ("GET", "/wwtkdr/k/large?a=b", "Range: bytes=5-"),
                ("HEAD", "/wwtkdr/k/n%C3%A4me", 'If-None-Match: "a", W/"b"'),
                ("GET", "/wwtkdr/k/table.json", "Accept-Encoding: gzip"),
                ("GET", "/wwtkdr/k/made.wtml", "Host: a.example\nX-Forwarded-Prefix: /x"),
                ("GET", "/wwtkdr/k/bad.wtml", "Accept: application/json"),
                ("GET", "/wwtkdr/a%2Ff/a.bin", "If-Match: *\nIf-Range: x\nRange: bytes=1-1"),
                ("GET", "/wwtkdr/CONTENT/kept.json", "Accept-Encoding: br, gzip;q=0.5"),
                ("GET", "/wwtkdr/CONTENT/", "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT"),
                ("GET", "/wwtkdr/k/folder", "Range: bytes=0-"),
                ("GET", "/wwtkdr/k/with/", "Range: bytes=0-0"),
                ("GET", "/wwtkdr/private/a", "Kdr-Viewer: owner"),
                ("GET", "/wwtkdr/k/up/private/a", ""),
                ("OPTIONS", "/wwtkdr/_probe", "Origin: null"),
                ("GET", "/wwtkdr/_health?x", ""),
            )
        ),
        (
            *(b"\n" + header for header in _HEADERS.split(b"|")),
            *(b"..", b"%2e", b"%2F", b"%00", b"%", b"//", b"CONTENT", b"private", b"out", b"empty", b"HEAD ", b"POST "),
            *(b"bytes=", b"-", b",", b"*", b"W/", b'"', b"9" * 20, b"?", b"%0d%0a", b".wtml", b".gz", b"_rel.wtml"),
        ),
    ),
    "manifests": Subject(
        check_manifests, manifest_seeds(), (bytes(8), b"\xff" * 8, b"\1" + bytes(7), b"\0", b"/", b"a\0")
    ),
    "archives": Subject(
        check_archives,
        _archives(),
        (
            *(b"PK\1\2", b"PK\3\4", b"PK\5\6", b"PK\6\6", b"PK\6\7", b"\1\0\x18\0", b"\xff\xff\xff\xff", b"\0\0\0\0"),
            *(b"../", b"/", b"\\", b"\0", b".", b"\x01\x08", b"\x08\0", b"\x5d\0"),
        ),
    ),
    "transfer": Subject(
        check_transfer,
        (
            b"\xff",
            b"\7a\0" + bytes(64) + b"b/c\0" + bytes(64),
            b"\0a\0" + bytes(range(64)),
            b"\x20../a\0" + bytes(64),
            b"\0b\0" + bytes(64) + b"a\0" + bytes(64),
        ),
        (b"\0" + bytes(64), b"/", b"..", b".", b"a", b"b/", b"\xff"),
    ),
    "wire": Subject(
        check_wire,
        (
            *(_json(_CLAIM), _json(_CONTENT), _json(_TOLD), b"{}"),
            *(_json({**_CLAIM, "root": "/a%00"}), _json({**_CLAIM, "headers": {"X-A": "a\r\nb"}})),
        ),
        (
            *(
                b"null",
                b"true",
                b"1e999",
                b"NaN",
                b"[]",
                b"{}",
                b'""',
                b'"\\ud800"',
                b"%00",
                b"%2F",
                b"\\u0000",
                b"-1",
                b"0",
            ),
            *(
                b"user:",
                b"group:",
                b"listed",
                b"tree",
                b"file",
                b"Content-Length",
                b"\\r\\n",
                b'"signature": "',
                b'"ttl": ',
            ),
        ),
    ),
    "service": Subject(
        check_service,
        (
            _http("200 OK", _json({"registrations": [{**_TOLD, "url": "/x"}]})),
            _http("201 Created", _json({"key": "ada~k", "url": "/services/kdr/wwtkdr/ada~k/"})),
            _http("404 Not Found", _json({"error": "no"})),
            _http("428 Precondition Required", _json({"error": "send the manifest first"})),
            b"HTTP/1.1 302 Found\r\nLocation: /hub/login\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100,
        ),
        (
            *(
                b"HTTP/1.1 ",
                b"\r\n",
                b"\r\n\r\n",
                b"200",
                b"404",
                b"429",
                b"503",
                b"Content-Length: -1",
                b"chunked",
                b"null",
            ),
            *(
                b"[]",
                b"{}",
                b'"error"',
                b'"registrations"',
                b'"headers"',
                b'"\\ud800"',
                b"[" * 3000,
                b"1e999",
                b'"url"',
                b"0",
            ),
        ),
    ),
    "settings": Subject(
        check_settings,
        (
            b"KDR_BASE_URL=/user/ada\nKDR_ROUTE=wwtkdr\nKDR_AS_OWNER=yes\nKDR_CACHE_BYTES=1000",
            b"KDR_NGINX_ACCEL=/_kdr_files/\nKDR_TRUSTED_PROXIES=127.0.0.1, ::1/128,unix\nKDR_REGISTRY=r.sqlite",
            b"JUPYTERHUB_SERVICE_NAME=kdr\nJUPYTERHUB_SERVICE_PREFIX=/services/kdr/\nKDR_REGISTRY=/var/lib/kdr/r.sqlite\n"
            b"KDR_ROOTS=/home/{username}:/data=/mnt/data\nJUPYTERHUB_API_TOKEN=0123456789012345678901234567890\n"
            b"JUPYTERHUB_HOST=https://hub.example\nJUPYTERHUB_PUBLIC_URL=https://kdr.hub.example/services/kdr/\n"
            b"KDR_LOGIN_SECONDS=5",
            b"KDR_NGINX_ACCEL=/_kdr_files",
            b"KDR_BEHIND_RELAY=1\nKDR_BASE_URL=a b//%",
        ),
        (
            *(b"\nKDR_BASE_URL=", b"\nKDR_ROUTE=", b"\nKDR_CACHE_BYTES=", b"\nKDR_ROOTS=", b"\nJUPYTERHUB_PUBLIC_URL="),
            *(
                b"://",
                b"{username}",
                b"..",
                b"9" * 5000,
                b"\xff",
                b"//",
                b"[",
                b"unix",
                b"/0",
                b"=",
                b":",
                b"\n",
                b"\xc2\xb2",
            ),
        ),
    ),
}
