"""Ask a running server how it is."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Health:
    """What a server says of itself: ``ok`` or what it lacks, its version, and the registry's schema that it knows."""

    status: str
    version: str
    schema: int


class NoHealthError(Exception):
    """A server does not say how it is; the sentence says why.

    Attributes
    ----------
    is_known_bad : bool
        False where it may be well, and only cannot be asked from here.
    """

    def __init__(self, sentence: str, *, is_known_bad: bool = True) -> None:
        self.is_known_bad = is_known_bad
        super().__init__(sentence)


def ask_health(url: str, route: str, token: str = "") -> Health:
    """Return what the server at `url` says of itself.

    Parameters
    ----------
    url : str
        ``http://HOST:PORT``, perhaps with a base URL, or ``unix:PATH``.
    route : str
        The segment of the server's URLs in front of a key.
    token : str
        Of the Jupyter server, if it is one.

    Raises
    ------
    NoHealthError
    """
    headers = {"Accept": "application/json", **({"Authorization": f"token {token}"} if token else {})}
    try:
        connection, base_url = connect(url)
        with closing(connection):
            connection.request("GET", f"{base_url}/{route}/_health", headers=headers)
            answer = connection.getresponse()
            body = answer.read()
    except ssl.SSLCertVerificationError as error:
        raise NoHealthError("its certificate is not one that is trusted here", is_known_bad=False) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise NoHealthError(f"it does not answer: {error}") from error
    if answer.status in (302, 403):
        raise NoHealthError("it asks for a login that is not known here", is_known_bad=False)
    try:
        told = json.loads(body)
        return Health(str(told["status"]), str(told["version"]), int(told["schema"]))
    except (ValueError, KeyError, TypeError):
        if answer.status == 503:
            raise NoHealthError(body.decode("utf-8", "replace").strip()) from None
        raise NoHealthError(f"what answers there is no relay server (status {answer.status})") from None


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def connect(url: str) -> tuple[http.client.HTTPConnection, str]:
    """Return a connection to `url`, and the base URL there."""
    if url.startswith("unix:"):
        return _UnixConnection(url.removeprefix("unix:")), ""
    parts = urlsplit(url)
    if parts.scheme == "http+unix":  # As Jupyter writes the address of a server on a socket.
        return _UnixConnection(unquote(parts.netloc)), parts.path.rstrip("/")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.netloc, timeout=_TIMEOUT_SECONDS), parts.path.rstrip("/")
