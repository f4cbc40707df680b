"""Does anything grow while servers run for long: memory, descriptors, threads, the registry.

A `kdr serve` with two workers and a Jupyter server with its relay are asked for all that
there is, by few clients with pauses, while a kernel publishes and revokes, and files are
replaced and removed. It is no test of speed. Each answer is looked at; all processes must
live on. Run it as ``python -m benchmarks.soak``; it ends with 1 if an answer was wrong or
something grows.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import http.client
import json
import os
import random
import re
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing.connection import Client as PipeClient
from pathlib import Path

from benchmarks.common import write_figures
from benchmarks.jupyter import running_jupyter
from benchmarks.processes import (
    ALL_CORES,
    PATIENCE_SECONDS,
    descendants,
    end_in_order,
    free_port,
    pin,
    running,
)
from benchmarks.questions import WrongAnswerError
from benchmarks.wtml import make_catalogue

TREES = 4

#: In all trees together more than the 64 MiB that a worker keeps.
TILES = 1500
TILE_BYTES = 16 * 1024

#: Of each tree, those that are asked for again and again.
WARM_TILES = 20

BIG_BYTES = 32 << 20
RANGE_BYTES = 64 * 1024

#: What a slow reader takes at once, of how much, and how long it waits then.
SLOW_BYTES = 64 * 1024
SLOW_RANGE_BYTES = 2 << 20
SLOW_SECONDS = 0.02

#: Of each client, after each turn.
PAUSE_SECONDS = 0.01

#: Which clients ask which server: two ask `kdr serve`, two ask through Jupyter.
CLIENTS = 2

#: That fill the memories, at the start.
READERS = 8

SAMPLE_SECONDS = 5.0
CLEAN_UP_SECONDS = 60.0

#: When the table says what there was, in parts of the time.
SHARES = (0.1, 0.25, 0.5, 0.75, 1.0)

#: What may be more at the end than in the middle, and is no growth yet. With several threads glibc keeps holes where
#: small files were, more for a long time; with MALLOC_ARENA_MAX=1, or a small KDR_CACHE_BYTES, it does not.
TOLERANCES = {"memory MB": 1.5, "descriptors": 2.0, "threads": 1.0, "registry MB": 0.25, "files": 2.0}

#: What is no request, or none that may succeed.
MALFORMED = (
    b"GET /wwtkdr/none/%00 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /wwtkdr/none/%zz HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /wwtkdr/none/../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /wwtkdr/none/a HTTP/1.1\r\nHost: a\r\nA: " + b"a" * 70_000 + b"\r\n\r\n",
    b"GET /wwtkdr/none/a HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    b"GET /wwtkdr/none/a HTTP/9.9\r\nHost: a\r\n\r\n",
    b"\0\r\n\r\n",
    b"no request\r\n\r\n",
)

#: What the kernel executes, once: from then on a thread of it publishes and revokes what it is told. Jupyter and
#: ipykernel keep something of each message and of each websocket, which would hide what the relay and the hub keep.
KERNEL = """
import hub, threading
from multiprocessing.connection import Listener
relays = {{"Jupyter": hub.get_relay_hub(), "kdr serve": hub.JupyterRelayHub(registry={registry!r}, base_url="/")}}
published = {{}}
def serve(connection):
    while True:
        try:
            relay, name, path, options = connection.recv()
        except EOFError:
            return
        try:
            if name == "revoke":
                connection.send(published.pop((relay, path)).revoke())
            else:
                url = getattr(relays[relay], name)(path, **options)
                published[relay, url] = url
                connection.send(str(url))
        except Exception as error:
            connection.send(error)
def listen():
    while True:
        threading.Thread(target=serve, args=[listener.accept()], daemon=True).start()
