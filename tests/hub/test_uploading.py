"""Uploads that are interrupted while the service takes nothing."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import hub.service
from hub import JupyterRelayHub, UnusablePath
from tests.conftest import INTERRUPTIBLE


class Stalling(ThreadingHTTPServer):
    """A service that lacks every file, and reads none."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.is_sent_to = threading.Event()
        self.may_end = threading.Event()


class _Handler(BaseHTTPRequestHandler):
    server: Stalling

    def do_POST(self) -> None:
        told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = json.dumps({"missing": told["hashes"]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def do_PUT(self) -> None:
        self.server.is_sent_to.set()
        self.server.may_end.wait(60)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def service() -> Iterator[Stalling]:
    with Stalling() as service:
        threading.Thread(target=service.serve_forever, daemon=True).start()
        yield service
        service.may_end.set()
        service.shutdown()


def test_ctrl_c_waits_for_no_service_that_takes_nothing(service: Stalling, tmp_path: Path) -> None:
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(64 << 20))
    environment = {
        **os.environ,
        "JUPYTERHUB_API_TOKEN": "a-token",
        "KDR_REGISTRY": str(tmp_path / "registry.sqlite"),
        "KDR_SERVICE_URL": f"http://127.0.0.1:{service.server_port}/services/kdr/",
    }
    kdr = f"{INTERRUPTIBLE}; import sys; from kdr_wsgi.__main__ import main; sys.exit(main())"
    command = [sys.executable, "-c", kdr, "publish", "--upload", str(path)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        assert service.is_sent_to.wait(60)
        time.sleep(1)  # The system takes a part of it, and no more then.
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
    finally:
        process.kill()
        process.wait()


def test_a_disk_that_fails_is_told_of(service: Stalling, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.bin").write_bytes(b"x")
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "a-token")
    monkeypatch.setenv("KDR_REGISTRY", str(tmp_path / "registry.sqlite"))

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(hub.service, "see", fail)
    with pytest.raises(UnusablePath, match="Input/output error"):
        JupyterRelayHub(service=f"http://127.0.0.1:{service.server_port}/services/kdr/").serve_file(tmp_path / "x.bin")
