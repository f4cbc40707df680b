"""What of a message is passed on: the request to the relay server, and its answer to the browser."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote, unquote_plus

from kdr_wsgi.locations import Location
from kdr_wsgi.viewers import OWN_PAGE_HEADER, VIEWER_HEADER, Viewer

Headers = list[tuple[str, str]]

#: What the relay server acts upon, as Tornado spells it. Cookies, tokens, and whatever speaks of the connection, or
#: would pretend to come from a proxy, stay here.
_PASSED_ON = frozenset(
    (
        "Accept",
        "Accept-Encoding",
        "If-Match",
        "If-Modified-Since",
        "If-None-Match",
        "If-Range",
        "If-Unmodified-Since",
        "Range",
    )
)

#: RFC 9110, 7.6.1: these speak of one connection.
_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-connection te trailer transfer-encoding upgrade".split()
)

_ASCII = "".join(map(chr, range(0x21, 0x7F)))


def format_request(
    method: str,
    target: str,
    headers: Iterable[tuple[str, str]],
    viewer: Viewer,
    location: Location,
    *,
    is_own_page: bool = False,
) -> bytes:
    """Return the request for the relay server.

    Parameters
    ----------
    method : str
    target : str
        As it was sent, below the base URL; no escape in it is touched. Bytes
        beyond ASCII, which some programs send as they are, are escaped.
    headers : pairs of str
        Those of the browser, with names as Tornado spells them.
    viewer : {"owner", "user", "anyone"}
    location : Location
    is_own_page : bool
        Whether no page of another origin asks, one neither that is allowed to read files.
    """
    if not target.isascii():
        target = quote(target.encode("latin-1"), safe=_ASCII)
    lines = [
        f"{method} {_without_token(target) if '?' in target else target} HTTP/1.1",
        f"Host: {location.host}",
        f"X-Forwarded-Host: {location.host}",
        f"X-Forwarded-Proto: {location.scheme}",
        f"X-Forwarded-Prefix: {location.prefix}",
        f"{VIEWER_HEADER}: {viewer}",
        *([f"{OWN_PAGE_HEADER}: 1"] if is_own_page else []),
        *(f"{name}: {value}" for name, value in headers if name in _PASSED_ON),
        "\r\n",
    ]
    return "\r\n".join(lines).encode("latin-1")


def end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return the headers of an answer that are for the browser."""
    return [
        (name.decode("latin-1"), value.decode("latin-1")) for name, value in headers if name.lower() not in _HOP_BY_HOP
    ]


def _without_token(target: str) -> str:
    path, _, query = target.partition("?")
    kept = "&".join(field for field in query.split("&") if unquote_plus(field.partition("=")[0]) != "token")
    return f"{path}?{kept}" if kept else path
