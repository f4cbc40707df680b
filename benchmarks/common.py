"""What the benchmarks share: files, servers to compare with, and wrk."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TILES = 1000
TILE_BYTES = 20 * 1024

FIRST_CORE = 0
LAST_CORE = (os.cpu_count() or 1) - 1

#: How long wrk waits for an answer, before it counts it as a failure.
PATIENCE_SECONDS = 10

#: A module for gunicorn: Flask's way to send a file.
SEND_FROM_DIRECTORY = """
import os
from flask import Flask, send_from_directory

ROOT = os.environ["BENCH_ROOT"]

flask = Flask(__name__, static_folder=None)
@flask.get("/<path:entry>")
def send(entry):
    return send_from_directory(ROOT, entry, conditional=True)
"""

#: For wrk: a tile by chance.
TILES_LUA = f"""request = function()
  return wrk.format("GET", wrk.path .. "tiles/" .. math.random(0, {TILES - 1}) .. ".png")
end"""


@dataclass
class Sample:
    """What wrk printed.

    Attributes
    ----------
    per_second : float
        Requests that were answered, without those that failed.
    p50_ms, p99_ms : float or None
        None if none was answered.
    failed : int
        Answers of status 400 and above, and errors of connections; if nothing was
        answered, the requests that were under way at the end, which wrk does not count.
    """

    per_second: float
    p50_ms: float | None
    p99_ms: float | None
    failed: int


def need(*programs: str) -> None:
    """Stop if a program is not installed."""
    for program in programs:
        if shutil.which(program) is None:
            sys.exit(f"{program} is not installed; on Debian: apt-get install wrk nginx-light util-linux b3sum git")


def make_tiles(root: Path) -> None:
    """Write tiles of random bytes to ``root/tiles``."""
    (root / "tiles").mkdir(parents=True)
    for number in range(TILES):
        (root / "tiles" / f"{number}.png").write_bytes(os.urandom(TILE_BYTES))


def make_big(path: Path, size_bytes: int) -> None:
    """Write a big file, of random bytes."""
    block = os.urandom(1 << 20)
    with open(path, "wb") as big:
        for start in range(0, size_bytes, len(block)):
            big.write(block[: size_bytes - start])


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def gunicorn(application: str, port: int, threads: int) -> list[str]:
    """Return the command that serves `application`."""
    command = [sys.executable, "-m", "gunicorn", "--log-level", "warning", "--no-control-socket"]
    command += ["-k", "gthread", "--threads", str(threads), "--worker-connections", "1000"]
    return [*command, "-b", f"127.0.0.1:{port}", application]


@contextmanager
def running(command: list[str], port: int, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server on the first core until the block ends."""
    command = ["taskset", "-c", str(FIRST_CORE), *command]
    # In a session of its own: Ctrl-C is for this process, which ends the others in order.
    process = subprocess.Popen(command, env={**os.environ, **environment}, start_new_session=True)
    try:
        deadline = time.monotonic() + 30
        while not is_listening(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"did not start: {command}")
            time.sleep(0.05)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def is_listening(port: int) -> bool:
    """Whether somebody accepts connections on `port`."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ask_with_wrk(url: str, lua: str, folder: Path, seconds: int, connections: int, core: int = LAST_CORE) -> Sample:
    """Let wrk ask for some seconds what `lua` says; the script is put into `folder`."""
    script = folder / "question.lua"
    script.write_text(lua)
    command = ["taskset", "-c", str(core), "wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--latency"]
    command += ["--timeout", f"{PATIENCE_SECONDS}s", "-s", str(script), url]
    timeout = seconds + 3 * PATIENCE_SECONDS
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=timeout).stdout
    return parse_wrk(printed, connections)


def parse_wrk(printed: str, connections: int) -> Sample:
    """Return the figures in what wrk has printed."""
    answered = int(re.search(r"(\d+) requests in", printed)[1])  # type: ignore[index]  # it is always there
    per_second = float(re.search(r"Requests/sec:\s+([\d.]+)", printed)[1])  # type: ignore[index]  # it is always there
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", printed)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", printed)
    failed = int(refused[1]) if refused else 0
    good = max(answered - failed, 0)
    failed += sum(map(int, broken.groups())) if broken else 0
    return Sample(
        per_second=per_second * good / answered if answered else 0.0,
        p50_ms=_percentile_ms(50, printed) if answered else None,
        p99_ms=_percentile_ms(99, printed) if answered else None,
        failed=failed if answered else max(failed, connections),
    )


def _percentile_ms(percent: int, printed: str) -> float:
    value, unit = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)", printed).groups()  # type: ignore[union-attr]  # it is always there
    return float(value) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[unit]


def write_figures(path: Path, figures: object, about: dict[str, object] | None = None) -> None:
    """Write the figures as JSON, and on what they were taken."""
    taken = {"date": time.strftime("%Y-%m-%d"), "python": platform.python_version(), "cores": os.cpu_count()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"about": {**taken, **(about or {})}, "figures": figures}, indent=1) + "\n")
