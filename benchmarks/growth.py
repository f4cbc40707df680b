"""How the cost grows: with the keys of the registry, and with the files of a tree."""

from __future__ import annotations

import http.client
import os
import random
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from urllib.parse import quote

from benchmarks.common import ask_with_wrk
from benchmarks.figures import Column, Figures, Row
from benchmarks.peers import KDR, WHITENOISE_PEER, Server, make_site, start_peer
from benchmarks.processes import StartError, wait_until_idle
from benchmarks.questions import CONNECTIONS, Question, WrongAnswerError, check
from benchmarks.resources import Started
from hub.registration import Registration
from kdr_wsgi.catalog import Catalog

GROWTH = "How the cost grows"

SIZES = (1, 1_000, 1_000_000)
QUICK_SIZES = (1, 1_000, 10_000)

FILES_PER_FOLDER = 1000
FILE_BYTES = 16

#: Different files that are asked for, at most.
ASKED = 1000

#: What the system needs for a file in memory: a page, an inode and a name.
BYTES_PER_FILE = 6000

#: A server that needs longer to start is left out.
START_SECONDS = 60.0

#: Lookups that are timed.
LOOKUPS = 20_000

#: In the order of the keys, which is the fastest.
FILL = """
INSERT INTO registration ({columns})
WITH RECURSIVE count (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count WHERE n < ?)
SELECT {values} FROM (SELECT lower(hex(randomblob(16))) AS new_key FROM count ORDER BY new_key), registration
WHERE key = ?
"""

#: For wrk: one of the files that are asked for, by chance.
LUA = """request = function()
  local file = math.random(0, @ASKED - 1) * @STEP
  return wrk.format("GET", wrk.path .. math.floor(file / @PER_FOLDER) .. "/" .. file .. ".png")
end"""


