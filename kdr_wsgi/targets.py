"""What a request's URL names: a key and an entry, from the target as it was sent."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from hub.keys import STATIC_KEY
from kdr_wsgi.errors import MalformedTarget, UnknownKey

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class Target(NamedTuple):
    """A key and the entry below it; the entry is None where the URL ends with the key."""

    key: str
    entry: bytes | None


def find_target(environ: WSGIEnvironment, route: str) -> Target | None:
    """Return what the request names, or None if that is not for a registration to answer.

    A key may hold an encoded slash, so the target is split before it is
    decoded, where the server passes it on (``RAW_URI``, ``REQUEST_URI``).

    Parameters
    ----------
    environ : mapping
    route : str
        What precedes the key: one segment, between slashes.

    Raises
    ------
    MalformedTarget
        The path has an escape that is none (RFC 3986, 2.1) or holds NUL.
    UnknownKey
        The key is not UTF-8.
    """
    path: str = environ["PATH_INFO"]
    if not path.startswith(route):
        return None
    if not is_quoted(environ) and path.isascii() and "\0" not in path:
        # The common request: nothing is quoted, and characters are bytes.
        key, slash, plain_entry = path[len(route) :].partition("/")
        if not key or (key[0] == "_" and key != STATIC_KEY):
            return None
        return Target(key, plain_entry.encode() if slash else None)
    if is_quoted(environ):
        encoded_key, slash, encoded_entry = _split_encoded(_encoded_path(environ), route)
        key_bytes, entry = unquote_to_bytes(encoded_key), unquote_to_bytes(encoded_entry)
    else:
        decoded_key, slash, decoded_entry = path[len(route) :].partition("/")
        # PEP 3333: the characters of PATH_INFO stand for bytes.
        key_bytes, entry = decoded_key.encode("latin-1"), decoded_entry.encode("latin-1")
    if not key_bytes or (key_bytes.startswith(b"_") and key_bytes != STATIC_KEY.encode()):
        return None
    if b"\0" in key_bytes or b"\0" in entry:
        raise MalformedTarget
    try:
        key = key_bytes.decode("utf-8")
    except UnicodeDecodeError:
        raise UnknownKey from None
    return Target(key, entry if slash else None)


def is_quoted(environ: WSGIEnvironment) -> bool:
    """Whether something in the target was quoted, so that PATH_INFO alone does not tell what it names."""
    return "%" in (environ.get("RAW_URI") or environ.get("REQUEST_URI") or "")


def _split_encoded(path: str, route: str) -> tuple[str, str, str]:
    """Return the key, the slash behind it and the entry of an encoded path below `route`."""
    _, first, below = (*path.split("/", 2), "", "")[:3]
    if _BAD_ESCAPE.search(path) or unquote_to_bytes(first) != route.strip("/").encode():
        raise MalformedTarget
    return below.partition("/")


def _encoded_path(environ: WSGIEnvironment) -> str:
    """Return PATH_INFO as it was sent."""
    # It may still have a scheme, a host, a query and the mount point.
    sent: str = environ.get("RAW_URI") or environ["REQUEST_URI"]
    if not sent.startswith("/"):  # RFC 9112, 3.2.2: the absolute form
        sent = "/" + sent.partition("://")[2].partition("/")[2]
    encoded = sent.partition("?")[0].partition("#")[0]
    mount: str = environ.get("SCRIPT_NAME", "")
    # PEP 3333 has it decoded; gunicorn passes on what the administrator wrote.
    for candidate in (encoded, _below(encoded, len(mount)), _below(encoded, len(unquote_to_bytes(mount)))):
        if unquote_to_bytes(candidate) == environ["PATH_INFO"].encode("latin-1"):
            return candidate
    # A middleware has rewritten the path, and taken with it which slashes were encoded.
    if "%2f" in encoded.lower():
        raise MalformedTarget
    return quote(environ["PATH_INFO"].encode("latin-1"))


def _below(encoded: str, mount_bytes: int) -> str:
    """Return what follows a mount point in an encoded path."""
    left = mount_bytes
    segments = encoded.split("/")
    for position, segment in enumerate(segments[1:], start=1):
        if left <= 0:
            return "/" + "/".join(segments[position:])
        left -= 1 + len(unquote_to_bytes(segment))
    return ""
