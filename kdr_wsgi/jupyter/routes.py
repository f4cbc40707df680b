"""The way of a request through the Jupyter server.

Most requests are of somebody who was let in a moment ago: they go to the
relay server without a Tornado handler. The others take the way of every
Jupyter page, through a `JupyterHandler` that asks for the login, and then
the same one.
"""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from jupyter_core.utils import ensure_async
from jupyter_server.auth.decorator import allow_unauthenticated
from jupyter_server.base.handlers import JupyterHandler
from tornado import web
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    HTTPServerRequest,
    RequestStartLine,
    ResponseStartLine,
)

from kdr_wsgi.headers import CROSS_ORIGIN
from kdr_wsgi.jupyter.backend import Backend
from kdr_wsgi.jupyter.exchange import Exchange, Reader
from kdr_wsgi.jupyter.logins import Login, Logins, credentials_of
from kdr_wsgi.jupyter.messages import Place, format_request
from kdr_wsgi.jupyter.origins import Origins, with_credentials
from kdr_wsgi.viewers import Viewer

if TYPE_CHECKING:
    from jupyter_server.auth import User

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Policy:
    """What the administrator has decided.

    Attributes
    ----------
    base_url : str
        Of the Jupyter server, without the slash at its end.
    origins : Origins
    public_without_login : bool
        Whether ``public`` registrations are for visitors without a login too.
    trusts_proxy : bool
        ``ServerApp.trust_xheaders``: whether a proxy in front writes X-Forwarded-*.
    """

    base_url: str
    origins: Origins
    public_without_login: bool
    trusts_proxy: bool


class RelayRoute(HTTPServerConnectionDelegate):
    """What Tornado's application does with requests for ``{base_url}wwtkdr/...``."""

    #: Jupyter looks here for methods that need no login.
    SUPPORTED_METHODS = ()

    def __init__(self, application: web.Application, backend: Backend, policy: Policy) -> None:
        self.application = application
        self.policy = policy
        self.logins = Logins()
        self._backend = backend

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        """Take one request."""
        return _Request(self, server_conn, request_conn)

    def place_of(self, headers: HTTPHeaders, scheme: str) -> Place:
        """Return where the browser sees this server; proxies are believed as far as Jupyter believes them."""
        host, prefix = headers.get("Host", ""), self.policy.base_url
        if self.policy.trusts_proxy:
            host = headers.get("X-Forwarded-Host", host).partition(",")[0].strip()
            prefix = headers.get("X-Forwarded-Prefix", "").partition(",")[0].strip().rstrip("/") + prefix
        return Place(scheme, host, prefix)

    def relay(
        self,
        start_line: RequestStartLine,
        headers: HTTPHeaders,
        scheme: str,
        login: Login,
        reader: Reader,
    ) -> Exchange:
        """Send a request on; its answer goes to `reader`."""
        place = self.place_of(headers, scheme)
        viewer: Viewer = login.viewer
        origin = headers.get("Origin")
        hosts = (place.host, headers.get("Host", ""))
        if viewer != "anyone" and not login.is_by_token and self.policy.origins.is_foreign(headers, hosts):
            viewer = "anyone"
        answers_login = origin is not None and self.policy.origins.may_send_login(origin)
        target = start_line.path[len(self.policy.base_url) :]
        exchange = Exchange(
            format_request(start_line.method, target, headers.get_all(), viewer, place),
            reader,
            is_head=start_line.method == "HEAD",
            adjust=partial(with_credentials, origin=cast(str, origin)) if answers_login else None,
        )
        self._backend.ask(exchange)
        return exchange

    def abandon(self, exchange: Exchange) -> None:
        """End the work on an exchange whose reader has gone."""
        self._backend.abandon(exchange)


class _Request(HTTPMessageDelegate):
    """One request, until it has been read."""

    def __init__(self, route: RelayRoute, server_conn: object, connection: HTTPConnection) -> None:
        self._route = route
        self._server_conn = server_conn
        self._connection: Any = connection
        self._start_line: RequestStartLine
        self._headers: HTTPHeaders

    def headers_received(self, start_line: Any, headers: HTTPHeaders) -> None:
        self._start_line, self._headers = start_line, headers

    def data_received(self, chunk: bytes) -> None:
        """Drop the body: no request that is answered has one."""

    def finish(self) -> None:
        context = self._connection.context
        method, target, _ = self._start_line
        if method not in ("GET", "HEAD"):
            # What the relay server answers to these (a preflight, 405) tells nothing of any file.
            login: Login | None = Login("anyone", is_by_token=False)
        else:
            login = self._route.logins.find(credentials_of(target, self._headers.get_all(), context.remote_ip))
        if login is None:
            self._ask_jupyter()
            return
        exchange = self._route.relay(self._start_line, self._headers, context.protocol, login, self._connection)
        self._connection.set_close_callback(partial(self._route.abandon, exchange))

    def _ask_jupyter(self) -> None:
        request = HTTPServerRequest(
            connection=self._connection,
            server_connection=self._server_conn,
            start_line=self._start_line,
            headers=self._headers,
        )
        application = self._route.application
        delegate = application.get_handler_delegate(request, LoginHandler, {"route": self._route})
        delegate.headers_received(self._start_line, self._headers)
        delegate.finish()


