"""A registration: what one row of the registry says."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import quote

from blake3 import blake3

from hub.errors import InvalidOption

#: ``archive``: a zip archive, whose members are served as the files of a tree are.
Kind = Literal["file", "tree", "archive"]
#: ``listed``: the owner, and those whom the registration's audience names.
Visibility = Literal["private", "users", "public", "listed"]
VISIBILITIES: tuple[Visibility, ...] = ("private", "users", "public")

#: A user's or a group's name on a JupyterHub has at most 255 characters.
_AUDIENCE_CHARACTERS = 300
#: More are a group.
MAX_AUDIENCE = 100

#: A thousand years; what is to last longer needs no end.
MAX_TTL_SECONDS = 1000 * 365.25 * 86400

#: What proxies let pass beside our own headers, of the 4,096 bytes that they commonly take.
MAX_HEADERS_CHARACTERS = 2048

#: RFC 9110, 5.6.2 and 5.5.
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

#: What the relay server answers for itself: framing, validators, ranges, media type.
_SERVER_HEADERS = frozenset(
    "accept-ranges connection content-length content-range content-type date etag keep-alive last-modified "
    "location proxy-authenticate server te trailer transfer-encoding upgrade x-content-type-options".split()
)
#: What speaks to the servers in front: nginx, lighttpd, Apache and others take some for orders to send another file.
_PROXY_HEADERS = ("kdr-", "x-accel-", "x-lighttpd-", "x-reproxy-", "x-sendfile")
#: What would let data act with the login of whoever looks at it.
_DANGEROUS_HEADERS = frozenset(
    "clear-site-data content-security-policy refresh service-worker-allowed set-cookie sourcemap".split()
)


@dataclass(frozen=True, slots=True)
class Source:
    """Where the bytes are that a content key names.

    Attributes
    ----------
    root : bytes
        The absolute path, links resolved at the time of the registration.
    signature : bytes
        Of a file: what a stat said of it when it was hashed; of a tree empty.
    is_kept : bool
        `root` is a folder of snapshots, which has each file under its hash.
    """

    root: bytes
    signature: bytes
    is_kept: bool


@dataclass(frozen=True, slots=True)
class Registration:
    """A key, the root that it names and how the root is served.

    Attributes
    ----------
    key : str
    kind : {"file", "tree", "archive"}
    root : bytes
        The absolute path, links resolved at the time of the registration; or the address of an object or a prefix
        in an object store (`hub.object_urls`).
    name : bytes
        A file's exposed name; empty for a tree or an archive.
    visibility : {"private", "users", "public", "listed"}
    trusted : bool
        Whether HTML, SVG and XML may act as the page that serves them.
    headers : tuple of (str, str)
        Further response headers.
    expires_at : float or None
        Seconds since the epoch; None: never.
    claimed_at : float or None
        Seconds since the epoch; None: an older version did not write it down.
    content : str
        With a content key: what file or tree hash to, in hexadecimal; else empty.
    signature : bytes
        With a file's content key: what a stat said of the file that was hashed.
    is_kept : bool
        With a content key: `root` is a folder of snapshots, which has each file under its hash.
    other_names : frozenset of bytes
        With a file's content key: under what names equal files were published before.
    other_sources : tuple of Source
        With a content key: where else equal bytes were published, the latest first.
    owner : str
        In a registry that many users share: who has published it; else empty.
    audience : tuple of str
        Who may read what is ``listed``: ``user:NAME`` and ``group:NAME``.
    """

    key: str
    kind: Kind
    root: bytes
    name: bytes = b""
    visibility: Visibility = "private"
    trusted: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    expires_at: float | None = None
    claimed_at: float | None = None
    content: str = ""
    signature: bytes = b""
    is_kept: bool = False
    other_names: frozenset[bytes] = frozenset()
    other_sources: tuple[Source, ...] = ()
    owner: str = ""
    audience: tuple[str, ...] = ()

    @property
    def target(self) -> str:
        """What follows the route in a URL; the name of a file may hold any byte."""
        return f"{quote(self.key, safe='')}/{quote(self.name, safe='')}"

    @property
    def variant(self) -> str:
        """What tells its answers from plain ones of the same bytes: empty, or a hash of trust and headers."""
        if not self.headers and not self.trusted:
            return ""
        headers = sorted((name.lower(), value) for name, value in self.headers)
        return blake3(repr((self.trusted, headers)).encode()).hexdigest(8)

    @property
    def sources(self) -> tuple[Source, ...]:
        """Where the bytes are that a content key names, the latest first."""
        return (Source(self.root, self.signature, self.is_kept), *self.other_sources)

    def restricted_to(self, is_allowed: Callable[[Source], bool]) -> Registration | None:
        """Return the registration with those of its sources that are allowed; None if there is none."""
        sources = tuple(filter(is_allowed, self.sources))
        if sources == self.sources:
            return self
        if not sources:
            return None
        first, *others = sources
        return replace(
            self, root=first.root, signature=first.signature, is_kept=first.is_kept, other_sources=tuple(others)
        )

    def is_expired(self) -> bool:
        """Whether the registration has ended by now."""
        return self.expires_at is not None and self.expires_at <= time.time()


def check_visibility(visibility: str) -> Visibility:
    """Return `visibility` if it is one that exists, else raise InvalidOption."""
    for known in VISIBILITIES:
        if visibility == known:
            return known
    raise InvalidOption("visibility", visibility, f"choose one of {', '.join(VISIBILITIES)}")


def check_audience(visibility: str | Sequence[str]) -> tuple[Visibility, tuple[str, ...]]:
    """Return a visibility and its audience.

    Parameters
    ----------
    visibility : str or sequence of str
        One that exists, or a list of ``user:NAME`` and ``group:NAME``.

    Raises
    ------
    InvalidOption
    """
    if isinstance(visibility, str):
        if visibility.startswith(("user:", "group:")):
            raise InvalidOption("visibility", visibility, f"write a list: [{visibility!r}]")
        return check_visibility(visibility), ()
    if not isinstance(visibility, Sequence) or not 0 < len(visibility) <= MAX_AUDIENCE:
        raise InvalidOption("visibility", visibility, f"list 1 to {MAX_AUDIENCE} users or groups")
    for member in visibility:
        kind, _, name = member.partition(":") if isinstance(member, str) else ("", "", "")
        if kind not in ("user", "group") or not name or len(member) > _AUDIENCE_CHARACTERS or not name.isprintable():
            raise InvalidOption("visibility", member, "write user:NAME or group:NAME")
    return "listed", tuple(dict.fromkeys(visibility))


def check_ttl(ttl: float | None) -> float | None:
    """Return `ttl` if it is None or a positive number of seconds, else raise InvalidOption."""
    is_number = isinstance(ttl, (int, float)) and not isinstance(ttl, bool)
    if ttl is not None and not (is_number and 0 < ttl <= MAX_TTL_SECONDS):
        raise InvalidOption("ttl", ttl, "give a positive number of seconds, or None for no end")
    return ttl


def check_trusted(trusted: bool) -> bool:
    """Return `trusted` if it is a bool, else raise InvalidOption: ``"no"`` must not be taken for true."""
    if not isinstance(trusted, bool):
        raise InvalidOption("trusted", trusted, "give True or False")
    return trusted


def check_extension(extension: str) -> bytes:
    """Return the bytes of `extension` if a file name can end with it, else raise InvalidOption."""
    if not isinstance(extension, str) or "/" in extension or "\0" in extension:
        raise InvalidOption("extension", extension, "give a str without '/' and NUL")
    try:
        return os.fsencode(extension)
    except UnicodeEncodeError:
        raise InvalidOption("extension", extension, "it holds a character that file names cannot express") from None


def check_headers(headers: Mapping[str, str] | None, *, trusted: bool) -> tuple[tuple[str, str], ...]:
    """Return the response headers as pairs if each may be sent, else raise InvalidOption."""
    if not isinstance(headers, (Mapping, type(None))):
        raise InvalidOption("headers", headers, "give a mapping of names to values")
    pairs: list[tuple[str, str]] = []
    for name, value in (headers or {}).items():
        if not (isinstance(name, str) and _TOKEN.fullmatch(name)):
            raise InvalidOption("headers", name, "it is not the name of an HTTP header")
        if not (isinstance(value, str) and _FIELD_VALUE.fullmatch(value)):
            raise InvalidOption("headers", {name: value}, "the value holds a character that no header may hold")
        if sum(len(text) for pair in (*pairs, (name, value)) for text in pair) > MAX_HEADERS_CHARACTERS:
            raise InvalidOption("headers", name, f"all together may have {MAX_HEADERS_CHARACTERS} characters")
        folded = name.lower()
        if folded in {known.lower() for known, _ in pairs}:
            raise InvalidOption("headers", name, "it is given twice")
        if folded in _SERVER_HEADERS or folded.startswith("access-control-"):
            raise InvalidOption("headers", name, "the relay server sets this header itself")
        if is_for_proxies(name):
            raise InvalidOption("headers", name, "it speaks to the servers in front, not to who reads the file")
        if folded in _DANGEROUS_HEADERS and not trusted:
            raise InvalidOption("headers", name, "it needs trusted=True")
        pairs.append((name, value))
    return tuple(pairs)


def is_for_proxies(name: str) -> bool:
    """Whether a header speaks to the servers in front, which might send another file for it."""
    return name.lower().startswith(_PROXY_HEADERS)


def without_trust(registration: Registration) -> Registration:
    """Return a registration as it is without ``trusted=True``, and without the headers that need that."""
    headers = tuple(pair for pair in registration.headers if pair[0].lower() not in _DANGEROUS_HEADERS)
    return replace(registration, trusted=False, headers=headers)
