"""Several relay servers of one registry: each answers each request, and one that ends is not missed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from hub import JupyterRelayHub
from tests.conftest import free_port, make_settled, wait_for_port
from tests.nginx import nginx_before_many
from tests.raw_http import Answer, Connection, fetch

LARGE_BYTES = 300 << 20

#: What differs from one answer to the next, whoever gives it.
VARYING = {"date", "connection"}


class Relay:
    """A relay server as an administrator runs several of them."""

    def __init__(self, registry: Path) -> None:
        self.address = ("127.0.0.1", free_port())
        command = [sys.executable, "-m", "gunicorn", "-c", "python:kdr_wsgi.gunicorn_conf", "-w", "1"]
        self.process = subprocess.Popen(
            [*command, "-b", f"127.0.0.1:{self.address[1]}", "--log-level", "warning", "kdr_wsgi:create_app()"],
            env={**os.environ, "KDR_REGISTRY": str(registry), "KDR_TRUSTED_PROXIES": "127.0.0.1"},
        )
        wait_for_port(self.address[1], self.process)

    def drain(self) -> int:
        """Ask it to end, as systemd and Kubernetes do, and wait for it."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def relays(registry: Path, number: int = 2) -> Iterator[list[Relay]]:
    running: list[Relay] = []
    with ExitStack() as stack:
        for _ in range(number):
            running.append(Relay(registry))
            stack.callback(running[-1].drain)
        yield running


def comparable(answer: Answer) -> tuple[int, set[tuple[str, str]], bytes]:
    return (
        answer.status,
        {(name.lower(), value) for name, value in answer.headers if name.lower() not in VARYING},
        answer.body,
    )


@pytest.fixture
def published(hub: JupyterRelayHub, tree: Path) -> dict[str, str]:
    """URLs of each kind, to be read without a login."""
    (tree / "a.txt").write_bytes(b"0123456789" * 10_000)
    (tree / "folder").mkdir()
    make_settled(tree / "a.txt")
    return {
        "file": hub.serve_file(tree / "a.txt", visibility="public"),
        "tree": hub.serve_tree(tree, visibility="public") + "a.txt",
        "folder": hub.serve_tree(tree, visibility="public", key="listed"),
        "content": hub.serve_tree(tree, content=True, visibility="public") + "a.txt",
        "missing": hub.serve_tree(tree, visibility="public") + "nothing",
    }


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=5-9"}, {"Range": "bytes=0-1,70000-70001"}])
def test_each_server_gives_the_same_answer_and_so_does_one_that_starts_later(
    registry_path: Path, published: dict[str, str], headers: dict[str, str]
) -> None:
    with relays(registry_path) as (first, second):
        for url in published.values():
            for method in ("GET", "HEAD"):
                answers = [comparable(fetch(relay.address, url, headers, method)) for relay in (first, second)]
                # The boundary between the parts of one body is chance.
                if b"multipart" not in repr(answers[0][1]).encode():
                    assert answers[0] == answers[1]
        tags = {kind: fetch(first.address, url)["ETag"] for kind, url in published.items() if kind in ("file", "tree")}
        tags["content"] = fetch(second.address, published["content"])["ETag"]
    with relays(registry_path, 1) as (later,):
        for kind, tag in tags.items():
            answer = fetch(later.address, published[kind], {"If-None-Match": tag})
            assert answer.status == 304


def test_what_is_registered_and_revoked_is_so_at_all_servers_with_the_next_request(
    registry_path: Path, hub: JupyterRelayHub, tree: Path
) -> None:
    (tree / "a").write_bytes(b"x")
    hub.registry.open()
    with relays(registry_path) as running, ExitStack() as stack:
        connections = [stack.enter_context(Connection(relay.address)) for relay in running]
        for number in range(50):
            url = hub.serve_tree(tree, key=f"k{number}", visibility="public")
            assert {connection.request("GET", f"{url}a").status for connection in connections} == {200}
            assert url.revoke()
            assert {connection.request("GET", f"{url}a").status for connection in connections} == {404}


def test_a_server_that_ends_is_not_missed_and_sends_what_it_has_begun(
    registry_path: Path, hub: JupyterRelayHub, tree: Path, tmp_path: Path
) -> None:
    with (tree / "large").open("wb") as file:
        file.truncate(LARGE_BYTES)
    (tree / "small").write_bytes(b"small")
    url = hub.serve_tree(tree, visibility="public")
    statuses: list[int] = []
    is_over = threading.Event()

    def look(address: tuple[str, int]) -> None:
        while not is_over.is_set():
            statuses.append(fetch(address, f"{url}small").status)

    (tmp_path / "nginx").mkdir()
    with (
        relays(registry_path) as (first, second),
        nginx_before_many(tmp_path / "nginx", (first.address[1], second.address[1])) as front,
        ExitStack() as stack,
    ):
        viewers = [threading.Thread(target=look, args=(front,)) for _ in range(4)]
        for viewer in viewers:
            viewer.start()
        # What is under way at the server itself, of which nginx keeps nothing.
        slow = stack.enter_context(Connection(first.address))
        slow.send("GET", f"{url}large")
        assert slow.socket.recv(1000, 2)  # MSG_PEEK: it has begun.
        try:
            before = len(statuses)
            first.process.send_signal(signal.SIGTERM)
            answer = slow.receive()
            assert (answer.is_whole, len(answer.body)) == (True, LARGE_BYTES)
            assert first.process.wait(60) == 0
            while len(statuses) < before + 500:
                assert all(viewer.is_alive() for viewer in viewers)
                is_over.wait(0.05)
        finally:
            is_over.set()
            for viewer in viewers:
                viewer.join(30)
        assert set(statuses) == {200}
