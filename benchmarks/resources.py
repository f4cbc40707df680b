"""What a server takes: the time until its first answer, and memory."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from benchmarks.figures import Column, Figures
from benchmarks.peers import (
    KDR,
    KDR_GRANIAN,
    NGINX_PEER,
    SEND_PEER,
    STARLETTE_PEER,
    WHITENOISE_PEER,
    Peer,
    Server,
    Site,
    path_at,
)
from benchmarks.processes import PATIENCE_SECONDS, StartError, end, free_port, last_line, memory_mb, start
from benchmarks.questions import COLD_PER_FOLDER, COLD_TILES

RESOURCES = "Start and memory"

PEERS = (KDR, KDR_GRANIAN, WHITENOISE_PEER, SEND_PEER, STARLETTE_PEER, NGINX_PEER)

#: That read the tiles at the same time.
CLIENTS = 8

#: How often a server that starts is asked.
ASK_SECONDS = 0.005


class Started:
    """A server that was started just now, until the block ends; it has answered.

    Attributes
    ----------
    server : Server
    seconds : float
        From its start to its first answer.

    Raises
    ------
    StartError
        It does not answer in time.
    """

    def __init__(
        self, site: Site, peer: Peer, entry: str, workers: int = 1, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        port = free_port()
        self._log = site.folder / f"{port}.log"
        command = peer.command(site, port, workers)
        began = time.perf_counter()
        self.server = Server(peer, start(command, site.environment, log=self._log), port, path_at(site, peer))
        try:
            self._wait(entry, began + patience_seconds)
            self.seconds = time.perf_counter() - began
        except BaseException:  # Ctrl-C too leaves no server.
            end(self.server.process)
            raise

    def __enter__(self) -> Started:
        return self

    def __exit__(self, *_: object) -> None:
        end(self.server.process)

    @property
    def memory_mb(self) -> float:
        """The megabytes of all its processes; what they share counts once."""
        return memory_mb(self.server.process.pid)

    def _wait(self, entry: str, deadline: float) -> None:
        last = "it refused the connection"
        while time.perf_counter() < deadline:
            if self.server.process.poll() is not None:
                raise StartError(f"did not start: {last_line(self._log)}")
            try:
                if read_all(self.server, [entry], max(deadline - time.perf_counter(), 0.1)) == 1:
                    return
                last = "it answered, but had no such file"
            except (OSError, http.client.HTTPException) as error:
                last = str(error) or type(error).__name__
            time.sleep(ASK_SECONDS)
        raise StartError(f"did not answer in time; the last time: {last}")


def read_all(server: Server, entries: Iterable[str], timeout: float = PATIENCE_SECONDS) -> int:
    """Read files one after another over one connection; return how many were there."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=timeout)
    found = 0
    try:
        for entry in entries:
            connection.request("GET", f"{server.path}{entry}")
            answer = connection.getresponse()
            answer.read()
            found += answer.status == 200
    finally:
        connection.close()
    return found


def measure(figures: Figures, site: Site, rounds: int) -> None:
    """Start every server anew in every round, and let it read 20,000 tiles in the first."""
    seconds = figures.add(Column("start", (RESOURCES,), "first answer", "s", 2))
    at_start = figures.add(Column("memory", (RESOURCES,), "memory after it", "MB", 1))
    after = figures.add(Column("memory after tiles", (RESOURCES,), f"after {COLD_TILES:,} tiles", "MB", 1))
    further = figures.add(Column("memory of a worker", (RESOURCES,), "each further worker at the start", "MB", 1))
    columns = (seconds, at_start, after, further)
    for number in range(rounds):
        print(f"start and memory: round {number + 1} of {rounds}", flush=True)
        for peer in PEERS:
            if seconds.row(peer.name).failure:
                continue
            try:
                with Started(site, peer, "cold/0/0.png") as started:
                    seconds.row(peer.name).values.append(started.seconds)
                    memory = started.memory_mb
                    at_start.row(peer.name).values.append(memory)
                    if number == 0:  # It takes long, and differs little.
                        after.row(peer.name).failed += read_cold_tiles(started)
                        after.row(peer.name).values.append(started.memory_mb)
                with Started(site, peer, "cold/0/0.png", workers=3) as started:
                    further.row(peer.name).values.append((settled_mb(started) - memory) / 2)
            except (StartError, OSError, http.client.HTTPException) as error:
                for column in columns:
                    column.row(peer.name).failure = str(error) or type(error).__name__


def settled_mb(started: Started) -> float:
    """Return the memory once it stays: the first worker answers before the others are ready."""
    before, now = 0.0, started.memory_mb
    deadline = time.monotonic() + PATIENCE_SECONDS
    while now - before > 0.1 and time.monotonic() < deadline:
        time.sleep(1.0)
        before, now = now, started.memory_mb
    return now


def read_cold_tiles(started: Started) -> int:
    """Read each of the cold tiles once; return how many were not there."""
    entries = [f"cold/{number // COLD_PER_FOLDER}/{number}.png" for number in range(COLD_TILES)]
    shares = [entries[client::CLIENTS] for client in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        return COLD_TILES - sum(pool.map(partial(read_all, started.server), shares))
