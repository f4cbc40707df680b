"""A real Jupyter server, and real kernels that are driven as its pages do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import websocket

from tests.conftest import free_port, need
from tests.raw_http import Answer, fetch

#: Arguments for JupyterLab: it asks nothing. (For the old kind of extension that pywwt has it wants to be built anew.)
QUIET_LAB = (
    "--LabApp.news_url=None",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    "--ServerApp.tornado_settings={'page_config_data': {'buildCheck': False}}",
)

TOKEN = "the-token-of-the-test"
WITH_TOKEN = {"Authorization": f"token {TOKEN}"}

ENABLED = Path(sys.prefix, "etc", "jupyter", "jupyter_server_config.d", "kdr_wsgi.json")


@dataclass
class JupyterServer:
    """A Jupyter server that runs."""

    process: subprocess.Popen[bytes]
    port: int
    base_url: str
    folder: Path
    environment: dict[str, str]
    log: Path
    token: str = TOKEN

    @property
    def with_token(self) -> dict[str, str]:
        return {"Authorization": f"token {self.token}"}

    @property
    def address(self) -> tuple[str, int]:
        return ("127.0.0.1", self.port)

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def registry(self) -> Path:
        return self.folder / "runtime" / "kdr" / "registry.sqlite"

    @property
    def temporary(self) -> Path:
        """Where the server makes its temporary files."""
        return Path(self.environment["TMPDIR"])

    def fetch(self, target: str, headers: dict[str, str] | None = None, method: str = "GET") -> Answer:
        """Ask with the token, and a host that the server takes as its own."""
        return self.fetch_plain(target, {**self.with_token, **(headers or {})}, method)

    def fetch_plain(self, target: str, headers: dict[str, str] | None = None, method: str = "GET") -> Answer:
        """Ask without a login."""
        return fetch(self.address, target, {"Host": f"127.0.0.1:{self.port}", **(headers or {})}, method)

    def log_in(self) -> str:
        """Return the cookies that a browser gets by the link with the token."""
        answer = self.fetch_plain(f"{self.base_url}api/status?token={TOKEN}")
        return "; ".join(value.partition(";")[0] for name, value in answer.headers if name == "Set-Cookie")

    def relay_processes(self) -> list[int]:
        """Return the processes of the relay server, the first of them first."""
        found = []
        for line in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                command = line.read_bytes().split(b"\0")
                environment = (line.parent / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"kdr_wsgi.jupyter.server" in command and f"KDR_REGISTRY={self.registry}".encode() in environment:
                found.append(int(line.parent.name))
        return sorted(found)

    @contextmanager
    def kernel(self) -> Iterator[Kernel]:
        """Run a kernel."""
        model = self._rest("POST", "api/kernels", {"name": "python3"})
        kernel = Kernel(self, model["id"])
        try:
            yield kernel
        finally:
            kernel.close()
            if self.process.poll() is None:
                self._rest("DELETE", f"api/kernels/{kernel.name}")

    def _rest(self, method: str, path: str, body: object = None) -> Any:
        request = urllib.request.Request(
            f"{self.origin}{self.base_url}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers=self.with_token,
            method=method,
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None


@dataclass
class Kernel:
    """A kernel of a Jupyter server, over its websocket."""

    server: JupyterServer
    name: str
    _socket: websocket.WebSocket | None = field(default=None, repr=False)

    def start(self, code: str) -> str:
        """Let the kernel execute `code`; return the request's number at once."""
        if self._socket is None:
            url = f"ws://127.0.0.1:{self.server.port}{self.server.base_url}api/kernels/{self.name}/channels"
            self._socket = websocket.create_connection(url, timeout=60, header=self.server.with_token)
        number = uuid.uuid4().hex
        header = {
            "msg_id": number,
            "msg_type": "execute_request",
            "session": uuid.uuid4().hex,
            "username": "",
            "version": "5.3",
            "date": "",
        }
        content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False, "stop_on_error": True}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        self._socket.send(json.dumps(message))
        return number

    def wait(self, number: str) -> str:
        """Return what a request has printed, once it is done; fail on an error."""
        printed = ""
        assert self._socket is not None
        while True:
            message = json.loads(self._socket.recv())
            if message["parent_header"].get("msg_id") != number:
                continue
            content = message["content"]
            if message["msg_type"] == "stream":
                printed += content["text"]
            elif message["msg_type"] == "error":
                raise AssertionError("\n".join(content["traceback"]))
            elif message["msg_type"] == "status" and content["execution_state"] == "idle":
                return printed

    def run(self, code: str) -> str:
        """Execute `code` and return what it prints."""
        return self.wait(self.start(code))

    def restart(self) -> None:
        """Restart the kernel as the button does."""
        self.close()
        self.server._rest("POST", f"api/kernels/{self.name}/restart")

    def process(self) -> int:
        """Return the kernel's process number."""
        return int(self.run("import os; print(os.getpid())"))

    def publish(self, path: Path, **options: object) -> str:
        """Let the kernel publish a tree; return the partial URL."""
        code = f"import hub; print(hub.get_relay_hub().serve_tree({str(path)!r}, **{options!r}))"
        return self.run(code).strip()

    def close(self) -> None:
        """Close the websocket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


@contextmanager
def jupyter_server(
    folder: Path, *arguments: str, base_url: str = "/", application: str = "server"
) -> Iterator[JupyterServer]:
    """Run a Jupyter server as a person starts it, with a home of its own."""
    need(
        "jupyter",
        is_there=ENABLED.exists(),
        remedy="pip install '.[jupyter]' (an editable install enables no extension)",
    )
    port = free_port()
    home = folder / "home"
    temporary = folder / "tmp"
    for made in (home, temporary):
        made.mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "JPY_", "KDR_"))}
    environment = {
        **kept,
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTER_PLATFORM_DIRS": "1",
        "PYTHONWARNINGS": "ignore",
    }
    command = [
        *(sys.executable, "-m", "jupyter", application, "--allow-root", "--no-browser"),
        *(f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--ServerApp.base_url={base_url}"),
        *(f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={home}", *arguments),
    ]
    log = folder / "jupyter.log"
    with open(log, "wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, cwd=home)
    server = JupyterServer(process, port, base_url, folder, environment, log)
    try:
        wait_until(lambda: _answers(server), f"the Jupyter server does not start; see {log}", seconds=90)
        yield server
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(30)


def wait_until(is_true: Any, otherwise: str, seconds: float = 30) -> None:
    """Wait until `is_true()`."""
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.05)


def _answers(server: JupyterServer) -> bool:
    assert server.process.poll() is None, server.log.read_text()
    try:
        return server.fetch(f"{server.base_url}api/status").status == 200
    except OSError:
        return False
