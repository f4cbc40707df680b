"""Processes that are killed at any moment lose nothing that they were told is registered."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from hub.registry import Registry
from tests.conftest import LiveServer
from tests.raw_http import fetch

KILLS = 100

REGISTERING = """
import sys
import hub
relay = hub.JupyterRelayHub(registry=sys.argv[1], base_url="/", key_prefix="")
print("begins", flush=True)
for number in range(10**6):
    relay.serve_file(sys.argv[2], key=f"{sys.argv[3]}-{number}")
    print(number, flush=True)
"""


def test_what_a_killed_kernel_was_told_is_registered_is_there(registry_path: Path, tree: Path) -> None:
    """Each kernel is killed within its first thirty milliseconds of work, in the first of them the registry is made."""
    (tree / "a").write_text("a")
    chance = random.Random(0)
    told = set()
    for kill in range(KILLS):
        program = [sys.executable, "-c", REGISTERING, str(registry_path), str(tree / "a"), f"k{kill}"]
        with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as kernel:
            assert kernel.stdout is not None
            assert kernel.stdout.readline() == "begins\n"
            time.sleep(chance.uniform(0, 0.03))
            kernel.kill()
            told |= {f"k{kill}-{line.strip()}" for line in kernel.stdout if line.endswith("\n")}
        registry = Registry(registry_path)
        registry.check()
        assert told <= {registration.key for registration in registry.registrations()}
        registry.close()
    assert len(told) > KILLS
    assert {path.name for path in registry_path.parent.iterdir()} == {"registry.sqlite"}


def test_readers_of_killed_workers_get_no_wrong_byte(start_server: Callable[..., LiveServer], tree: Path) -> None:
    body = random.Random(1).randbytes(3 << 20)
    (tree / "a").write_bytes(body)
    server = start_server(worker_class="kdr_wsgi.serving.WatchfulWorker", workers=2)
    url = server.hub.serve_tree(tree, visibility="public") + "a"
    chance = random.Random(2)
    seen = {"whole": 0, "broken": 0, "wrong": 0}
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            try:
                answer = fetch(server.address, url)
            except (OSError, AssertionError, IndexError):  # Of a head that ends half-way, too.
                seen["broken"] += 1
                continue
            if not answer.is_whole:
                seen["broken"] += 1
            elif (answer.status, answer.body) == (200, body):
                seen["whole"] += 1
            else:
                seen["wrong"] += 1

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for _ in range(20):
        time.sleep(chance.uniform(0.0, 0.3))
        workers = server.workers
        if workers:
            os.kill(chance.choice(workers), signal.SIGKILL)
    stop.set()
    for reader in readers:
        reader.join()
    assert fetch(server.address, url).body == body
    assert seen["wrong"] == 0
    assert seen["whole"] > 20


def test_the_workers_of_a_killed_server_end_and_leave_its_port(start_server: Callable[..., LiveServer]) -> None:
    server = start_server(worker_class="kdr_wsgi.serving.WatchfulWorker", workers=2)
    deadline = time.monotonic() + 20
    while len(workers := server.workers) < 2:
        assert time.monotonic() < deadline, "the second worker does not start"
        time.sleep(0.02)
    server.process.kill()
    server.process.wait()
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline, "workers go on without their server"
        time.sleep(0.1)
    with socket.create_server(server.address):
        pass