def fill_registry(registry: Path, key: str, keys: int) -> None:
    """Copy the registration of `key` under random keys, in one transaction, until there are `keys` of them.

    The hub registers one path at a time; a million times would take hours.
    """
    if keys <= 1:
        return
    with closing(sqlite3.connect(registry, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size = -500000")
        columns = [name for _, name, *_ in connection.execute("PRAGMA table_info(registration)")]
        values = ", ".join("new_key" if name == "key" else name for name in columns)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(FILL.format(columns=", ".join(columns), values=values), (keys - 1, key))
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def some_keys(registry: Path, number: int) -> list[str]:
    """Return at most so many keys, by chance."""
    with closing(sqlite3.connect(f"file:{quote(str(registry))}?mode=ro", uri=True)) as connection:
        keys = [key for (key,) in connection.execute("SELECT key FROM registration")]
    return random.sample(keys, min(number, len(keys)))


def time_lookups(registry: Path, keys: Sequence[str]) -> float:
    """Return the microseconds in which a catalog finds a key in the registry, not in its memory.

    What of a registration may be served is asked only when it was looked up
    there, and nothing is kept of what may not.
    """
    found = 0

    def refuse(_: Registration) -> None:
        nonlocal found
        found += 1

    catalog = Catalog(registry, has_login=False, restrict=refuse)
    with closing(catalog):
        catalog.check()
        wanted = random.choices(keys, k=LOOKUPS)
        began = time.perf_counter()
        for key in wanted:
            catalog.find(key)
        took = time.perf_counter() - began
    if found != LOOKUPS:
        raise WrongAnswerError(f"{LOOKUPS - found:,} keys were not found")
    return took / LOOKUPS * 1e6


def make_tree(root: Path, files: int) -> None:
    """Write tiny files, a thousand to a folder."""
    for first in range(0, files, FILES_PER_FOLDER):
        folder = root / str(first // FILES_PER_FOLDER)
        folder.mkdir(parents=True)
        for number in range(first, min(first + FILES_PER_FOLDER, files)):
            descriptor = os.open(folder / f"{number}.png", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            os.write(descriptor, f"{number:0{FILE_BYTES}}".encode())
            os.close(descriptor)


def find_room(files: int) -> Path | None:
    """Return a folder in memory, or else on disk, with room for so many tiny files; None, if there is none."""
    for folder in (Path("/dev/shm"), Path(tempfile.gettempdir())):
        if folder.is_dir():
            room = os.statvfs(folder)
            # A file system without a fixed number of inodes tells of none.
            if room.f_bavail * room.f_frsize > files * BYTES_PER_FILE and (not room.f_files or room.f_favail > files):
                return folder
    return None


def measure_keys(figures: Figures, sizes: Sequence[int], rounds: int, seconds: int) -> None:
    """Ask for one file, and look random keys up, in registries of all sizes in turn."""
    speed = figures.add(Column("keys", (GROWTH,), "one tile"))
    lookup = figures.add(Column("lookups", (GROWTH,), "a lookup in the registry, in process", "µs", 1))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        root = folder / "root"
        make_tree(root, 1)
        question = _question(1)
        servers: dict[str, Server] = {}
        registries: dict[str, Path] = {}
        keys: dict[str, list[str]] = {}
        for size in sizes:
            print(f"a registry of {counted(size, 'key')}", flush=True)
            site = make_site(folder / str(size), root)
            name = counted(size, "key")
            (key,) = some_keys(site.registry, 1)
            fill_registry(site.registry, key, size)
            keys[name] = some_keys(site.registry, LOOKUPS)
            try:
                servers[name] = start_peer(stack, site, KDR)
            except (StartError, OSError) as error:
                speed.row(name).failure = str(error)
            registries[name] = site.registry
        for _ in range(rounds):
            for name, registry in registries.items():
                _note(lookup.row(name), partial(time_lookups, registry, keys[name]))
                if name in servers:
                    _ask(speed.row(name), servers[name], question, folder, seconds)


def measure_files(figures: Figures, sizes: Sequence[int], rounds: int, seconds: int) -> None:
    """Ask for files of trees of all sizes in turn; what a server needs to start stands beside it."""
    peers = {"kdr-wsgi": KDR, "whitenoise": WHITENOISE_PEER}
    speeds, starts, memories = (
        {
            name: figures.add(Column(f"files, {what}, {name}", (GROWTH,), f"{name}: {title}", unit, digits))
            for name in peers
        }
        for what, title, unit, digits in (
            ("requests", "tiles", "requests/s", 0),
            ("start", "first answer", "s", 2),
            ("memory", "memory", "MB", 1),
        )
    )
    for name in peers:
        for size in sizes:
            speeds[name].row(counted(size, "file"))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers: list[tuple[Row, Server, Question]] = []
        for size in sizes:
            label = counted(size, "file")
            print(f"a tree of {label}", flush=True)
            room = find_room(size)
            if room is None:
                for name in peers:
                    speeds[name].row(label).failure = "there is no room for so many files"
                continue
            root = Path(tempfile.mkdtemp(prefix="kdr-bench-", dir=room))
            stack.callback(shutil.rmtree, root, ignore_errors=True)
            make_tree(root, size)
            site = make_site(folder / str(size), root)
            for name, peer in peers.items():
                rows = [columns[name].row(label) for columns in (speeds, starts, memories)]
                try:
                    started = stack.enter_context(Started(site, peer, "0/0.png", patience_seconds=START_SECONDS))
                except (StartError, OSError) as error:
                    for row in rows:
                        row.failure = str(error)
                    continue
                rows[1].values.append(started.seconds)
                rows[2].values.append(started.memory_mb)
                servers.append((rows[0], started.server, _question(size)))
        for _ in range(rounds):
            for row, server, question in servers:
                _ask(row, server, question, folder, seconds)


def _question(files: int) -> Question:
    asked = min(ASKED, files)
    lua = LUA.replace("@ASKED", str(asked)).replace("@STEP", str(files // asked))
    lua = lua.replace("@PER_FOLDER", str(FILES_PER_FOLDER))
    return Question("growth", Column("", (), ""), (), lua, "0/0.png", size_bytes=FILE_BYTES)


def _ask(row: Row, server: Server, question: Question, folder: Path, seconds: int) -> None:
    if row.failure:
        return
    try:
        check(server, question)
        row.add(ask_with_wrk(server.url, question.lua, folder, seconds, CONNECTIONS))
        wait_until_idle(server.process.pid)
    except (OSError, http.client.HTTPException, WrongAnswerError) as error:
        row.failure = str(error) or type(error).__name__


def _note(row: Row, measure: Callable[[], float]) -> None:
    try:
        row.values.append(measure())
    except (OSError, WrongAnswerError) as error:
        row.failure = str(error)


def counted(number: int, what: str) -> str:
    """Return a number of things, as a row is called."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