listener = Listener({address!r}, family="AF_UNIX")
threading.Thread(target=listen, daemon=True).start()
print(hub.get_relay_hub().registry.location)
"""


@dataclass
class Front:
    """A server that is asked.

    Attributes
    ----------
    name : str
    port : int
    headers : dict
        Of each request.
    visibility : str
        With which its clients may read.
    root : Path
        The folder with what it serves.
    kernel : str
        Where a kernel listens that publishes.
    trees : list of str
        The partial URLs of the trees; the others are in the first.
    """

    name: str
    port: int
    headers: Mapping[str, str]
    visibility: str
    root: Path
    kernel: str
    trees: list[str] = field(default_factory=list)


class Publisher:
    """Lets the kernel publish, over a connection of its own."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._connection = PipeClient(front.kernel, family="AF_UNIX")

    def publish(self, path: Path, what: str = "serve_tree", *, content: bool = False, ttl: float | None = None) -> str:
        """Publish; return the partial URL."""
        options = {"visibility": self._front.visibility, "content": content, "ttl": ttl}
        return str(self._tell(what, str(path), options))

    def revoke(self, url: str) -> None:
        """End a registration."""
        _expect(self._tell("revoke", url, {}) is True, "a registration was not there any more")

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def _tell(self, name: str, path: str, options: Mapping[str, object]) -> object:
        self._connection.send((self._front.name, name, path, options))
        answer = self._connection.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer


@dataclass(frozen=True)
class Sample:
    """What there is at one moment: by process, or registry, and quantity."""

    at: float
    values: dict[tuple[str, str], float]


