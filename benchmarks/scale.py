"""What many viewers ask of relay servers, where the first bottleneck is, and whether that holds here.

The model is a page of arithmetic (`Viewer`, `Capacity`, `demands`): what one
active viewer asks for, what each part bears, and so how many of each part a
number of viewers needs. ``model`` prints it for 100, 10,000 and 1,000,000.

``check`` measures here what the model takes for granted: tiles per second, and
processor time per tile, of one server and of two, by themselves and behind
nginx; then it lets viewers of the model look at tiles, and compares the
processor time that the servers take with what the model foretells.

``told`` measures what it costs a PostgreSQL that each change is told to each
worker: registrations per second, and messages, with some workers that listen.

Run it as ``python -m benchmarks.scale``; ``check`` needs ``wrk`` and ``nginx``,
``told`` PostgreSQL.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import select
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psycopg

from benchmarks.common import TILE_BYTES, TILES, TILES_LUA, ask_with_wrk, gunicorn, make_tiles, need, write_figures
from benchmarks.processes import ALL_CORES, FIRST_CORE, LAST_CORE, free_port, running
from hub import JupyterRelayHub
from hub.postgres.schema import CHANNEL
from hub.registration import Registration
from hub.registries import registry_at
from hub.settings import find_registry
from tests.databases import running_database

VIEWERS = (100, 10_000, 1_000_000)

_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Viewer:
    """What one active viewer does: somebody pans and zooms a map, or a picture of the sky.

    Attributes
    ----------
    seconds_per_view : float
        From one view to the next.
    tiles_per_view : float
        What the browser lacks of a view: half of the 40 tiles of 256 pixels in a window of 1,920 by 1,080.
    tile_bytes : int
    seconds_per_registration : float
        From one `serve_tree` of a viewer's kernel to the next.
    keys : float
        How many keys each viewer has registered that have not ended.
    """

    seconds_per_view: float = 4.0
    tiles_per_view: float = 20.0
    tile_bytes: int = TILE_BYTES
    seconds_per_registration: float = 600.0
    keys: float = 10.0

    @property
    def requests_per_second(self) -> float:
        """Requests per second."""
        return self.tiles_per_view / self.seconds_per_view


@dataclass(frozen=True)
class Capacity:
    """What one of each part bears; docs/scaling.md says where each figure is from.

    Attributes
    ----------
    core : float
        Tiles per second of one core of a relay server.
    hub_proxy : float
        Requests per second of JupyterHub's own proxy, which is one process.
    nginx_core : float
        Requests per second that one core of nginx passes on.
    network_bytes : float
        Bytes per second of one machine's network, of which it is to carry 70 percent.
    sqlite_writes, postgres_writes : float
        Registrations per second.
    store_requests : float
        Requests per second that one prefix of an object store answers.
    messages : float
        Changes that one PostgreSQL tells workers of per second, all together.
    """

    core: float = 5_000.0
    hub_proxy: float = 2_000.0
    nginx_core: float = 20_000.0
    network_bytes: float = 0.7 * 10e9 / 8
    sqlite_writes: float = 1_400.0
    postgres_writes: float = 1_000.0
    store_requests: float = 5_500.0
    messages: float = 30_000.0


@dataclass(frozen=True)
class Demand:
    """What a number of viewers asks of one part, and how many of that part they take.

    Attributes
    ----------
    part : str
    needed, per_part : float
        What is asked for, and what one of the part bears, in the same unit.
    unit : str
    can_grow : bool
        Whether there can be more than one.
    """

    part: str
    needed: float
    per_part: float
    unit: str
    can_grow: bool = True

    @property
    def parts(self) -> float:
        """How many of the part are busy."""
        return self.needed / self.per_part


def demands(viewers: int, viewer: Viewer, capacity: Capacity) -> list[Demand]:
    """Return what `viewers` ask of each part, the scarcest first."""
    requests = viewers * viewer.requests_per_second
    writes = viewers / viewer.seconds_per_registration
    workers = max(1.0, requests / capacity.core)
    found = [
        Demand("JupyterHub's own proxy", requests, capacity.hub_proxy, "requests/s", can_grow=False),
        Demand("nginx, a core", requests, capacity.nginx_core, "requests/s"),
        Demand("relay server, a core", requests, capacity.core, "tiles/s"),
        Demand("network, 10 Gbit/s", requests * viewer.tile_bytes, capacity.network_bytes, "bytes/s"),
        Demand("registry in SQLite", writes, capacity.sqlite_writes, "registrations/s", can_grow=False),
        Demand("registry in PostgreSQL", writes, capacity.postgres_writes, "registrations/s", can_grow=False),
        # Each change is told to each worker.
        Demand("PostgreSQL, changes told", writes * workers, capacity.messages, "messages/s", can_grow=False),
        Demand("store, a prefix (nothing cached)", requests, capacity.store_requests, "requests/s"),
    ]
    return sorted(found, key=lambda demand: (demand.can_grow, -demand.parts))


def print_model(viewer: Viewer, capacity: Capacity) -> None:
    """Print a table for each number of viewers."""
    for viewers in VIEWERS:
        requests = viewers * viewer.requests_per_second
        print(f"\n{viewers:,} viewers: {requests:,.0f} requests/s, {requests * viewer.tile_bytes / 1e6:,.0f} MB/s")
        print(f"{viewers * viewer.keys:,.0f} keys, {viewers / viewer.seconds_per_registration:,.2f} registrations/s")
        print(f"{'':34}{'asked for':>16} {'unit':16}{'one bears':>14}{'so many are busy':>18}")
        for demand in demands(viewers, viewer, capacity):
            remark = "  there is one alone" if not demand.can_grow and demand.parts > 1 else ""
            print(
                f"{demand.part:34}{demand.needed:>16,.1f} {demand.unit:16}{demand.per_part:>14,.0f}"
                f"{demand.parts:>18,.2f}{remark}"
            )


# --- whether it holds ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bench:
    """Relay servers that run, and where they are asked."""

    origin: str
    masters: tuple[int, ...]

    def processor_seconds(self) -> float:
        """Return the processor time that the servers have taken so far, children and all."""
        return sum(_processor_seconds(process) for master in self.masters for process in _family(master))


def _family(master: int) -> Iterator[int]:
    yield master
    for child in Path(f"/proc/{master}/task/{master}/children").read_text().split():
        yield from _family(int(child))


def _processor_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS


_NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off; keepalive_requests 1000000;
    client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
    upstream kdr {{ least_conn; {servers} keepalive 64; keepalive_requests 1000000; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://kdr; proxy_http_version 1.1;
            proxy_set_header Connection ""; proxy_set_header Host localhost;
        }}
    }}
}}
"""


