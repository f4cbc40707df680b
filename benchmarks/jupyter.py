"""How fast are tiles through a Jupyter server, and what do large bodies cost it.

Every peer has a real Jupyter server of its own, with a kernel, and is asked in
turn in every round, as a browser that is logged in asks. Two cores are enough:
``split`` gives the first to the Jupyter server, and the last to what stands
behind it (its relay server, its kernel) and to the client; ``kernel-alone``
gives the last to the kernel only. Run it as ``python -m benchmarks.jupyter``; it
needs ``wrk``, and pywwt and wwt_kernel_data_relay for that peer.
"""

from __future__ import annotations

import argparse
import http.client
import importlib.util
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import websocket

from benchmarks.common import (
    SEND_FROM_DIRECTORY,
    TILE_BYTES,
    TILES_LUA,
    Sample,
    ask_with_wrk,
    gunicorn,
    make_big,
    make_tiles,
    median,
    need,
    shown,
    write_figures,
)
from benchmarks.figures import Column, Figures
from benchmarks.processes import (
    FIRST_CORE,
    LAST_CORE,
    PATIENCE_SECONDS,
    StartError,
    descendants,
    end,
    end_in_order,
    free_port,
    is_listening,
    pin,
    running,
)

FLOOR = "constant body"
OLD_RELAY = "wwt_kernel_data_relay"

#: Enabled in the server of their peer only: two of them answer at the same URLs.
EXTENSIONS = ("bench_constant", "kdr_wsgi", "wwt_kernel_data_relay", "jupyter_server_proxy")

CONSTANT = f"""
from jupyter_server.base.handlers import JupyterHandler
from tornado import web

BODY = bytes({TILE_BYTES})

class ConstantHandler(JupyterHandler):
    @web.authenticated
    def get(self):
        self.set_header("Content-Type", "image/png")
        self.finish(BODY)

def _jupyter_server_extension_points():
    return [{{"module": "bench_constant"}}]

def _load_jupyter_server_extension(server):
    server.web_app.add_handlers(".*$", [(server.base_url + "constant/.*", ConstantHandler)])
"""

#: What a kernel executes to publish the files; it prints the URL.
PUBLISH = "import hub; print(hub.get_relay_hub().serve_tree({root!r}, visibility='private'))"
PUBLISH_TO_OLD_RELAY = "from pywwt.jupyter_relay import get_relay_hub; print(get_relay_hub().serve_tree({root!r}))"

#: What a kernel executes to be busy; it prints when that was over.
COMPUTE = "import time; t = time.time() + {seconds}\nwhile time.time() < t: pass\nprint(time.time())"

#: A page's request for an image, as Chromium sends it, but for the login and the referrer.
BROWSER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36",
    "Accept": "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Accept-Language": "en-US,en;q=0.9",
    "Sec-Fetch-Site": "same-origin",
    "Sec-Fetch-Mode": "no-cors",
    "Sec-Fetch-Dest": "image",
}

#: The table of the run of everything.
THROUGH_JUPYTER = "Through a Jupyter server, tiles of 20 kB"

#: Of the gunicorn behind jupyter-server-proxy; as `benchmarks.direct` has by default.
THREADS = 16

CONNECTIONS = 8

MEGABYTE = 10**6
LARGE_MEGABYTES = (64, 300, 1000)

#: How often the event loop's health is asked for during a download.
HEARTBEAT_SECONDS = 0.005

#: A download that makes no progress for so long has failed.
DOWNLOAD_SECONDS = 120.0


@dataclass(frozen=True)
class Layout:
    """The cores that the processes may use.

    Attributes
    ----------
    server : int
        Of the Jupyter server.
    backend : int
        Of the server behind it.
    kernel : int
    client : int
    """

    server: int
    backend: int
    kernel: int
    client: int


LAYOUTS = {
    "split": Layout(server=FIRST_CORE, backend=LAST_CORE, kernel=LAST_CORE, client=LAST_CORE),
    "kernel-alone": Layout(server=FIRST_CORE, backend=FIRST_CORE, kernel=LAST_CORE, client=FIRST_CORE),
}