class Client(threading.Thread):
    """Asks one server, one thing after another, until `ends`.

    Attributes
    ----------
    asked : Counter
        How often each kind of turn was taken.
    requests : int
    wrong : list of str
    """

    def __init__(self, front: Front, number: int, ends: threading.Event) -> None:
        super().__init__(name=f"{front.name} {number}")
        self._front = front
        self._random = random.Random(self.name)
        self._ends = ends
        self._connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=PATIENCE_SECONDS)
        self._publisher = Publisher(front)
        self._own = front.root / "0" / f"own-{number}"
        self._own.mkdir()
        self._etags: dict[str, str] = {}
        self._next_cold = number * TILES * TREES // CLIENTS
        self._made = 0
        self.asked: Counter[str] = Counter()
        self.requests = 0
        self.wrong: list[str] = []

    def run(self) -> None:
        """Take turns."""
        kinds, weights = zip(*TURNS.items(), strict=True)
        while not self._ends.is_set():
            (kind,) = self._random.choices(kinds, [weight for weight, _ in weights])
            self.asked[kind] += 1
            try:
                TURNS[kind][1](self)
            except Exception as error:  # noqa: BLE001  # Whatever it is, it is no right answer.
                self.wrong.append(f"{self._front.name}: {kind}: {type(error).__name__}: {error}")
                self._connection.close()
            self._ends.wait(self._random.expovariate(1 / PAUSE_SECONDS))
        self._connection.close()
        self._publisher.close()

    def cold_tile(self) -> None:
        """Ask for the tile that was not asked for the longest."""
        self._next_cold = (self._next_cold + 1) % (TILES * TREES)
        self._ask_tile(*divmod(self._next_cold, TILES))

    def warm_tile(self) -> None:
        """Ask for one of a few tiles."""
        self._ask_tile(self._random.randrange(TREES), self._random.randrange(WARM_TILES))

    def unchanged_tile(self) -> None:
        """Ask whether a tile has changed."""
        tree, tile = self._random.randrange(TREES), self._random.randrange(WARM_TILES)
        url = f"{self._front.trees[tree]}{tile}.png"
        if url not in self._etags:
            self._ask_tile(tree, tile)
        _, body, _ = self._ask(url, 304, {"If-None-Match": self._etags[url]})
        _expect(not body, "a 304 has a body")

    def head(self) -> None:
        """Ask for the head of the big file."""
        _, body, headers = self._ask(self._big, 200, method="HEAD")
        _expect(not body and headers["Content-Length"] == str(BIG_BYTES), "the answer to HEAD is another")

    def one_range(self) -> None:
        """Ask for a part of the big file."""
        (first,) = self._spans(1)
        _, body, _ = self._ask(self._big, 206, {"Range": f"bytes={first}-{first + RANGE_BYTES - 1}"})
        _expect(body == self._part(first), "a range has other bytes")

    def three_ranges(self) -> None:
        """Ask for parts of the big file at once."""
        spans = self._spans(3)
        ranges = ",".join(f"{first}-{first + RANGE_BYTES - 1}" for first in spans)
        _, body, headers = self._ask(self._big, 206, {"Range": f"bytes={ranges}"})
        boundary = headers["Content-Type"].partition("boundary=")[2].strip('"').encode()
        parts = [part.partition(b"\r\n\r\n")[2] for part in body.split(b"--" + boundary)[1:-1]]
        _expect(parts == [self._part(first) + b"\r\n" for first in spans], "a part of many has other bytes")

    def text(self) -> None:
        """Ask for a text that is compressed on the fly; it changes now and then."""
        path = self._own / "text.json"
        if not path.exists() or self._random.random() < 0.2:
            _replace(path, json.dumps([self._random.random()] * 1000).encode())
        _, body, headers = self._ask(f"{self._own_url}text.json", 200, {"Accept-Encoding": "gzip"})
        _expect(headers["Content-Encoding"] == "gzip", "a text is not compressed")
        _expect(gzip.decompress(body) == path.read_bytes(), "a compressed text is another")

    def listing(self) -> None:
        """Ask for the page of a folder."""
        _, body, _ = self._ask(f"{self._front.trees[0]}listed/", 200)
        names = sorted(name.encode() for name in os.listdir(self._front.root / "0" / "listed"))
        _expect(sorted(set(re.findall(rb"listed-\d+", body))) == names, "a listing has other names")

    def wtml(self) -> None:
        """Ask for a WTML that is made of another."""
        _, body, _ = self._ask(f"{self._front.trees[0]}index.wtml", 200)
        base = f"http://127.0.0.1:{self._front.port}{self._front.trees[0]}"
        _expect(f'Url="{base}0/'.encode() in body, "a WTML has other addresses")

    def miss(self) -> None:
        """Ask for what there is not, below a key and without one."""
        number = self._random.randrange(10**9)
        self._ask(f"{self._front.trees[self._random.randrange(TREES)]}{number}.png", 404)
        prefix = self._front.trees[0].partition("/wwtkdr/")[0]
        self._ask(f"{prefix}/wwtkdr/{number}/{number}.png", 404)

    def malformed(self) -> None:
        """Send what is no request."""
        with self._connected() as connection:
            said = self._random.choice(MALFORMED)
            answer = b""
            # Who refuses need not read all, nor say goodbye.
            with contextlib.suppress(ConnectionError):
                connection.sendall(said)
                connection.shutdown(socket.SHUT_WR)
                while more := connection.recv(65536):
                    answer += more
        self.requests += 1
        _expect(
            not answer or re.match(rb"HTTP/1\.[01] (4\d\d|501|505) ", answer), f"{said[:60]!r} gets {answer[:60]!r}"
        )

    def gone(self) -> None:
        """Go away in the midst of a large body, in order or not."""
        with self._connected() as connection:
            connection.sendall(self._raw(self._big))
            received = connection.recv(65536)
            if self._random.random() < 0.5:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.requests += 1
        _expect(received.startswith(b"HTTP/1.1 200 "), f"the big file gets {received[:60]!r}")

    def slow(self) -> None:
        """Read slowly."""
        first = self._random.randrange(BIG_BYTES - SLOW_RANGE_BYTES)
        with self._connected(receive_bytes=SLOW_BYTES) as connection:
            connection.sendall(self._raw(self._big, f"Range: bytes={first}-{first + SLOW_RANGE_BYTES - 1}\r\n"))
            received = b""
            while more := connection.recv(SLOW_BYTES):
                received += more
                time.sleep(SLOW_SECONDS)
        self.requests += 1
        body = received.partition(b"\r\n\r\n")[2]
        _expect(body == self._part(first, SLOW_RANGE_BYTES), "what is read slowly has other bytes")

    def whole(self) -> None:
        """Ask for the big file."""
        _, body, _ = self._ask(self._big, 200)
        _expect(body == self._part(0, BIG_BYTES), "the big file has other bytes")

    def connections(self) -> None:
        """Open connections, say nothing or half of something, and close them; begin anew with one's own, too."""
        for said in (b"", b"GET /wwt", b"GET /wwtkdr/none/a HTTP/1.1\r\nHost: a\r\n"):
            with self._connected() as connection:
                connection.sendall(said)
        self._connection.close()

    def replaced(self) -> None:
        """Replace a file, read the new one; remove it, and read none."""
        path = self._own / "replaced"
        url = f"{self._own_url}replaced"
        for size_bytes in (self._random.randrange(TILE_BYTES), self._random.randrange(100_000, 400_000)):
            body = self._random.randbytes(size_bytes)
            _replace(path, body)
            _expect(self._ask(url, 200)[1] == body, "a file that was replaced is another")
        path.unlink()
        self._ask(url, 404)

    def published(self) -> None:
        """Publish a new tree, read it, and revoke it; some are left, and end by themselves."""
        tree, body = self._make_tree()
        is_left = self._random.random() < 0.1
        url = self._publisher.publish(tree, ttl=2.0 if is_left else None)
        _expect(self._ask(f"{url}file", 200)[1] == body, "a new tree has other bytes")
        if not is_left:
            self._publisher.revoke(url)
            self._ask(f"{url}file", 404)
        shutil.rmtree(tree)

    def published_by_content(self) -> None:
        """Publish a tree or a file by its content, change it, and revoke it."""
        tree, body = self._make_tree()
        if self._random.random() < 0.5:
            base = self._publisher.publish(tree, content=True)
            url = f"{base}file"
        else:
            base = url = self._publisher.publish(tree / "file", "serve_file", content=True)
        _, got, headers = self._ask(url, 200)
        _expect(got == body and "immutable" in headers["Cache-Control"], "a content key has other bytes")
        (tree / "file").write_bytes(self._random.randbytes(len(body)))
        self._ask(url, 410)
        self._publisher.revoke(base)
        self._ask(url, 404)
        shutil.rmtree(tree)

    @property
    def _big(self) -> str:
        return f"{self._front.trees[0]}big.bin"

    @property
    def _own_url(self) -> str:
        return f"{self._front.trees[0]}{self._own.name}/"

    def _ask_tile(self, tree: int, tile: int) -> None:
        url = f"{self._front.trees[tree]}{tile}.png"
        _, body, headers = self._ask(url, 200)
        _expect(body == (self._front.root / str(tree) / f"{tile}.png").read_bytes(), "a tile has other bytes")
        if tile < WARM_TILES:
            self._etags[url] = headers["ETag"]

    def _ask(
        self, url: str, status: int, headers: Mapping[str, str] | None = None, method: str = "GET"
    ) -> tuple[int, bytes, http.client.HTTPMessage]:
        # What is compressed is asked for by who means it.
        given = {**self._front.headers, "Accept-Encoding": "identity", **(headers or {})}
        self.requests += 1
        self._connection.request(method, url, headers=given)
        answer = self._connection.getresponse()
        body = answer.read()
        _expect(answer.status == status, f"{urllib.parse.urlsplit(url).path} gets {answer.status}, not {status}")
        return answer.status, body, answer.headers

    def _raw(self, url: str, further: str = "") -> bytes:
        headers = "".join(f"{name}: {value}\r\n" for name, value in self._front.headers.items())
        return (
            f"GET {url} HTTP/1.1\r\nHost: 127.0.0.1:{self._front.port}\r\nConnection: close\r\n{headers}{further}\r\n"
        ).encode()

    @contextlib.contextmanager
    def _connected(self, receive_bytes: int = 0) -> Iterator[socket.socket]:
        with socket.socket() as connection:
            connection.settimeout(PATIENCE_SECONDS)
            if receive_bytes:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            connection.connect(("127.0.0.1", self._front.port))
            yield connection

    def _spans(self, number: int) -> list[int]:
        """Return where parts begin that are far from each other, in their order."""
        step = BIG_BYTES // number
        return [part * step + self._random.randrange(step - 2 * RANGE_BYTES) for part in range(number)]

    def _part(self, first: int, size_bytes: int = RANGE_BYTES) -> bytes:
        with (self._front.root / "0" / "big.bin").open("rb") as big:
            big.seek(first)
            return big.read(size_bytes)

    def _make_tree(self) -> tuple[Path, bytes]:
        self._made += 1
        tree = self._front.root / "new" / f"{self._own.name}-{self._made}"
        tree.mkdir(parents=True)
        body = self._random.randbytes(1 + self._random.randrange(TILE_BYTES))
        (tree / "file").write_bytes(body)
        return tree, body


