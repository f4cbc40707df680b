"""A real JupyterHub with its proxy, and a browser that logs in there."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from html import unescape
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode, urljoin

import pytest

from hub import JupyterRelayHub
from tests.conftest import free_port, need
from tests.jupyter import ENABLED, JupyterServer, wait_until
from tests.nginx import make_certificate
from tests.raw_http import Answer, fetch

#: Those of the example; root is an administrator.
USERS = ("ada", "bob", "eve", "root")


@dataclass(frozen=True)
class Page:
    status: int
    url: str
    body: bytes


class Browser:
    """Follows redirects, keeps cookies and submits forms."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._jar = CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self._jar))

    def open(self, target: str, form: list[tuple[str, str]] | None = None) -> Page:
        """Return where an address leads at last."""
        request = urllib.request.Request(
            urljoin(self._origin, target),
            data=None if form is None else urlencode(form).encode(),
            headers={"Accept": "text/html,*/*;q=0.8"},
        )
        try:
            with self._opener.open(request, timeout=30) as answer:
                return Page(answer.status, answer.url, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Page(error.code, error.url, error.read())

    def submit(self, page: Page, **filled_in: str) -> Page:
        """Submit the form of a page; return where that leads."""
        (form,) = re.findall(r"<form.*?</form>", page.body.decode(), re.DOTALL)
        (action,) = re.findall(r'^<form[^>]*\saction="([^"]*)"', form)
        hidden = re.findall(r'<input\s+type="hidden"\s+name="([^"]+)"\s+value="([^"]*)"', form)
        fields = [(name, unescape(value)) for name, value in hidden]
        return self.open(urljoin(page.url, unescape(action)), [*fields, *filled_in.items()])

    def log_in(self, name: str, target: str) -> Page:
        """Open an address that asks for a login, and log in; return where that leads."""
        page = self.open(target)
        assert "/hub/login?" in page.url
        return self.submit(page, username=name, password="anything")

    def cookies(self, target: str) -> dict[str, str]:
        """Return the header with the cookies that the browser sends to an address."""
        request = urllib.request.Request(urljoin(self._origin, target))
        self._jar.add_cookie_header(request)
        return {"Cookie": str(request.get_header("Cookie"))}


def find_proxy() -> str:
    """Return the path of JupyterHub's proxy."""
    proxy = shutil.which("configurable-http-proxy") or os.environ.get("KDR_TEST_CHP") or ""
    need("configurable-http-proxy", is_there=bool(proxy), remedy="npm install -g configurable-http-proxy")
    return proxy


def processes_of(temporary: Path) -> list[int]:
    """Return the processes with a temporary folder of their own; the hub starts each in its own session and group."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"TMPDIR={temporary}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


class HubProcess(NamedTuple):
    """A JupyterHub that starts, or runs."""

    process: subprocess.Popen[bytes]
    environment: dict[str, str]
    log: Path


@contextmanager
def hub_process(folder: Path, *arguments: str) -> Iterator[HubProcess]:
    """Run JupyterHub in a folder, where it keeps its database and its secret; it ends with all that it has started."""
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "JPY_", "KDR_"))}
    environment = {**kept, "TMPDIR": str(temporary), "PYTHONWARNINGS": "ignore"}
    log = folder / "jupyterhub.log"
    command = [sys.executable, "-m", "jupyterhub", *arguments]
    with open(log, "wb") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
    try:
        yield HubProcess(process, environment, log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
            wait_until(lambda: not processes_of(temporary), f"what the hub has started goes on; see {log}", 10)
        finally:
            for number in processes_of(temporary):
                with suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)


#: The configuration that is documented, with what a test must have otherwise.
CONFIGURATION = """
load_subconfig({example!r})
c = get_config()
c.JupyterHub.bind_url = {public!r}
c.JupyterHub.hub_port = {hub_port}
c.ConfigurableHTTPProxy.command = {proxy!r}
c.ConfigurableHTTPProxy.api_url = {proxy_api!r}
c.JupyterHub.api_tokens = {tokens!r}
c.Spawner.args = ["--allow-root"]
(service,) = c.JupyterHub.services
service["url"] = "http://127.0.0.1:{service_port}"
service["environment"] |= {environment!r}
c.Spawner.environment = {{"KDR_SERVICE_URL": service["url"] + "/services/kdr/", **{given!r}}}
{more}
"""

EXAMPLE = Path(__file__).parents[1] / "examples" / "jupyterhub_config.py"


@dataclass
class SharedHub:
    """A JupyterHub with the relay server as its service."""

    process: subprocess.Popen[bytes]
    port: int
    service_port: int
    folder: Path
    environment: dict[str, str]
    log: Path
    tokens: dict[str, str]
    scheme: str
    host: str

    @property
    def origin(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def service_url(self) -> str:
        return f"http://127.0.0.1:{self.service_port}/services/kdr/"

    def home(self, user: str) -> Path:
        return self.folder / "homes" / user

    def fetch(self, url: str, user: str = "", headers: dict[str, str] | None = None, method: str = "GET") -> Answer:
        """Ask for a URL through the proxy, with the token of a user if one is named."""
        login = {"Authorization": f"token {self.tokens[user]}"} if user else {}
        told = {"Host": self.host, **login, **(headers or {})}
        return fetch(("127.0.0.1", self.port), url, told, method)

    def ask(self, method: str, path: str, user: str = "", body: object = None, token: str = "") -> tuple[int, Any]:
        """Ask the hub's own API."""
        return self._ask(f"{self.origin}/hub/api/{path}", method, token or self.tokens[user], body)

    def ask_service(
        self, method: str, path: str, user: str = "", body: object = None, token: str = ""
    ) -> tuple[int, Any]:
        """Ask the service's API, as a kernel does."""
        url = f"http://127.0.0.1:{self.service_port}/services/kdr/wwtkdr/_api/{path}"
        return self._ask(url, method, token or self.tokens.get(user, ""), body)

    def _ask(self, url: str, method: str, token: str, body: object) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"token {token}"} if token else {}
        request = urllib.request.Request(url, data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60, context=trusting()) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            with error:
                text = error.read()
                return error.code, json.loads(text) if text.startswith(b"{") else text
        except OSError:
            return 0, None

    def start_server(self, user: str) -> JupyterServer:
        """Start a user's own Jupyter server, and return it as it is reached through the proxy."""
        base_url = f"/user/{user}/"
        token = self.tokens[user]
        server = JupyterServer(self.process, self.port, base_url, self.home(user), self.environment, self.log, token)
        assert self.ask("POST", f"users/{user}/server", user)[0] in (201, 202)
        wait_until(
            lambda: server.fetch(f"{base_url}api").status == 200, f"the server does not start; see {self.log}", 120
        )
        return server

    def relay_hub(self, user: str, monkeypatch: pytest.MonkeyPatch, **options: Any) -> JupyterRelayHub:
        """Return a hub that registers with the service as that of a kernel of a user's does."""
        monkeypatch.setenv("JUPYTERHUB_API_TOKEN", self.tokens[user])
        registry = self.folder / f"registry-of-{user}" / "registry.sqlite"
        monkeypatch.setenv("KDR_REGISTRY", str(registry))
        return JupyterRelayHub(service=self.service_url, key_prefix="", **options)

    def workers(self) -> list[int]:
        """Return the processes of the service."""
        return [number for number in processes_of(self.folder / "tmp") if b"gunicorn" in command_of(number)]


