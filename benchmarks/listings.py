"""What does a prefix with up to 10,000,000 objects cost: its pages, its whole listing, its content key.

The store is OpenStack Swift with its S3 interface, on the same machine; one
worker of ours. So many objects are not written one by one: their names go
straight into the table that Swift lists, in the order of the names. The store
alone is asked by obstore for as many names. Run it as
``python -m benchmarks.listings``; it needs Swift as Debian has it, and for
10,000,000 names about 4 GB of disk.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import obstore

from benchmarks.common import need
from benchmarks.processes import free_port, memory_mb, running
from hub import JupyterRelayHub
from tests.stores import write_rules
from tests.swift import Swift, running_swift

#: What a worker shows on a page (`kdr_wsgi.listing`).
PAGE_ROWS = 300

_ETAG = "d41d8cd98f00b204e9800998ecf8427e"


def fill(swift: Swift, bucket: Any, objects: int) -> None:
    """Let the bucket list so many objects, ``tiles/00000000.png`` and so on."""
    obstore.put(bucket, "tiles/00000000.png", b"")
    with closing(sqlite3.connect(swift.database_of("listed"), isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        # They would count each row.
        triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("BEGIN")
        at = f"{time.time():016.05f}"
        connection.executemany(
            "INSERT INTO object (name, created_at, size, content_type, etag, deleted, storage_policy_index) "
            f"VALUES (?, '{at}', 0, 'image/png', '{_ETAG}', 0, 0)",
            ((f"tiles/{number:08}.png",) for number in range(1, objects)),
        )
        connection.execute("UPDATE policy_stat SET object_count = ?", (objects,))
        connection.execute("COMMIT")
        for _, sql in triggers:
            connection.execute(sql)


def ask_store(bucket: Any, after: str) -> int:
    """Ask the store itself for one page of its own."""
    return len(next(iter(obstore.list(bucket, "tiles", offset=after or None, chunk_size=1000))))


def timed(work: Callable[[], object], rounds: int) -> float:
    """Return how many seconds something takes, in the middle of some rounds."""
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def measure(work: Path, objects: int, whole: int, rounds: int) -> None:
    """Print a line for each question."""
    (work / "swift").mkdir(parents=True)
    with running_swift(work / "swift") as swift:
        bucket = swift.make_bucket("listed")
        began = time.perf_counter()
        fill(swift, bucket, objects)
        print(f"{objects:,} objects, which took {time.perf_counter() - began:.0f} s to write", flush=True)
        rules = write_rules(work / "stores.json", {"prefix": "s3://listed/", "options": swift.options})
        os.environ["KDR_STORES"] = str(rules)
        hub = JupyterRelayHub(registry=work / "kdr" / "registry.sqlite", base_url="/")
        url = hub.serve_tree("s3://listed/tiles/", visibility="public")
        port = free_port()
        kdr = [sys.executable, "-m", "kdr_wsgi", "serve", "--workers", "1", "--bind", f"127.0.0.1:{port}"]
        with running(kdr, port, {"KDR_REGISTRY": str(hub.registry.location)}) as server:

            def ask(target: str) -> bytes:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{target}", timeout=3600) as answer:
                    return bytes(answer.read())

            began = time.perf_counter()
            ask(url)
            print(f"first page, for the first time: {time.perf_counter() - began:.3f} s")
            for where, position in (("first", 0), ("in the middle", objects // 2), ("last", objects - PAGE_ROWS - 1)):
                name = f"{position:08}.png" if position else ""
                ours = timed(partial(ask, f"{url}?after={name}" if name else url), rounds)
                alone = timed(partial(ask_store, bucket, name and f"tiles/{name}"), rounds)
                print(f"page {where}: {ours:.3f} s; the store alone, 1,000 names: {alone:.3f} s", flush=True)
            print(f"worker: {memory_mb(server.pid):.0f} MB")
            if objects <= whole:
                began = time.perf_counter()
                body = ask(f"{url}?format=json")
                print(f"whole as JSON: {time.perf_counter() - began:.1f} s, {len(body) / 1e6:.0f} MB", end="; ")
                began = time.perf_counter()
                names = sum(len(page) for page in obstore.list(bucket, "tiles", chunk_size=1000))
                print(f"the store alone: {time.perf_counter() - began:.1f} s, {names:,} names", flush=True)
                began = time.perf_counter()
                promised = hub.serve_tree("s3://listed/tiles/", content=True, visibility="public")
                print(f"content key: {time.perf_counter() - began:.1f} s", end="; ", flush=True)
                print(f"its first page: {timed(partial(ask, promised), rounds):.3f} s", flush=True)
                print(f"worker: {memory_mb(server.pid):.0f} MB")
        hub.registry.close()


def main() -> None:
    """Measure each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, nargs="+", default=[10_000, 1_000_000, 10_000_000])
    parser.add_argument("--whole", type=int, default=1_000_000, help="up to here all is listed, too")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    need("swift-proxy-server", "memcached")
    for objects in options.objects:
        with tempfile.TemporaryDirectory() as name:
            measure(Path(name), objects, options.whole, options.rounds)


if __name__ == "__main__":
    main()
