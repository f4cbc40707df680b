"""Many kernels register at the same time, and read at once what they have registered.

Each registration that was acknowledged must be readable with the next request,
whichever worker answers it. All processes share all cores. Run it as
``python -m benchmarks.storm``; it ends with 1 if anything failed.
"""

from __future__ import annotations

import argparse
import http.client
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.processes import ALL_CORES, PATIENCE_SECONDS, free_port, running
from hub import HubError, JupyterRelayHub

BODY = b"published"


@dataclass
class Storm:
    """What kernels have seen.

    Attributes
    ----------
    registering_ms, reading_ms : list of float
        One for each registration.
    failures : list of str
    """

    registering_ms: list[float] = field(default_factory=list)
    reading_ms: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def main() -> None:
    """Let it storm, and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernels", type=int, default=64, help="processes that register; default: 64")
    parser.add_argument("--workers", type=int, default=8, help="of the relay server; default: 8")
    parser.add_argument("--seconds", type=float, default=120.0, help="default: 120")
    options = parser.parse_args()
    storm = rage(options.kernels, options.workers, options.seconds)
    print(f"{options.kernels} kernels, {options.workers} workers, {options.seconds:g} s")
    print(f"registrations {len(storm.registering_ms):>10,}")
    print(f"{'':13} {'p50 ms':>10} {'p99 ms':>10} {'most ms':>10}")
    for name, values in (("registering", storm.registering_ms), ("reading", storm.reading_ms)):
        print(f"{name:13} {_at(values, 0.5):>10.1f} {_at(values, 0.99):>10.1f} {_at(values, 1.0):>10.1f}")
    print(f"failed        {len(storm.failures):>10,}")
    for failure in sorted(set(storm.failures))[:10]:
        print(f"  {failure}")
    sys.exit(bool(storm.failures))


def rage(kernels: int, workers: int, seconds: float) -> Storm:
    """Run a server and so many kernels for some seconds."""
    with tempfile.TemporaryDirectory(prefix="kdr-storm-") as place:
        file = Path(place) / "file"
        file.write_bytes(BODY)
        registry = Path(place) / "kdr" / "registry.sqlite"
        port = free_port()
        command = [sys.executable, "-m", "kdr_wsgi", "serve", "--registry", str(registry)]
        command += ["--bind", f"127.0.0.1:{port}", "--workers", str(workers)]
        with (
            running(command, port, {}, ALL_CORES, Path(place) / "log"),
            ProcessPoolExecutor(kernels, multiprocessing.get_context("spawn")) as pool,
        ):
            # So that all of them begin together, a second after the last has started.
            starts = [pool.submit(time.sleep, 1.0) for _ in range(kernels)]
            for start in starts:
                start.result()
            until = time.time() + seconds
            seen = [pool.submit(register_and_read, registry, file, port, until) for _ in range(kernels)]
            return _together([kernel.result() for kernel in seen])


def register_and_read(registry: Path, file: Path, port: int, until: float) -> Storm:
    """Register, and read what was registered, again and again; in a process of its own."""
    storm = Storm()
    relay = JupyterRelayHub(registry=registry, base_url="/", key_prefix="")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    number = 0
    while time.time() < until:
        number += 1
        begun = time.perf_counter()
        try:
            url = relay.serve_file(file, key=f"{multiprocessing.current_process().pid}-{number}", visibility="public")
            registered = time.perf_counter()
            connection.request("GET", url)
            answer = connection.getresponse()
            body = answer.read()
        except (HubError, OSError, http.client.HTTPException) as error:
            storm.failures.append(f"{type(error).__name__}: {error}")
            connection.close()
            continue
        read = time.perf_counter()
        storm.registering_ms.append((registered - begun) * 1000)
        storm.reading_ms.append((read - registered) * 1000)
        if (answer.status, body) != (200, BODY):
            storm.failures.append(f"answers {answer.status} to what was acknowledged")
    return storm


def _together(storms: Sequence[Storm]) -> Storm:
    return Storm(
        sorted(value for storm in storms for value in storm.registering_ms),
        sorted(value for storm in storms for value in storm.reading_ms),
        [failure for storm in storms for failure in storm.failures],
    )


def _at(values: Sequence[float], share: float) -> float:
    """Return the value below which a share of sorted `values` lies."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


if __name__ == "__main__":
    main()
