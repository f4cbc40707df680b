"""The servers that are compared, and how each is started."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from benchmarks.common import SEND_FROM_DIRECTORY, TILE_BYTES, gunicorn
from benchmarks.processes import FIRST_CORE, free_port, running
from hub import JupyterRelayHub

RANGE_BYTES = 65536

#: The worker that `kdr serve` has; whatever runs under gunicorn has it too, so that only the applications differ.
WORKER = "kdr_wsgi.serving.WatchfulWorker"

#: Of a gunicorn worker, as `kdr serve` has.
THREADS = 16

#: Of a granian worker, as `kdr serve --server granian` has.
GRANIAN_THREADS = 64

APPLICATIONS = f"""{SEND_FROM_DIRECTORY}
def _constant(status, size):
    body = bytes(size)
    has_body = size > 0 or status.startswith("404")
    headers = [("Content-Type", "image/png"), ("Content-Length", str(size))] if has_body else []
    def answer(environ, start_response):
        start_response(status, headers)
        return [body] if body else []
    return answer

tile = _constant("200 OK", {TILE_BYTES})
part = _constant("206 Partial Content", {RANGE_BYTES})
unchanged = _constant("304 Not Modified", 0)
missing = _constant("404 Not Found", 0)
"""

WHITENOISE = """
import os
from whitenoise import WhiteNoise
from bench_applications import missing

whitenoise = WhiteNoise(missing, root=os.environ["BENCH_ROOT"], max_age=0)
"""

STARLETTE = """
import os
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

