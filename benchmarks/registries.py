"""What a registry in PostgreSQL costs beside one in SQLite, from 1 key to 1,000,000.

In each round all registries have their turn: keys that a worker knows, keys
that it must look up, keys that there are not, registrations by one process and
by eight at once (each acknowledged before the next), and tiles of 20 kB from
one worker of gunicorn, which has the first core; wrk has the last. PostgreSQL is
as its own configuration makes it, on the same machine, over TCP; also with
``synchronous_commit=off``, which as SQLite's log does may lose the last
registrations with the power, and nothing else. Run it as ``python -m
benchmarks.registries``; it needs ``wrk`` and PostgreSQL.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

from benchmarks.common import TILES_LUA, ask_with_wrk, gunicorn, make_tiles, need, write_figures
from benchmarks.growth import fill_registry, some_keys
from benchmarks.processes import FIRST_CORE, LAST_CORE, end_in_order, free_port, pin, running
from hub import JupyterRelayHub
from hub.locations import Location, setting_of
from hub.postgres.connections import database_at
from hub.registration import Registration
from hub.registries import registry_at
from hub.settings import find_registry
from kdr_wsgi.catalog import Catalog
from tests.databases import DatabaseServer, running_database

SIZES = (1, 1_000, 1_000_000)

#: Of each kind and turn.
LOOKUPS = 5_000
HITS = 100_000
REGISTRATIONS = 500
AT_ONCE = 8

CONNECTIONS = 8
THREADS = 16

TREE = Registration("k", "tree", b"/data/tiles", visibility="public")

#: In the order of the keys, as `benchmarks.growth` fills one of SQLite's; the table has learned then what it holds.
FILL = """
INSERT INTO kdr.registration
SELECT (json_populate_record(r, json_build_object('key', md5(n::text || random()::text)))).*
FROM kdr.registration r, generate_series(2, %s) n WHERE r.key = %s
"""

_Times = list[float]


def main() -> None:
    """Measure, and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--seconds", type=int, default=3, help="of each turn of wrk; default: 3")
    parser.add_argument("--keys", type=int, nargs="+", default=SIZES, help=f"default: {' '.join(map(str, SIZES))}")
    parser.add_argument("--to", type=Path, help="a file for the figures, as JSON")
    options = parser.parse_args()
    need("wrk", "taskset")
    for name in [*os.environ]:
        if name.startswith(("JUPYTER", "JPY_", "KDR_")):
            del os.environ[name]
    end_in_order()
    pin([os.getpid()], [LAST_CORE])
    figures: dict[str, dict[str, dict[str, float]]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kdr-bench-")))
        make_tiles(folder)
        server = stack.enter_context(running_database(is_durable=True))
        for keys in options.keys:
            measured = _measure(stack, server, folder, keys, options.rounds, options.seconds)
            figures[f"{keys:,}"] = measured
            _print(keys, measured)
    if options.to:
        write_figures(options.to, figures)


def _measure(
    stack: ExitStack, server: DatabaseServer, folder: Path, keys: int, rounds: int, seconds: int
) -> dict[str, dict[str, float]]:
    """Return the medians of all rounds, by registry and by what was asked."""
    places: dict[str, Location] = {"SQLite": folder / f"{keys}" / "registry.sqlite"}
    for name, option in (("PostgreSQL", ""), ("PostgreSQL, async", "?options=-csynchronous_commit%3Doff")):
        places[name] = find_registry(stack.enter_context(server.new_database()) + option)
    names: dict[str, list[str]] = {}
    for name, location in places.items():
        hub = JupyterRelayHub(registry=location, base_url="/", key_prefix="")
        hub.serve_tree(folder / "tiles", key="tiles", visibility="public")
        names[name] = _fill(location, keys)
        hub.registry.close()
    samples: dict[str, dict[str, _Times]] = {name: {} for name in places}
    for _ in range(rounds):
        for name, location in places.items():
            for what, value in _take_turn(location, names[name], folder, seconds).items():
                samples[name].setdefault(what, []).append(value)
    return {
        name: {what: statistics.median(values) for what, values in asked.items()} for name, asked in samples.items()
    }


def _fill(location: Location, keys: int) -> list[str]:
    if isinstance(location, Path):
        fill_registry(location, "tiles", keys)
        return some_keys(location, LOOKUPS)
    with database_at(location).connection(None) as connection:
        connection.execute("SET statement_timeout = 0")
        connection.execute("SET kdr.is_quiet = 'on'")
        connection.execute(FILL, (keys, "tiles"))
        connection.execute("ANALYZE kdr.registration")
        connection.execute("RESET kdr.is_quiet")
        found = connection.execute("SELECT key FROM kdr.registration").fetchall()
    return random.sample([key for (key,) in found], min(LOOKUPS, len(found)))


def _take_turn(location: Location, keys: Sequence[str], folder: Path, seconds: int) -> dict[str, float]:
    measured: dict[str, float] = {}
    catalog = Catalog(location, has_login=False)
    with closing(catalog):
        catalog.check()
        known = keys[:1000]
        for key in known:
            catalog.find(key)
        _note(measured, "known keys", _time(catalog.find, random.choices(known, k=HITS)))
        _note(measured, "keys that are not there", _time(catalog.find, [f"no{number}" for number in range(LOOKUPS)]))

    # What is not to be served is looked up each time.
    refusing = Catalog(location, has_login=False, restrict=lambda _: None)
    with closing(refusing):
        refusing.check()
        _note(measured, "keys to look up", _time(refusing.find, random.choices(keys, k=LOOKUPS)))

    _note(measured, "registrations", _register(location, 0))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(AT_ONCE, context) as pool:
        list(pool.map(_connect, [location] * AT_ONCE))
        began = time.perf_counter()
        times = [each for some in pool.map(_register, [location] * AT_ONCE, range(1, AT_ONCE + 1)) for each in some]
        took = time.perf_counter() - began
    _note(measured, f"registrations, {AT_ONCE} at once", times, took)

    port = free_port()
    command = gunicorn("kdr_wsgi:create_app()", port, THREADS, "kdr_wsgi.serving.WatchfulWorker")
    with running(command, port, {"KDR_REGISTRY": setting_of(location)}, (FIRST_CORE,), folder / "log"):
        lua = TILES_LUA.replace('"tiles/"', '"wwtkdr/tiles/"')
        url = f"http://127.0.0.1:{port}/"
        ask_with_wrk(url, lua, folder, 1, CONNECTIONS)
        sample = ask_with_wrk(url, lua, folder, seconds, CONNECTIONS)
        if sample.failed:
            raise RuntimeError(f"{sample.failed} tiles were not sent")
        measured["tiles, 1 worker /s"] = sample.per_second
        measured["tiles, 1 worker p99 us"] = (sample.p99_ms or 0.0) * 1000
    return measured


def _connect(location: Location) -> None:
    with closing(registry_at(location)) as registry:
        registry.open()
    time.sleep(0.2)  # So that each process has one.


def _register(location: Location, process: int) -> _Times:
    registry = registry_at(location)
    with closing(registry):
        registry.open()
        return _time(
            lambda number: registry.claim(Registration(f"{process}-{number}", "tree", TREE.root)),
            range(REGISTRATIONS),
        )


def _time(work: Callable[[str], object] | Callable[[int], object], values: Sequence[object]) -> _Times:
    """Return how many microseconds each took."""
    times = []
    for value in values:
        began = time.perf_counter_ns()
        work(value)  # type: ignore[arg-type]  # of the kind that it takes
        times.append((time.perf_counter_ns() - began) / 1000)
    return times


def _note(measured: dict[str, float], what: str, times: _Times, took: float | None = None) -> None:
    ordered = sorted(times)
    measured[f"{what} /s"] = len(times) / (sum(times) / 1e6 if took is None else took)
    measured[f"{what} p50 us"] = ordered[len(ordered) // 2]
    measured[f"{what} p99 us"] = ordered[len(ordered) * 99 // 100]


def _print(keys: int, measured: dict[str, dict[str, float]]) -> None:
    print(f"\n{keys:,} key{'' if keys == 1 else 's'}")
    print(f"{'':32}" + "".join(f"{name:>20}" for name in measured))
    for what in next(iter(measured.values())):
        values = (found[what] for found in measured.values())
        print(f"{what:32}" + "".join(f"{value:>20,.{0 if value >= 100 else 1}f}" for value in values), flush=True)


if __name__ == "__main__":
    main()
