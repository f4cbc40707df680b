"""A browser's way over the hub's login and back to the file (RFC 6749, 4.1; RFC 7636)."""

from __future__ import annotations

import hmac
import logging
import secrets
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, unquote

from blake3 import blake3
from flask import Flask, Response, redirect, request
from itsdangerous import BadSignature, URLSafeTimedSerializer
from werkzeug.datastructures import MultiDict
from werkzeug.http import dump_cookie
from werkzeug.sansio.http import parse_cookie

from hub.settings import SAFE_IN_PATHS
from kdr_wsgi.errors import LoginFailed, LoginNeeded, LoginRefused
from kdr_wsgi.jupyterhub.logins import Logins, Proof
from kdr_wsgi.settings import ServiceSettings

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_log = logging.getLogger(__name__)

#: How long a login may take.
LOGIN_SECONDS = 600

#: A longer address leads to the service's first page: proxies take no longer URLs of the hub, of which it is a part.
_ADDRESS_CHARACTERS = 2000


class _Begun(NamedTuple):
    """What a browser keeps of the logins that it has begun, all of them together."""

    secret: str
    proof: Proof


class LoginPages:
    """Sends browsers to the hub's login, and takes them back.

    Each worker understands what any other has begun: what must be remembered
    is signed, in a cookie of the browser and in the ``state`` that the hub
    sends back.

    Parameters
    ----------
    logins : Logins
    base_url : str
        Below which the service answers.
    service : ServiceSettings
    """

    def __init__(self, logins: Logins, base_url: str, service: ServiceSettings) -> None:
        self._logins = logins
        self._base_url = base_url
        self._is_https = service.has_safe_host
        self._cookies = URLSafeTimedSerializer(service.api_token, salt="kernel data relay login")
        self._states = URLSafeTimedSerializer(service.api_token, salt="kernel data relay state")

    def is_navigation(self, environ: WSGIEnvironment) -> bool:
        """Whether a browser shows the answer to its user, as the page of a window."""
        if environ["REQUEST_METHOD"] != "GET":
            return False
        mode = environ.get("HTTP_SEC_FETCH_MODE")
        if mode is not None:
            return mode == "navigate" and environ.get("HTTP_SEC_FETCH_DEST") == "document"
        return "text/html" in environ.get("HTTP_ACCEPT", "")

    def may_log_in(self, environ: WSGIEnvironment) -> bool:
        """Whether the request is one that a login at the hub may answer for.

        A window is; and so is what a page of the hub embeds, a notebook say,
        whose user is logged in there: the hub sends it back without a word.
        """
        if self.is_navigation(environ):
            return True
        if environ["REQUEST_METHOD"] != "GET":
            return False
        site = environ.get("HTTP_SEC_FETCH_SITE")
        if site is not None:
            return bool(site == "same-origin")
        # Over plain HTTP browsers tell only the page.
        page = environ.get("HTTP_REFERER", "").partition("://")[2].partition("/")[0]
        return bool(page and page == environ.get("HTTP_HOST"))

    def ask_for_login(self, environ: WSGIEnvironment) -> LoginNeeded:
        """Return the answer that sends a browser to the hub's login."""
        return self._ask_for_login(environ, self._address(environ))

    def _ask_for_login(self, environ: WSGIEnvironment, address: str) -> LoginNeeded:
        begun = self._find_begun(environ) or _Begun(secrets.token_urlsafe(16), self._logins.make_proof())
        state = self._states.dumps([_digest(begun.secret), address])
        cookie = self._cookie(environ, self._logins.state_cookie_name, self._cookies.dumps(begun), LOGIN_SECONDS)
        return LoginNeeded(self._logins.authorization_url(str(state), begun.proof), [cookie])

    def install(self, app: Flask) -> None:
        """Let an application take back who comes from the hub's login."""

        @app.get("/oauth_callback")
        def oauth_callback() -> Response:
            """Change the hub's code for a token, and go on to where the browser wanted to be."""
            begun = self._find_begun(request.environ)
            try:
                digest, address = self._states.loads(request.args.get("state", ""), max_age=LOGIN_SECONDS)
            except BadSignature:
                raise LoginFailed from None
            if begun is None:
                raise LoginFailed
            if not hmac.compare_digest(digest, _digest(begun.secret)):
                # Of several that were begun at once, each with a cookie, the browser has kept one; or somebody else has
                # begun this one, and wants another browser to end it. Whoever has the browser logs in.
                raise self._ask_for_login(request.environ, address)
            token = self._logins.exchange(request.args.get("code", ""), begun.proof.verifier)
            if token is None:
                _log.error("the hub refused the code of a login: is JUPYTERHUB_API_TOKEN the service's?")
                raise LoginRefused
            response = redirect(address)
            response.headers.add("Set-Cookie", self._cookie(request.environ, self._logins.cookie_name, token, None))
            assert isinstance(response, Response)
            return response

    def _find_begun(self, environ: WSGIEnvironment) -> _Begun | None:
        try:
            told = self._cookies.loads(
                cookies_of(environ).get(self._logins.state_cookie_name, ""), max_age=LOGIN_SECONDS
            )
        except BadSignature:
            return None
        secret, proof = told
        return _Begun(secret, Proof(*proof))

    def _address(self, environ: WSGIEnvironment) -> str:
        """Return the path and query of a request, as the browser knows them."""
        sent = environ.get("RAW_URI") or environ.get("REQUEST_URI") or ""
        if not sent.startswith(self._base_url):
            path = environ["PATH_INFO"].encode("latin-1")
            sent = self._base_url + quote(path, safe=SAFE_IN_PATHS).lstrip("/")
        # Browsers would follow the dots elsewhere, and two slashes to another host.
        has_dots = not {".", ".."}.isdisjoint(unquote(sent.partition("?")[0]).split("/"))
        return self._base_url if has_dots or len(sent) > _ADDRESS_CHARACTERS else f"/{sent.lstrip('/')}"

    def _cookie(self, environ: WSGIEnvironment, name: str, value: str | bytes, max_age: int | None) -> str:
        proto = environ.get("HTTP_X_FORWARDED_PROTO", "").partition(",")[0].strip()
        # Who forges the header keeps a cookie from himself.
        is_https = self._is_https or proto == "https"
        text = value if isinstance(value, str) else value.decode()
        return dump_cookie(
            name, text, max_age, path=self._logins.cookie_path, secure=is_https, httponly=True, samesite="Lax"
        )


def cookies_of(environ: WSGIEnvironment) -> MultiDict[str, str]:
    """Return the cookies of a request; any server of the host may have set one with bytes that are no UTF-8."""
    return parse_cookie(environ.get("HTTP_COOKIE", "").encode("latin-1").decode("utf-8", "replace"))


def _digest(secret: str) -> str:
    return blake3(secret.encode()).hexdigest(16)
