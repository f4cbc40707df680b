"""Where the registry and the base URL are found; the only reader of the environment in `hub`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from hub.errors import InvalidOption


def find_registry_path(registry: str | os.PathLike[str] | None = None) -> Path:
    """Return the registry's path: the argument, ``KDR_REGISTRY``, or the default below Jupyter's runtime directory."""
    if registry is not None:
        return Path(registry).absolute()
    if named := os.environ.get("KDR_REGISTRY"):
        return Path(named).absolute()
    return jupyter_runtime_directory() / "kdr" / "registry.sqlite"


def is_registry_named(registry: str | os.PathLike[str] | None = None) -> bool:
    """Whether somebody has said which registry to use, in the argument or the environment."""
    return registry is not None or bool(os.environ.get("KDR_REGISTRY"))


def is_kernel() -> bool:
    """Whether this process is a kernel of Jupyter's."""
    return "JPY_PARENT_PID" in os.environ or "ipykernel" in sys.modules


def find_base_url(base_url: str | None = None) -> str:
    """Return the path under which the browser reaches this user's server; it begins and ends with ``/``.

    In this order: the argument, ``KDR_BASE_URL``, ``JUPYTERHUB_SERVICE_PREFIX``,
    the info files of the running Jupyter servers, ``/``.
    """
    for named in (base_url, os.environ.get("KDR_BASE_URL"), os.environ.get("JUPYTERHUB_SERVICE_PREFIX")):
        if named:
            return normalise_base_url(named)
    server = _find_own_server(list(_running_servers(jupyter_runtime_directory())))
    return normalise_base_url(server.base_url) if server else "/"


def normalise_base_url(base_url: str) -> str:
    """Return `base_url` with one slash at each end, and quoted where that is needed."""
    if "://" in base_url:
        raise InvalidOption("base_url", base_url, "give the path alone, without scheme and host")
    path = quote(base_url.strip("/"), safe="/%:@!$&'()*+,;=~")
    return f"/{path}/" if path else "/"


def jupyter_runtime_directory() -> Path:
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


@dataclass(frozen=True, slots=True)
class _RunningServer:
    process: int
    base_url: str
    started: float


def _running_servers(runtime_directory: Path) -> Iterator[_RunningServer]:
    """Yield the Jupyter servers of this user that are alive, as their info files tell."""
    for pattern in ("jpserver-*.json", "nbserver-*.json"):
        for path in runtime_directory.glob(pattern):
            try:
                info = json.loads(path.read_text("utf-8"))
                server = _RunningServer(int(info["pid"]), str(info["base_url"]), path.stat().st_mtime)
            except (OSError, ValueError, KeyError, TypeError):
                # A server that ends removes its file, and one that starts is still writing it.
                continue
            if _is_alive(server.process):
                yield server


def _find_own_server(servers: list[_RunningServer]) -> _RunningServer | None:
    """Return the server that started this kernel, else the youngest."""
    parent = os.environ.get("JPY_PARENT_PID")
    for server in servers:
        if str(server.process) == parent:
            return server
    return max(servers, key=lambda server: server.started, default=None)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
