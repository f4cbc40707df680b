"""The way of a request through the Jupyter server.

Most requests are of somebody who was let in a moment ago: they go to the
relay server without a Tornado handler. The others take the way of every
Jupyter page, through a `JupyterHandler` that asks for the login, and then
the same one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from jupyter_core.utils import ensure_async
from jupyter_server.auth.decorator import allow_unauthenticated
from jupyter_server.base.handlers import JupyterHandler
from tornado import web
from tornado.http1connection import HTTP1Connection
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    HTTPServerRequest,
    RequestStartLine,
)

from kdr_wsgi.errors import MethodNotAllowed
from kdr_wsgi.headers import CROSS_ORIGIN
from kdr_wsgi.jupyter.backend import Backend
from kdr_wsgi.jupyter.exchange import Exchange
from kdr_wsgi.jupyter.logins import Login, Logins, credentials_of
from kdr_wsgi.jupyter.messages import Headers, format_request
from kdr_wsgi.locations import Location
from kdr_wsgi.origins import Origins, is_own_page, with_credentials

if TYPE_CHECKING:
    from jupyter_server.auth import User

#: Pages of no other origin are allowed what is for the owner alone.
_NO_OTHERS = Origins()

ANYONE = Login("anyone", is_by_token=False)


class Message(NamedTuple):
    """A request as Tornado has read it."""

    start_line: RequestStartLine
    headers: HTTPHeaders


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
    """What Tornado's application does with requests for ``{base_url}{route}/...``."""

    def __init__(self, application: web.Application, backend: Backend, policy: Policy, route: str) -> None:
        self.application = application
        self.allows_public_without_login = policy.public_without_login
        self.logins = Logins()
        self._backend = backend
        self._policy = policy
        self._prefix = f"{policy.base_url}/{route}/"

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        """Take one request."""
        return _Request(self, server_conn, cast(HTTP1Connection, request_conn))

    def relay(
        self, message: Message, connection: HTTP1Connection, login: Login, cookies: Sequence[tuple[str, str]] = ()
    ) -> None:
        """Send a request on; its answer, with `cookies`, goes to the browser as it comes."""
        if connection.stream.closed():
            return  # The browser has gone while its login was looked at.
        start_line, headers = message
        context: Any = connection.context
        location = self._location_of(headers, context.protocol)
        hosts = (location.host, headers.get("Host", ""))
        is_foreign = not login.is_by_token and self._policy.origins.is_foreign(headers, hosts)
        # What is not for a registration to answer begins with an underline, however that is spelled.
        is_reserved = start_line.path.startswith(("_", "%"), len(self._prefix))
        is_own = is_reserved and (login.is_by_token or not _NO_OTHERS.is_foreign(headers, hosts))
        exchange = Exchange(
            format_request(
                start_line.method,
                start_line.path[len(self._policy.base_url) :],
                headers.get_all(),
                "anyone" if is_foreign else login.viewer,
                location,
                is_own_page=is_own,
            ),
            connection,
            is_head=start_line.method == "HEAD",
            adjust=self._adjustment(headers.get("Origin"), cookies),
            knows_chunks=start_line.version == "HTTP/1.1",
        )
        connection.set_close_callback(partial(self._backend.abandon, exchange))
        self._backend.ask(exchange)

    def may_change(self, headers: HTTPHeaders, scheme: str) -> bool:
        """Whether the browser says that a page of this very origin makes a request."""
        location = self._location_of(headers, scheme)
        return is_own_page(headers, f"{location.scheme}://{location.host}")

    def is_change(self, start_line: RequestStartLine) -> bool:
        """Whether a request asks the relay server to change something, as it is asked for that."""
        return start_line.method == "DELETE" and start_line.path.startswith(f"{self._prefix}_api/")

    def is_of_jupyter(self, start_line: RequestStartLine) -> bool:
        """Whether a request is for Jupyter to look at each time: the page that needs its token against forgery."""
        return start_line.path.partition("?")[0] == f"{self._prefix}_status"

    def refuse(self, connection: HTTP1Connection) -> None:
        """Answer that only GET, HEAD and OPTIONS are understood (RFC 9110, 15.5.6)."""
        exchange = Exchange(b"", connection, is_head=False)
        exchange.fail(405, "Method Not Allowed", MethodNotAllowed.sentence, *MethodNotAllowed.headers)

    def _location_of(self, headers: HTTPHeaders, scheme: str) -> Location:
        """Return where the browser sees this server; proxies are believed as far as Jupyter believes them."""
        location = Location(scheme, headers.get("Host", ""), self._policy.base_url)
        if not self._policy.trusts_proxy:
            return location
        # X-Scheme comes first, as for Tornado: JupyterHub's proxy puts a scheme of its own into the other.
        scheme_told = headers.get("X-Scheme") or headers.get("X-Forwarded-Proto")
        return location.seen_through(scheme_told, headers.get("X-Forwarded-Host"), headers.get("X-Forwarded-Prefix"))

    def _adjustment(
        self, origin: str | None, cookies: Sequence[tuple[str, str]]
    ) -> Callable[[Headers], Headers] | None:
        if origin is not None and self._policy.origins.may_send_login(origin):
            return lambda headers: [*with_credentials(headers, origin), *cookies]
        return (lambda headers: [*headers, *cookies]) if cookies else None


