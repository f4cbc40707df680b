"""All questions, beside all peers, in one run: tables, JSON and a picture.

The first core is the server's and the last the client's, and every server has
its turn in every round, so that a noisy machine is noisy for all. With two
workers both cores are everybody's. Files are in the system's page cache, unless
``--drop-caches`` is given. It needs ``wrk`` and ``nginx``; with the name of a
module (``direct``, ``jupyter``, ``wtml``, ``content``, ``archives``, ``service``,
``registries``, ``stores``, ``listings``, ``scale``, ``storm``, ``soak``) and its
options it runs that one instead.
"""

from __future__ import annotations

import argparse
import os
import platform
import runpy
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.processes import LAST_CORE, end_in_order, pin

#: Those that can be run alone.
MODULES = (
    *("direct", "jupyter", "wtml", "content", "archives", "service", "registries", "stores", "listings", "scale"),
    *("storm", "soak"),
)

#: Those whose versions matter.
PACKAGES = (
    "gunicorn",
    "granian",
    "flask",
    "whitenoise",
    "starlette",
    "uvicorn",
    "uvloop",
    "jupyter_server",
    "tornado",
    "jupyter-server-proxy",
    "wwt_kernel_data_relay",
)

NEEDED = ("whitenoise", "starlette", "uvicorn", "granian", "matplotlib", "websocket")


def main() -> None:
    """Run one module, or all questions."""
    if len(sys.argv) > 1 and sys.argv[1] in MODULES:
        name = f"benchmarks.{sys.argv.pop(1)}"
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    else:
        run()


def run() -> None:
    """Ask all questions, or those that are chosen."""
    from benchmarks import questions

    parts = [*questions.parts_of(questions.QUESTIONS), "jupyter", "resources", "growth"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=Path("build/benchmarks"), help="folder; default: build/benchmarks")
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument("--seconds", type=int, default=2, help="of each measurement; default: 2")
    parser.add_argument("--only", "--question", action="append", choices=parts, help="may be repeated; default: all")
    parser.add_argument("--quick", action="store_true", help="at most 10,000 keys and files, not 1,000,000")
    parser.add_argument(
        "--drop-caches", action="store_true", help="let cold files come from the disk; only root may do that"
    )
    options = parser.parse_args()
    check_needs()
    from benchmarks import plot, report
    from benchmarks.figures import Figures

    # Neither of this process's server, nor of its registry.
    for name in [*os.environ]:
        if name.startswith(("JUPYTER", "JPY_", "KDR_")):
            del os.environ[name]
    end_in_order()
    pin([os.getpid()], [LAST_CORE])
    figures = Figures()
    about: dict[str, Any] = {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "packages": dict(filter(None, map(find_version, PACKAGES))),
    }
    began = time.monotonic()
    try:
        ask(options, options.only or parts, figures)
    finally:
        # Of what was interrupted, what there is.
        about["minutes"] = round((time.monotonic() - began) / 60, 1)
        print(f"\n{report.write(figures, about, notes(options), options.to)}")
        plot.draw(figures, options.to / "benchmarks.png")
        print(f"In {about['minutes']} minutes, written to {options.to}")


def ask(options: argparse.Namespace, chosen: list[str], figures: Any) -> None:
    """Ask what was chosen; where a part fails as a whole, the others are asked all the same."""
    from benchmarks import growth, jupyter, peers, questions, resources

    direct = [question for question in questions.QUESTIONS if question.part in chosen]
    sizes = growth.QUICK_SIZES if options.quick else growth.SIZES
    with tempfile.TemporaryDirectory(prefix="kdr-bench-") as name:
        folder = Path(name)
        if direct or "resources" in chosen:
            print("making files", flush=True)
            root = folder / "root"
            questions.make_files(root)
            site = peers.make_site(folder / "site", root)
        if direct:
            before = questions.drop_page_cache if can_drop_caches(options) else lambda: None
            attempt(
                lambda: questions.ask_all(figures, direct, site, options.rounds, options.seconds, before_turn=before)
            )
        if "jupyter" in chosen:
            attempt(lambda: jupyter.ask_in_turn(figures, options.rounds, options.seconds))
            pin([os.getpid()], [LAST_CORE])
        if "resources" in chosen:
            attempt(lambda: resources.measure(figures, site, min(options.rounds, 3)))
    if "growth" in chosen:
        attempt(lambda: growth.measure_keys(figures, sizes, options.rounds, options.seconds))
        attempt(lambda: growth.measure_files(figures, sizes, options.rounds, options.seconds))


def attempt(work: Callable[[], None]) -> None:
    """Do a part; say what failed, and let the others go on."""
    try:
        work()
    except Exception:  # noqa: BLE001  # Whatever it is, the figures of the other parts are good.
        traceback.print_exc()


def can_drop_caches(options: argparse.Namespace) -> bool:
    """Whether the page cache is to be dropped, and may be."""
    if not options.drop_caches:
        return False
    if os.access("/proc/sys/vm/drop_caches", os.W_OK):
        return True
    print("the page cache stays: only root may drop it", file=sys.stderr)
    return False


def notes(options: argparse.Namespace) -> dict[str, str]:
    """Return what the readers of the tables need to know, by table."""
    from benchmarks import growth, jupyter, peers, questions, resources

    disk = "dropped before each turn" if can_drop_caches(options) else "warm"
    same = "The same worker class (but for gthread, which is gunicorn's own), 16 threads and settings under gunicorn"
    granian = "" if peers.can_choose_server() else " kdr-wsgi under granian was started by granian's own command."
    return {
        questions.DIRECT: f"{same}: only the applications differ. A constant answer is of the kind that was asked for: "
        "20 kB, an empty 304, 64 KiB, an empty 404. Each once: a walk over a tree that is larger than the 64 MiB that "
        f"a worker keeps, so nothing comes from the process's memory; the system's page cache was {disk}.{granian}",
        questions.BY_CONNECTIONS: "One worker has the first core, and wrk the last; two workers and wrk share all.",
        jupyter.THROUGH_JUPYTER: "The Jupyter server has the first core, and what stands behind it and wrk the last.",
        resources.RESOURCES: "Memory is that of all processes (PSS), with one worker. Medians of "
        f"{min(options.rounds, 3)} starts; the tiles were read once.",
        growth.GROWTH: "A lookup is of a random key, and comes from SQLite, not from memory. Tiles are 1,000 "
        "different ones at most, of 16 bytes. Start and memory were measured once.",
    }


def find_version(package: str) -> tuple[str, str] | None:
    """Return a package and its version, if it is installed."""
    try:
        return package, version(package)
    except PackageNotFoundError:
        return None


def check_needs() -> None:
    """Stop if what all questions need is not installed."""
    from importlib.util import find_spec

    from benchmarks.common import need

    need("wrk", "nginx", "taskset")
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        sys.exit(f"{', '.join(missing)} cannot be imported; run: pip install -e '.[bench]'")


if __name__ == "__main__":
    main()
