"""Who is logged in, as the hub says; the only module that uses JupyterHub's own."""

from __future__ import annotations

import asyncio
import os
import re
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from blake3 import blake3
from cachetools import TTLCache
from jupyterhub.services.auth import HubOAuth
from tornado.httputil import url_concat
from tornado.web import HTTPError

from kdr_wsgi.errors import HubUnavailable
from kdr_wsgi.jupyterhub.metrics import Outcome
from kdr_wsgi.settings import ServiceSettings

#: How long the hub may take to answer.
PATIENCE_SECONDS = 5.0

#: How long it is not asked again after it did not answer, so that no thread waits for nothing.
_REST_SECONDS = 1.0

#: Logins that are remembered, at about 1 kB each.
CAPACITY = 20_000

#: What lets an administrator, or a Prometheus server, read the hub's own metrics; and ours.
METRICS_SCOPE = "read:metrics"

#: What the hub makes, and a header can hold.
_TOKEN = re.compile(r"[\x21-\x7e]{1,1000}")

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Member:
    """Whom a token stands for.

    Attributes
    ----------
    name : str
        A user's name on the hub; of a service empty, since services may be called like users.
    title : str
        The name for a log, that of a service too.
    groups : frozenset of str
    may_enter : bool
        Whether the token has the scope that this service asks for.
    may_see_metrics : bool
    is_browser : bool
        Whether the hub has given the token to a browser that has logged in.
    """

    name: str
    title: str
    groups: frozenset[str]
    may_enter: bool
    may_see_metrics: bool
    is_browser: bool


class Proof(NamedTuple):
    """What an OAuth client keeps, and what it tells in advance (RFC 7636, 4)."""

    verifier: str
    challenge: str
    method: str


class Logins:
    """Asks the hub whom tokens stand for, and remembers what it has said for a while.

    Parameters
    ----------
    settings : ServiceSettings
    base_url : str
        Below which the service answers.
    count : callable
        What counts how the hub's answers come out.
    """

    def __init__(self, settings: ServiceSettings, base_url: str, count: Callable[[Outcome], None]) -> None:
        self._count = count
        self._auth = HubOAuth(
            api_url=settings.api_url,
            api_token=settings.api_token,
            base_url=base_url,
            hub_host=settings.hub_host,
            oauth_client_id=settings.client_id,
            oauth_redirect_uri=os.environ.get("JUPYTERHUB_OAUTH_CALLBACK_URL")
            or f"{settings.host}{base_url}oauth_callback",
            access_scopes={f"access:services!service={settings.name}"},
            # With a name that begins so, no other host can set it for this one (RFC 6265bis, 4.1.3.2).
            cookie_host_prefix_enabled=settings.has_safe_host,
        )
        self._known: TTLCache[bytes, Member | None] = TTLCache(CAPACITY, settings.login_seconds)
        self._asked: dict[bytes, Future[Member | None]] = {}
        self._lock = threading.Lock()
        self._silent_until = 0.0
        self._starting = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def scope(self) -> str:
        """What a token must have."""
        (scope,) = self._auth.access_scopes
        return str(scope)

    @property
    def cookie_name(self) -> str:
        """The name of the cookie that holds a browser's token."""
        return str(self._auth.cookie_name)

    @property
    def cookie_path(self) -> str:
        """Below which address browsers send that cookie."""
        return str(self._auth.cookie_path)

    @property
    def state_cookie_name(self) -> str:
        """The name of the cookie that a browser has while its logins go on."""
        return str(self._auth.state_cookie_name)

    def find(self, token: str, session: str = "") -> Member | None:
        """Return whom a token stands for; None: it has expired, was revoked, or never was one.

        Parameters
        ----------
        token : str
        session : str
            The hub's session of the browser; another one is asked for anew, since a logout ends it.

        Raises
        ------
        HubUnavailable
            The hub does not answer, and has not for a while.
        """
        if not _TOKEN.fullmatch(token):
            return None
        login = blake3(f"{session}\0{token}".encode("utf-8", "surrogateescape")).digest()
        with self._lock:
            try:
                return self._known[login]
            except KeyError:
                pass
            asked = self._asked.get(login)
            is_mine = asked is None
            if asked is None:
                if time.monotonic() < self._silent_until:
                    raise HubUnavailable("the hub did not answer a moment ago")
                asked = self._asked[login] = self._start(self._identify(token))
        try:
            member = self._wait(asked)
            with self._lock:
                # Before it is asked no more, so that nobody asks again in between.
                self._known[login] = member
            return member
        finally:
            if is_mine:
                with self._lock:
                    del self._asked[login]

    def make_proof(self) -> Proof:
        """Return what proves to the hub that who began a login ends it."""
        if not getattr(self._auth, "pkce_enabled", False):  # It is since JupyterHub 6.
            return Proof("", "", "")
        return Proof(*self._auth.generate_pkce_code_challenge())

    def authorization_url(self, state: str, proof: Proof) -> str:
        """Return where a browser logs in."""
        parameters = {"state": state}
        if proof.verifier:
            parameters |= {"code_challenge": proof.challenge, "code_challenge_method": proof.method}
        return str(url_concat(self._auth.login_url, parameters))

    def exchange(self, code: str, verifier: str) -> str | None:
        """Return the token that the hub gives for the code of a login; None: it knows of no such login.

        Raises
        ------
        HubUnavailable
        """
        secret = {"code_verifier": verifier} if verifier else {}
        return self._wait(self._start(self._redeem(code, secret)))

    async def _identify(self, token: str) -> Member | None:
        model = await self._auth.user_for_token(token, use_cache=False, sync=False)
        if model is None:
            return None
        try:
            is_user = model["kind"] == "user"
            return Member(
                name="" + model["name"] if is_user else "",
                title=model["name"] if is_user else f"service {model['name']}",
                groups=frozenset(map(str, model["groups"])) if is_user else frozenset(),
                may_enter=bool(self._auth.check_scopes(self._auth.access_scopes, model)),
                may_see_metrics=METRICS_SCOPE in model["scopes"],
                is_browser=bool(model.get("session_id")),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"the hub tells nothing of the kind: {error!r}") from error

    async def _redeem(self, code: str, secret: dict[str, str]) -> str | None:
        try:
            token = await self._auth.token_for_code(code, sync=False, **secret)
            return token if isinstance(token, str) and _TOKEN.fullmatch(token) else None
        except HTTPError as error:
            # The library says 500 where the hub has refused the code.
            if error.status_code == 500 and "Failed to check authorization" in str(error.log_message):
                return None
            raise

    def _start(self, question: Coroutine[Any, Any, _Result]) -> Future[_Result]:
        with self._starting:
            if self._loop is None:  # Not before the first question, since a fork would leave its thread behind.
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="kdr-hub", daemon=True).start()
            return asyncio.run_coroutine_threadsafe(self._ask(question), self._loop)

    async def _ask(self, question: Coroutine[Any, Any, _Result]) -> _Result:
        outcome: Outcome = "unavailable"
        try:
            result = await asyncio.wait_for(question, PATIENCE_SECONDS)
            outcome = "refused" if result is None else "known"
            return result
        finally:
            self._count(outcome)

    def _wait(self, asked: Future[_Result]) -> _Result:
        try:
            return asked.result()
        except (HTTPError, asyncio.TimeoutError, TimeoutError, OSError) as error:
            self._silent_until = time.monotonic() + _REST_SECONDS
            raise HubUnavailable(f"the hub cannot be asked: {error!r}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:  # It answers, and not as a hub does.
            raise HubUnavailable(f"the hub does not answer as one: {error!r}") from error