@dataclass(frozen=True)
class Case:
    """One table of tiles: how they are asked for, and what the kernel does meanwhile."""

    connections: int
    is_kernel_busy: bool
    layout: str

    def __str__(self) -> str:
        doing = "busy" if self.is_kernel_busy else "idle"
        return f"tiles, {_connections(self)}, kernel {doing}, {self.layout}"


@dataclass
class Download:
    """What a download of a large file took.

    Attributes
    ----------
    per_second : float or None
        Megabytes; None if it failed.
    growth : float
        Of the Jupyter server's memory at its peak, in megabytes.
    stall_ms : float
        The longest time that an answer to another, cheap request took.
    failure : str
        Why it failed; empty if it did not.
    """

    per_second: float | None
    growth: float
    stall_ms: float
    failure: str


@dataclass
class Jupyter:
    """A Jupyter server that runs, and its kernel."""

    process: subprocess.Popen[bytes]
    port: int
    token: str
    log: Path
    cookie: str = field(default="", repr=False)
    kernel: str = ""
    kernel_process: int = 0

    @property
    def origin(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        """Those of a browser that is logged in; ``/files/`` asks for the referrer too."""
        return {**BROWSER, "Referer": f"{self.origin}/lab", "Cookie": self.cookie}

    def wait(self) -> None:
        """Wait until it answers; then log in, and start the kernel."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not is_listening(self.port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"a Jupyter server does not start:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.1)
        request = urllib.request.Request(f"{self.origin}/api/status?token={self.token}", headers=BROWSER)
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            cookies = answer.headers.get_all("Set-Cookie", [])
        self.cookie = "; ".join(cookie.partition(";")[0] for cookie in cookies)
        request = urllib.request.Request(
            f"{self.origin}/api/kernels",
            data=json.dumps({"name": "python3"}).encode(),
            headers={"Authorization": f"token {self.token}"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            self.kernel = json.load(answer)["id"]
        self.kernel_process = int(self.execute("import os; print(os.getpid())"))

    def execute(self, code: str) -> str:
        """Let the kernel execute `code`, and return what it prints."""
        with self.executing(code) as wait:
            return wait()

    @contextmanager
    def executing(self, code: str) -> Iterator[Callable[[], str]]:
        """Let the kernel execute `code`; the block begins when the kernel does.

        Yields
        ------
        callable
            Waits until the kernel is idle, and returns what it has printed.
        """
        url = f"ws://127.0.0.1:{self.port}/api/kernels/{self.kernel}/channels"
        channels = websocket.create_connection(
            url, timeout=PATIENCE_SECONDS, header={"Authorization": f"token {self.token}"}
        )
        try:
            request = _execute_request(code)
            channels.send(json.dumps(request))
            messages = _messages(channels, request["header"]["msg_id"])
            for message in messages:
                if message["msg_type"] == "status" and message["content"]["execution_state"] == "busy":
                    break
            yield lambda: _printed(messages)
        finally:
            channels.close()

    @contextmanager
    def computing(self, seconds: float) -> Iterator[None]:
        """Keep the kernel busy for the block, which takes `seconds`; end when the kernel is idle again.

        Raises
        ------
        RuntimeError
            The block took longer.
        """
        with self.executing(COMPUTE.format(seconds=seconds + 1)) as wait:
            yield
            over_at = time.time()
            if float(wait()) < over_at:
                raise RuntimeError("the kernel was idle before the measurement was over")

    def pin(self, layout: Layout) -> None:
        """Put the server, its kernel and what stands behind it on their cores."""
        pin([self.process.pid], [layout.server])
        for process in descendants(self.process.pid):
            pin([process], [layout.kernel if process == self.kernel_process else layout.backend])

    def resident(self) -> float:
        """Return the megabytes of memory that the server has."""
        return self._memory("VmRSS")

    def peak(self) -> float:
        """Return the most that it had since `forget_peak`."""
        return self._memory("VmHWM")

    def forget_peak(self) -> None:
        """Let the peak begin anew; see proc(5), clear_refs."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def _memory(self, name: str) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) * 1024 / MEGABYTE  # type: ignore[index]  # it is always there


class NoAnswerError(Exception):
    """A peer does not send what it is asked for; the sentence tells what it does."""


#: What may go wrong with one peer, and leaves the others as they are.
FAILURES = (NoAnswerError, StartError, RuntimeError, OSError, subprocess.SubprocessError, websocket.WebSocketException)


@dataclass
class Peer:
    """A way to the files: a Jupyter server and the path below which it has them."""

    name: str
    jupyter: Jupyter
    path: str
    backend: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address below which it has the files."""
        return f"{self.jupyter.origin}{self.path}"

    def wait(self, root: Path) -> None:
        """Wait until it has answered for whatever was asked before; check that it sends the right bytes.

        Raises
        ------
        NoAnswerError
            It does not.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        expected = bytes(TILE_BYTES) if self.name == FLOOR else (root / "tiles" / "0.png").read_bytes()
        answer: object = None
        while time.monotonic() < deadline:
            request = urllib.request.Request(f"{self.url}tiles/0.png", headers=self.jupyter.headers)
            try:
                with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as response:
                    answer = response.read()
            except OSError as error:
                answer = error
            if answer == expected:
                return
            time.sleep(0.1)
        shown = f"{len(answer)} other bytes" if isinstance(answer, bytes) else answer
        raise NoAnswerError(f"{self.name} does not send the file: {shown}\n{self.jupyter.log.read_text()[-4000:]}")

    def pin(self, layout: Layout) -> None:
        """Put its processes and this one, the client, on their cores."""
        self.jupyter.pin(layout)
        if self.backend is not None:
            pin([self.backend.pid, *descendants(self.backend.pid)], [layout.backend])
        pin([os.getpid()], [layout.client])


def _execute_request(code: str) -> dict[str, Any]:
    """Return the message that asks a kernel to execute `code`."""
    header = {
        "msg_id": uuid.uuid4().hex,
        "msg_type": "execute_request",
        "session": uuid.uuid4().hex,
        "username": "",
        "version": "5.3",
        "date": "",
    }
    content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False, "stop_on_error": True}
    return {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}


