"""What do objects of a store cost through us, beside the store alone, asked by its own client.

The store is OpenStack Swift with its S3 interface, on the same machine; one
worker of ours. Each round asks the store and us in turn. Run it as
``python -m benchmarks.stores``; it needs ``wrk``, and Swift as Debian has it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import obstore

from benchmarks.common import TILE_BYTES, ask_with_wrk, need
from benchmarks.processes import free_port, running
from hub import JupyterRelayHub
from tests.stores import write_rules
from tests.swift import running_swift

TILES = 200
RANGE_BYTES = 65536
CONNECTIONS = 8
CHUNK_BYTES = 64 << 20

TILE = """request = function()
  return wrk.format("GET", wrk.path .. "tiles/" .. math.random(0, @TILES - 1) .. ".png")
end"""

RANGE = """request = function()
  local first = math.random(0, @RANGES - 1) * @RANGE_BYTES
  wrk.headers["Range"] = "bytes=" .. string.format("%d-%d", first, first + @RANGE_BYTES - 1)
  return wrk.format("GET", wrk.path .. "big.bin")
end"""


def fill(bucket: Any, big_bytes: int) -> None:
    """Write tiles and one large object."""
    chance = os.urandom(TILE_BYTES)
    for number in range(TILES):
        obstore.put(bucket, f"tiles/{number}.png", b"%08d" % number + chance[8:])
    piece = os.urandom(1 << 20)

    def pieces() -> Iterator[bytes]:
        for _ in range(big_bytes >> 20):
            yield piece

    obstore.put(bucket, "big.bin", pieces(), use_multipart=True, chunk_size=CHUNK_BYTES)


async def ask_store(bucket: Any, question: str, ranges: int, seconds: float) -> float:
    """Ask the store itself, as often as it answers; return requests per second."""
    until = time.perf_counter() + seconds
    answered = 0

    async def ask(number: int) -> None:
        nonlocal answered
        while time.perf_counter() < until:
            number = (number * 7919 + 13) % 1_000_003
            if question == "tile":
                result = await obstore.get_async(bucket, f"tiles/{number % TILES}.png")
            else:
                start = number % ranges * RANGE_BYTES
                result = await obstore.get_async(bucket, "big.bin", options={"range": (start, start + RANGE_BYTES)})
            await result.bytes_async()
            answered += 1

    began = time.perf_counter()
    await asyncio.gather(*(ask(number) for number in range(CONNECTIONS)))
    return answered / (time.perf_counter() - began)


def read_store(bucket: Any) -> float:
    """Read the large object from the store itself; return MB a second."""
    began, size_bytes = time.perf_counter(), 0
    for chunk in obstore.get(bucket, "big.bin").stream(min_chunk_size=1 << 20):
        size_bytes += len(chunk)
    return size_bytes / 1e6 / (time.perf_counter() - began)


def open_body(port: int, path: str) -> socket.socket:
    """Ask for a body, and read nothing of it yet."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    return connection


def read_through_us(port: int, path: str) -> float:
    """Read the large object through us; return MB a second."""
    began, size_bytes = time.perf_counter(), 0
    with open_body(port, path) as connection:
        while chunk := connection.recv(1 << 20):
            size_bytes += len(chunk)
    return size_bytes / 1e6 / (time.perf_counter() - began)


def resident_mb(master: int) -> float:
    """Return the memory of a server's worker, in MB."""
    (worker,) = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{worker}/status").read_text())
    return int(found[1]) / 1024 if found else float("nan")


def read_slowly(master: int, port: int, path: str, readers: int, seconds: float) -> tuple[float, float]:
    """Let some read 1 MB a second each; return the worker's memory before, and the most of it meanwhile."""
    before = most = resident_mb(master)
    connections = [open_body(port, path) for _ in range(readers)]
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        for connection in connections:
            connection.recv(100_000)
        time.sleep(0.1)
        most = max(most, resident_mb(master))
    for connection in connections:
        connection.close()
    return before, most


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4, help="of each measurement")
    parser.add_argument("--gib", type=int, default=2, help="size of the large object")
    options = parser.parse_args()
    need("wrk", "swift-proxy-server", "memcached")
    ranges = (options.gib << 30) // RANGE_BYTES
    numbers = {"@TILES": TILES, "@RANGES": ranges, "@RANGE_BYTES": RANGE_BYTES}
    questions = {"tile": TILE, "range": RANGE}
    speeds: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "swift").mkdir()
        with running_swift(work / "swift") as swift:
            bucket = swift.make_bucket("bench")
            fill(bucket, options.gib << 30)
            prefix = {"prefix": "s3://bench/", "options": swift.options}
            hub = JupyterRelayHub(registry=work / "kdr" / "registry.sqlite", base_url="/")
            path = hub.serve_tree("s3://bench/", visibility="public")
            for kind, fresh_seconds, cache in (
                ("believed for a minute", 60, "67108864"),
                ("asked each second", 1, "67108864"),
                ("not kept", 1, "1"),
            ):
                port = free_port()
                rules = write_rules(work / "stores.json", {**prefix, "fresh_seconds": fresh_seconds})
                kdr = [sys.executable, "-m", "kdr_wsgi", "serve", "--workers", "1", "--bind", f"127.0.0.1:{port}"]
                environment = {
                    "KDR_REGISTRY": str(hub.registry.location),
                    "KDR_STORES": str(rules),
                    "KDR_CACHE_BYTES": cache,
                }
                with running(kdr, port, environment) as server:
                    for _ in range(options.rounds):
                        for question, lua in questions.items():
                            for word, number in numbers.items():
                                lua = lua.replace(word, str(number))
                            asked = f"http://127.0.0.1:{port}{path}"
                            sample = ask_with_wrk(asked, lua, work, options.seconds, CONNECTIONS)
                            speeds.setdefault((question, f"through us, {kind}"), []).append(sample.per_second)
                            if sample.failed:
                                print(f"{question}, {kind}: {sample.failed} failed")
                            alone = asyncio.run(ask_store(bucket, question, ranges, options.seconds))
                            speeds.setdefault((question, "store alone"), []).append(alone)
                    if kind == "asked each second":
                        for _ in range(options.rounds):
                            speeds.setdefault(("whole, MB", "through us"), []).append(
                                read_through_us(port, f"{path}big.bin")
                            )
                            speeds.setdefault(("whole, MB", "store alone"), []).append(read_store(bucket))
                        for readers in (1, 20, 60):
                            before, most = read_slowly(server.pid, port, f"{path}big.bin", readers, 15)
                            print(
                                f"{readers} slow readers of {options.gib} GiB: worker {before:.0f} MB before, "
                                f"{most:.0f} MB at the most"
                            )
            hub.registry.close()
    print(f"{'':40}{'a second':>10}")
    for (question, who), taken in speeds.items():
        print(f"{f'{question}, {who}':40}{statistics.median(taken):10,.0f}")


if __name__ == "__main__":
    main()
