"""Who is logged in: asked of Jupyter, and remembered for a moment."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from kdr_wsgi.viewers import Viewer

#: How long a login is remembered: a viewer asks for hundreds of tiles a second, and a logout must soon count.
REMEMBER_SECONDS = 3.0

#: How many of them.
CAPACITY = 1000

#: What differs between the requests of one page, and has no part in a login. Everything else has: whose login it is
#: may be told by any header, where a proxy in front has asked for it.
_PER_REQUEST = frozenset(
    "Accept If-Match If-Modified-Since If-None-Match If-Range If-Unmodified-Since Range Referer Sec-Fetch-Dest".split()
)

Credentials = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Login:
    """Who has been let in, and whether by a token, which no foreign page can make a browser send."""

    viewer: Viewer
    is_by_token: bool


def credentials_of(target: str, headers: Iterable[tuple[str, str]], remote_ip: str) -> Credentials:
    """Return all in a request that a login can depend on: a token may stand in the query."""
    return (remote_ip, target.partition("?")[2], *[pair for pair in headers if pair[0] not in _PER_REQUEST])


class Logins:
    """The logins of the last moments, by their credentials."""

    def __init__(self) -> None:
        self._known: dict[Credentials, tuple[Login, float]] = {}

    def find(self, credentials: Credentials) -> Login | None:
        """Return the login that was found for `credentials` a moment ago, if any was."""
        known = self._known.get(credentials)
        if known is None:
            return None
        login, until = known
        if until < time.monotonic():
            del self._known[credentials]
            return None
        return login

    def remember(self, credentials: Credentials, login: Login) -> None:
        """Keep `login` for some seconds."""
        if len(self._known) >= CAPACITY:
            self._known.clear()
        self._known[credentials] = (login, time.monotonic() + REMEMBER_SECONDS)