def trusting() -> ssl.SSLContext:
    """Return what takes any certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def is_there(hub: SharedHub) -> bool:
    """Whether the service is reached through the proxy."""
    assert hub.process.poll() is None, hub.log.read_text()
    request = urllib.request.Request(f"{hub.origin}/services/kdr/wwtkdr/_probe", headers={"Host": hub.host})
    with suppress(OSError), urllib.request.urlopen(request, timeout=30, context=trusting()) as answer:
        return b"kdr-wsgi" in answer.read()
    return False


def command_of(number: int) -> bytes:
    """Return the command line of a process."""
    with suppress(OSError):
        return Path(f"/proc/{number}/cmdline").read_bytes()
    return b""


@contextmanager
def shared_hub(
    folder: Path, *, environment: dict[str, str] | None = None, more: str = "", domain: str = ""
) -> Iterator[SharedHub]:
    """Run a hub with the configuration of the example; it ends with all that it has started.

    With a `domain` each user and service has a host of its own below it, with TLS.
    """
    proxy = find_proxy()
    need(
        "jupyter",
        is_there=ENABLED.exists(),
        remedy="pip install '.[jupyter]' (an editable install enables no extension)",
    )
    temporary = folder / "tmp"
    for made in (temporary, folder / "homes", folder / "shared", *(folder / "homes" / user for user in USERS)):
        made.mkdir(exist_ok=True)
    given = {"TMPDIR": str(temporary), "PYTHONWARNINGS": "ignore"}
    tokens = {user: f"the-token-of-{user}" for user in USERS}
    port, service_port = free_port(), free_port()
    scheme = "http"
    if domain:
        scheme = "https"
        make_certificate(folder)
        more += f"""
c.JupyterHub.subdomain_host = "https://{domain}:{port}"
c.JupyterHub.ssl_cert, c.JupyterHub.ssl_key = "{folder}/cert", "{folder}/key"
"""
    (folder / "jupyterhub_config.py").write_text(
        CONFIGURATION.format(
            example=str(EXAMPLE),
            public=f"{scheme}://127.0.0.1:{port}",
            hub_port=free_port(),
            proxy=[proxy],
            proxy_api=f"http://127.0.0.1:{free_port()}",
            tokens={token: user for user, token in tokens.items()},
            service_port=service_port,
            environment={**given, **(environment or {})},
            given=given,
            more=more,
        )
    )
    host = f"kdr--service.{domain}:{port}" if domain else f"127.0.0.1:{port}"
    with hub_process(folder) as (process, surroundings, log):
        hub = SharedHub(process, port, service_port, folder, surroundings, log, tokens, scheme, host)
        wait_until(lambda: hub.ask("GET", "user", "ada")[0] == 200, f"the hub does not start; see {log}", 120)
        wait_until(lambda: is_there(hub), f"the service does not start; see {log}", 120)
        yield hub