def _messages(channels: websocket.WebSocket, number: str) -> Iterator[dict[str, Any]]:
    """Yield the kernel's messages on one request, until it is idle."""
    while True:
        message = json.loads(channels.recv())
        if message["parent_header"].get("msg_id") != number:
            continue
        yield message
        if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
            return


def _printed(messages: Iterator[dict[str, Any]]) -> str:
    """Return what a kernel prints; raise RuntimeError with its traceback if it has one."""
    printed = ""
    for message in messages:
        if message["msg_type"] == "error":
            raise RuntimeError("\n".join(message["content"]["traceback"]))
        if message["msg_type"] == "stream" and message["content"]["name"] == "stdout":
            printed += message["content"]["text"]
    return printed.strip()


@contextmanager
def running_jupyter(folder: Path, root: Path, extension: str | None, log: Path) -> Iterator[Jupyter]:
    """Start a Jupyter server with one of `EXTENSIONS`; end it, and all that it has started, with the block."""
    port, token = free_port(), uuid.uuid4().hex
    enabled = {name: name == extension for name in EXTENSIONS if name == extension or importlib.util.find_spec(name)}
    home = Path(tempfile.mkdtemp(dir=folder))
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "JPY_", "KDR_"))}
    environment = {
        **inherited,
        "HOME": str(home),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")])),
    }
    command = [sys.executable, "-m", "jupyter", "server", "--allow-root", "--no-browser"]
    command += [f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}"]
    command += [f"--ServerApp.root_dir={root}", f"--ServerApp.jpserver_extensions={enabled}"]
    with open(log, "wb") as output:
        # In a session of its own: Ctrl-C is for this process, which ends the others in order.
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        yield Jupyter(process, port, token, log)
    finally:
        end(process)


