"""Ask a running server how it is."""

from __future__ import annotations

import http.client
import json
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from kdr_wsgi.targets import ROUTE

_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Health:
    """What a server says of itself: ``ok`` or what it lacks, its version, and the registry's schema that it knows."""

    status: str
    version: str
    schema: int


class NoHealthError(Exception):
    """A server does not say how it is; the sentence says why."""


def ask_health(url: str, token: str = "") -> Health:
    """Return what the server at `url` says of itself.

    Parameters
    ----------
    url : str
        ``http://HOST:PORT``, perhaps with a base URL, or ``unix:PATH``.
    token : str
        Of the Jupyter server, if it is one.

    Raises
    ------
    NoHealthError
    """
    connection = _connect(url)
    base_url = "" if url.startswith("unix:") else urlsplit(url).path.rstrip("/")
    headers = {"Accept": "application/json", **({"Authorization": f"token {token}"} if token else {})}
    try:
        connection.request("GET", f"{base_url}{ROUTE}_health", headers=headers)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise NoHealthError(f"it does not answer: {error}") from error
    finally:
        connection.close()
    try:
        told = json.loads(body)
        return Health(str(told["status"]), str(told["version"]), int(told["schema"]))
    except (ValueError, KeyError, TypeError):
        raise NoHealthError(_explain(answer.status, body)) from None


def _explain(status: int, body: bytes) -> str:
    if status in (302, 403):
        return "it asks for a login that is not known here"
    if status == 503:
        return body.decode("utf-8", "replace").strip()
    return f"what answers there is no relay server (status {status})"


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _connect(url: str) -> http.client.HTTPConnection:
    if url.startswith("unix:"):
        return _UnixConnection(url.removeprefix("unix:"))
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.netloc, timeout=_TIMEOUT_SECONDS)