#: How often a turn is taken, in relation to the others, and what is done then.
TURNS: dict[str, tuple[float, Callable[[Client], None]]] = {
    "cold tile": (20, Client.cold_tile),
    "warm tile": (25, Client.warm_tile),
    "304": (15, Client.unchanged_tile),
    "HEAD": (3, Client.head),
    "range": (12, Client.one_range),
    "three ranges": (4, Client.three_ranges),
    "gzip on the fly": (4, Client.text),
    "listing": (2, Client.listing),
    "WTML": (2, Client.wtml),
    "miss": (4, Client.miss),
    "malformed": (2, Client.malformed),
    "gone in a body": (1, Client.gone),
    "slow reader": (0.3, Client.slow),
    "whole big file": (0.2, Client.whole),
    "connections": (2, Client.connections),
    "file replaced, removed": (2, Client.replaced),
    "tree published, revoked": (1, Client.published),
    "content published, changed": (0.5, Client.published_by_content),
}


def main() -> None:
    """Let it run, and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0, help="default: 30")
    parser.add_argument("--to", type=Path, help="a file for all samples, as JSON")
    options = parser.parse_args()
    # Neither of this process's server, nor of its registry.
    for name in [*os.environ]:
        if name.startswith(("JUPYTER", "JPY_", "KDR_")):
            del os.environ[name]
    end_in_order()
    pin([os.getpid()], ALL_CORES)
    with tempfile.TemporaryDirectory(prefix="kdr-soak-") as name, ExitStack() as stack:
        folder = Path(name)
        fronts, processes, registries = start(stack, folder)
        print("filling the servers' memories", flush=True)
        fill_memories(fronts)
        print(f"{options.minutes:g} minutes", flush=True)
        clients, samples = run(fronts, processes, registries, folder, options.minutes * 60)
    wrong = [wrong for client in clients for wrong in client.wrong]
    growing = report(clients, samples)
    if options.to:
        figures = {
            f"{quantity}, {name}": [sample.values[quantity, name] for sample in samples]
            for quantity, name in samples[0].values
        }
        write_figures(options.to, figures, {"minutes": options.minutes, "at": [sample.at for sample in samples]})
    sys.exit(bool(wrong or growing))


def start(stack: ExitStack, folder: Path) -> tuple[list[Front], dict[str, int], dict[str, Path]]:
    """Start both servers and publish the trees; return what to ask, and which processes and registries to look at."""
    temporary = folder / "tmp"
    temporary.mkdir()
    os.environ["TMPDIR"] = str(temporary)
    registry = folder / "kdr" / "registry.sqlite"
    port = free_port()
    command = [sys.executable, "-m", "kdr_wsgi", "serve", "--registry", str(registry), "--workers", "2"]
    command += ["--bind", f"127.0.0.1:{port}"]
    serve = stack.enter_context(running(command, port, {}, ALL_CORES, folder / "serve.log"))
    jupyter = stack.enter_context(running_jupyter(folder, folder, "kdr_wsgi", folder / "jupyter.log"))
    jupyter.wait()
    kernel = str(folder / "kernel.sock")
    relayed = Path(jupyter.execute(KERNEL.format(registry=str(registry), address=kernel)))
    fronts = [
        Front("kdr serve", port, {}, "public", folder / "served", kernel),
        Front("Jupyter", jupyter.port, jupyter.headers, "private", folder / "relayed", kernel),
    ]
    for front in fronts:
        make_files(front.root)
        publisher = Publisher(front)
        front.trees = [publisher.publish(front.root / str(tree)) for tree in range(TREES)]
        publisher.close()
        # It starts the relay server, too.
        connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=PATIENCE_SECONDS)
        connection.request("GET", front.trees[0], headers=dict(front.headers))
        _expect(connection.getresponse().status == 200, f"{front.name} does not answer")
        connection.close()
    processes = {"kernel": jupyter.kernel_process, "Jupyter server": jupyter.process.pid}
    processes |= _named("kdr serve", [serve.pid, *descendants(serve.pid)])
    relay = [process for process in descendants(jupyter.process.pid) if "kdr_wsgi.jupyter.server" in _command(process)]
    processes |= _named("relay", relay)
    return fronts, processes, {"kdr serve": registry, "Jupyter": relayed}


def make_files(root: Path) -> None:
    """Write what is asked for."""
    make_catalogue(root / "0", 50)
    for tree in range(TREES):
        (root / str(tree)).mkdir(exist_ok=True)
        for tile in range(TILES):
            (root / str(tree) / f"{tile}.png").write_bytes(os.urandom(TILE_BYTES))
    (root / "0" / "big.bin").write_bytes(os.urandom(BIG_BYTES))
    (root / "0" / "listed").mkdir()
    for number in range(50):
        (root / "0" / "listed" / f"listed-{number}").touch()


def fill_memories(fronts: Sequence[Front]) -> None:
    """Let what small files may take of each worker's memory be taken before anything is counted."""
    for front in fronts:
        readers = [threading.Thread(target=_read_tiles, args=(front, number)) for number in range(READERS)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()


def _read_tiles(front: Front, number: int) -> None:
    order = random.Random(number)
    connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=PATIENCE_SECONDS)
    for turn in range(3 * TILES * TREES // READERS):
        connection.request(
            "GET",
            f"{order.choice(front.trees)}{order.randrange(TILES)}.png",
            headers=dict(front.headers),
        )
        connection.getresponse().read()
        if turn % 100 == 0:  # So that another worker may take it.
            connection.close()
    connection.close()


def run(
    fronts: Sequence[Front], processes: Mapping[str, int], registries: Mapping[str, Path], folder: Path, seconds: float
) -> tuple[list[Client], list[Sample]]:
    """Let the clients ask for so long, and look at the servers meanwhile."""
    ends = threading.Event()
    clients = [Client(front, number, ends) for front in fronts for number in range(CLIENTS)]
    samples: list[Sample] = []
    began = time.monotonic()
    cleaned = began
    for client in clients:
        client.start()
    try:
        while time.monotonic() < began + seconds:
            time.sleep(SAMPLE_SECONDS)
            now = time.monotonic()
            values = look(processes, registries, folder / "tmp")
            samples.append(Sample(now - began, values))
            if now - cleaned > CLEAN_UP_SECONDS:
                cleaned = now
                for registry in registries.values():
                    command = [sys.executable, "-m", "kdr_wsgi", "gc", "--registry", str(registry)]
                    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                asked = sum(client.requests for client in clients)
                wrong = sum(len(client.wrong) for client in clients)
                memory = sum(value for (quantity, _), value in values.items() if quantity == "memory MB")
                print(f"{(now - began) / 60:5.1f} min {asked:>9,} requests {wrong} wrong {memory:8.1f} MB", flush=True)
    finally:
        ends.set()
        for client in clients:
            client.join()
    return clients, samples


def look(processes: Mapping[str, int], registries: Mapping[str, Path], temporary: Path) -> dict[tuple[str, str], float]:
    """Return what there is now; raise OSError where a process is not there any more."""
    values: dict[tuple[str, str], float] = {}
    for name, process in processes.items():
        status = Path(f"/proc/{process}/status").read_text()
        values["memory MB", name] = int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) * 1024 / 1e6
        values["descriptors", name] = len(os.listdir(f"/proc/{process}/fd"))
        values["threads", name] = int(re.findall(r"Threads:\s+(\d+)", status)[0])
    for name, registry in registries.items():
        for what, path in (("", registry), (" -wal", registry.with_name(f"{registry.name}-wal"))):
            values["registry MB", f"{name}{what}"] = path.stat().st_size / 1e6 if path.exists() else 0.0
        # Manifests stay for a day, whatever is revoked: they are no growth without end.
        values["files", f"{name}, beside the registry"] = len(os.listdir(registry.parent))
        values["manifests", name] = sum(1 for path in registry.parent.rglob("*.manifest") if path.is_file())
    values["files", "temporary"] = sum(len(files) for _, _, files in os.walk(temporary))
    return values


