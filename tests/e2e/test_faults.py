"""Disks that fail, go away and come back, or let nobody read, while a server serves what is on them."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hub import JupyterRelayHub
from tests.conftest import LiveServer, live_server, make_settled, need, unprivileged
from tests.faulty_disk import content, order
from tests.mounts import own_mounts, run_inside, with_mounts
from tests.raw_http import Connection, fetch

OUR_WORKER = "kdr_wsgi.serving.WatchfulWorker"

SERVERS = pytest.mark.parametrize("worker_class", [OUR_WORKER, "granian"])


@dataclass
class FaultyDisk:
    """A server, and the disk that it serves, which fails when it is told to."""

    server: LiveServer
    url: str
    orders: Path
    log: Path

    def get(self, entry: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        answer = fetch(self.server.address, self.url + entry, headers)
        return answer.status, answer.body


@pytest.fixture(params=[OUR_WORKER, "granian"])
def faulty(request: pytest.FixtureRequest, tmp_path: Path, tree: Path) -> Iterator[FaultyDisk]:
    orders, log = tmp_path / "orders", tmp_path / "log"
    disk = [sys.executable, "-m", "tests.faulty_disk", str(tree), str(orders)]
    tried = subprocess.run([*own_mounts(), *disk, "true"], capture_output=True, check=False)
    need("fuse", is_there=not tried.returncode, remedy="modprobe fuse, where users may open /dev/fuse and mount it")
    wrapper = [*own_mounts(), "sh", "-c", 'log=$1; shift; exec "$@" 2>"$log"', "sh", str(log), *disk]
    with live_server(tmp_path, request.param, wrapper=wrapper) as server:
        yield FaultyDisk(server, server.hub.serve_tree(tree, visibility="public"), orders, log)


WHOLE = {"small": (200, content(b"small")), "large": (200, content(b"large"))}


def test_a_disk_that_fails_is_told_and_served_again_once_it_is_mended(faulty: FaultyDisk) -> None:
    everything = ("lookup", "getattr", "open", "read", "opendir", "readdir")
    for number, operations in ((errno.EIO, everything), (errno.ESTALE, everything), (errno.EIO, ("open", "opendir"))):
        assert {name: faulty.get(name) for name in WHOLE} == WHOLE
        order(faulty.orders, *operations, number=number)
        for entry in ("small", "large", ""):
            for headers in ({}, {"Range": "bytes=0-9"}):
                status, body = faulty.get(entry, headers)
                # What is in memory is served where the disk says that it has not changed.
                if entry != "small" or operations == everything:
                    assert (status, body[:33]) == (503, b"The disk, or the file server, tha")
        order(faulty.orders)
        assert os.strerror(number) in faulty.log.read_text()
    assert {name: faulty.get(name) for name in WHOLE} == WHOLE
    assert "Traceback" not in faulty.log.read_text()


def test_a_disk_that_fails_within_a_file_ends_the_connection(faulty: FaultyDisk) -> None:
    body = content(b"large")
    order(faulty.orders, "read", beyond=4 << 20)
    answer = fetch(faulty.server.address, faulty.url + "large")
    assert not answer.is_whole
    assert body.startswith(answer.body)
    assert faulty.get("large", {"Range": "bytes=100-199"}) == (206, body[100:200])
    assert faulty.get("large", {"Range": "bytes=6000000-6000099"})[0] == 503
    order(faulty.orders)
    assert faulty.get("large", {"Range": "bytes=6000000-6000099"}) == (206, body[6000000:6000100])
    assert faulty.get("large") == WHOLE["large"]


def test_a_mount_whose_program_has_ended_is_told(faulty: FaultyDisk) -> None:
    assert faulty.get("small") == WHOLE["small"]
    os.kill(int(faulty.orders.with_suffix(".pid").read_text()), signal.SIGKILL)
    for entry in ("small", "large", ""):
        status, body = faulty.get(entry)
        assert (status, body[:8]) == (503, b"The disk")
    assert "Transport endpoint is not connected" in faulty.log.read_text()


def publish_inside(server: LiveServer, path: Path, *options: str) -> str:
    """Publish a path as it is seen by the server."""
    registry = ("--registry", server.hub.registry.location, "--visibility", "public")
    kdr = (sys.executable, "-m", "kdr_wsgi", "publish")
    return run_inside(server.process.pid, *kdr, *registry, *options, path).strip()


@SERVERS
@pytest.mark.parametrize(("options", "missing"), [((), 404), (("--content",), 410)], ids=["path", "content"])
def test_a_folder_that_is_unmounted_is_missing_until_it_is_mounted_again(
    tmp_path: Path, tree: Path, worker_class: str, options: tuple[str, ...], missing: int
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    large = os.urandom(32 << 20)
    (disk / "small").write_bytes(b"small")
    (disk / "large").write_bytes(large)
    make_settled(disk / "large")
    with live_server(tmp_path, worker_class, wrapper=with_mounts('mount --bind "$a0" "$a1"', disk, tree)) as server:
        url = publish_inside(server, tree, *options)
        for _ in range(2):
            assert fetch(server.address, url + "small").body == b"small"
            assert fetch(server.address, url + "large", {"Range": "bytes=9-99"}).body == large[9:100]
            with Connection(server.address) as reading:
                reading.send("GET", url + "large")
                reading.socket.recv(1)
                run_inside(server.process.pid, "umount", "-l", tree)
                for entry in ("small", "large"):
                    for headers in ({}, {"Range": "bytes=0-9"}):
                        answer = fetch(server.address, url + entry, headers)
                        assert answer.status == missing
                        assert len(answer.body.split()) > 8
                # Who was reading reads on: what is open stays.
                reading.buffer = b"H"
                assert reading.receive().body == large
            run_inside(server.process.pid, "mount", "--bind", disk, tree)


@SERVERS
@pytest.mark.parametrize("is_content", [False, True], ids=["path", "content"])
def test_a_permission_that_is_withdrawn_and_given_back(
    start_server: Callable[..., LiveServer], tree: Path, worker_class: str, *, is_content: bool
) -> None:
    server = start_server(worker_class=worker_class, wrapper=unprivileged())
    (tree / "folder").mkdir()
    bodies = {"small": b"small", "large": os.urandom(1 << 20)}
    for name, body in bodies.items():
        (tree / "folder" / name).write_bytes(body)
    url = server.hub.serve_tree(tree, visibility="public", content=is_content)
    places = [tree / "folder" / "small", tree / "folder" / "large", tree / "folder", tree]

    def is_served(name: str) -> bool:
        answer = fetch(server.address, f"{url}folder/{name}")
        return (answer.status, answer.body) == (200, bodies[name])

    for place in places:
        assert all(map(is_served, bodies))
        mode = place.stat().st_mode
        place.chmod(0)
        try:
            for name in bodies:
                if place.is_dir() or place.name == name:
                    for headers in ({}, {"Range": "bytes=0-9"}):
                        answer = fetch(server.address, f"{url}folder/{name}", headers)
                        assert answer.status == 403
                        assert answer.body == b"The relay server has no permission to read this file.\n"
                else:
                    assert is_served(name)
        finally:
            place.chmod(mode)
    assert all(map(is_served, bodies))


#: For this process alone, nobody can write to a folder.
READ_ONLY = 'mount --bind "$a0" "$a0" && mount -o remount,bind,ro "$a0"'


@SERVERS
def test_a_registry_that_is_only_read_here_is_served_while_somebody_has_it_open(
    registry_path: Path, hub: JupyterRelayHub, tree: Path, worker_class: str
) -> None:
    (tree / "a").write_bytes(b"a")
    first = hub.serve_tree(tree, key="first", visibility="public")
    server = "granian" if worker_class == "granian" else "gunicorn"
    command = [sys.executable, "-m", "kdr_wsgi", "serve", "--bind", "127.0.0.1:0", "--registry", str(registry_path)]
    wrapper = with_mounts(READ_ONLY, registry_path.parent)
    with subprocess.Popen([*wrapper, *command, "--server", server], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = ("127.0.0.1", int(process.stdout.readline().rpartition(":")[2]))
            for url in (first, hub.serve_tree(tree, key="second", visibility="public")):
                assert fetch(address, f"{url}a").body == b"a"
        finally:
            process.terminate()


def test_a_server_of_a_registry_that_can_only_be_read_says_what_it_needs(
    registry_path: Path, hub: JupyterRelayHub, tree: Path
) -> None:
    hub.serve_tree(tree)
    hub.registry.close()
    command = [sys.executable, "-m", "kdr_wsgi", "serve", "--bind", "127.0.0.1:0", "--registry", str(registry_path)]
    wrapper = with_mounts(READ_ONLY, registry_path.parent)
    done = subprocess.run([*wrapper, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (told,) = done.stderr.splitlines()
    assert "can only be read; name a file elsewhere in KDR_REGISTRY" in told
