"""Who is asking the service, and what they may read."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from hub.registration import Registration
from kdr_wsgi.catalog import Publication
from kdr_wsgi.errors import HubUnavailable, ScopeMissing, TokenRefused, UnknownKey
from kdr_wsgi.jupyterhub.logins import Logins, Member
from kdr_wsgi.jupyterhub.oauth import LoginPages, cookies_of
from kdr_wsgi.origins import Origins, is_own_page, told_by_browser
from kdr_wsgi.settings import ServiceSettings
from kdr_wsgi.viewers import MEMBER

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_log = logging.getLogger(__name__)

#: As JupyterHub has it (`jupyterhub.services.auth.HubAuth.auth_header_pat`).
_AUTHORIZATION = re.compile(r"(?:token|bearer)\s+(.+)", re.IGNORECASE)

#: The hub's own; it is another one after a logout.
_SESSION_COOKIE = "jupyterhub-session-id"


class HubViewers:
    """The viewers of a service: users of the hub, and others.

    Parameters
    ----------
    logins : Logins
    pages : LoginPages
    settings : ServiceSettings
    """

    def __init__(self, logins: Logins, pages: LoginPages, settings: ServiceSettings) -> None:
        self._logins = logins
        self._pages = pages
        self._host = settings.host
        self._hosts = (urlsplit(settings.host).netloc,) if settings.host else ()
        self._origins = Origins()

    def admit(self, environ: WSGIEnvironment, publication: Publication | None) -> Publication:
        """Return `publication` as the sender of a request may read it.

        Raises
        ------
        UnknownKey
        LoginNeeded
            Nobody is logged in, and the hub may know who it is.
        TokenRefused, ScopeMissing
            The request has a token that is no good.
        HubUnavailable
        """
        if publication is not None and publication.registration.visibility == "public":
            return self._admit_to_public(environ, publication)
        member = self.identify(environ)
        if publication is not None and member is not None and _may_read(member, publication.registration):
            return _form_for(member, publication)
        if member is None and self._pages.may_log_in(environ):
            raise self._pages.ask_for_login(environ)
        if publication is not None:
            _log.warning(
                "refused: %s may not read %r of %r",
                "nobody" if member is None else repr(member.title),
                publication.registration.key,
                publication.registration.owner,
            )
        raise UnknownKey

    def identify(self, environ: WSGIEnvironment) -> Member | None:
        """Return who sends a request; None: nobody who is logged in, or a page of another site.

        Raises
        ------
        TokenRefused, ScopeMissing, HubUnavailable
        """
        member = self.identify_by_token(environ)
        if member is None and not self._is_foreign(environ):
            member = self._identify_by_cookie(environ)
        if member is not None:
            environ[MEMBER] = member.title
        return member

    def identify_to_change(self, environ: WSGIEnvironment) -> Member | None:
        """Return who asks for a change: by a token, or by the login of a browser whose page is the service's own.

        Raises
        ------
        TokenRefused, ScopeMissing, HubUnavailable
        """
        member = self.identify_by_token(environ)
        if member is None:
            # Over HTTPS browsers send fetch metadata, which does without.
            location = self._host or f"http://{environ.get('HTTP_HOST', '')}"
            if is_own_page(told_by_browser(environ), location):
                member = self._identify_by_cookie(environ)
        if member is not None:
            environ[MEMBER] = member.title
        return member

    def identify_by_token(self, environ: WSGIEnvironment) -> Member | None:
        """Return whom the token in the request's header stands for; None: there is none.

        Raises
        ------
        TokenRefused, ScopeMissing, HubUnavailable
        """
        match = _AUTHORIZATION.fullmatch(environ.get("HTTP_AUTHORIZATION", "").strip())
        if match is None:
            return None
        member = self._logins.find(match[1])
        if member is None:
            _log.warning("refused: a token that the hub does not know, from %s", environ.get("REMOTE_ADDR"))
            raise TokenRefused
        if not member.may_enter:
            _log.warning("refused: a token of %r without the scope %s", member.title, self._logins.scope)
            raise ScopeMissing(self._logins.scope)
        environ[MEMBER] = member.title
        return member

    def _identify_by_cookie(self, environ: WSGIEnvironment) -> Member | None:
        cookies = cookies_of(environ)
        token = cookies.get(self._logins.cookie_name)
        if not token:
            return None
        member = self._logins.find(token, cookies.get(_SESSION_COOKIE, ""))
        return member if member is not None and member.may_enter else None

    def _is_foreign(self, environ: WSGIEnvironment) -> bool:
        # Who follows a link sees the page himself. A page that asks by itself tells its origin, whatever else it says.
        if self._pages.is_navigation(environ) and "HTTP_ORIGIN" not in environ:
            return False
        return self._origins.is_foreign(told_by_browser(environ), (environ.get("HTTP_HOST", ""), *self._hosts))

    def _admit_to_public(self, environ: WSGIEnvironment, publication: Publication) -> Publication:
        if publication.untrusted is None:
            return publication
        try:
            return _form_for(self.identify(environ), publication)
        except (HubUnavailable, TokenRefused, ScopeMissing):
            return publication.untrusted


def _may_read(member: Member, registration: Registration) -> bool:
    if registration.visibility == "users" or (member.name and member.name == registration.owner):
        return True
    if registration.visibility != "listed":
        return False
    names = {f"group:{group}" for group in member.groups}
    if member.name:
        names.add(f"user:{member.name}")
    return not names.isdisjoint(registration.audience)


def _form_for(member: Member | None, publication: Publication) -> Publication:
    is_owner = member is not None and member.name != "" and member.name == publication.registration.owner
    return publication if is_owner or publication.untrusted is None else publication.untrusted
