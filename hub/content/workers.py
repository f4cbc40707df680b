"""What hashes: processes of our own, or an executor that somebody brings.

Our processes are started as programs, not by `multiprocessing`: a script that
publishes needs no ``if __name__ == "__main__"``, and a kernel with threads is
not forked.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Protocol

from hub.content import worker
from hub.content.hashing import LARGE_FILE_BYTES, Outcome, Report, hash_batch
from hub.content.progress import Progress

#: For less than this it does not pay to start a process.
_FILES_WITHOUT_PROCESSES = 2048
_BYTES_WITHOUT_PROCESSES = 32 << 20

#: More processes than this wait for the disk rather than for each other.
_MAX_PROCESSES = 8

#: How a worker is started. ``-I``: it imports nothing from the working directory. ``-S``: nothing of the environment's
#: runs, which could print; the worker looks for modules where this process does.
_OPTIONS = ("-I", "-S")


_Work = tuple["Future[list[Outcome]]", bytes, Sequence[bytes]]


class Hashing(Protocol):
    """What hashes."""

    def submit(self, root: bytes, entries: Sequence[bytes], sizes: Sequence[int]) -> Future[list[Outcome]]:
        """Hash files below `root`, of whose `sizes`, in bytes, it tells the progress."""


@contextmanager
def hashing(executor: Executor | None, progress: Progress) -> Iterator[Hashing]:
    """Give the block what hashes: `executor`, or else processes of our own, which end with it."""
    if executor is not None:
        yield _Borrowed(executor, progress)
        return
    processes = HashingProcesses(progress)
    try:
        yield processes
    finally:
        processes.end()


class _Borrowed:
    """Somebody's executor, which goes on living."""

    def __init__(self, executor: Executor, progress: Progress) -> None:
        self._executor = executor
        self._progress = progress

    def submit(self, root: bytes, entries: Sequence[bytes], sizes: Sequence[int]) -> Future[list[Outcome]]:
        future = self._executor.submit(hash_batch, root, entries)
        future.add_done_callback(lambda _: self._progress.add(sum(sizes)))
        return future


class HashingProcesses:
    """Hashes in processes, each with a thread here that waits for it, as soon as there is enough to do.

    What a process that was killed had to do is done here.

    Parameters
    ----------
    progress : Progress
        Is told of large files while they are hashed, in any thread.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._threads: list[threading.Thread] = []
        self._work: SimpleQueue[_Work | None] = SimpleQueue()
        self._idle: SimpleQueue[_Process] = SimpleQueue()
        self._started: list[_Process] = []
        self._starting = threading.Lock()
        self._is_closing = False
        self._files = 0
        self._size_bytes = 0

    def submit(self, root: bytes, entries: Sequence[bytes], sizes: Sequence[int]) -> Future[list[Outcome]]:
        """Hash files; see `Hashing`."""
        self._files += len(sizes)
        self._size_bytes += sum(sizes)
        is_much = self._files > _FILES_WITHOUT_PROCESSES or self._size_bytes > _BYTES_WITHOUT_PROCESSES
        if is_much and not self._threads:
            self._start_threads()
        future: Future[list[Outcome]] = Future()
        if self._threads:
            self._work.put((future, root, entries))
        else:
            future.set_result(hash_batch(root, entries, report=self._progress.add))
        small_bytes = sum(size for size in sizes if size < LARGE_FILE_BYTES)
        future.add_done_callback(lambda _: self._progress.add(small_bytes))
        return future

    def end(self) -> None:
        """End the processes at once; what they are doing is not waited for."""
        with self._starting:
            self._is_closing = True
        for process in self._started:
            process.kill()
        for _ in self._threads:
            self._work.put(None)
        for process in self._started:
            process.close()

    def _start_threads(self) -> None:
        # Nothing waits for their end, as an executor would: a Ctrl-C that comes while this thread holds a lock of
        # `threading` leaves it held, and who wants it waits for good (https://github.com/python/cpython/issues/74174).
        for number in range(_count_processes()):
            thread = threading.Thread(target=self._do_work, name=f"kdr-hashing-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _do_work(self) -> None:
        while work := self._work.get():
            future, root, entries = work
            try:
                future.set_result(self._ask(root, entries))
            except Exception as error:  # noqa: BLE001  # It is for who waits for the result.
                future.set_exception(error)

    def _ask(self, root: bytes, entries: Sequence[bytes]) -> list[Outcome]:
        """Let a process hash files; hash them here if the process ends meanwhile."""
        process: _Process | None = None
        try:
            process = self._take()
            outcomes = process.hash_batch(root, entries, self._progress.add)
        except (OSError, EOFError, pickle.PickleError):
            # A mapped file was truncated (SIGBUS), or memory was short. Reading needs no mapping.
            if process is not None:
                process.kill()
            return [] if self._is_closing else hash_batch(root, entries, report=self._progress.add)
        self._idle.put(process)
        return outcomes

    def _take(self) -> _Process:
        try:
            return self._idle.get_nowait()
        except Empty:
            with self._starting:
                if self._is_closing:
                    raise EOFError from None
                process = _Process()
                self._started.append(process)
            return process


class _Process:
    """A process that hashes, and ends when its input does."""

    def __init__(self) -> None:
        if not sys.executable:
            raise FileNotFoundError
        # In a session of its own, so that Ctrl-C is for this process alone, which then ends that one.
        self._process = subprocess.Popen(
            [sys.executable, *_OPTIONS, "-c", worker.PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._is_new = True

    def hash_batch(self, root: bytes, entries: Sequence[bytes], report: Report) -> list[Outcome]:
        """Return what became of the files; an OSError or EOFError says that the process has ended."""
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None
        assert answers is not None
        if self._is_new:
            places = [place for place in sys.path if isinstance(place, str)]
            worker.send(requests, (places, os.fspath(Path(__file__).parents[1])))
            self._is_new = False
        worker.send(requests, (root, entries))
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


def _count_processes() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MAX_PROCESSES)