@contextmanager
def servers(folder: Path, registry: Path, number: int, *, behind_nginx: bool) -> Iterator[Bench]:
    """Run relay servers of one worker each, with nginx in front or not."""
    with ExitStack() as stack:
        ports, masters = [], []
        for at in range(number):
            port = free_port()
            command = gunicorn("kdr_wsgi:create_app()", port, 16, "kdr_wsgi.serving.WatchfulWorker")
            cores = ALL_CORES if number > 1 else (FIRST_CORE,)
            started = stack.enter_context(
                running(command, port, {"KDR_REGISTRY": str(registry)}, cores, folder / f"relay{at}.log")
            )
            ports.append(port)
            masters.append(started.pid)
        if behind_nginx:
            front = folder / f"nginx{number}"
            front.mkdir()
            port = free_port()
            listed = " ".join(f"server 127.0.0.1:{each};" for each in ports)
            (front / "nginx.conf").write_text(_NGINX.format(folder=front, port=port, servers=listed))
            program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") or "nginx"
            command = [program, "-p", str(front), "-c", str(front / "nginx.conf")]
            stack.enter_context(running(command, port, {}, (LAST_CORE,), folder / "nginx.log"))
            ports = [port]
        yield Bench(f"http://127.0.0.1:{ports[0]}", tuple(masters))


@dataclass
class Crowd:
    """Viewers that look at tiles, and what they have seen."""

    seen: int = 0


async def _look(host: str, port: int, path: str, viewer: Viewer, crowd: Crowd) -> None:
    """Be one viewer, until this is cancelled."""
    loop = asyncio.get_running_loop()
    chance = random.Random()
    # Not all begin a view in the same moment.
    await asyncio.sleep(chance.uniform(0, viewer.seconds_per_view))
    connections = [await asyncio.open_connection(host, port) for _ in range(4)]
    try:
        while True:
            begun = loop.time()
            tiles = [chance.randrange(TILES) for _ in range(int(viewer.tiles_per_view))]
            shares = [tiles[at :: len(connections)] for at in range(len(connections))]
            await asyncio.gather(
                *(_fetch(*connection, path, share) for connection, share in zip(connections, shares, strict=True))
            )
            crowd.seen += len(tiles)
            await asyncio.sleep(max(0.0, viewer.seconds_per_view - (loop.time() - begun)))
    finally:
        for _, writer in connections:
            writer.close()


