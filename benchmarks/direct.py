"""How fast are tiles, revalidations and ranges, asked of the server directly.

One gunicorn worker on the first core, wrk on the last; every server takes its
turn in every round, so that a noisy machine is noisy for all. Run it as
``python -m benchmarks.direct``; it needs ``wrk`` and ``nginx``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import (
    SEND_FROM_DIRECTORY,
    TILES_LUA,
    Sample,
    ask_with_wrk,
    free_port,
    gunicorn,
    make_big,
    make_tiles,
    need,
    running,
    write_figures,
)
from hub import JupyterRelayHub

BIG_BYTES = 1 << 30

PEERS = f"""{SEND_FROM_DIRECTORY}
from whitenoise import WhiteNoise

body = bytes(20 * 1024)
def constant(environ, start_response):
    start_response("200 OK", [("Content-Type", "image/png"), ("Content-Length", str(len(body)))])
    return [body]

def missing(environ, start_response):
    start_response("404 Not Found", [("Content-Length", "0")])
    return []
whitenoise = WhiteNoise(missing, root=ROOT, max_age=0)
"""

NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr error; worker_processes 1;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  types {{ image/png png; }}
  server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""

LUA = {
    "tiles": TILES_LUA,
    "304s": """wrk.headers["If-None-Match"] = @ETAG
request = function()
  return wrk.format("GET", wrk.path .. "tiles/0.png")
end""",
    "ranges": """request = function()
  local first = math.random(0, @BIG / 65536 - 1) * 65536
  wrk.headers["Range"] = "bytes=" .. string.format("%d-%d", first, first + 65535)
  return wrk.format("GET", wrk.path .. "big.bin")
end""",
}


@dataclass
class Server:
    """A server under test and the URL below which it has the files."""

    name: str
    url: str


def start_servers(stack: ExitStack, folder: Path, root: Path, threads: int) -> list[Server]:
    """Start every server and return them, the floor first."""
    (folder / "bench_peers.py").write_text(PEERS)
    registry = folder / "registry" / "registry.sqlite"
    path = JupyterRelayHub(registry=registry, base_url="/").serve_tree(root, visibility="public")
    environment = {"BENCH_ROOT": str(root), "PYTHONPATH": str(folder), "KDR_REGISTRY": str(registry)}
    servers = []
    for name, application, below in (
        ("gunicorn, constant body", "bench_peers:constant", "/"),
        ("kdr-wsgi", "kdr_wsgi:create_app()", str(path)),
        ("send_from_directory", "bench_peers:flask", "/"),
        ("whitenoise", "bench_peers:whitenoise", "/"),
    ):
        port = free_port()
        stack.enter_context(running(gunicorn(application, port, threads), port, environment))
        servers.append(Server(name, f"http://127.0.0.1:{port}{below}"))
    port = free_port()
    configuration = folder / "nginx.conf"
    configuration.write_text(NGINX.format(folder=folder, port=port, root=root))
    stack.enter_context(running(["nginx", "-p", str(folder), "-c", str(configuration)], port, {}))
    servers.append(Server("nginx", f"http://127.0.0.1:{port}/"))
    return servers


def measure(server: Server, question: str, folder: Path, seconds: int, connections: int) -> Sample:
    """Let wrk ask `question` for some seconds."""
    with urllib.request.urlopen(f"{server.url}tiles/0.png") as answer:
        etag = answer.headers.get("ETag", '"none"')
    lua = LUA[question].replace("@BIG", str(BIG_BYTES)).replace("@ETAG", json.dumps(etag))
    return ask_with_wrk(server.url, lua, folder, seconds, connections)


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="of each measurement")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--threads", type=int, default=16, help="of the gunicorn worker; default: as kdr serve has")
    parser.add_argument("--question", action="append", choices=sorted(LUA), help="default: all")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    need("wrk", "nginx", "taskset")

    figures: dict[str, dict[str, list[Sample]]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        root = folder / "root"
        make_tiles(root)
        make_big(root / "big.bin", BIG_BYTES)
        servers = start_servers(stack, folder, root, options.threads)
        for question in options.question or LUA:
            figures[question] = {server.name: [] for server in servers}
            for _ in range(options.rounds):
                for server in servers:
                    figures[question][server.name].append(
                        measure(server, question, folder, options.seconds, options.connections)
                    )

    report = {}
    for question, samples in figures.items():
        medians = {name: statistics.median(s.per_second for s in taken) for name, taken in samples.items()}
        p99s = {name: statistics.median(s.p99_ms or 0 for s in taken) for name, taken in samples.items()}
        failures = {name: sum(s.failed for s in taken) for name, taken in samples.items()}
        report[question] = {
            name: {"per_second": medians[name], "p99_ms": p99s[name], "failed": failures[name]} for name in medians
        }
        print(f"\n{question}: {options.connections} connections, medians of {options.rounds} x {options.seconds} s")
        print(f"{'':26}{'requests/s':>12}{'p99 ms':>10}{'of the floor':>14}{'x Flask':>10}{'failed':>8}")
        for name, per_second in medians.items():
            floor = per_second / medians["gunicorn, constant body"]
            flask = per_second / medians["send_from_directory"]
            print(f"{name:26}{per_second:12,.0f}{p99s[name]:10.2f}{floor:14.2f}{flask:10.2f}{failures[name]:8}")
    if options.json:
        write_figures(options.json, report)


if __name__ == "__main__":
    main()
