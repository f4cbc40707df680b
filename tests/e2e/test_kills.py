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
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

from blake3 import blake3

from hub import JupyterRelayHub
from hub.registry import Registry
from hub.secret import read_secret
from tests.conftest import LiveServer
from tests.hub.content.trees import hash_as_documented
from tests.jupyter import jupyter_server, wait_until
from tests.raw_http import Answer, fetch

KILLS = 100

#: Of a Jupyter server, which takes seconds to start.
JUPYTER_KILLS = int(os.environ.get("KDR_TEST_JUPYTER_KILLS", "4"))

#: It starts sooner without JupyterLab and the like.
WITHOUT_OTHERS = "--ServerApp.jpserver_extensions=" + repr(
    dict.fromkeys(("jupyter_lsp", "jupyter_server_terminals", "jupyterlab", "nbclassic", "notebook"), False)
)

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


HASHING = """
import os, sys
from pathlib import Path
import hub
registry, tree, kept, number = sys.argv[1:]
relay = hub.JupyterRelayHub(registry=registry, base_url="/", key_prefix="")
files = [path for path in Path(tree).rglob("*") if path.is_file()]
print("begins", flush=True)
for turn in range(10**6):
    files[turn % len(files)].write_text(f"{number} {turn}")
    for path in files:
        os.utime(path)  # So that it is hashed again.
    print(relay.serve_file(files[0], key=f"file-{number}-{turn}").key, flush=True)
    print(relay.serve_tree(tree, content=True, snapshot=None if turn % 3 else kept).key, flush=True)
"""


def test_kernels_killed_while_they_hash_and_copy_leave_nothing_half_done(
    registry_path: Path, tree: Path, tmp_path: Path
) -> None:
    """Two kernels hash a tree each, with processes that help them; they are killed within a fifth of a second."""
    kept = tmp_path / "kept"
    trees = [tree / "a", tree / "b"]
    for root in trees:
        for number in range(2100):
            path = root / str(number % 7) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{root.name} {number}")
    chance = random.Random(4)
    told = set()
    for kill in range(0, KILLS, len(trees)):
        with ExitStack() as stack:
            kernels = [
                stack.enter_context(
                    subprocess.Popen(
                        [sys.executable, "-c", HASHING, *map(str, (registry_path, root, kept, kill + number))],
                        stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE,
                        text=True,
                    )
                )
                for number, root in enumerate(trees)
            ]
            for kernel in kernels:
                assert kernel.stdout is not None
                assert kernel.stdout.readline() == "begins\n"
            time.sleep(chance.uniform(0, 0.2))
            for kernel in kernels:
                assert kernel.poll() is None
                kernel.kill()
            for kernel in kernels:
                assert kernel.stdout is not None
                assert kernel.stderr is not None
                told |= {line.strip() for line in kernel.stdout if line.endswith("\n")}
                # The processes that hash for it have its stderr: they have ended too, when that has.
                assert kernel.stderr.read() == ""
        registry = Registry(registry_path)
        registry.check()
        assert told <= {registration.key for registration in registry.registrations()}
        registry.close()
    assert len(told) > KILLS / 2
    hub = JupyterRelayHub(registry=registry_path, base_url="/", key_prefix="")
    assert len(read_secret(registry_path)) == 32
    for root in trees:
        assert hub.serve_tree(root, content=True, snapshot=kept).key == hash_as_documented(root)
    hub.registry.close()
    beside = {path.suffix for path in registry_path.parent.rglob("*") if path.is_file()}
    assert beside == {".sqlite", ".secret", ".manifest", ".index"}
    assert {path.name for path in kept.iterdir()} == {"objects", "kept", "lock"}
    assert not [*kept.rglob("*.tmp")]
    for path in (kept / "objects").glob("*/*"):
        assert blake3(path.read_bytes()).hexdigest() == path.name