class _Request(HTTPMessageDelegate):
    """One request, until it has been read."""

    def __init__(self, route: RelayRoute, server_connection: object, connection: HTTP1Connection) -> None:
        self._route = route
        self._server_connection = server_connection
        self._connection = connection
        self._message: Message

    def headers_received(self, start_line: Any, headers: HTTPHeaders) -> None:
        self._message = Message(start_line, headers)

    def data_received(self, chunk: bytes) -> None:
        """Drop the body: no request that is answered has one."""

    def finish(self) -> None:
        start_line, headers = self._message
        if start_line.method == "OPTIONS":
            # A preflight comes without a login, and its answer tells nothing of any file.
            self._route.relay(self._message, self._connection, ANYONE)
        elif self._route.is_change(start_line) or self._route.is_of_jupyter(start_line):
            self._ask_jupyter()
        elif start_line.method not in ("GET", "HEAD"):
            self._route.refuse(self._connection)
        else:
            context: Any = self._connection.context
            login = self._route.logins.find(credentials_of(start_line.path, headers.get_all(), context.remote_ip))
            if login is not None:
                self._route.relay(self._message, self._connection, login)
            else:
                self._ask_jupyter()

    def _ask_jupyter(self) -> None:
        start_line, headers = self._message
        request = HTTPServerRequest(
            connection=self._connection,
            server_connection=self._server_connection,
            start_line=start_line,
            headers=headers,
        )
        delegate = self._route.application.get_handler_delegate(request, LoginHandler, {"route": self._route})
        delegate.headers_received(start_line, headers)
        delegate.finish()


class LoginHandler(JupyterHandler):
    """Asks who somebody is as Jupyter does, and lets the route answer; only who is not let in is answered here."""

    auth_resource = "contents"

    def initialize(self, route: RelayRoute) -> None:
        """Take the route that the request came by."""
        self._route = route
        # Tornado would answer when a method returns.
        self._auto_finish = False

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

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Log why somebody is not let in; Tornado would log the query, and a token in it, whether it is good or not."""
        if isinstance(value, web.HTTPError):
            self.log.warning("%d %s %s", value.status_code, self.request.method, self.request.path)
        else:
            super().log_exception(typ, value, tb)

    def check_xsrf_cookie(self) -> None:
        """Ask for Jupyter's token against forgery (XSRF) where something is changed; who may read `Origins` decides."""
        if self.request.method == "DELETE":
            super().check_xsrf_cookie()

    # Jupyter would send everybody without a login away, those who may read what is public too.
    @allow_unauthenticated
    async def get(self) -> None:
        """Answer GET, if the viewer is let in."""
        login = await self._find_login("read")
        if login is None:
            if self._is_for_a_person():
                self._send_to_login()
                return
            raise web.HTTPError(403, "Log in to Jupyter, or send its token.")
        request = self.request
        credentials = credentials_of(str(request.uri), request.headers.get_all(), str(request.remote_ip))
        self._route.logins.remember(credentials, login)
        self._relay(login)

    head = get

    @allow_unauthenticated
    async def delete(self) -> None:
        """Answer DELETE, if the viewer may write, and a page of this origin asks, or who has a token."""
        login = await self._find_login("write")
        if login is None or login == ANYONE:
            raise web.HTTPError(403, "Log in to Jupyter, or send its token.")
        if not login.is_by_token and not self._route.may_change(self.request.headers, str(self.request.protocol)):
            raise web.HTTPError(403, "Only a page of this server, or who sends its token, may change something.")
        self._relay(login)

    def _relay(self, login: Login) -> None:
        request = self.request
        start_line = RequestStartLine(str(request.method), str(request.uri), request.version)
        if self._route.is_of_jupyter(start_line):
            self.xsrf_token  # noqa: B018  # Where the browser has none, this gives it one, in a cookie.
        # Tornado has no other way to the cookies that a login has set.
        cookies = [("Set-Cookie", cookie.OutputString()) for cookie in getattr(self, "_new_cookie", {}).values()]
        connection = cast(HTTP1Connection, request.connection)
        self._route.relay(Message(start_line, request.headers), connection, login, cookies)

    async def _find_login(self, action: str) -> Login | None:
        user: User | None = self.current_user
        if user is None:
            return ANYONE if self._route.allows_public_without_login else None
        if not await ensure_async(self.authorizer.is_authorized(self, user, action, self.auth_resource)):
            raise web.HTTPError(403, f"This user may not {action} files.")
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
