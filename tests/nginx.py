"""A real nginx in front of another server: with TLS and a prefix that it takes off, or set up as the example is."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import free_port, need, wait_for_port

CONFIGURATION = """
daemon off;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {folder}/cert;
        ssl_certificate_key {folder}/key;
        location {prefix}/ {{
            proxy_pass http://127.0.0.1:{upstream}/;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $http_host;
            proxy_set_header X-Forwarded-Prefix {prefix};
        }}
    }}
}}
"""


EXAMPLES = Path(__file__).parents[1] / "examples"
EXAMPLE, EXAMPLE_OF_MANY = EXAMPLES / "nginx.conf", EXAMPLES / "nginx-many.conf"


@dataclass(frozen=True)
class Nginx:
    origin: str
    prefix: str

    def fetch(self, url: str, headers: dict[str, str]) -> bytes:
        """Return what is at an absolute URL."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=30, context=context
        ) as answer:
            return bytes(answer.read())


def make_certificate(folder: Path) -> None:
    """Make ``cert`` and ``key`` in `folder`, which nobody trusts."""
    need("openssl", is_there=shutil.which("openssl") is not None, remedy="apt-get install openssl")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key -out cert -days 1 -subj /CN=localhost"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)


@contextmanager
def nginx(folder: Path, upstream: int, prefix: str) -> Iterator[Nginx]:
    """Run nginx, which lets the server on port `upstream` be seen below `prefix`."""
    make_certificate(folder)
    port = free_port()
    user = "user root;" if os.geteuid() == 0 else ""
    with _running(
        folder, CONFIGURATION.format(folder=folder, port=port, upstream=upstream, prefix=prefix, user=user), port
    ):
        yield Nginx(f"https://127.0.0.1:{port}", prefix)


@contextmanager
def example_nginx(folder: Path, upstream: int, changed: dict[str, str] | None = None) -> Iterator[tuple[str, int]]:
    """Run nginx as ``examples/nginx.conf`` sets it up in front of port `upstream`; yield its address.

    Ports and paths are replaced, and what is `changed` besides.
    """
    servers = {"server 127.0.0.1:8000;": f"server 127.0.0.1:{upstream};"}
    with _as_in(EXAMPLE, folder, {**servers, **(changed or {})}) as address:
        yield address


@contextmanager
def nginx_before_many(folder: Path, upstreams: tuple[int, int]) -> Iterator[tuple[str, int]]:
    """Run nginx as ``examples/nginx-many.conf`` sets it up in front of two ports; yield its address."""
    servers = {f"server 127.0.0.1:{8000 + at} ": f"server 127.0.0.1:{port} " for at, port in enumerate(upstreams)}
    with _as_in(EXAMPLE_OF_MANY, folder, servers) as address:
        yield address


@contextmanager
def _as_in(example: Path, folder: Path, changed: dict[str, str]) -> Iterator[tuple[str, int]]:
    port = free_port()
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = example.read_text()
    for written, replacement in {
        "user www-data;": "daemon off;" + ("user root;" if os.geteuid() == 0 else ""),
        "/run/nginx.pid": f"{folder}/nginx.pid",
        "/var/log/nginx/": f"{folder}/",
        "http {": f"http {{ {temporary}",
        "listen 80;": f"listen 127.0.0.1:{port};",
        **changed,
    }.items():
        assert written in configuration
        configuration = configuration.replace(written, replacement)
    with _running(folder, configuration, port):
        yield ("127.0.0.1", port)


@contextmanager
def _running(folder: Path, configuration: str, port: int) -> Iterator[None]:
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    need("nginx", is_there=program is not None, remedy="apt-get install nginx-light")
    assert program is not None
    (folder / "nginx.conf").write_text(configuration)
    command = [program, "-p", str(folder), "-c", str(folder / "nginx.conf")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port, process)
        yield
    finally:
        process.terminate()
        process.wait(30)
