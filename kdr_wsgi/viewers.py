"""Who is asking, and what they may read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Protocol
from urllib.parse import urlsplit

from hub.registration import Visibility
from kdr_wsgi.catalog import Publication
from kdr_wsgi.errors import UnknownKey
from kdr_wsgi.locations import location_finder
from kdr_wsgi.origins import Origins, told_by_browser
from kdr_wsgi.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

#: The owner of the registry; somebody else who is logged in; whoever can connect.
Viewer = Literal["owner", "user", "anyone"]

READABLE: dict[str, frozenset[Visibility]] = {
    "owner": frozenset({"private", "users", "public"}),
    "user": frozenset({"users", "public"}),
    "anyone": frozenset({"public"}),
}

#: Where the name of whoever asks stands in a request's environ, for the access log.
MEMBER = "kdr.member"

#: The header in which the Jupyter relay tells the viewer to a server that was started behind it.
VIEWER_HEADER = "KDR-Viewer"

#: The header in which it tells that no page of another origin asks, one neither that is allowed to read files.
OWN_PAGE_HEADER = "KDR-Own-Page"

_VIEWER_VARIABLE = "HTTP_KDR_VIEWER"
_OWN_PAGE_VARIABLE = "HTTP_KDR_OWN_PAGE"

#: Of pages of other origins none is allowed what is for the owner alone.
_OWN = Origins()


class Viewers(Protocol):
    """Who may read what."""

    def admit(self, environ: WSGIEnvironment, publication: Publication | None) -> Publication:
        """Return a publication in the form in which the sender of a request may read it.

        Raises
        ------
        UnknownKey
            There is none, or this viewer may not know of it.
        RelayError
            It takes a login, which the sender has not, or of which nobody can tell.
        """


class LocalViewers:
    """The viewers of one user's own server.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings) -> None:
        self._find_readable = _readable_finder(settings)
        self._behind_relay = settings.behind_relay
        self._is_proxied = bool(settings.proxies)
        self._find_location = location_finder(settings.proxies)

    def admit(self, environ: WSGIEnvironment, publication: Publication | None) -> Publication:
        """Return `publication` if its visibility is one that the sender may read."""
        if publication is None or publication.registration.visibility not in self._find_readable(environ):
            raise UnknownKey
        return publication

    def is_owner(self, environ: WSGIEnvironment) -> bool:
        """Whether the owner asks, by a page of this server, as a page of a window, or by a program.

        Raises
        ------
        MalformedHost
        """
        if "private" not in self._find_readable(environ):
            return False
        if self._behind_relay:
            return _OWN_PAGE_VARIABLE in environ
        hosts = (environ.get("HTTP_HOST", ""), urlsplit(self._find_location(environ)).netloc)
        return not _OWN.is_foreign(told_by_browser(environ), hosts)

    def may_change(self, environ: WSGIEnvironment) -> bool:
        """Whether the owner who asks may end registrations too, and not only read.

        Through Jupyter, whose login and check against forgery stand before;
        and over a unix socket, which is the owner's alone unless a proxy
        comes over it for others.
        """
        return self._behind_relay or not (environ.get("REMOTE_ADDR") or self._is_proxied)


def _readable_finder(settings: Settings) -> Callable[[WSGIEnvironment], frozenset[Visibility]]:
    """Return the function that tells which visibilities the sender of a request may read."""
    if settings.behind_relay:
        return _readable_by_word_of_the_relay
    readable = READABLE["owner" if settings.as_owner else "anyone"]
    return lambda _environ: readable


def _readable_by_word_of_the_relay(environ: WSGIEnvironment) -> frozenset[Visibility]:
    # A unix socket's peer has no address; over TCP anybody could have written the header.
    if environ.get("REMOTE_ADDR"):
        return READABLE["anyone"]
    return READABLE.get(environ.get(_VIEWER_VARIABLE, ""), READABLE["anyone"])