def report(clients: Sequence[Client], samples: Sequence[Sample]) -> list[str]:
    """Print what was seen; return what grows."""
    asked: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for client in clients:
        asked.update(client.asked)
        wrong.update(text.split(": ")[1] for text in client.wrong)
    print(f"\n{'turns':32} {'taken':>9} {'wrong':>6}")
    for kind in TURNS:
        print(f"{kind:32} {asked[kind]:>9,} {wrong[kind]:>6,}")
    print(f"{'requests':32} {sum(client.requests for client in clients):>9,} {wrong.total():>6,}")
    for text in sorted({text for client in clients for text in client.wrong})[:20]:
        print(f"  {text}")
    heads = " ".join(f"{share:>8.0%}" for share in SHARES)
    print(f"\n{'':12} {'at':32} {heads} {'2nd half':>9}")
    growing = []
    for quantity, name in samples[0].values:
        values = [sample.values[quantity, name] for sample in samples]
        growth = growth_of_second_half(samples, values)
        grows = quantity in TOLERANCES and growth > TOLERANCES[quantity]
        verdict = "" if quantity not in TOLERANCES else "grows" if grows else "flat"
        digits = 1 if quantity.endswith("MB") else 0
        row = " ".join(f"{level(values, share):>8,.{digits}f}" for share in SHARES)
        print(f"{quantity:12} {name:32} {row} {growth:>+9.2f} {verdict}")
        if grows:
            growing.append(f"{quantity}, {name}")
    return growing


def level(values: Sequence[float], share: float) -> float:
    """Return the median of the twentieth of the time before a moment."""
    last = max(round(share * len(values)), 1)
    return statistics.median(values[max(last - max(len(values) // 20, 1), 0) : last])


def growth_of_second_half(samples: Sequence[Sample], values: Sequence[float]) -> float:
    """Return by how much a straight line through the second half rises."""
    middle = len(samples) // 2
    times = [sample.at for sample in samples[middle:]]
    if len(times) < 2:
        return 0.0
    return statistics.linear_regression(times, values[middle:]).slope * (times[-1] - times[0])


def _named(name: str, processes: Sequence[int]) -> dict[str, int]:
    first, *workers = processes
    return {f"{name}, master": first} | {
        f"{name}, worker {number}": process for number, process in enumerate(workers, 1)
    }


def _command(process: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_text(errors="replace").replace("\0", " ")
    return ""


def _replace(path: Path, body: bytes) -> None:
    draft = path.with_suffix(".draft")
    draft.write_bytes(body)
    draft.replace(path)


def _expect(is_right: object, otherwise: str) -> None:
    if not is_right:
        raise WrongAnswerError(otherwise)


if __name__ == "__main__":
    main()
