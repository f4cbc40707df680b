"""What a JupyterHub's shared relay server delivers, and how many users it bears.

The question ``tiles`` starts a real JupyterHub with its proxy, and asks through
it, in turn in every round, for the tiles of one user: at the shared service,
with the user's token or of what is public; at the user's own Jupyter server,
with its relay; and at nginx, the floor. The service is also asked without the
proxy. Two cores are enough: ``split`` gives the first to the proxy and the hub
(without the proxy, to the service), and the last to what stands behind it and
to the client; ``free`` binds the client alone.

The question ``users`` lets very many users register and read, at the service
itself. There a small program answers for the hub, since a real one takes long
to make so many users; a real one also takes longer to answer, which it is asked
to do once per user, worker and minute. All users publish the same folders, each
under keys of their own.

Run it as ``python -m benchmarks.service``; it needs ``wrk``, ``nginx`` and
``configurable-http-proxy``, which ``KDR_TEST_CHP`` can name.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from http.client import HTTPConnection, HTTPException
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.common import (
    TILES_LUA,
    Sample,
    ask_with_wrk,
    gunicorn,
    make_tiles,
    median,
    need,
    shown,
    write_figures,
)
from benchmarks.jupyter import CONNECTIONS, THREADS
from benchmarks.peers import nginx_configuration
from benchmarks.processes import ALL_CORES, FIRST_CORE, LAST_CORE, PATIENCE_SECONDS, free_port, pin, running
from hub import JupyterRelayHub, ServiceError
from tests.jupyterhub import SharedHub, command_of, find_proxy, processes_of, shared_hub

FLOOR = "nginx"
OWN = "own server"

#: The user whose tiles are asked for; one of the example's.
USER = "ada"

#: What the hub's configuration has besides: nginx is a service too, which the hub does not start itself.
FLOOR_SERVICE = 'c.JupyterHub.services.append({{"name": "floor", "url": "http://127.0.0.1:{port}"}})'

#: What a kernel executes to publish the files through its own Jupyter server; it prints the URL.
PUBLISH_AT_OWN = "import hub; print(hub.JupyterRelayHub(service='').serve_tree({root!r}))"


@dataclass(frozen=True)
class Layout:
    """The cores that processes may use.

    Attributes
    ----------
    front : frozenset of int
        Of the proxy and the hub; without the proxy, of the service.
    behind : frozenset of int
        Of what stands behind the proxy.
    """

    front: frozenset[int]
    behind: frozenset[int]


LAYOUTS = {
    "split": Layout(front=frozenset({FIRST_CORE}), behind=frozenset({LAST_CORE})),
    "free": Layout(front=frozenset(ALL_CORES), behind=frozenset(ALL_CORES)),
}

#: For gunicorn: what answers for the hub. Whose a token is stands in the token.
HUB = """
import json

def hub(environ, start_response):
    _, is_known, name = environ.get("HTTP_AUTHORIZATION", "").partition("-of-")
    is_known = is_known and environ["PATH_INFO"] == "/hub/api/user"
    scopes = ["access:services!service=kdr"]
    told = {"kind": "user", "name": name, "admin": False, "groups": [], "scopes": scopes} if is_known else {}
    body = json.dumps(told).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    start_response("200 OK" if is_known else "403 Forbidden", headers)
    return [body]
