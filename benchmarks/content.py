"""How fast are content keys made: the first time, and again.

Beside ``b3sum`` and ``sha256sum`` the first time, and beside ``git status``
and ``find`` the second. Every program takes its turn in every round, so that a
noisy machine is noisy for all. A program's start counts, that of Python does
not. All files are in the page cache. Run it as ``python -m
benchmarks.content``; it needs ``b3sum``, ``git`` and about 7 GB.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import TILE_BYTES, make_big, need, write_figures

FILES_PER_FOLDER = 400

#: What a notebook does, in a Python of its own; it prints the seconds of the call.
PUBLISH = """
import sys, time, hub, hub.content.publishing
relay = hub.JupyterRelayHub(registry=sys.argv[1], base_url="/")
relay.registry.open()
serve = relay.serve_tree if sys.argv[2] == "tree" else relay.serve_file
started = time.perf_counter()
serve(sys.argv[3], content=True)
print(time.perf_counter() - started)
"""


@dataclass
class Run:
    """One program's figures: seconds of each round, and the most memory that it took, in MB.

    Of our own calls the seconds are without the start of Python.
    """

    seconds: list[float]
    peak_mb: float = 0.0


def make_tree(root: Path, files: int, size_bytes: int) -> None:
    """Write files of which none is another's equal."""
    filling = os.urandom(max(size_bytes - 16, 0))
    for first in range(0, files, FILES_PER_FOLDER):
        folder = root / f"{first // FILES_PER_FOLDER // 25}" / f"{first // FILES_PER_FOLDER % 25}"
        folder.mkdir(parents=True)
        for number in range(first, min(first + FILES_PER_FOLDER, files)):
            (folder / f"{number}.png").write_bytes(f"{number:016}".encode() + filling)


def run(command: list[str], cwd: Path | None = None) -> tuple[float, float]:
    """Run a program; return its seconds and its peak memory in MB, without that of its own processes."""
    seconds, peak_mb, _ = _run(command, cwd, subprocess.DEVNULL)
    return seconds, peak_mb


def _run(command: list[str], cwd: Path | None, stdout: int) -> tuple[float, float, str]:
    started = time.perf_counter()
    with subprocess.Popen(command, cwd=cwd, stdout=stdout, text=True) as process:
        printed = process.stdout.read() if process.stdout else ""
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"failed: {command}")
    return seconds, usage.ru_maxrss / 1024, printed


def publish(registry: Path, kind: str, path: Path) -> tuple[float, float]:
    """Publish `path` under its hash; return the seconds of the call, and the peak memory in MB."""
    command = [sys.executable, "-c", PUBLISH, str(registry), kind, str(path)]
    _, peak_mb, printed = _run(command, None, subprocess.PIPE)
    return float(printed), peak_mb


def measure(rounds: int, programs: dict[str, Callable[[], tuple[float, float]]]) -> dict[str, Run]:
    """Let all programs take their turns."""
    figures = {name: Run([]) for name in programs}
    for _ in range(rounds):
        for name, program in programs.items():
            seconds, peak_mb = program()
            figures[name].seconds.append(seconds)
            figures[name].peak_mb = max(figures[name].peak_mb, peak_mb)
    return figures


def tell(title: str, figures: dict[str, Run], reference: str) -> dict[str, dict[str, float]]:
    """Print a table, and return what it says."""
    medians = {name: statistics.median(run.seconds) for name, run in figures.items()}
    print(f"\n{title}")
    print(f"{'':34}{'seconds':>9}{'fastest':>9}{'x ' + reference:>14}{'peak MB':>9}")
    for name, median in medians.items():
        fastest = min(figures[name].seconds)
        ratio = median / medians[reference]
        print(f"{name:34}{median:9.3f}{fastest:9.3f}{ratio:14.2f}{figures[name].peak_mb:9.0f}")
    return {name: {"seconds": medians[name], "peak_mb": figures[name].peak_mb} for name in medians}


