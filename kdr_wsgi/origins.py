"""From which page a request comes, as the browser tells it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdr_wsgi.headers import add_vary

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

Headers = list[tuple[str, str]]

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([^/?#\s]+)")


_VARIABLES = {
    name: f"HTTP_{name.upper().replace('-', '_')}"
    for name in ("Origin", "Referer", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest")
}


def is_origin(text: str) -> bool:
    """Whether `text` is an origin as browsers write it: scheme, host and perhaps a port, all in lower case."""
    return bool(_ORIGIN.fullmatch(text)) and text == text.lower()


@dataclass(frozen=True, slots=True)
class Origins:
    """The origins whose pages may read with the viewer's login, besides the server's own.

    Attributes
    ----------
    allowed : frozenset of str
        Such as ``https://viewer.example:8443``.
    jupyter_allowed : str
        ``ServerApp.allow_origin``: one more, ``*`` for every origin, or empty.
    jupyter_pattern : str
        ``ServerApp.allow_origin_pat``: a regular expression for more of them, or empty.
    jupyter_credentials : bool
        ``ServerApp.allow_credentials``: whether pages that Jupyter allows may send cookies.
    """

    allowed: frozenset[str] = frozenset()
    jupyter_allowed: str = ""
    jupyter_pattern: str = ""
    jupyter_credentials: bool = False

    def is_foreign(self, headers: Mapping[str, str], hosts: tuple[str, ...]) -> bool:
        """Whether a page of another site makes the request, and none that is allowed.

        Parameters
        ----------
        headers : mapping
            Of the request.
        hosts : strs
            The names by which the browser may know this server.
        """
        if "Origin" in headers:
            return not self._is_own(headers["Origin"], hosts)
        site = headers.get("Sec-Fetch-Site")
        if site is None:
            # Over plain HTTP browsers send no fetch metadata, but mostly a referrer. Programs send neither.
            return "Referer" in headers and not self._refers(headers, hosts)
        if site in ("same-origin", "none"):  # https://www.w3.org/TR/fetch-metadata/
            return False
        # Who follows a link sees the page himself, and the page that had the link does not.
        is_followed_link = headers.get("Sec-Fetch-Mode") == "navigate" and headers.get("Sec-Fetch-Dest") == "document"
        return not (is_followed_link or self._refers(headers, hosts))

    def may_send_login(self, origin: str) -> bool:
        """Whether pages of another `origin` may send cookies along and read the answer."""
        return origin in self.allowed or (self.jupyter_credentials and self._is_allowed(origin))

    def _refers(self, headers: Mapping[str, str], hosts: tuple[str, ...]) -> bool:
        referrer = _ORIGIN.match(headers.get("Referer", ""))
        return referrer is not None and self._is_own(referrer[0], hosts)

    def _is_own(self, origin: str, hosts: tuple[str, ...]) -> bool:
        # The scheme is left out, as Jupyter does: behind a proxy the server may not know its own.
        host = origin.partition("://")[2]
        return host != "" and (host in hosts or self._is_allowed(origin))

    def _is_allowed(self, origin: str) -> bool:
        if origin in self.allowed or self.jupyter_allowed in (origin, "*"):
            return True
        return bool(self.jupyter_pattern and re.fullmatch(self.jupyter_pattern, origin))


def is_own_page(headers: Mapping[str, str], location: str) -> bool:
    """Whether the browser says that a page of the server's own origin makes the request.

    Parameters
    ----------
    headers : mapping
        Of the request.
    location : str
        Where the browser sees the server: scheme and host.
    """
    site = headers.get("Sec-Fetch-Site")
    # Over plain HTTP browsers send no fetch metadata, but an origin with all that is no GET.
    return site == "same-origin" if site is not None else headers.get("Origin") == location


def told_by_browser(environ: WSGIEnvironment) -> dict[str, str]:
    """Return the headers of a request that tell from which page it comes."""
    return {name: environ[variable] for name, variable in _VARIABLES.items() if variable in environ}


def with_credentials(headers: Headers, origin: str) -> Headers:
    """Return the headers of an answer that a page of `origin` may read though its request had a login.

    ``*`` does not say so (https://fetch.spec.whatwg.org/#cors-protocol-and-credentials).
    """
    kept = []
    for name, value in headers:
        folded = name.lower()
        if folded == "access-control-allow-headers":
            kept.append((name, f"{value}, Authorization"))
        elif folded != "access-control-allow-origin":
            kept.append((name, value))
    kept += (("Access-Control-Allow-Origin", origin), ("Access-Control-Allow-Credentials", "true"))
    return add_vary(kept, "Origin")