"""

PREFIX = "/services/kdr/"

#: The file in each folder that is registered.
NAME = "0.png"
NAME_BYTES = 1000

#: How often a user reads after the first time.
AGAIN = 10


@dataclass
class Peer:
    """A way to the tiles: the URL below which they are, and what a request sends."""

    name: str
    url: str
    headers: dict[str, str]
    is_behind_proxy: bool = True

    def check(self, tile: bytes) -> None:
        """Raise RuntimeError unless it sends the right bytes."""
        request = urllib.request.Request(f"{self.url}tiles/0.png", headers=self.headers)
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            if (answer.status, answer.read()) != (200, tile):
                raise RuntimeError(f"{self.name} sends something else: status {answer.status}")


@dataclass
class Site:
    """The JupyterHub that runs, nginx, and the ways to the tiles."""

    hub: SharedHub
    nginx: int
    root: Path
    peers: list[Peer]

    def pin(self, layout: Layout, *, is_behind_proxy: bool) -> None:
        """Put all processes on their cores."""
        started = processes_of(self.hub.folder / "tmp")
        proxy = {number for number in started if b"configurable-http-proxy" in command_of(number)}
        front = {self.hub.process.pid, *proxy}
        if not is_behind_proxy:
            front.update(self.hub.workers())
        pin(front, layout.front)
        pin({self.nginx, *started} - front, layout.behind)

    def measure(self, peer: Peer, layout: Layout, seconds: int, connections: int) -> Sample:
        """Let wrk ask for tiles for some seconds."""
        self.pin(layout, is_behind_proxy=peer.is_behind_proxy)
        peer.check((self.root / "tiles" / "0.png").read_bytes())
        headers = [f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in peer.headers.items()]
        return ask_with_wrk(peer.url, "\n".join([*headers, TILES_LUA]), self.hub.folder, seconds, connections)


def start_site(stack: ExitStack, folder: Path) -> Site:
    """Start the hub, its proxy, its services and the user's server, and publish the tiles."""
    root = folder / "homes" / USER / "bench"
    make_tiles(root)
    # The hub asks whether what it calls services answers.
    (root / "index.html").touch()
    # The proxy passes the whole path on.
    below = folder / "nginx" / "services" / "floor"
    below.parent.mkdir(parents=True)
    below.symlink_to(root)
    port = free_port()
    configuration = folder / "nginx.conf"
    configuration.write_text(nginx_configuration(folder, port, folder / "nginx"))
    nginx = stack.enter_context(running(["nginx", "-p", str(folder), "-c", str(configuration)], port, {}))
    hub = stack.enter_context(shared_hub(folder, more=FLOOR_SERVICE.format(port=port)))
    kernel = stack.enter_context(hub.start_server(USER).kernel())
    private = kernel.publish(root)
    public = kernel.publish(root, key="public", visibility="public")
    own = kernel.run(PUBLISH_AT_OWN.format(root=str(root))).strip()
    token = {"Authorization": f"token {hub.tokens[USER]}"}
    peers = [
        Peer(FLOOR, f"{hub.origin}/services/floor/", {}),
        Peer(OWN, f"{hub.origin}{own}", token),
        Peer("service, private", f"{hub.origin}{private}", token),
        Peer("service, public", f"{hub.origin}{public}", {}),
        Peer("service, no proxy", f"http://127.0.0.1:{hub.service_port}{private}", token, is_behind_proxy=False),
    ]
    return Site(hub, nginx.pid, root, peers)


def ask_for_tiles(rounds: int, seconds: int, layout: Layout) -> dict[int, dict[str, list[Sample]]]:
    """Measure every way to the tiles; return the samples by the number of connections."""
    samples: dict[int, dict[str, list[Sample]]] = {}
    with ExitStack() as stack:
        site = start_site(stack, Path(stack.enter_context(tempfile.TemporaryDirectory())))
        for _ in range(rounds):
            for connections in (1, CONNECTIONS):
                taken = samples.setdefault(connections, {})
                for peer in site.peers:
                    taken.setdefault(peer.name, []).append(site.measure(peer, layout, seconds, connections))
    return samples