def measure_tree(folder: Path, files: int, rounds: int) -> dict[str, dict[str, float]]:
    """Measure a tree of tiles, the first time and again."""
    root = folder / "tree"
    make_tree(root, files, TILE_BYTES)
    git = ["git", "-c", "user.name=b", "-c", "user.email=b@localhost", "-c", "core.fsmonitor=false"]
    subprocess.run([*git, "init", "-q"], cwd=root, check=True)
    subprocess.run([*git, "add", "-A"], cwd=root, check=True)
    subprocess.run([*git, "commit", "-q", "-m", "tiles"], cwd=root, check=True)
    # Beside the tree, so that all walk the same files.
    shutil.move(root / ".git", folder / "git")
    git += [f"--git-dir={folder / 'git'}", f"--work-tree={root}"]
    names = folder / "names"
    with names.open("wb") as file:
        subprocess.run(["find", root, "-type", "f", "-print0"], stdout=file, check=True)
    registry = folder / "first" / "registry.sqlite"

    def first() -> tuple[float, float]:
        shutil.rmtree(registry.parent, ignore_errors=True)
        return publish(registry, "tree", root)

    run(["xargs", "-0", "-a", str(names), "b3sum"])
    report = tell(
        f"{files:,} files of {TILE_BYTES:,} bytes, the first time",
        measure(
            rounds,
            {
                "b3sum": lambda: run(["xargs", "-0", "-a", str(names), "b3sum"]),
                "serve_tree(content=True)": first,
                "sha256sum": lambda: run(["xargs", "-0", "-a", str(names), "sha256sum"]),
            },
        ),
        "b3sum",
    )
    run([*git, "status"], cwd=root)
    again = tell(
        "the same, again",
        measure(
            rounds,
            {
                "find": lambda: run(["find", str(root), "-printf", "%s %T@"]),
                "serve_tree(content=True), again": lambda: publish(registry, "tree", root),
                "git status": lambda: run([*git, "status"], cwd=root),
            },
        ),
        "find",
    )
    return {**report, **again}


def measure_file(folder: Path, size_bytes: int, rounds: int) -> dict[str, dict[str, float]]:
    """Measure a large file, the first time and again."""
    path = folder / "big.fits"
    make_big(path, size_bytes)
    registry = folder / "file" / "registry.sqlite"

    def first() -> tuple[float, float]:
        shutil.rmtree(registry.parent, ignore_errors=True)
        return publish(registry, "file", path)

    run(["b3sum", str(path)])
    return tell(
        f"a file of {size_bytes / 1e9:.1f} GB",
        measure(
            rounds,
            {
                "b3sum": lambda: run(["b3sum", str(path)]),
                "serve_file(content=True)": first,
                "sha256sum": lambda: run(["sha256sum", str(path)]),
                "serve_file(content=True), again": lambda: publish(registry, "file", path),
            },
        ),
        "b3sum",
    )


def measure_many(folder: Path, files: int) -> dict[str, dict[str, float]]:
    """Measure a tree of very many small files once, and again, for the memory that it takes."""
    root = folder / "many"
    make_tree(root, files, 16)
    registry = folder / "many-registry" / "registry.sqlite"
    figures = {}
    for name in ("the first time", "again"):
        seconds, peak_mb = publish(registry, "tree", root)
        figures[name] = Run([seconds], peak_mb)
    figures["find"] = Run([run(["find", str(root), "-printf", "%s %T@"])[0]])
    manifests = registry.with_name("registry.sqlite.manifests").rglob("*")
    print(f"\nbeside the registry: {sum(path.stat().st_size for path in manifests if path.is_file()) / 1e6:.0f} MB")
    return tell(f"{files:,} files of 16 bytes", figures, "find")


def main() -> None:
    """Measure, print tables, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--files", type=int, default=100_000, help="of the tree")
    parser.add_argument("--gigabytes", type=float, default=4.0, help="of the large file")
    parser.add_argument("--many", type=int, default=0, help="files of a tree that is measured for its memory")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    need("b3sum", "git", "find", "sha256sum")
    report = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.files:
            report["tree"] = measure_tree(folder, options.files, options.rounds)
            shutil.rmtree(folder / "tree")
        if options.gigabytes:
            report["file"] = measure_file(folder, int(options.gigabytes * 1e9), options.rounds)
            (folder / "big.fits").unlink()
        if options.many:
            report["many"] = measure_many(folder, options.many)
    if options.json:
        write_figures(options.json, report)


if __name__ == "__main__":
    main()
