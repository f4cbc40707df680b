"""What every server is asked directly: tiles, 304s, ranges, misses, cold files, a big file."""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.common import TILE_BYTES, TILES_LUA, Sample, ask_with_wrk, make_big, make_tiles
from benchmarks.figures import Column, Figures, Row
from benchmarks.peers import (
    FLOOR,
    FLOOR_GRANIAN,
    FLOOR_GTHREAD,
    KDR,
    KDR_GRANIAN,
    KDR_GTHREAD,
    NGINX_PEER,
    RANGE_BYTES,
    READERS,
    WHITENOISE_PEER,
    Peer,
    Server,
    Site,
    floors,
    named,
    start_peer,
)
from benchmarks.processes import ALL_CORES, FIRST_CORE, LAST_CORE, PATIENCE_SECONDS, StartError, wait_until_idle

BIG_BYTES = 1 << 30

#: More than the 64 MiB that a worker keeps in memory.
COLD_TILES = 20_000
COLD_PER_FOLDER = 1000

CONNECTIONS = 8

#: The tables.
DIRECT = "One worker on one core, 8 connections"
BY_CONNECTIONS = "Tiles by connections and workers"

LUA_304S = """wrk.headers["If-None-Match"] = @ETAG
request = function()
  return wrk.format("GET", wrk.path .. "tiles/0.png")
end"""

LUA_RANGES = f"""request = function()
  local first = math.random(0, {BIG_BYTES // RANGE_BYTES - 1}) * {RANGE_BYTES}
  wrk.headers["Range"] = "bytes=" .. string.format("%d-%d", first, first + {RANGE_BYTES - 1})
  return wrk.format("GET", wrk.path .. "big.bin")
end"""

LUA_MISSES = """request = function()
  return wrk.format("GET", wrk.path .. "tiles/" .. math.random(1000000, 999999999) .. ".png")
end"""

#: A step that has no divisor in common with the number of tiles comes to each of them once.
LUA_COLD = f"""math.randomseed(os.time())
local tile = math.random(0, {COLD_TILES - 1})
request = function()
  tile = (tile + 7919) % {COLD_TILES}
  return wrk.format("GET", wrk.path .. "cold/" .. math.floor(tile / {COLD_PER_FOLDER}) .. "/" .. tile .. ".png")
end"""


class WrongAnswerError(Exception):
    """A server answers something else than it was asked for."""


@dataclass(frozen=True)
class Question:
    """A question that is asked for some seconds, or of a big file, once in each round.

    Attributes
    ----------
    part : str
        By which it is chosen.
    column : Column
        Without rows: each run has its own.
    peers : tuple of Peer
    lua : str
        For wrk; empty: the whole of `entry` is read.
    entry : str
        What is asked for to see that the answer is right.
    headers : callable
        Returns those of that request, for the entity tag of the first tile.
    status, size_bytes : int
        Of the right answer; the size of an error's body does not matter.
    connections, workers : int
    """

    part: str
    column: Column
    peers: tuple[Peer, ...]
    lua: str = TILES_LUA
    entry: str = "tiles/0.png"
    headers: Callable[[str], dict[str, str]] = lambda _: {}
    status: int = 200
    size_bytes: int = TILE_BYTES
    connections: int = CONNECTIONS
    workers: int = 1

    @property
    def cores(self) -> tuple[int, ...]:
        """Of the server."""
        return (FIRST_CORE,) if self.workers == 1 else ALL_CORES

    @property
    def client_cores(self) -> tuple[int, ...]:
        """Of the client."""
        return (LAST_CORE,) if self.workers == 1 else ALL_CORES


#: Those with other numbers of connections or workers are asked of these only.
_SOME = (KDR, KDR_GRANIAN, WHITENOISE_PEER, NGINX_PEER)


def _by_connections(connections: int) -> Question:
    plural = "" if connections == 1 else "s"
    return Question(
        "connections",
        Column(f"tiles, {connections} connection{plural}", (BY_CONNECTIONS,), f"{connections} connection{plural}"),
        (*_SOME, *named(floors("tile"), FLOOR, FLOOR_GRANIAN)),
        connections=connections,
    )


