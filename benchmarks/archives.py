"""What do members of a zip archive cost, beside the same files in a folder.

One server, one worker on one core; archive and folder are asked in turn in
every round. Run it as ``python -m benchmarks.archives``; it needs ``wrk``, and
for a million files 5 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from pathlib import Path

from benchmarks.common import PATIENCE_SECONDS, TILE_BYTES, TILES, Sample, ask_with_wrk, need
from benchmarks.processes import free_port, running

FILES_PER_FOLDER = 1000
FILE_BYTES = 16
BIG_BYTES = 256 << 20
RANGE_BYTES = 65536
CONNECTIONS = 8

#: What a notebook does, in a Python of its own; it prints the URL, the seconds of the call, and by how many MB it grew.
PUBLISH = """
import json, sys, time, hub, hub.content.archives
def peak_kb():  # That of getrusage(2) is inherited.
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
relay = hub.JupyterRelayHub(registry=sys.argv[1], base_url="/")
relay.registry.open()
before = peak_kb()
began = time.perf_counter()
url = relay.serve_tree(sys.argv[2], visibility="public")
seconds = time.perf_counter() - began
print(json.dumps([url, seconds, (peak_kb() - before) / 1024]))
"""

#: By their names, for wrk: each asks for something else each time.
QUESTIONS = {
    "any of @MEMBERS files": """request = function()
  local file = math.random(0, @MEMBERS - 1)
  return wrk.format("GET", wrk.path .. math.floor(file / @PER_FOLDER) .. "/" .. file .. ".png")
end""",
    "one of 1,000 tiles of 20 kB": """request = function()
  return wrk.format("GET", wrk.path .. "tiles/" .. math.random(0, @TILES - 1) .. ".png")
end""",
    "one of 1,000 JSON files, as gzip": """wrk.headers["Accept-Encoding"] = "gzip"
request = function()
  return wrk.format("GET", wrk.path .. "json/" .. math.random(0, @TILES - 1) .. ".json")
end""",
    "64 KiB of 256 MiB": """request = function()
  local first = math.random(0, @RANGES - 1) * @RANGE_BYTES
  wrk.headers["Range"] = "bytes=" .. string.format("%d-%d", first, first + @RANGE_BYTES - 1)
  return wrk.format("GET", wrk.path .. "big.bin")
end""",
}


def make(archive: Path, folder: Path, members: int) -> None:
    """Write the same files to an archive and to a folder."""
    chance = os.urandom(TILE_BYTES)
    with zipfile.ZipFile(archive, "w") as written:

        def add(name: str, body: bytes, method: int = zipfile.ZIP_STORED) -> None:
            written.writestr(zipfile.ZipInfo(name), body, method)
            path = folder / name
            if not path.parent.exists():
                path.parent.mkdir(parents=True)
            path.write_bytes(body)

        for number in range(members):
            add(f"{number // FILES_PER_FOLDER}/{number}.png", b"%016d" % number)
        for number in range(TILES):
            add(f"tiles/{number}.png", b"%08d" % number + chance[8:])
            table = json.dumps([{"number": number, "row": row, "value": row * row} for row in range(400)]).encode()
            add(f"json/{number}.json", table, zipfile.ZIP_DEFLATED)
        add("big.bin", os.urandom(BIG_BYTES))


def publish(registry: Path, path: Path) -> tuple[str, float, float]:
    """Publish a path; return its URL, the seconds that it took, and the MB that it took at the most."""
    command = [sys.executable, "-c", PUBLISH, str(registry), str(path)]
    url, seconds, grown_mb = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return url, seconds, grown_mb


def time_first(url: str) -> float:
    """Return the milliseconds that a request takes."""
    began = time.perf_counter()
    with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as answer:
        answer.read()
    return (time.perf_counter() - began) * 1e3


def private_mb(master: int) -> float:
    """Return the memory of a server's worker that is no file's, in MB."""
    children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    worker = children[0] if children else str(master)
    lines = Path(f"/proc/{worker}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) / 1024


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3, help="of each measurement")
    options = parser.parse_args()
    need("wrk", "taskset")
    numbers = {
        "@MEMBERS": options.members,
        "@PER_FOLDER": FILES_PER_FOLDER,
        "@TILES": TILES,
        "@RANGES": BIG_BYTES // RANGE_BYTES,
        "@RANGE_BYTES": RANGE_BYTES,
    }
    samples: dict[tuple[str, str], list[Sample]] = {}
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        archive, folder, registry = work / "files.zip", work / "files", work / "kdr" / "registry.sqlite"
        make(archive, folder, options.members)
        began = time.perf_counter()
        with zipfile.ZipFile(archive) as opened:
            members = len(opened.namelist())
        print(f"{members:,} members; Python's zipfile opens the archive in {time.perf_counter() - began:.1f} s")
        # The second time nothing is read.
        for what in ("first", "second"):
            url, seconds, grown_mb = publish(registry, archive)
            print(f"published for the {what} time in {seconds:.2f} s, and up to {grown_mb:.0f} MB of memory")
        (index,) = Path(f"{registry}.manifests").glob("*/*.members")
        print(f"index: {index.stat().st_size / 1e6:.1f} MB, {index.stat().st_size / members:.0f} bytes a member")
        urls = {"archive": url, "folder": publish(registry, folder)[0]}
        port = free_port()
        kdr = [sys.executable, "-m", "kdr_wsgi", "serve", "--workers", "1", "--bind", f"127.0.0.1:{port}"]
        with running(kdr, port, {"KDR_REGISTRY": str(registry)}) as server:
            asked = {kind: f"http://127.0.0.1:{port}{path}" for kind, path in urls.items()}
            time_first(f"http://127.0.0.1:{port}/wwtkdr/_health")
            for kind in ("folder", "archive"):
                before = private_mb(server.pid)
                took = [time_first(f"{asked[kind]}{number // FILES_PER_FOLDER}/{number}.png") for number in (7, 8)]
                print(
                    f"{kind}: first request {took[0]:.1f} ms, second {took[1]:.1f} ms, "
                    f"worker grew by {private_mb(server.pid) - before:.1f} MB"
                )
            for _ in range(options.rounds):
                for question, lua in QUESTIONS.items():
                    for word, number in numbers.items():
                        lua = lua.replace(word, str(number))
                    for kind, address in asked.items():
                        sample = ask_with_wrk(address, lua, work, options.seconds, CONNECTIONS)
                        samples.setdefault((question, kind), []).append(sample)
            print(f"worker's own memory at the end: {private_mb(server.pid):.0f} MB, with the cache")
    print(f"{'':48}{'requests/s':>12}{'p50 ms':>10}{'p99 ms':>10}{'failed':>8}")
    for (question, kind), taken in samples.items():
        speed = statistics.median(sample.per_second for sample in taken)
        p50, p99 = (statistics.median(getattr(s, f"p{n}_ms") or float("nan") for s in taken) for n in (50, 99))
        asked_for = question.replace("@MEMBERS", f"{options.members:,}")
        print(f"{f'{asked_for}, {kind}':48}{speed:12,.0f}{p50:10.2f}{p99:10.2f}{sum(s.failed for s in taken):8}")


if __name__ == "__main__":
    main()
