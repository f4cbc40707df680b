"""By which names a server may be asked: DNS rebinding lets a page name it by one of the page's own."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING

from kdr_wsgi.answers import answer_error
from kdr_wsgi.errors import MisdirectedRequest
from kdr_wsgi.proxies import TrustedProxies

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

#: What stands for every name.
ANY = "*"

#: RFC 9110, 7.2.
_HOST = re.compile(r"(?:\[(?P<address>[^\[\]]+)\]|(?P<name>[^\[\]:]+))(?::[0-9]*)?")

_NAME = re.compile(r"\.?[a-z0-9_-]+(\.[a-z0-9_-]+)*")


class KnownHosts:
    """The names of a server: addresses, ``localhost``, the machine's own, and those that it is told.

    An address in a Host header is safe, since a browser sends it only where
    the page's own URL has it.

    Parameters
    ----------
    names : iterable of str
        Further ones; ``.example.org`` stands for all below it, and ``*`` for every name.

    Raises
    ------
    ValueError
        One of them is no name.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        further = [name.lower() for name in names]
        for name in further:
            if name != ANY and not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no name of a host")
        self._has_all = ANY in further
        known = ("localhost", ".localhost", socket.gethostname().lower(), *further)
        self._names = frozenset(name for name in known if not name.startswith("."))
        self._endings = tuple(name for name in known if name.startswith("."))
        self._knows = lru_cache(maxsize=64)(self._look_up)

    def __contains__(self, host: str) -> bool:
        """Whether `host`, a Host header, is one of them, with whatever port."""
        return self._has_all or self._knows(host)

    def _look_up(self, host: str) -> bool:
        told = _HOST.fullmatch(host.lower())
        if told is None:
            return False
        name = told["address"] or told["name"].removesuffix(".")
        try:
            ip_address(name)
        except ValueError:
            return name in self._names or name.endswith(self._endings)
        return True


class HostCheck:
    """An application that refuses requests over TCP to hosts that are not known (RFC 9110, 15.5.20).

    Of a proxy that is believed it is the proxy's to know them.

    Parameters
    ----------
    app : WSGI application
        What answers the others.
    hosts : KnownHosts
    proxies : TrustedProxies
    """

    def __init__(self, app: WSGIApplication, hosts: KnownHosts, proxies: TrustedProxies) -> None:
        self.app = app
        self._hosts = hosts
        self._proxies = proxies

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        host = environ.get("HTTP_HOST")
        if host is None or host in self._hosts:
            return self.app(environ, start_response)
        peer = environ.get("REMOTE_ADDR", "")
        if not peer or peer in self._proxies:
            return self.app(environ, start_response)
        refusal = answer_error(environ, MisdirectedRequest())
        start_response(refusal.status, refusal.headers)
        return refusal.body