def _with_one_gunicorn(peers: tuple[Peer, ...]) -> tuple[Peer, ...]:
    """Leave out gunicorn's own worker class: tiles and 304s show how the two differ."""
    return tuple(peer for peer in peers if peer.name not in (KDR_GTHREAD.name, FLOOR_GTHREAD))


QUESTIONS = (
    Question("tiles", Column("tiles", (DIRECT, BY_CONNECTIONS), "20 kB tiles"), READERS + floors("tile")),
    Question(
        "304s",
        Column("304s", (DIRECT,), "304"),
        READERS + floors("unchanged"),
        LUA_304S,
        headers=lambda etag: {"If-None-Match": etag},
        status=304,
        size_bytes=0,
    ),
    Question(
        "ranges",
        Column("ranges", (DIRECT,), "64 KiB ranges of 1 GiB"),
        _with_one_gunicorn(READERS + floors("part")),
        LUA_RANGES,
        "big.bin",
        headers=lambda _: {"Range": f"bytes={RANGE_BYTES}-{2 * RANGE_BYTES - 1}"},
        status=206,
        size_bytes=RANGE_BYTES,
    ),
    Question(
        "misses",
        Column("misses", (DIRECT,), "tiles that are missing"),
        _with_one_gunicorn(READERS + floors("missing")),
        LUA_MISSES,
        "tiles/1000000.png",
        status=404,
    ),
    Question(
        "cold",
        Column("cold", (DIRECT,), "20,000 tiles, each once"),
        _with_one_gunicorn(READERS + floors("tile")),
        LUA_COLD,
        "cold/0/0.png",
    ),
    Question(
        "big",
        Column("big", (DIRECT,), "a whole file of 1 GiB", unit="MB/s"),
        _with_one_gunicorn(READERS),
        "",
        "big.bin",
        size_bytes=BIG_BYTES,
        connections=1,
    ),
    _by_connections(1),
    _by_connections(64),
    _by_connections(256),
    Question(
        "workers",
        Column("tiles, 2 workers", (BY_CONNECTIONS,), "8 connections, 2 workers, all on both cores"),
        (*_SOME, *named(floors("tile"), FLOOR, FLOOR_GRANIAN)),
        workers=2,
    ),
)


def make_files(root: Path) -> None:
    """Write what is asked for."""
    make_tiles(root)
    make_big(root / "big.bin", BIG_BYTES)
    make_cold_tiles(root / "cold")