def start_peers(
    stack: ExitStack, folder: Path, root: Path, on_failure: Callable[[str, str], None] | None = None
) -> list[Peer]:
    """Start every server and return the peers, the floor first.

    Parameters
    ----------
    on_failure : callable, optional
        Called with the name of a peer that is left out, and why. Without it only the old relay may be left
        out, where it is not installed, and other failures are raised.
    """
    (folder / "bench_constant.py").write_text(CONSTANT)
    (folder / "bench_flask.py").write_text(SEND_FROM_DIRECTORY)
    wanted = {
        FLOOR: "bench_constant",
        "kdr-wsgi": "kdr_wsgi",
        "/files/": None,
        "jupyter-server-proxy": "jupyter_server_proxy",
        OLD_RELAY: "wwt_kernel_data_relay",
    }
    missing = [name for name in ("wwt_kernel_data_relay", "pywwt") if importlib.util.find_spec(name) is None]
    if missing:
        del wanted[OLD_RELAY]
        reason = f"{' and '.join(missing)} cannot be imported: pip install pywwt wwt_kernel_data_relay"
        print(f"without {OLD_RELAY}, since {reason}", file=sys.stderr)
        if on_failure is not None:
            on_failure(OLD_RELAY, reason)
    servers = {
        name: stack.enter_context(running_jupyter(folder, root, extension, folder / f"jupyter-{number}.log"))
        for number, (name, extension) in enumerate(wanted.items())
    }
    peers = []
    for name, jupyter in servers.items():
        try:
            peers.append(_start_peer(stack, name, jupyter, folder, root))
        except FAILURES as error:
            if on_failure is None:
                raise
            on_failure(name, reason_of(error))
    return peers


def _start_peer(stack: ExitStack, name: str, jupyter: Jupyter, folder: Path, root: Path) -> Peer:
    jupyter.wait()
    backend = None
    if name == FLOOR:
        path = "/constant/"
    elif name == "/files/":
        path = "/files/"
    elif name == "jupyter-server-proxy":
        port = free_port()
        environment = {"BENCH_ROOT": str(root), "PYTHONPATH": str(folder)}
        backend = stack.enter_context(running(gunicorn("bench_flask:flask", port, THREADS), port, environment))
        path = f"/proxy/{port}/"
    else:
        publish = PUBLISH_TO_OLD_RELAY if name == OLD_RELAY else PUBLISH
        path = urllib.parse.urlsplit(jupyter.execute(publish.format(root=str(root)))).path
    peer = Peer(name, jupyter, path, backend)
    peer.wait(root)
    return peer


def reason_of(error: Exception) -> str:
    """Return the first line of what an error says."""
    return (str(error) or type(error).__name__).partition("\n")[0]


def measure_tiles(peer: Peer, case: Case, folder: Path, root: Path, seconds: int) -> Sample:
    """Let wrk ask for tiles for some seconds."""
    peer.wait(root)
    layout = LAYOUTS[case.layout]
    peer.pin(layout)
    headers = [f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in peer.jupyter.headers.items()]
    lua = "\n".join([*headers, TILES_LUA])
    with peer.jupyter.computing(seconds) if case.is_kernel_busy else ExitStack():
        return ask_with_wrk(peer.url, lua, folder, seconds, case.connections, [layout.client])


def measure_downloads(peer: Peer, root: Path, layout: Layout, taken: dict[str, dict[int, list[Download]]]) -> None:
    """Download each of the large files, and add what that took; the floor has none."""
    if peer.name == FLOOR:
        return
    for megabytes in LARGE_MEGABYTES:
        taken.setdefault(peer.name, {}).setdefault(megabytes, []).append(
            measure_download(peer, megabytes, root, layout)
        )


