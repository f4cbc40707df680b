"""Where the browser sees this server, as far as the proxies in front are believed."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from hub.settings import SAFE_IN_PATHS
from kdr_wsgi.errors import MalformedHost
from kdr_wsgi.proxies import TrustedProxies

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

#: RFC 3986, 3.2.2, of at most 255 characters (RFC 1035, 2.3.4), and a port. A comma would join two Host headers.
_HOST = re.compile(
    r"(?=.{1,262}\Z)(?:(?:[A-Za-z0-9\-._~!$&'()*+;=]|%[0-9A-Fa-f]{2})+|\[([0-9A-Fa-f:.]+)\])(?::([0-9]{1,5}))?"
)
#: RFC 3986, 3.3.
_PREFIX_CHARACTERS = 1024
_PREFIX = re.compile(rf"(?=.{{0,{_PREFIX_CHARACTERS}}}\Z)(?:/[A-Za-z0-9\-._~%!$&'()*+,;=:@]*)*")


class Location(NamedTuple):
    """Where the browser sees a server.

    Attributes
    ----------
    scheme : str
        ``http`` or ``https``.
    host : str
        With its port, if it has one.
    prefix : str
        The path in front of the server's own; empty, or without a slash at its end.
    """

    scheme: str
    host: str
    prefix: str

    def seen_through(self, proto: str | None, host: str | None, prefix: str | None) -> Location:
        """Return the location as proxies tell it in X-Forwarded-Proto, -Host and -Prefix.

        Of several values, each of another proxy, the first counts: it is of
        the outermost, which the browser talks to.
        """
        scheme = _first(proto).lower()
        return Location(
            scheme if scheme in ("http", "https") else self.scheme,
            _first(host) or self.host,
            # Were it longer, no server behind would take it in a header; so much is enough to be refused.
            _first(prefix).rstrip("/")[: _PREFIX_CHARACTERS + 1] + self.prefix,
        )


def location_finder(proxies: TrustedProxies) -> Callable[[WSGIEnvironment], str]:
    """Return the function that tells the URL at which the sender of a request sees this application.

    It has no slash at its end, and raises MalformedHost where it would be no URL.
    """

    def find(environ: WSGIEnvironment) -> str:
        host = environ.get("HTTP_HOST") or f"{environ['SERVER_NAME']}:{environ['SERVER_PORT']}"
        # As the hub spells a base URL: WorldWide Telescope compares URLs letter by letter.
        mount = quote(environ.get("SCRIPT_NAME", "").encode("latin-1"), safe=SAFE_IN_PATHS)
        location = Location(_own_scheme(environ), host, mount)
        if environ.get("REMOTE_ADDR", "") in proxies:
            location = location.seen_through(
                *(environ.get(f"HTTP_X_FORWARDED_{name}") for name in ("PROTO", "HOST", "PREFIX"))
            )
        if not (_is_host(location.host) and _PREFIX.fullmatch(location.prefix)):
            raise MalformedHost
        return f"{location.scheme}://{location.host}{location.prefix}"

    return find


def _is_host(host: str) -> bool:
    match = _HOST.fullmatch(host)
    if match is None:
        return False
    address, port = match.groups()
    try:
        return (address is None or bool(IPv6Address(address))) and int(port or 0) < 65536
    except ValueError:
        return False


def _own_scheme(environ: WSGIEnvironment) -> str:
    # Gunicorn lets every process of the machine choose the scheme by a header, whoever was named here.
    connection = environ.get("gunicorn.socket")
    if connection is None:
        return str(environ["wsgi.url_scheme"])
    return "https" if isinstance(connection, ssl.SSLSocket) else "http"


def _first(values: str | None) -> str:
    return (values or "").partition(",")[0].strip()
