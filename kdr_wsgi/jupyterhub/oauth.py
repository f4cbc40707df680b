"""A browser's way over the hub's login and back to the file (RFC 6749, 4.1; RFC 7636)."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING
from urllib.parse import quote

from flask import Flask, Response, redirect, request
from itsdangerous import BadSignature, URLSafeTimedSerializer
from werkzeug.http import dump_cookie, parse_cookie

from hub.settings import SAFE_IN_PATHS
from kdr_wsgi.errors import LoginFailed, LoginNeeded
from kdr_wsgi.jupyterhub.logins import Logins
from kdr_wsgi.settings import ServiceSettings

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

#: How long a login may take.
LOGIN_SECONDS = 600

#: Logins that a browser may have begun; those of tabs that were closed are dropped.
_BEGUN = 8

#: Longer addresses make longer cookies than browsers keep; such a one leads to the service's first page.
_ADDRESS_CHARACTERS = 2000


class LoginPages:
    """Sends browsers to the hub's login, and takes them back.

    Each worker understands what any other has begun, since all that must be
    remembered is in a signed cookie.

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
        self._is_https = service.host.startswith("https:")
        self._serializer = URLSafeTimedSerializer(service.api_token, salt="kernel data relay login")

    def is_navigation(self, environ: WSGIEnvironment) -> bool:
        """Whether a browser shows the answer to its user, as the page of a window."""
        if environ["REQUEST_METHOD"] != "GET":
            return False
        mode = environ.get("HTTP_SEC_FETCH_MODE")
        if mode is not None:
            return mode == "navigate" and environ.get("HTTP_SEC_FETCH_DEST") == "document"
        return "text/html" in environ.get("HTTP_ACCEPT", "")

    def ask_for_login(self, environ: WSGIEnvironment) -> LoginNeeded:
        """Return the answer that sends a browser to the hub's login."""
        state = secrets.token_urlsafe(16)
        url, verifier = self._logins.authorization_url(state)
        begun = [name for name in parse_cookie(environ) if name.startswith(self._logins.state_cookie_name)]
        cookies = [self._cookie(environ, name, "", 0) for name in begun[: 1 - _BEGUN]]
        told = self._serializer.dumps([self._address(environ), verifier])
        cookies.append(self._cookie(environ, f"{self._logins.state_cookie_name}-{state}", told, LOGIN_SECONDS))
        return LoginNeeded(url, cookies)

    def install(self, app: Flask) -> None:
        """Let an application take back who comes from the hub's login."""

        @app.get("/oauth_callback")
        def oauth_callback() -> Response:
            """Change the hub's code for a token, and go on to where the browser wanted to be."""
            state = request.args.get("state", "")
            name = f"{self._logins.state_cookie_name}-{state}"
            try:
                # Who has no such cookie has not begun this login, and was led here by somebody else.
                address, verifier = self._serializer.loads(request.cookies.get(name, ""), max_age=LOGIN_SECONDS)
            except BadSignature:
                raise LoginFailed from None
            token = self._logins.exchange(request.args.get("code", ""), verifier)
            if token is None:
                raise LoginFailed
            response = redirect(address)
            response.headers.add("Set-Cookie", self._cookie(request.environ, name, "", 0))
            response.headers.add("Set-Cookie", self._cookie(request.environ, self._logins.cookie_name, token, None))
            assert isinstance(response, Response)
            return response

    def _address(self, environ: WSGIEnvironment) -> str:
        """Return the path and query of a request, as the browser knows them."""
        sent = environ.get("RAW_URI") or environ.get("REQUEST_URI") or ""
        if not sent.startswith(self._base_url):
            path = environ["PATH_INFO"].encode("latin-1")
            sent = self._base_url + quote(path, safe=SAFE_IN_PATHS).lstrip("/")
        # Two slashes would lead to another host.
        return f"/{sent.lstrip('/')}" if len(sent) <= _ADDRESS_CHARACTERS else self._base_url

    def _cookie(self, environ: WSGIEnvironment, name: str, value: str, max_age: int | None) -> str:
        proto = environ.get("HTTP_X_FORWARDED_PROTO", "").partition(",")[0].strip()
        # Who forges the header keeps a cookie from himself.
        is_https = self._is_https or proto == "https"
        return dump_cookie(
            name, value, max_age, path=self._base_url, secure=is_https, httponly=True, samesite="Lax", max_size=0
        )