def measure_download(peer: Peer, megabytes: int, root: Path, layout: Layout) -> Download:
    """Download a large file, and throw it away."""
    peer.wait(root)
    peer.pin(layout)
    jupyter = peer.jupyter
    before = jupyter.resident()
    jupyter.forget_peak()
    with heartbeat(jupyter) as times:
        began = time.perf_counter()
        failure = download(peer, f"large/{megabytes}.bin", megabytes * MEGABYTE)
        took = time.perf_counter() - began
    return Download(
        per_second=None if failure else megabytes / took,
        growth=max(jupyter.peak() - before, 0.0),
        stall_ms=max(times) * 1e3,
        failure=failure,
    )


def download(peer: Peer, entry: str, size_bytes: int) -> str:
    """Read a file and count its bytes; return what went wrong, or nothing."""
    connection = http.client.HTTPConnection("127.0.0.1", peer.jupyter.port, timeout=DOWNLOAD_SECONDS)
    buffer = bytearray(1 << 20)
    received = 0
    try:
        connection.request("GET", f"{peer.path}{entry}", headers=peer.jupyter.headers)
        answer = connection.getresponse()
        while count := answer.readinto(buffer):
            received += count
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()
    if answer.status != 200:
        return str(answer.status)
    return "" if received == size_bytes else f"{received:,} bytes"


@contextmanager
def heartbeat(jupyter: Jupyter) -> Iterator[list[float]]:
    """Ask for something cheap all the time; the list gets the seconds of every answer."""
    times: list[float] = []
    is_over = threading.Event()

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", jupyter.port, timeout=DOWNLOAD_SECONDS)
        try:
            while not times or not is_over.is_set():
                began = time.perf_counter()
                connection.request("GET", "/api/status", headers=jupyter.headers)
                connection.getresponse().read()
                times.append(time.perf_counter() - began)
                is_over.wait(max(0.0, HEARTBEAT_SECONDS - times[-1]))
        except (OSError, http.client.HTTPException):
            times.append(time.perf_counter() - began)
        finally:
            connection.close()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        yield times
    finally:
        is_over.set()
        thread.join()


def report_tiles(samples: dict[str, list[Sample]]) -> dict[str, Any]:
    """Print a table of tiles, and return its figures."""
    medians = {name: statistics.median(sample.per_second for sample in taken) for name, taken in samples.items()}
    heads = f"{'requests/s':>12}{'p50 ms':>10}{'p99 ms':>10}{'of the floor':>14}{f'x {OLD_RELAY}':>25}{'failed':>8}"
    print(f"{'':24}{heads}")
    figures = {}
    for name, taken in samples.items():
        figures[name] = {
            "per_second": medians[name],
            "p50_ms": median([sample.p50_ms for sample in taken]),
            "p99_ms": median([sample.p99_ms for sample in taken]),
            "failed": sum(sample.failed for sample in taken),
        }
        p50, p99 = (shown(figures[name][percentile], ".2f") for percentile in ("p50_ms", "p99_ms"))
        floor, old = (
            shown(medians[name] / medians[other] if medians.get(other) else None, ".2f") for other in (FLOOR, OLD_RELAY)
        )
        print(f"{name:24}{medians[name]:12,.0f}{p50:>10}{p99:>10}{floor:>14}{old:>25}{figures[name]['failed']:8}")
    return figures


def report_downloads(samples: dict[str, dict[int, list[Download]]]) -> dict[str, Any]:
    """Print a table of downloads, and return its figures."""
    print(f"{'':24}{'file, MB':>10}{'MB/s':>10}{'memory, MB':>12}{'stall, ms':>12}  failed")
    figures: dict[str, Any] = {}
    for name, sizes in samples.items():
        figures[name] = {}
        for megabytes, taken in sizes.items():
            failures = [download.failure for download in taken if download.failure]
            speed = median([download.per_second for download in taken])
            growth = statistics.median(download.growth for download in taken)
            stall_ms = statistics.median(download.stall_ms for download in taken)
            figures[name][megabytes] = {
                "megabytes_per_second": speed,
                "memory_megabytes": growth,
                "stall_ms": stall_ms,
                "failed": failures,
            }
            failed = f"{len(failures)} of {len(taken)}: {', '.join(sorted(set(failures)))}" if failures else "0"
            print(f"{name:24}{megabytes:10,}{shown(speed, ',.0f'):>10}{growth:12,.1f}{stall_ms:12,.1f}  {failed}")
    return figures