class LoginHandler(JupyterHandler):
    """Lets somebody in as Jupyter does, then answers."""

    auth_resource = "contents"

    def initialize(self, route: RelayRoute) -> None:
        """Take the route that the request came by."""
        self._route = route

    def set_default_headers(self) -> None:
        """Let pages of every origin read why they get nothing."""
        super().set_default_headers()
        for name, value in CROSS_ORIGIN:
            self.set_header(name, value)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Say to a program in one line what a person gets as a page."""
        error = kwargs.get("exc_info", (None, None))[1]
        if self._is_for_a_person() or not isinstance(error, web.HTTPError):
            super().write_error(status_code, **kwargs)
            return
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(f"{error.log_message or self._reason}\n")

    def check_xsrf_cookie(self) -> None:
        """Ask for no XSRF token: nothing is changed here, and who may read is decided by `Origins`."""

    # Jupyter would send everybody without a login away, those who may read what is public too.
    @allow_unauthenticated
    async def get(self) -> None:
        """Answer GET, if the viewer is let in."""
        login = await self._find_login()
        if login is None:
            if self._is_for_a_person():
                self._send_to_login()
                return
            raise web.HTTPError(403, "Log in to Jupyter, or send its token.")
        request = self.request
        target = str(request.uri)
        self._route.logins.remember(credentials_of(target, request.headers.get_all(), str(request.remote_ip)), login)
        is_over = asyncio.get_running_loop().create_future()
        reader = _HandlerReader(self, is_over)
        start_line = RequestStartLine(str(request.method), target, request.version)
        self._exchange = self._route.relay(start_line, request.headers, request.protocol, login, reader)
        await is_over

    head = get

    def on_connection_close(self) -> None:
        """End the relay server's work."""
        super().on_connection_close()
        exchange = getattr(self, "_exchange", None)
        if exchange is not None:
            self._route.abandon(exchange)

    async def _find_login(self) -> Login | None:
        user: User | None = self.current_user
        if user is None:
            return Login("anyone", is_by_token=False) if self._route.policy.public_without_login else None
        if not await ensure_async(self.authorizer.is_authorized(self, user, "read", self.auth_resource)):
            raise web.HTTPError(403, "This user may not read files.")
        return Login("owner" if _is_owner(user) else "user", self.token_authenticated)

    def _is_for_a_person(self) -> bool:
        return "text/html" in self.request.headers.get("Accept", "")

    @web.authenticated
    def _send_to_login(self) -> None:
        raise web.HTTPError(403)


def _is_owner(user: User) -> bool:
    """Whether `user` is whose server this is; on a hub the server may be shared with others."""
    owner = os.environ.get("JUPYTERHUB_USER")
    if owner is None:
        return True
    # A service of the hub may have any name.
    is_person = getattr(user, "hub_user", {}).get("kind", "user") == "user"
    return is_person and user.username == owner


class _HandlerReader:
    """Writes an answer by way of a handler, so that the cookies of the login go with it."""

    def __init__(self, handler: LoginHandler, is_over: asyncio.Future[None]) -> None:
        self._handler = handler
        self._is_over = is_over

    def write_headers(
        self, start_line: ResponseStartLine, headers: HTTPHeaders, chunk: bytes | None = None
    ) -> asyncio.Future[None]:
        handler = self._handler
        handler.set_status(start_line.code, start_line.reason)
        for name in ("Content-Type", "Content-Security-Policy", "Server", "Date", *handler.settings.get("headers", {})):
            handler.clear_header(name)
        for name in headers:
            handler.clear_header(name)
        for name, value in headers.get_all():
            handler.add_header(name, value)
        return self.write(chunk or b"")

    def write(self, chunk: bytes) -> asyncio.Future[None]:
        self._handler.write(chunk)
        return self._handler.flush()

    def finish(self) -> None:
        if not self._is_over.done():
            self._is_over.set_result(None)

    def close(self) -> None:
        self._handler.request.connection.close()  # type: ignore[union-attr]
        self.finish()
