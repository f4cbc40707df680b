"""Servers as processes: started on their cores, watched, and ended with all that they have started."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType

FIRST_CORE = 0
LAST_CORE = (os.cpu_count() or 1) - 1
ALL_CORES = tuple(range(FIRST_CORE, LAST_CORE + 1))

#: How long a start or a stop may take.
PATIENCE_SECONDS = 60.0

#: How long a server may go on working after it was asked, before the next one has its turn anyway.
IDLE_SECONDS = 30.0


class StartError(Exception):
    """A server did not start; the sentence says why."""


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_listening(port: int) -> bool:
    """Whether somebody accepts connections on `port`."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def start(
    command: Sequence[str],
    environment: dict[str, str],
    cores: Iterable[int] = (FIRST_CORE,),
    log: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start a server on some cores; what it says goes to `log`, if there is one."""
    bound = ["taskset", "-c", ",".join(map(str, cores)), *command]
    with ExitStack() as stack:
        output = stack.enter_context(log.open("wb")) if log else None
        # In a session of its own: Ctrl-C is for this process, which ends the others in order.
        return subprocess.Popen(
            bound, env={**os.environ, **environment}, stdout=output, stderr=output, start_new_session=True
        )


@contextmanager
def running(
    command: Sequence[str],
    port: int,
    environment: dict[str, str],
    cores: Iterable[int] = (FIRST_CORE,),
    log: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server, on the first core if no others are given, until the block ends.

    Raises
    ------
    StartError
    """
    process = start(command, environment, cores, log)
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not is_listening(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise StartError(f"did not start: {last_line(log) or ' '.join(command)}")
            time.sleep(0.05)
        yield process
    finally:
        end(process)


def last_line(log: Path | None) -> str:
    """Return the last line that a server has said."""
    lines = log.read_text(errors="replace").split("\n") if log else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and its descendants, in order if they can."""
    family = []
    for descendant in descendants(process.pid) if process.poll() is None else ():
        with suppress(ProcessLookupError):
            family.append(os.pidfd_open(descendant))  # Whoever gets its number next is not meant.
    process.terminate()
    try:
        process.wait(PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for descendant in family:
        if not select.select([descendant], [], [], 5)[0]:
            signal.pidfd_send_signal(descendant, signal.SIGKILL)
        os.close(descendant)


def descendants(process: int) -> list[int]:
    """Return the processes that a process has started, and those that they have."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # It has just ended.
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    found = [process]
    for known in found:  # It grows meanwhile.
        found += children.get(known, [])
    return found[1:]


def pin(processes: Iterable[int], cores: Iterable[int]) -> None:
    """Bind every thread of some processes to cores; those that they start later inherit that."""
    allowed = frozenset(cores)
    for process in processes:
        for task in Path(f"/proc/{process}/task").glob("*"):
            with suppress(ProcessLookupError):
                os.sched_setaffinity(int(task.name), allowed)


def wait_until_idle(process: int) -> None:
    """Wait until a server has ended what it was asked: a client that goes away is not always noticed."""
    deadline = time.monotonic() + IDLE_SECONDS
    before = -1
    while (now := _ticks(process)) > before + 1 and time.monotonic() < deadline:
        before = now
        time.sleep(0.1)


def _ticks(process: int) -> int:
    """Return how long a server has worked, in the ticks of proc(5), mostly 10 ms."""
    total = 0
    for member in (process, *descendants(process)):
        with suppress(OSError):
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total


def memory_mb(process: int) -> float:
    """Return the megabytes of a process and its descendants; what they share counts once (proc(5), Pss)."""
    total = 0
    for member in (process, *descendants(process)):
        with suppress(OSError):
            told = Path(f"/proc/{member}/smaps_rollup").read_text()
            total += sum(map(int, re.findall(r"^Pss:\s+(\d+) kB", told, re.MULTILINE)))
    return total * 1024 / 1e6


def end_in_order() -> None:
    """Let Ctrl-C and SIGTERM end this process once, and what it has started before it."""

    def stop(number: int, _frame: FrameType | None) -> None:
        for signal_number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signal_number, signal.SIG_IGN)
        sys.exit(128 + number)

    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, stop)
