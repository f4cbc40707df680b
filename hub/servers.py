"""Which servers answer for a registry: a small file for each, beside the registry."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hub.filesystems import make_private_directories


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A process that serves what is registered.

    Attributes
    ----------
    process : int
    program : str
        ``kdr serve``, or ``jupyter``: a Jupyter server with the relay.
    url : str
        Where it listens: ``http://HOST:PORT`` or ``unix:PATH``; of a Jupyter
        server the base URL.
    """

    process: int
    program: str
    url: str


@contextmanager
def announced(registry: Path, program: str, url: str) -> Iterator[None]:
    """Tell of this process's server for as long as the block runs."""
    owner = os.getpid()
    path = _folder(registry) / f"{owner}.json"
    make_private_directories(path)
    path.write_text(json.dumps({"process": owner, "program": program, "url": url}))
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
            server = RunningServer(int(told["process"]), str(told["program"]), str(told["url"]))
            os.kill(server.process, 0)
        except (ProcessLookupError, PermissionError):
            # It has ended; a process of another user may have its number by now.
            path.unlink(missing_ok=True)
        except (FileNotFoundError, ValueError, KeyError):
            continue  # It is just being removed, or written.
        else:
            found.append(server)
    return found


def _folder(registry: Path) -> Path:
    return registry.with_name(registry.name + ".servers")