def cases_of(question: str, layout: str) -> list[Case]:
    """Return the tables of a question about tiles.

    A busy kernel shows what waits for it only where it takes no core from the
    others; and an idle one beside it, measured at the same time.
    """
    if question == "tiles":
        return [Case(connections, False, layout) for connections in (1, CONNECTIONS)]
    return [Case(CONNECTIONS, is_busy, "kernel-alone") for is_busy in (False, True)]


def ask_in_turn(figures: Figures, rounds: int, seconds: int, layout: str = "split") -> None:
    """Ask every peer for tiles, with one connection and with several; the row of one that fails says why."""
    columns = {
        case: figures.add(Column(f"jupyter, {case.connections}", (THROUGH_JUPYTER,), _connections(case)))
        for case in cases_of("tiles", layout)
    }

    def leave_out(name: str, reason: str) -> None:
        for column in columns.values():
            column.row(name).failure = reason

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        root = folder / "root"
        make_tiles(root)
        peers = start_peers(stack, folder, root, leave_out)
        for number in range(rounds):
            print(f"through Jupyter: round {number + 1} of {rounds}", flush=True)
            for peer in [*peers]:
                try:
                    for case, column in columns.items():
                        column.row(peer.name).add(measure_tiles(peer, case, folder, root, seconds))
                except FAILURES as error:
                    leave_out(peer.name, reason_of(error))
                    peers.remove(peer)


def _connections(case: Case) -> str:
    return f"{case.connections} connection{'' if case.connections == 1 else 's'}"


def main() -> None:
    """Measure, print tables, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="of each measurement of tiles")
    parser.add_argument(
        "--layout", choices=LAYOUTS, default="split", help="default: split; the question busy always has kernel-alone"
    )
    parser.add_argument("--question", action="append", choices=("tiles", "busy", "large"), help="default: all")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    questions = options.question or ["tiles", "large", "busy"]
    need("wrk", "taskset")
    end_in_order()

    tiles: dict[Case, dict[str, list[Sample]]] = {}
    large: dict[str, dict[int, list[Download]]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        root = folder / "root"
        make_tiles(root)
        if "large" in questions:
            (root / "large").mkdir()
            for megabytes in LARGE_MEGABYTES:
                make_big(root / "large" / f"{megabytes}.bin", megabytes * MEGABYTE)
        peers = start_peers(stack, folder, root)
        for question in questions:
            for _ in range(options.rounds):
                for peer in [*peers]:
                    try:
                        if question == "large":
                            measure_downloads(peer, root, LAYOUTS[options.layout], large)
                        else:
                            for case in cases_of(question, options.layout):
                                sample = measure_tiles(peer, case, folder, root, options.seconds)
                                tiles.setdefault(case, {}).setdefault(peer.name, []).append(sample)
                    except NoAnswerError as error:
                        print(f"{error}\nFrom here on {peer.name} is left out.", file=sys.stderr)
                        peers.remove(peer)

    figures: dict[str, Any] = {}
    for case, samples in tiles.items():
        print(f"\n{case}: medians of {len(samples[FLOOR])} x {options.seconds} s")
        figures[str(case)] = report_tiles(samples)
    if large:
        print(f"\nlarge, {options.layout}: medians of {options.rounds}")
        figures[f"large, {options.layout}"] = report_downloads(large)
    if options.json:
        packages = ["jupyter_server", "tornado", "ipykernel", "gunicorn", "flask", "jupyter-server-proxy"]
        if any(peer.name == OLD_RELAY for peer in peers):
            packages += ["wwt_kernel_data_relay", "pywwt"]
        about = {
            "rounds": options.rounds,
            "seconds": options.seconds,
            "layouts": {name: asdict(layout) for name, layout in LAYOUTS.items()},
            "packages": {package: version(package) for package in packages},
        }
        write_figures(options.json, figures, about)


if __name__ == "__main__":
    main()
