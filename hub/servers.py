"""Which servers answer for a registry: a small file for each, beside the registry.

Of a registry in a database they are in Jupyter's runtime directory: each machine tells of its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from hub.drafts import Draft
from hub.filesystems import make_private_directories
from hub.locations import Location, beside


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A process that serves what is registered.

    Attributes
    ----------
    process : int
    place : str
        Where the process is: its host, and what numbers processes there.
    program : str
        ``kdr serve``, or ``jupyter``: a Jupyter server with the relay.
    url : str
        Where it listens: ``http://HOST:PORT`` or ``unix:PATH``; of a Jupyter
        server the base URL.
    route : str
        What stands in URLs between the base URL and a key.
    """

    process: int
    place: str
    program: str
    url: str
    route: str

    @property
    def is_here(self) -> bool:
        """Whether its number is that of a process of this host, or container."""
        return self.place == _here()


@contextmanager
def announced(registry: Location, program: str, url: str, route: str) -> Iterator[None]:
    """Tell of this process's server for as long as the block runs."""
    owner = os.getpid()
    path = _folder(registry) / f"{owner}.{os.uname().nodename}.json"
    make_private_directories(path)
    find_servers(registry)  # So that of those that were killed nothing is left.
    server = RunningServer(owner, _here(), program, url, route)
    with Draft(path.parent) as draft:
        draft.file.write(json.dumps(asdict(server)).encode())
        draft.replace(path)
    try:
        yield
    finally:
        # A worker that is forked inside the block leaves it too.
        if os.getpid() == owner:
            path.unlink(missing_ok=True)


def find_servers(registry: Location) -> list[RunningServer]:
    """Return the servers of `registry` that are alive, and forget those that were killed.

    Of another host, or of another container, nobody can tell here whether
    its processes live; they are taken for alive.
    """
    found = []
    for path in sorted(_folder(registry).glob("*.json")):
        try:
            told = json.loads(path.read_text("utf-8"))
            texts = (str(told[name]) for name in ("place", "program", "url", "route"))
            server = RunningServer(int(told["process"]), *texts)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # It is just being removed, or written.
        if not server.is_here or is_alive(server.process):
            found.append(server)
        else:
            with suppress(OSError):  # On a disk that is only read here it stays.
                path.unlink(missing_ok=True)
    return found


def is_alive(process: int) -> bool:
    """Whether a process of this user has that number."""
    if process <= 0:  # To kill(2) these are groups.
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, PermissionError, OverflowError):
        return False
    return True


def _here() -> str:
    """Return where the numbers of processes are those of this process."""
    try:
        numbers = os.stat("/proc/self/ns/pid").st_ino
    except FileNotFoundError:  # Where this is not Linux.
        numbers = 0
    return f"{os.uname().nodename}/{numbers}"


def _folder(registry: Location) -> Path:
    place = beside(registry)
    return place.with_name(place.name + ".servers")
