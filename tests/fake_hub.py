"""What a service asks of a JupyterHub, without one; and services that ask it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from flask.testing import FlaskClient

from hub.registration import Registration
from hub.registry import Registry
from kdr_wsgi import create_app
from tests.conftest import free_port, wait_for_port
from tests.jupyter import wait_until
from tests.raw_http import Answer, fetch

PREFIX = "/services/kdr/"
ACCESS = "access:services!service=kdr"

#: By their tokens: names and scopes.
USERS = {
    "token-of-ada": ("ada", [ACCESS]),
    "token-of-root": ("root", [ACCESS, "read:metrics"]),
}
#: Of this one the hub cannot tell.
UNANSWERED = "token-without-an-answer"

AS_ADA, AS_ROOT = ({"Authorization": f"token token-of-{name}"} for name in ("ada", "root"))
AS_ADA_IN_A_BROWSER, AS_ROOT_IN_A_BROWSER = ({"Cookie": f"service-kdr=token-of-{name}"} for name in ("ada", "root"))


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        token = self.headers.get("Authorization", "").partition(" ")[2]
        known = USERS.get(token)
        told = {} if known is None else {"kind": "user", "name": known[0], "groups": [], "scopes": known[1]}
        body = json.dumps(told).encode()
        self.send_response(503 if token == UNANSWERED else 403 if known is None else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Be silent."""


@contextmanager
def fake_hub(folder: Path) -> Iterator[dict[str, str]]:
    """Run a hub that knows `USERS`; yield the environment of its service."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            (folder / "homes").mkdir()
            yield {
                "JUPYTERHUB_SERVICE_NAME": "kdr",
                "JUPYTERHUB_SERVICE_PREFIX": PREFIX,
                "JUPYTERHUB_API_TOKEN": "token-of-the-service",
                "JUPYTERHUB_API_URL": f"http://127.0.0.1:{server.server_port}/hub/api",
                "KDR_REGISTRY": str(folder / "service" / "registry.sqlite"),
                "KDR_ROOTS": f"{folder}/homes/{{username}}",
            }
        finally:
            server.shutdown()
            thread.join()


def publish(environment: dict[str, str], owner: str, key: str, root: str) -> None:
    """Register a folder of a user's home, for everybody to read."""
    folder = environment["KDR_ROOTS"].format(username=owner) + root
    registry = Registry(Path(environment["KDR_REGISTRY"]))
    registry.claim(Registration(key, "tree", folder.encode(), owner=owner, visibility="public"))
    registry.close()


@contextmanager
def service_client() -> Iterator[FlaskClient]:
    """Make a service in this process, by its environment."""
    app = create_app()
    with app.test_client(use_cookies=False) as client:
        yield client
    app.extensions["kdr"].close()


@dataclass
class LiveService:
    """A gunicorn that runs as a service, with our configuration."""

    address: tuple[str, int]
    process: subprocess.Popen[bytes]
    folder: Path
    log: Path
    temporary: Path = field(init=False)

    def __post_init__(self) -> None:
        self.temporary = self.folder / "tmp"

    @property
    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(child) for child in children.split()]

    def get(self, target: str, headers: dict[str, str] | None = None) -> Answer:
        return fetch(self.address, f"{PREFIX}wwtkdr/{target}", headers)

    def wait_for_log(self, is_there: Callable[[str], bool]) -> str:
        wait_until(lambda: is_there(self.log.read_text()), "nothing of the kind is logged")
        return self.log.read_text()


@contextmanager
def live_service(
    folder: Path, environment: dict[str, str], *options: str, wrapper: Sequence[str] = ()
) -> Iterator[LiveService]:
    """Run gunicorn as the hub would."""
    port, log = free_port(), folder / "log"
    (folder / "tmp").mkdir()
    command = [sys.executable, "-m", "gunicorn", "-c", "python:kdr_wsgi.gunicorn_conf", "-b", f"127.0.0.1:{port}"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*wrapper, *command, *options, "kdr_wsgi:create_app()"],
            env={**os.environ, "TMPDIR": str(folder / "tmp"), **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for_port(port, process)
        yield LiveService(("127.0.0.1", port), process, folder, log)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