def make_cold_tiles(root: Path) -> None:
    """Write tiles for which a worker's memory does not suffice."""
    for first in range(0, COLD_TILES, COLD_PER_FOLDER):
        folder = root / str(first // COLD_PER_FOLDER)
        folder.mkdir(parents=True)
        for number in range(first, min(first + COLD_PER_FOLDER, COLD_TILES)):
            (folder / f"{number}.png").write_bytes(os.urandom(TILE_BYTES))


def ask_all(
    figures: Figures,
    questions: Sequence[Question],
    site: Site,
    rounds: int,
    seconds: int,
    *,
    before_turn: Callable[[], None] = lambda: None,
) -> None:
    """Ask the questions; every server has its turn in every round.

    A server that does not start, or answers wrongly, is left out from then on;
    its row says why.

    Parameters
    ----------
    before_turn : callable
        Called before a server is asked for cold files.
    """
    for workers in sorted({question.workers for question in questions}):
        with ExitStack() as stack:
            servers: dict[Peer, Server | str] = {}
            for question in questions:
                if question.workers != workers:
                    continue
                for peer in question.peers:
                    if peer not in servers:
                        servers[peer] = _try_to_start(stack, site, peer, question)
                column = figures.add(replace(question.column, rows={}))
                for number in range(rounds):
                    print(f"{column.name}: round {number + 1} of {rounds}", flush=True)
                    warm_page_cache(site.root / question.entry.partition("/")[0])
                    for peer in question.peers:
                        if question.part == "cold":
                            before_turn()
                        _take_turn(column.row(peer.name), servers[peer], question, site, seconds)


def _try_to_start(stack: ExitStack, site: Site, peer: Peer, question: Question) -> Server | str:
    """Return the server, or why it did not start."""
    try:
        return start_peer(stack, site, peer, question.workers, question.cores)
    except (StartError, OSError) as error:
        return str(error)


def _take_turn(row: Row, server: Server | str, question: Question, site: Site, seconds: int) -> None:
    """Ask one server once, and add what it did to its row."""
    if isinstance(server, str):
        row.failure = server
        return
    if row.failure:
        return
    try:
        if question.lua:
            row.add(ask(server, question, site.folder, seconds))
        else:
            row.values.append(read_whole(server, question))
        wait_until_idle(server.process.pid)
    except (OSError, http.client.HTTPException, WrongAnswerError) as error:
        row.failure = str(error) or type(error).__name__
        print(f"{server.peer.name}: {row.failure}", flush=True)


def ask(server: Server, question: Question, folder: Path, seconds: int) -> Sample:
    """See that the answer is right, and let wrk ask for some seconds.

    Raises
    ------
    WrongAnswerError
    """
    etag = check(server, question)
    return ask_with_wrk(
        server.url,
        question.lua.replace("@ETAG", json.dumps(etag)),
        folder,
        seconds,
        question.connections,
        question.client_cores,
        is_missing=question.status == 404,
    )


def check(server: Server, question: Question) -> str:
    """Ask once, and return the entity tag of the first tile, which may be needed.

    Raises
    ------
    WrongAnswerError
    """
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_SECONDS)
    try:
        etag = ""
        if question.status == 304:
            connection.request("GET", f"{server.path}tiles/0.png")
            answer = connection.getresponse()
            answer.read()
            etag = answer.headers.get("ETag", '"none"')
        connection.request("GET", f"{server.path}{question.entry}", headers=question.headers(etag))
        answer = connection.getresponse()
        size_bytes = len(answer.read())
    finally:
        connection.close()
    is_size_right = question.status == 404 or size_bytes == question.size_bytes
    if answer.status != question.status or not is_size_right:
        raise WrongAnswerError(f"answers {answer.status} with {size_bytes:,} bytes")
    return etag


def read_whole(server: Server, question: Question) -> float:
    """Read a file, throw it away, and return the megabytes per second.

    Raises
    ------
    WrongAnswerError
    """
    buffer = memoryview(bytearray(1 << 20))
    request = f"GET {server.path}{question.entry} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(request.encode())
        head = b""
        while b"\r\n\r\n" not in head:
            more = connection.recv(65536)
            if not more:
                raise WrongAnswerError("ends the connection without an answer")
            head += more
        head, _, begun = head.partition(b"\r\n\r\n")
        received = len(begun)
        while received < question.size_bytes and (count := connection.recv_into(buffer)):
            received += count
    if b" 200 " not in head.partition(b"\r\n")[0] or received != question.size_bytes:
        raise WrongAnswerError(f"answers {head.partition(b' ')[2][:3].decode()} with {received:,} bytes")
    return question.size_bytes / 1e6 / (time.perf_counter() - began)


def warm_page_cache(path: Path) -> None:
    """Read a file, or all below a folder: a system may drop what was not read for a while, and the first would wait."""
    buffer = bytearray(1 << 20)
    for file in [path] if path.is_file() else (found for found in path.rglob("*") if found.is_file()):
        with file.open("rb", buffering=0) as opened:
            while opened.readinto(buffer):
                pass


def drop_page_cache() -> None:
    """Let the system forget what it has read of the disk; see proc(5), drop_caches."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("1")


def parts_of(questions: Iterable[Question]) -> list[str]:
    """Return the names by which questions are chosen, in their order."""
    return list(dict.fromkeys(question.part for question in questions))
