"""The Jupyter servers of this user, as their own info files tell."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hub.servers import is_alive


@dataclass(frozen=True, slots=True)
class JupyterServer:
    """A Jupyter server that runs.

    Attributes
    ----------
    process : int
    base_url : str
        The path below which it answers.
    url : str
        Where this machine reaches it, `base_url` and all.
    token : str
        Lets its user in; empty where it has none.
    started : float
        Seconds since the epoch.
    """

    process: int
    base_url: str
    url: str
    token: str
    started: float


def runtime_directory() -> Path:
    """Return what ``jupyter --runtime-dir`` prints, by the rules of jupyter_core.paths."""
    if named := os.environ.get("JUPYTER_RUNTIME_DIR"):
        return Path(named)
    if named := os.environ.get("JUPYTER_DATA_DIR"):
        return Path(named) / "runtime"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Jupyter" / "runtime"
    if named := os.environ.get("XDG_DATA_HOME"):
        return Path(named) / "jupyter" / "runtime"
    return Path.home() / ".local" / "share" / "jupyter" / "runtime"


def running_servers() -> Iterator[JupyterServer]:
    """Yield the Jupyter servers of this user that are alive."""
    for pattern in ("jpserver-*.json", "nbserver-*.json"):
        for path in _find_files(pattern):
            try:
                info = json.loads(path.read_text("utf-8"))
                server = JupyterServer(
                    process=int(info["pid"]),
                    base_url=str(info["base_url"]),
                    url=str(info.get("url", "")),
                    token=str(info.get("token", "")),
                    started=path.stat().st_mtime,
                )
            except (OSError, ValueError, KeyError, TypeError):
                # A server that ends removes its file, and one that starts is still writing it.
                continue
            if is_alive(server.process):
                yield server


def _find_files(pattern: str) -> list[Path]:
    try:
        return list(runtime_directory().glob(pattern))
    except PermissionError:  # It is another user's.
        return []


def find_own_server() -> JupyterServer | None:
    """Return the server that started this kernel, else the youngest."""
    servers = list(running_servers())
    parent = os.environ.get("JPY_PARENT_PID")
    for server in servers:
        if str(server.process) == parent:
            return server
    return max(servers, key=lambda server: server.started, default=None)
