"""Where the registry and the base URL are found; the only reader of the environment in `hub`."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from urllib.parse import quote

from hub.errors import InvalidOption
from hub.jupyter_servers import find_own_server, runtime_directory
from hub.locations import DatabaseLocation, Location, is_database_url, parse_database_url
from hub.servers import find_servers

#: The first segment below the base URL; the Kernel Data Relay protocol's own.
DEFAULT_ROUTE = "wwtkdr"

#: What the registry is called where nobody says otherwise.
REGISTRY_NAME = "registry.sqlite"

#: RFC 3986, 3.3.
SAFE_IN_PATHS = "/:@!$&'()*+,;=~"

#: RFC 3986, 2.3: what needs no quoting anywhere.
_ROUTE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]*")


def find_registry(registry: str | os.PathLike[str] | DatabaseLocation | None = None) -> Location:
    """Return where the registry is: the argument, ``KDR_REGISTRY``, or the default below Jupyter's runtime directory.

    Raises
    ------
    InvalidOption
        It is the URL of a database, and cannot be read.
    """
    if isinstance(registry, DatabaseLocation):
        return registry
    named = registry if registry is not None else os.environ.get("KDR_REGISTRY")
    if not named and registry is None:
        return runtime_directory() / "kdr" / REGISTRY_NAME
    assert named is not None
    if isinstance(named, str) and is_database_url(named):
        return parse_database_url(named, runtime_directory())
    return Path(named).absolute()


def is_registry_named(registry: str | os.PathLike[str] | DatabaseLocation | None = None) -> bool:
    """Whether somebody has said which registry to use, in the argument or the environment."""
    return registry is not None or bool(os.environ.get("KDR_REGISTRY"))


def find_service(service: str | None = None, *, is_registry_given: bool = False) -> str:
    """Return where the shared relay server of this JupyterHub is; empty where the user's own registry is meant.

    In this order: the argument; nothing, where a registry is given; ``KDR_SERVICE_URL``.
    """
    if service is not None:
        return service
    return "" if is_registry_given else os.environ.get("KDR_SERVICE_URL", "")


def find_hub_token() -> str:
    """Return the user's token of the JupyterHub that has started this process, or its server; empty without one."""
    return os.environ.get("JUPYTERHUB_API_TOKEN", "")


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
    server = find_own_server()
    return normalise_base_url(server.base_url) if server else "/"


def find_route(registry: Location) -> str:
    """Return the first segment below the base URL.

    In this order: ``KDR_ROUTE``, what the Jupyter server says that started
    this kernel, or the youngest, if it serves `registry`; `DEFAULT_ROUTE`.
    """
    if named := os.environ.get("KDR_ROUTE"):
        return check_route(named)
    own = find_own_server()
    if own is not None:
        for server in find_servers(registry):
            if server.is_here and server.process == own.process:
                return server.route
    return DEFAULT_ROUTE


def check_route(route: str) -> str:
    """Return `route` if it can be a segment of a URL as it is, else raise InvalidOption."""
    if not _ROUTE.fullmatch(route):
        raise InvalidOption("route", route, "write one word of letters, digits and '-._~', such as wwtkdr")
    return route


def normalise_base_url(base_url: str) -> str:
    """Return `base_url` with one slash at each end, and quoted where that is needed."""
    if "://" in base_url:
        raise InvalidOption("base_url", base_url, "give the path alone, without scheme and host")
    try:
        path = quote(base_url.strip("/"), safe="%" + SAFE_IN_PATHS)
    except UnicodeEncodeError:  # Of an environment that is not UTF-8.
        raise InvalidOption("base_url", base_url, "it holds a character that UTF-8 cannot express") from None
    return f"/{path}/" if path else "/"
