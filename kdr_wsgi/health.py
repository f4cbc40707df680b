"""Ask a running server how it is."""

from __future__ import annotations

import http.client
import json
import socket
from urllib.parse import urlsplit

from hub.servers import RunningServer
from kdr_wsgi.targets import ROUTE

_TIMEOUT_SECONDS = 5.0


def ask_health(server: RunningServer) -> str:
    """Return ``ok``, or what is wrong with `server`, in a few words."""
    connection = _connect(server.url)
    try:
        connection.request("GET", ROUTE + "_health")
        answer = connection.getresponse()
        body = json.loads(answer.read())
        return str(body["status"])
    except (OSError, http.client.HTTPException) as error:
        return f"it does not answer: {error}"
    except (ValueError, KeyError):
        return "what answers there is no relay server"
    finally:
        connection.close()


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
    return http.client.HTTPConnection(urlsplit(url).netloc, timeout=_TIMEOUT_SECONDS)
