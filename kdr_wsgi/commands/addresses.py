"""Where a browser finds a registration: which of the servers that run lets it be read."""

from __future__ import annotations

import http.client
import os
import ssl
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from hub.jupyter_servers import running_servers
from hub.locations import Location
from hub.registration import Registration
from hub.servers import find_servers
from kdr_wsgi.commands.common import CommandError, printable
from kdr_wsgi.health import connect

#: A JupyterHub tells it to what it starts: where browsers see this server.
_PUBLIC_URL = "JUPYTERHUB_PUBLIC_URL"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is.

    Attributes
    ----------
    url : str
        With the base URL, and without a slash at its end.
    route : str
        The segment between that and a key.
    is_jupyter : bool
    token : str
        Lets this user in; for asking only, it is never shown.
    """

    url: str
    route: str
    is_jupyter: bool
    token: str


def find_address(registry: Location, registration: Registration, entry: str) -> str:
    """Return the URL at which a browser reads a registration.

    Parameters
    ----------
    registry : Path
    registration : Registration
    entry : str
        A path below its root, quoted.

    Raises
    ------
    CommandError
        No server lets it be read; the sentence says what to start.
    """
    reasons: list[str] = []
    for address in _addresses(registry, reasons):
        status = _ask(address, registration.target)
        if _may_read(address, status):
            if entry and not _may_read(address, _ask(address, registration.target + entry)):
                raise CommandError(f"there is no {printable(unquote(entry))!r} in {printable(registration.key)!r}")
            return f"{_as_browsers_see(address.url)}/{address.route}/{registration.target}{entry}"
        reasons.append(_explain(address, registration, status))
    if not reasons:
        start = "kdr serve" if registration.visibility == "public" else "kdr serve --as-owner"
        raise CommandError(f"no server runs for this registry; start JupyterLab, or in another terminal: {start}")
    raise CommandError("; ".join(reasons))


def find_address_on_hub(url: str) -> str:
    """Return the whole URL of what the hub's shared relay server serves.

    Raises
    ------
    CommandError
        The hub's address is not known.
    """
    if urlsplit(url).netloc:
        return url
    public = urlsplit(os.environ.get(_PUBLIC_URL, ""))
    if not public.netloc:
        raise CommandError(f"the hub's address is not known here ({_PUBLIC_URL}); open there: {url}")
    return f"{public.scheme}://{public.netloc}{url}"


def _addresses(registry: Location, reasons: list[str]) -> Iterator[Address]:
    """Yield where servers are, `kdr serve` first, which asks for no login; tell of those that no browser reaches."""
    jupyter_servers = {server.process: server for server in running_servers()}
    for server in sorted(find_servers(registry), key=lambda server: server.program == "jupyter"):
        url, token, is_jupyter = server.url, "", server.program == "jupyter"
        if is_jupyter:
            jupyter = jupyter_servers.get(server.process) if server.is_here else None
            if jupyter is None:
                host = server.place.partition("/")[0]
                reasons.append(f"the Jupyter server on {host} (base URL {server.url}) cannot be asked from here")
                continue
            url, token = jupyter.url, jupyter.token
        if urlsplit(url).scheme not in ("http", "https"):
            reasons.append(f"{url} is a socket, which browsers do not open; start kdr serve with --bind HOST:PORT")
            continue
        yield Address(url.rstrip("/"), server.route, is_jupyter, token)


def _may_read(address: Address, status: int | str) -> bool:
    """Whether a browser reads what a server answers so for; one without a login is asked for it by Jupyter."""
    if isinstance(status, str):
        return False
    return status < http.client.BAD_REQUEST or (address.is_jupyter and status == http.client.FORBIDDEN)


def _ask(address: Address, target: str) -> int | str:
    """Return with what status the server answers for `target`, or why it does not."""
    headers = {"Authorization": f"token {address.token}"} if address.token else {}
    try:
        connection, base_url = connect(address.url)
        with closing(connection):
            connection.request("HEAD", f"{base_url}/{address.route}/{target}", headers=headers)
            return connection.getresponse().status
    except ssl.SSLCertVerificationError:
        return http.client.OK  # The browser has its own view of that.
    except (OSError, ValueError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__


def _explain(address: Address, registration: Registration, status: int | str) -> str:
    where = f"the server at {address.url}"
    if isinstance(status, str):
        return f"{where} does not answer ({status}); kdr doctor tells more"
    if status == http.client.NOT_FOUND and not address.is_jupyter and registration.visibility != "public":
        return f"{where} serves only what is public; start kdr serve --as-owner, or publish with --visibility public"
    if status == http.client.GONE:
        return f"{printable(registration.key)!r} has changed since it was published; publish it again"
    return f"{where} answers with status {status}; kdr doctor tells more"


def _as_browsers_see(url: str) -> str:
    """Return a URL of this machine as a browser takes it: of all addresses this machine's own, and through a hub."""
    public = urlsplit(os.environ.get(_PUBLIC_URL, ""))
    parts = urlsplit(url)
    if public.netloc and public.path.rstrip("/") == parts.path:
        return f"{public.scheme}://{public.netloc}{parts.path}"
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(parts.hostname or "")  # noqa: S104  # nothing binds to it
    return parts._replace(netloc=f"{host}:{parts.port}").geturl() if host else url