def report_tiles(samples: dict[str, list[Sample]]) -> dict[str, Any]:
    """Print a table of tiles, and return its figures."""
    medians = {name: statistics.median(sample.per_second for sample in taken) for name, taken in samples.items()}
    print(f"{'':24}{'requests/s':>12}{'p50 ms':>10}{'p99 ms':>10}{'of the floor':>14}{f'x {OWN}':>14}{'failed':>8}")
    figures = {}
    for name, taken in samples.items():
        figures[name] = {
            "per_second": medians[name],
            "p50_ms": median([sample.p50_ms for sample in taken]),
            "p99_ms": median([sample.p99_ms for sample in taken]),
            "failed": sum(sample.failed for sample in taken),
        }
        p50, p99 = (shown(figures[name][percentile], ".2f") for percentile in ("p50_ms", "p99_ms"))
        floor, own = (shown(medians[name] / medians[peer] if medians[peer] else None, ".2f") for peer in (FLOOR, OWN))
        print(f"{name:24}{medians[name]:12,.0f}{p50:>10}{p99:>10}{floor:>14}{own:>14}{figures[name]['failed']:8}")
    return figures


@dataclass
class Times:
    """What calls of one kind took.

    Attributes
    ----------
    ms : list of float
        Of each that went well.
    failed : int
    seconds : float or None
        From the first to the last, of all clients; None: other calls were made meanwhile.
    """

    ms: list[float] = field(default_factory=list)
    failed: int = 0
    seconds: float | None = None

    def add(self, other: Times) -> None:
        """Add what another client has measured."""
        self.ms += other.ms
        self.failed += other.failed

    def percentile(self, percent: int) -> float | None:
        """Return what so many of a hundred calls took at most."""
        return sorted(self.ms)[min(len(self.ms) * percent // 100, len(self.ms) - 1)] if self.ms else None


@dataclass
class Service:
    """The service that runs, and the folders that users register."""

    process: int
    port: int
    registry: Path
    roots: list[Path]

    @property
    def processes(self) -> list[int]:
        """Its first process, and its workers."""
        children = Path(f"/proc/{self.process}/task/{self.process}/children").read_text()
        return [self.process, *map(int, children.split())]

    def memory(self) -> dict[str, float | None]:
        """Return the megabytes that all its processes have, and those that its registry takes."""
        return {
            "rss_megabytes": self._sum("status", "VmRSS"),
            # What processes share counts once in all.
            "pss_megabytes": self._sum("smaps_rollup", "Pss"),
            "registry_megabytes": sum(p.stat().st_size for p in self.registry.parent.glob("registry.sqlite*")) / 1e6,
        }

    def _sum(self, name: str, entry: str) -> float | None:
        try:
            told = [Path(f"/proc/{process}/{name}").read_text() for process in self.processes]
        except OSError:
            return None
        found = [re.search(rf"^{entry}:\s+(\d+) kB", text, re.MULTILINE) for text in told]
        return sum(int(match[1]) for match in found if match) * 1024 / 1e6


def start_service(stack: ExitStack, folder: Path, registrations: int) -> Service:
    """Start what answers for the hub, and the service with the gunicorn of production."""
    (folder / "bench_hub.py").write_text(HUB)
    roots = [folder / "shared" / str(number) for number in range(registrations)]
    for root in roots:
        root.mkdir(parents=True)
        (root / NAME).write_bytes(os.urandom(NAME_BYTES))
    hub_port, port = free_port(), free_port()
    hub = gunicorn("bench_hub:hub", hub_port, THREADS)
    stack.enter_context(running(hub, hub_port, {"PYTHONPATH": str(folder)}))
    registry = folder / "service" / "registry.sqlite"
    environment = {
        "JUPYTERHUB_SERVICE_NAME": "kdr",
        "JUPYTERHUB_SERVICE_PREFIX": PREFIX,
        "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{port}",
        "JUPYTERHUB_API_URL": f"http://127.0.0.1:{hub_port}/hub/api",
        "JUPYTERHUB_API_TOKEN": "the-token-of-the-service",
        "KDR_REGISTRY": str(registry),
        "KDR_ROOTS": f"{folder}/homes/{{username}}:{folder}/shared",
    }
    # On all cores, as many as it has workers.
    command = [sys.executable, "-m", "gunicorn"]
    command += ["-c", "python:kdr_wsgi.gunicorn_conf", "--log-level", "warning"]
    command += ["--access-logfile", str(folder / "access.log"), "kdr_wsgi:create_app()"]
    process = stack.enter_context(running(command, port, environment, ALL_CORES))
    return Service(process.pid, port, registry, roots)


def register(service: Service, users: list[str]) -> tuple[Times, dict[str, list[str]]]:
    """Register every folder for each user, as the user's kernel does; return the URLs too, by user."""
    times = Times()
    urls: dict[str, list[str]] = {}
    for user in users:
        os.environ["JUPYTERHUB_API_TOKEN"] = f"kernel-of-{user}"
        relay = JupyterRelayHub(
            registry=service.registry.parent.with_name("client") / "registry.sqlite",
            base_url="/",
            route="wwtkdr",
            service=f"http://127.0.0.1:{service.port}{PREFIX}",
        )
        found = urls[user] = []
        for root in service.roots:
            began = time.perf_counter()
            try:
                url = relay.serve_tree(root)
            except ServiceError:
                times.failed += 1
                continue
            times.ms.append((time.perf_counter() - began) * 1e3)
            found.append(f"{url}{NAME}")
    return times, urls


def read(service: Service, wanted: list[tuple[str, list[str]]], bodies: set[bytes]) -> tuple[Times, Times]:
    """Read files, each user over one connection and with another token than the kernel's; the first one, the others."""
    first, again = Times(), Times()
    for user, urls in wanted:
        connection = HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE_SECONDS)
        for times, url in zip([first, *[again] * len(urls)], urls, strict=False):
            try:
                if connection.sock is None:
                    connection.connect()
                began = time.perf_counter()
                connection.request("GET", url, headers={"Authorization": f"token browser-of-{user}"})
                answer = connection.getresponse()
                body = answer.read()
                took = (time.perf_counter() - began) * 1e3
            except (OSError, HTTPException):
                connection.close()
                times.failed += 1
                continue
            if answer.status == 200 and body in bodies:
                times.ms.append(took)
            else:
                times.failed += 1
        connection.close()
    return first, again


def check_service(service: Service, bodies: set[bytes]) -> None:
    """Let each worker do everything once; raise RuntimeError if it does not do it."""
    for _ in range(2 * len(service.processes)):
        times, urls = register(service, ["nobody"])
        first, again = read(service, [*urls.items()], bodies)
        if failed := times.failed + first.failed + again.failed:
            raise RuntimeError(f"{failed} calls failed before anything was measured")


def ask_for_users(users: int, registrations: int, clients: int) -> tuple[dict[str, Times], dict[str, Any]]:
    """Let users register and read; return what that took, and the memory at each time."""
    names = [f"user-{number}" for number in range(users)]
    with ExitStack() as stack:
        service = start_service(stack, Path(stack.enter_context(tempfile.TemporaryDirectory())), registrations)
        bodies = {(root / NAME).read_bytes() for root in service.roots}
        check_service(service, bodies)
        memory: dict[str, Any] = {"at the start": service.memory()}
        times = {"registering": Times(), "reading, first": Times(), "reading, again": Times()}
        urls: dict[str, list[str]] = {}
        with ProcessPoolExecutor(clients) as pool:
            began = time.perf_counter()
            shares = [names[client::clients] for client in range(clients)]
            for taken, found in pool.map(register, [service] * clients, shares):
                times["registering"].add(taken)
                urls.update(found)
            times["registering"].seconds = time.perf_counter() - began
            memory["after registering"] = service.memory()
            wanted = [(name, random.choices(found, k=1 + AGAIN)) for name, found in urls.items() if found]
            random.shuffle(wanted)
            some = [wanted[client::clients] for client in range(clients)]
            for first, again in pool.map(read, [service] * clients, some, [bodies] * clients):
                times["reading, first"].add(first)
                times["reading, again"].add(again)
        memory["after reading"] = service.memory()
        memory["processes"] = len(service.processes)
    return times, memory


def report_users(times: dict[str, Times], memory: dict[str, Any]) -> dict[str, Any]:
    """Print tables of users, and return their figures."""
    figures: dict[str, Any] = {}
    print(f"{'':24}{'number':>12}{'per second':>12}{'p50 ms':>10}{'p99 ms':>10}{'failed':>8}")
    for name, taken in times.items():
        number = len(taken.ms)
        figures[name] = {
            "number": number,
            "per_second": number / taken.seconds if taken.seconds else None,
            "p50_ms": taken.percentile(50),
            "p99_ms": taken.percentile(99),
            "failed": taken.failed,
        }
        p50, p99 = (shown(figures[name][percentile], ".2f") for percentile in ("p50_ms", "p99_ms"))
        speed = shown(figures[name]["per_second"], ",.0f")
        print(f"{name:24}{number:12,}{speed:>12}{p50:>10}{p99:>10}{taken.failed:8}")
    figures["memory"] = memory
    print(f"\n{'{processes} processes'.format(**memory):24}{'RSS, MB':>12}{'PSS, MB':>12}{'registry, MB':>14}")
    for name, told in memory.items():
        if name != "processes":
            rss, pss, registry = (shown(value, ",.1f") for value in told.values())
            print(f"{name:24}{rss:>12}{pss:>12}{registry:>14}")
    return figures


def main() -> None:
    """Measure, print tables, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="of tiles")
    parser.add_argument("--seconds", type=int, default=4, help="of each measurement of tiles")
    parser.add_argument("--layout", choices=LAYOUTS, default="split", help="of tiles; default: split")
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--registrations", type=int, default=100, help="of each user")
    parser.add_argument("--clients", type=int, default=4, help="processes that register and read at the same time")
    parser.add_argument("--question", action="append", choices=("tiles", "users"), help="default: all")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    questions = options.question or ["tiles", "users"]
    need("taskset")
    about: dict[str, Any] = {}
    packages = ["jupyterhub", "gunicorn", "flask"]
    # A terminal's Ctrl-C ends in order as well: what was started ends first.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    # Neither of this process's hub, nor of its registry.
    for name in [*os.environ]:
        if name.startswith(("JUPYTER", "JPY_", "KDR_")) and not name.startswith("KDR_TEST_"):
            del os.environ[name]
    # The hub starts what is installed beside this Python.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])

    figures: dict[str, Any] = {}
    if "tiles" in questions:
        need("wrk", "nginx")
        if not (shutil.which("configurable-http-proxy") or os.environ.get("KDR_TEST_CHP")):
            sys.exit("configurable-http-proxy is not installed: npm install -g configurable-http-proxy")
        proxy = [find_proxy(), "--version"]
        packages += ["jupyter_server", "tornado", "ipykernel"]
        about |= {"rounds": options.rounds, "seconds": options.seconds}
        about["layout"] = {name: sorted(cores) for name, cores in asdict(LAYOUTS[options.layout]).items()}
        about["proxy"] = subprocess.run(proxy, check=True, capture_output=True, text=True).stdout.strip()
        for connections, samples in ask_for_tiles(options.rounds, options.seconds, LAYOUTS[options.layout]).items():
            plural = "" if connections == 1 else "s"
            title = f"tiles, {connections} connection{plural}, {options.layout}"
            print(f"\n{title}: medians of {options.rounds} x {options.seconds} s")
            figures[title] = report_tiles(samples)
    if "users" in questions:
        about |= {"users": options.users, "registrations": options.registrations, "clients": options.clients}
        times, memory = ask_for_users(options.users, options.registrations, options.clients)
        print(f"\n{options.users:,} users with {options.registrations} registrations each, {options.clients} clients")
        figures["users"] = report_users(times, memory)
    if options.json:
        about["packages"] = {package: version(package) for package in packages}
        write_figures(options.json, figures, about)


if __name__ == "__main__":
    main()