async def _fetch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, tiles: Sequence[int]) -> None:
    for tile in tiles:
        writer.write(f"GET {path}tiles/{tile}.png HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if not head.startswith(b"http/1.1 200 "):
            raise ConnectionError(head.decode("latin-1"))
        length = int(head.partition(b"content-length:")[2].partition(b"\r")[0])
        await reader.readexactly(length)


async def _look_all(bench: Bench, path: str, viewer: Viewer, viewers: int, seconds: float) -> tuple[float, float]:
    """Let viewers look for some seconds, once all have begun; return tiles per second, and how many cores that took."""
    host, _, port = bench.origin.removeprefix("http://").partition(":")
    crowd = Crowd()
    looking = [asyncio.create_task(_look(host, int(port), path, viewer, crowd)) for _ in range(viewers)]
    await asyncio.sleep(2 * viewer.seconds_per_view)
    seen, used, begun = crowd.seen, bench.processor_seconds(), time.monotonic()
    _, still = await asyncio.wait(looking, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    took = time.monotonic() - begun
    found = (crowd.seen - seen) / took, (bench.processor_seconds() - used) / took
    for task in still:
        task.cancel()
    for ended in await asyncio.gather(*looking, return_exceptions=True):
        if isinstance(ended, Exception):
            raise ended
    return found


def check(viewer: Viewer, seconds: int, crowd: int) -> dict[str, dict[str, float]]:
    """Measure what the model takes for granted, and what it foretells; print and return it."""
    need("wrk", "nginx", "taskset")
    measured: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="kdr-scale-") as name:
        folder = Path(name)
        root = folder / "root"
        root.mkdir()
        make_tiles(root)
        registry = folder / "registry" / "registry.sqlite"
        path = str(
            JupyterRelayHub(registry=registry, base_url="/", key_prefix="").serve_tree(root, visibility="public")
        )
        for number in (1, 2):
            for behind_nginx in (False, True):
                if number > 1 and not behind_nginx:
                    continue
                title = f"{number} server{'s' if number > 1 else ''}{' behind nginx' if behind_nginx else ''}"
                with servers(folder, registry, number, behind_nginx=behind_nginx) as bench:
                    before = bench.processor_seconds()
                    sample = ask_with_wrk(bench.origin + path, TILES_LUA, folder, seconds, 16)
                    busy = bench.processor_seconds() - before
                    per_tile = busy / (sample.per_second * seconds)
                    # A whole number of views of each.
                    window = viewer.seconds_per_view * max(1, round(seconds / viewer.seconds_per_view))
                    rate, cores = asyncio.run(_look_all(bench, path, viewer, crowd, window))
                measured[title] = {
                    "tiles_per_second": sample.per_second,
                    "p99_ms": sample.p99_ms or 0.0,
                    "failed": sample.failed,
                    "processor_us_per_tile": per_tile * 1e6,
                    "viewers": crowd,
                    "viewers_tiles_per_second": rate,
                    "foretold_tiles_per_second": crowd * viewer.requests_per_second,
                    "cores_foretold": crowd * viewer.requests_per_second * per_tile,
                    "cores_taken": cores,
                }
                print(f"\n{title}")
                for what, value in measured[title].items():
                    print(f"  {what.replace('_', ' '):28}{value:>12,.2f}")
    return measured


# --- what it costs that all workers are told -------------------------------------------------------------------------


class _Listeners:
    """As many connections that listen as there would be workers, read by one thread."""

    def __init__(self, url: str, number: int) -> None:
        self._connections = [psycopg.connect(url, autocommit=True) for _ in range(number)]
        for connection in self._connections:
            connection.execute(f"LISTEN {CHANNEL}")
        self.messages = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        listening = select.poll()
        known = {connection.pgconn.socket: connection.pgconn for connection in self._connections}
        for descriptor in known:
            listening.register(descriptor, select.POLLIN)
        while not self._is_over.is_set():
            for descriptor, _ in listening.poll(50):
                known[descriptor].consume_input()
                while known[descriptor].notifies() is not None:
                    self.messages += 1

    def wait_for(self, messages: int) -> None:
        """Wait until all have been told of all."""
        deadline = time.monotonic() + 60
        while self.messages < messages and time.monotonic() < deadline:
            time.sleep(0.001)

    def close(self) -> None:
        """Listen no more."""
        self._is_over.set()
        self._thread.join()
        for connection in self._connections:
            connection.close()


def tell_workers(numbers: Sequence[int], registrations: int) -> dict[str, dict[str, float]]:
    """Register while so many listen; print and return what that costs."""
    measured: dict[str, dict[str, float]] = {}
    with (
        running_database(is_durable=True) as server,
        server.new_database() as url,
        closing(registry_at(find_registry(url))) as registry,
    ):
        registry.open()
        for number in numbers:
            with closing(_Listeners(url, number)) as listeners:
                begun = time.monotonic()
                for key in range(registrations):
                    registry.claim(Registration(f"k{key}", "tree", b"/data/tiles"))
                took = time.monotonic() - begun
                listeners.wait_for(number * registrations)
                told = listeners.messages / (time.monotonic() - begun)
            measured[f"{number} workers"] = {"registrations_per_second": registrations / took, "messages": told}
            print(f"{number:>4} workers: {registrations / took:>8,.0f} registrations/s, {told:>9,.0f} messages/s")
    return measured


def main() -> None:
    """Print the model, or check it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("model", "check", "told"), nargs="?", default="model")
    parser.add_argument("--core", type=float, default=Capacity.core, help="tiles per second of one core")
    parser.add_argument("--seconds", type=int, default=8, help="of each measurement; default: 8")
    parser.add_argument("--viewers", type=int, default=100, help="that look at the tiles; default: 100")
    parser.add_argument("--to", type=Path, help="a file for the figures, as JSON")
    options = parser.parse_args()
    viewer, capacity = Viewer(), replace(Capacity(), core=options.core)
    if options.what == "model":
        print_model(viewer, capacity)
        return
    if options.what == "told":
        measured = tell_workers((0, 8, 32, 128), 1000)
    else:
        measured = check(viewer, options.seconds, options.viewers)
    if options.to:
        write_figures(options.to, measured, {"viewer": asdict(viewer)})


if __name__ == "__main__":
    main()