starlette = Starlette(routes=[Mount("/", StaticFiles(directory=os.environ["BENCH_ROOT"]))])
"""

NGINX = """
daemon off; {master} pid {folder}/nginx.pid; error_log stderr error; worker_processes {workers};
events {{ worker_connections 1024; }}
http {{
  access_log off; log_not_found off; sendfile on; tcp_nopush on; keepalive_requests 100000000;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  types {{ image/png png; }}
  server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""


@dataclass(frozen=True)
class Site:
    """Files that every server gets, and what each needs to be told of them.

    Attributes
    ----------
    folder : Path
        For what the servers need besides.
    root : Path
        The files.
    registry : Path
    path : str
        Below which `kdr-wsgi` has the files.
    """

    folder: Path
    root: Path
    registry: Path
    path: str

    @property
    def environment(self) -> dict[str, str]:
        """What the servers find in theirs."""
        python_path = os.pathsep.join(filter(None, [str(self.folder), os.environ.get("PYTHONPATH")]))
        return {"BENCH_ROOT": str(self.root), "PYTHONPATH": python_path, "KDR_REGISTRY": str(self.registry)}


def make_site(folder: Path, root: Path) -> Site:
    """Register the files below `root`, and write the applications into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench_applications.py").write_text(APPLICATIONS)
    (folder / "bench_whitenoise.py").write_text(WHITENOISE)
    (folder / "bench_starlette.py").write_text(STARLETTE)
    registry = folder / "registry" / "registry.sqlite"
    # Public, since at a TCP port everybody is a stranger.
    path = JupyterRelayHub(registry=registry, base_url="/").serve_tree(root, visibility="public")
    return Site(folder, root, registry, str(path))


def nginx_configuration(folder: Path, port: int, root: Path, workers: int = 1) -> str:
    """Return nginx's configuration; `folder` is for its own files."""
    master = "master_process off;"
    if workers > 1:
        # Root's workers would be nobody's, who may not read the files.
        master = "user root;" if os.geteuid() == 0 else ""
    return NGINX.format(folder=folder, port=port, root=root, workers=workers, master=master)


@dataclass(frozen=True)
class Peer:
    """A server to compare with.

    Attributes
    ----------
    name : str
    command : callable
        Returns how it is started, for a site, a port and a number of workers.
    is_floor : bool
        Whether its answer is constant, whatever it is asked.
    is_kdr : bool
        Whether it has the files where the registry says.
    """

    name: str
    command: Callable[[Site, int, int], list[str]]
    is_floor: bool = False
    is_kdr: bool = False


@dataclass(frozen=True)
class Server:
    """A peer that runs, and the port and the path where it has the files."""

    peer: Peer
    process: subprocess.Popen[bytes]
    port: int
    path: str

    @property
    def url(self) -> str:
        """The address below which it has the files."""
        return f"http://127.0.0.1:{self.port}{self.path}"


def start_peer(
    stack: ExitStack, site: Site, peer: Peer, workers: int = 1, cores: Iterable[int] = (FIRST_CORE,)
) -> Server:
    """Start a server that ends with `stack`.

    Raises
    ------
    StartError
    """
    port = free_port()
    command = peer.command(site, port, workers)
    log = site.folder / f"{port}.log"
    process = stack.enter_context(running(command, port, site.environment, cores, log))
    return Server(peer, process, port, path_at(site, peer))


def path_at(site: Site, peer: Peer) -> str:
    """Return the path below which a peer has the files."""
    return site.path if peer.is_kdr else "/"


@lru_cache(1)
def can_choose_server() -> bool:
    """Whether `kdr serve` knows other servers than gunicorn."""
    command = [sys.executable, "-m", "kdr_wsgi", "serve", "--help"]
    return "--server" in subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _kdr_serve(site: Site, port: int, workers: int) -> list[str]:
    command = [sys.executable, "-m", "kdr_wsgi", "serve", "--registry", str(site.registry)]
    return [*command, "--bind", f"127.0.0.1:{port}", "--workers", str(workers)]


def _kdr_gthread(_: Site, port: int, workers: int) -> list[str]:
    return gunicorn("kdr_wsgi:create_app()", port, THREADS, workers=workers)


def _kdr_granian(site: Site, port: int, workers: int) -> list[str]:
    if can_choose_server():
        return [*_kdr_serve(site, port, workers), "--server", "granian"]
    return [*_granian("kdr_wsgi:create_app", port, workers), "--factory"]


def _granian(application: str, port: int, workers: int) -> list[str]:
    command = [sys.executable, "-m", "granian", "--interface", "wsgi", "--http", "1", "--no-ws"]
    command += ["--log-level", "error", "--workers", str(workers), "--blocking-threads", str(GRANIAN_THREADS)]
    return [*command, "--backpressure", "1000", "--host", "127.0.0.1", "--port", str(port), application]


def _under_gunicorn(application: str, worker: str = WORKER) -> Callable[[Site, int, int], list[str]]:
    return lambda _, port, workers: gunicorn(application, port, THREADS, worker, workers)


def _under_granian(application: str) -> Callable[[Site, int, int], list[str]]:
    return lambda _, port, workers: _granian(application, port, workers)


def _starlette(_: Site, port: int, workers: int) -> list[str]:
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "--log-level",
        "warning",
        "--no-access-log",
        "--timeout-keep-alive",
        "75",
    ]
    return [
        *command,
        "--workers",
        str(workers),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "bench_starlette:starlette",
    ]


def _nginx(site: Site, port: int, workers: int) -> list[str]:
    folder = site.folder / f"nginx-{port}"
    folder.mkdir()
    configuration = folder / "nginx.conf"
    configuration.write_text(nginx_configuration(folder, port, site.root, workers))
    return ["nginx", "-p", str(folder), "-c", str(configuration)]


KDR = Peer("kdr-wsgi, gunicorn", _kdr_serve, is_kdr=True)
KDR_GTHREAD = Peer("kdr-wsgi, gunicorn gthread", _kdr_gthread, is_kdr=True)
KDR_GRANIAN = Peer("kdr-wsgi, granian", _kdr_granian, is_kdr=True)
WHITENOISE_PEER = Peer("whitenoise, gunicorn", _under_gunicorn("bench_whitenoise:whitenoise"))
SEND_PEER = Peer("send_from_directory, gunicorn", _under_gunicorn("bench_applications:flask"))
STARLETTE_PEER = Peer("Starlette, uvicorn", _starlette)
NGINX_PEER = Peer("nginx", _nginx)

#: All that read files.
READERS = (KDR, KDR_GTHREAD, KDR_GRANIAN, WHITENOISE_PEER, SEND_PEER, STARLETTE_PEER, NGINX_PEER)

#: What the floors are called, whatever it is that they answer.
FLOOR = "gunicorn, constant answer"
FLOOR_GTHREAD = "gunicorn gthread, constant answer"
FLOOR_GRANIAN = "granian, constant answer"


@lru_cache
def floors(application: str) -> tuple[Peer, ...]:
    """Return the servers with a constant answer: ``tile``, ``part``, ``unchanged`` or ``missing``."""
    place = f"bench_applications:{application}"
    return (
        Peer(FLOOR, _under_gunicorn(place), is_floor=True),
        Peer(FLOOR_GTHREAD, _under_gunicorn(place, "gthread"), is_floor=True),
        Peer(FLOOR_GRANIAN, _under_granian(place), is_floor=True),
    )


def named(peers: Iterable[Peer], *names: str) -> tuple[Peer, ...]:
    """Return the peers of some names."""
    return tuple(peer for peer in peers if peer.name in names)
