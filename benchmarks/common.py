"""What the benchmarks share: files, gunicorn's command, and wrk."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import LAST_CORE

TILES = 1000
TILE_BYTES = 20 * 1024

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


def gunicorn(application: str, port: int, threads: int, worker: str = "gthread", workers: int = 1) -> list[str]:
    """Return the command that serves `application`."""
    command = [sys.executable, "-m", "gunicorn", "--log-level", "warning", "--no-control-socket"]
    command += ["-k", worker, "--workers", str(workers), "--threads", str(threads), "--worker-connections", "1000"]
    return [*command, "--keep-alive", "75", "-b", f"127.0.0.1:{port}", application]


def ask_with_wrk(
    url: str,
    lua: str,
    folder: Path,
    seconds: int,
    connections: int,
    cores: Iterable[int] = (LAST_CORE,),
    *,
    is_missing: bool = False,
) -> Sample:
    """Let wrk ask for some seconds what `lua` says; the script is put into `folder`.

    With `is_missing` only refusals are right answers.
    """
    script = folder / "question.lua"
    script.write_text(lua)
    command = [
        "taskset",
        "-c",
        ",".join(map(str, cores)),
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{seconds}",
        "--latency",
    ]
    command += ["--timeout", f"{PATIENCE_SECONDS}s", "-s", str(script), url]
    timeout = seconds + 3 * PATIENCE_SECONDS
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=timeout).stdout
    return parse_wrk(printed, connections, is_missing=is_missing)


def parse_wrk(printed: str, connections: int, *, is_missing: bool = False) -> Sample:
    """Return the figures in what wrk has printed; with `is_missing`, refusals are what was asked for."""
    answered = int(re.search(r"(\d+) requests in", printed)[1])  # type: ignore[index]  # it is always there
    per_second = float(re.search(r"Requests/sec:\s+([\d.]+)", printed)[1])  # type: ignore[index]  # it is always there
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", printed)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", printed)
    failed = int(refused[1]) if refused else 0
    if is_missing:
        failed = answered - failed
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


def median(values: Iterable[float | None]) -> float | None:
    """Return the median of those values that exist."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def shown(value: float | None, form: str) -> str:
    """Format a figure, or what stands for none."""
    return "-" if value is None else format(value, form)


def write_figures(path: Path, figures: object, about: dict[str, object] | None = None) -> None:
    """Write the figures as JSON, and on what they were taken."""
    taken = {"date": time.strftime("%Y-%m-%d"), "python": platform.python_version(), "cores": os.cpu_count()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"about": {**taken, **(about or {})}, "figures": figures}, indent=1) + "\n")
