"""Which relay servers run for a registry: a small file for each, beside the registry."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from kdr_wsgi.targets import ROUTE

_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server's process and where it listens: ``http://HOST:PORT``, or ``unix:PATH``."""

    process: int
    url: str


@contextmanager
def announced(registry: Path, url: str) -> Iterator[None]:
    """Tell of this process's server for as long as the block runs."""
    path = _folder(registry) / f"{os.getpid()}.json"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    owner = os.getpid()
    path.write_text(json.dumps({"process": owner, "url": url}))
    try:
        yield
    finally:
        # A worker that is forked inside the block leaves it too.
        if os.getpid() == owner:
            path.unlink(missing_ok=True)


def find_servers(registry: Path) -> list[RunningServer]:
    """Return the servers of `registry` that are alive, and forget those that were killed."""
    found = []
    for path in sorted(_folder(registry).glob("*.json")):
        try:
            told = json.loads(path.read_text())
            server = RunningServer(int(told["process"]), str(told["url"]))
            os.kill(server.process, 0)
        except (ProcessLookupError, PermissionError):
            # It has ended; a process of another user may have its number by now.
            path.unlink(missing_ok=True)
        except (FileNotFoundError, ValueError, KeyError):
            continue  # It is just being removed, or written.
        else:
            found.append(server)
    return found


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


def _folder(registry: Path) -> Path:
    return registry.with_name(registry.name + ".servers")
