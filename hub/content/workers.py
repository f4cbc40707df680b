"""Processes of our own that hash: an executor for whoever brings none.

They are started as programs, not by `multiprocessing`: a script that publishes
needs no ``if __name__ == "__main__"``, and a kernel with threads is not forked.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import IO, Any

from hub.content.hashing import Outcome, Report, hash_batch

#: For less than this it does not pay to start a process.
_FILES_WITHOUT_PROCESSES = 2048
_BYTES_WITHOUT_PROCESSES = 32 << 20

#: More processes than this wait for the disk rather than for each other.
_MAX_PROCESSES = 8

#: What a worker runs. It looks for this package where this process does.
_PROGRAM = """
import pickle, sys
sys.path[:] = pickle.load(sys.stdin.buffer)
from hub.content.workers import main
main()
"""


class HashingProcesses(Executor):
    """Hashes in processes, each with a thread here that waits for it, as soon as there is enough to do.

    `submit` takes `hash_batch` alone. What a process that was killed had to
    do is done here.

    Parameters
    ----------
    report : callable
        Called with the number of bytes of a large file that have been hashed, now and then, in any thread.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._threads: ThreadPoolExecutor | None = None
        self._idle: SimpleQueue[_Process] = SimpleQueue()
        self._started: list[_Process] = []
        self._is_closing = False
        self._files = 0
        self._size_bytes = 0

    def expect(self, files: int, size_bytes: int) -> None:
        """Tell of what will be submitted next."""
        self._files += files
        self._size_bytes += size_bytes
        if self._threads is None and (
            self._files > _FILES_WITHOUT_PROCESSES or self._size_bytes > _BYTES_WITHOUT_PROCESSES
        ):
            self._threads = ThreadPoolExecutor(_count_processes(), thread_name_prefix="kdr-hashing")

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        """Hash a batch; see `hash_batch`."""
        if self._threads is not None:
            return self._threads.submit(self._ask, *arguments, **options)
        done: Future[Any] = Future()
        done.set_result(function(*arguments, **options, report=self._report))
        return done

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = True) -> None:
        """End the processes at once; what they are doing is not waited for."""
        self._is_closing = True
        for process in self._started:
            process.kill()
        if self._threads is not None:
            self._threads.shutdown(wait, cancel_futures=cancel_futures)
        for process in self._started:
            process.close()

    def _ask(self, root: bytes, entries: Sequence[bytes]) -> list[Outcome]:
        """Let a process hash a batch; hash it here if the process ends meanwhile."""
        process: _Process | None = None
        try:
            process = self._take()
            outcomes = process.hash_batch(root, entries, self._report)
        except (OSError, EOFError, pickle.UnpicklingError):
            # A mapped file was truncated (SIGBUS), or memory was short. Reading needs no mapping.
            if process is not None:
                process.kill()
            return [] if self._is_closing else hash_batch(root, entries, report=self._report)
        self._idle.put(process)
        return outcomes

    def _take(self) -> _Process:
        try:
            return self._idle.get_nowait()
        except Empty:
            process = _Process()
            self._started.append(process)
            return process


class _Process:
    """A process that hashes, and ends when its input does."""

    def __init__(self) -> None:
        # In a session of its own, so that Ctrl-C is for this process alone, which then ends that one.
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        self._is_new = True

    def hash_batch(self, root: bytes, entries: Sequence[bytes], report: Report) -> list[Outcome]:
        """Return what became of the files; an OSError or EOFError says that the process has ended."""
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None
        assert answers is not None
        if self._is_new:
            _send(requests, sys.path)
            self._is_new = False
        _send(requests, (root, entries))
        while isinstance(answer := pickle.load(answers), int):  # noqa: S301  # from a process of our own
            report(answer)
        outcomes: list[Outcome] = answer
        return outcomes

    def kill(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()

    def close(self) -> None:
        """Wait for the end of a process that was killed."""
        with self._process, suppress(BrokenPipeError):
            self._process.stdin.close()  # type: ignore[union-attr]  # it is a pipe


def _send(stream: IO[bytes], message: object) -> None:
    pickle.dump(message, stream, pickle.HIGHEST_PROTOCOL)
    stream.flush()


def _count_processes() -> int:
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # Not Linux.
        cores = os.cpu_count() or 1
    return min(cores, _MAX_PROCESSES)


def main() -> None:
    """Hash what comes in, until nothing more comes: the whole life of a process."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    with suppress(EOFError, BrokenPipeError):
        while True:
            root, entries = pickle.load(requests)  # noqa: S301  # from the process that started this one
            _send(answers, hash_batch(root, entries, may_map=True, report=partial(_send, answers)))