class Readers:
    """Threads that read parts of one file again and again, and compare each byte, also of what is broken off."""

    def __init__(self, ask: Callable[[dict[str, str]], Answer], body: bytes, count: int = 4) -> None:
        self._ask, self._body = ask, body
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._read, args=(number,)) for number in range(count)]
        self.whole = self.broken_off = self.unanswered = 0
        self.wrong: list[str] = []

    def __enter__(self) -> Readers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _read(self, number: int) -> None:
        chance = random.Random(number)
        while not self._stop.is_set():
            first = chance.choice((0, chance.randrange(len(self._body) // 2)))
            last = chance.choice((len(self._body) - 1, chance.randrange(first, len(self._body))))
            try:
                answer = self._ask({"Range": f"bytes={first}-{last}"})
            except (OSError, AssertionError, IndexError):  # Of a head that ends half-way, too.
                self.unanswered += 1
                self._stop.wait(0.01)
                continue
            expected = memoryview(self._body)[first : last + 1]
            if answer.status != 206 or answer.body != expected[: len(answer.body)]:
                self.wrong.append(f"{answer.status}, {len(answer.body)} of {first}-{last}")
            elif answer.is_whole:
                self.whole += 1
                assert len(answer.body) == len(expected)
            else:
                self.broken_off += 1


def test_readers_of_killed_workers_get_no_wrong_byte(start_server: Callable[..., LiveServer], tree: Path) -> None:
    body = random.Random(1).randbytes(24 << 20)
    (tree / "a").write_bytes(body)
    server = start_server(
        worker_class="kdr_wsgi.serving.WatchfulWorker", workers=2, environment={"GUNICORN_CMD_ARGS": "--preload"}
    )
    url = server.hub.serve_tree(tree, visibility="public") + "a"
    chance = random.Random(2)
    killed: set[int] = set()
    with Readers(partial(fetch, server.address, url), body) as readers:
        while len(killed) < KILLS:
            time.sleep(chance.uniform(0.0, 0.1))
            if workers := sorted({*server.workers} - killed):
                os.kill(workers[0], signal.SIGKILL)
                killed.add(workers[0])
    assert fetch(server.address, url).body == body
    assert readers.wrong == []
    assert readers.whole > 20
    assert readers.broken_off > 20


def test_readers_of_a_killed_server_get_no_wrong_byte(start_server: Callable[..., LiveServer], tree: Path) -> None:
    body = random.Random(3).randbytes(24 << 20)
    (tree / "a").write_bytes(body)
    chance = random.Random(3)
    whole = 0
    for _ in range(5):
        server = start_server(worker_class="kdr_wsgi.serving.WatchfulWorker", workers=2)
        url = server.hub.serve_tree(tree, visibility="public") + "a"
        with Readers(partial(fetch, server.address, url), body) as readers:
            wait_until(lambda readers=readers: readers.whole > 0, "nothing is read")
            time.sleep(chance.uniform(0.0, 0.1))
            server.process.kill()
            server.process.wait()
            # Workers may end what they have begun; then nobody answers.
            wait_until(lambda readers=readers: readers.unanswered > 10, "workers go on without their server")
        assert readers.wrong == []
        whole += readers.whole
        with socket.create_server(server.address):
            pass
    assert whole > 5


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


def test_a_killed_jupyter_server_costs_the_requests_under_way_and_leaves_nothing(tmp_path: Path, tree: Path) -> None:
    """In every third round the relay server is killed with it, at once, so that nobody removes its socket."""
    body = random.Random(5).randbytes(8 << 20)
    (tree / "a").write_bytes(body)
    registry_path = tmp_path / "runtime" / "kdr" / "registry.sqlite"
    chance = random.Random(6)
    told: set[str] = set()
    whole = 0
    for kill in range(JUPYTER_KILLS + 1):
        with jupyter_server(tmp_path, WITHOUT_OTHERS) as jupyter:
            hub = JupyterRelayHub(registry=registry_path, base_url="/", key_prefix="")
            ask = partial(jupyter.fetch, hub.serve_tree(tree) + "a")
            assert ask({"Range": "bytes=0-9"}).body == body[:10]
            assert {registration.key for registration in hub.registry.registrations()} >= told
            hub.registry.check()
            hub.registry.close()
            # Of those that were killed before nothing is left.
            assert len([*jupyter.temporary.iterdir()]) == 1
            assert len([*registry_path.with_name("registry.sqlite.servers").iterdir()]) == 1
            if kill == JUPYTER_KILLS:
                break
            program = [sys.executable, "-c", REGISTERING, str(registry_path), str(tree / "a"), f"k{kill}"]
            with (
                subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as kernel,
                Readers(ask, body, count=3) as readers,
            ):
                assert kernel.stdout is not None
                assert kernel.stdout.readline() == "begins\n"
                time.sleep(chance.uniform(0.0, 0.3))
                relay = jupyter.relay_processes() if kill % 3 == 2 else []
                for process in (*relay, jupyter.process.pid):
                    with suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
                jupyter.process.wait()
                kernel.kill()
                told |= {f"k{kill}-{line.strip()}" for line in kernel.stdout if line.endswith("\n")}
                wait_until(lambda jupyter=jupyter: jupyter.relay_processes() == [], "the relay server is left")
            assert readers.wrong == []
            whole += readers.whole
            for folder in jupyter.temporary.iterdir():
                os.utime(folder, (1, 1))  # A younger one may be about to be listened on.
    assert len(told) > JUPYTER_KILLS
    assert whole > 0
