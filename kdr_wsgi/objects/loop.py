"""Where all that is asked of object stores is waited for: one thread of a worker, however many answers are awaited."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

_Result = TypeVar("_Result")

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_process = 0


def submit(work: Coroutine[Any, Any, _Result]) -> Future[_Result]:
    """Begin `work`, and return what becomes its result.

    The thread, and that of obstore's own runtime, begin with the first call,
    so that a server's master, which is forked, has neither.
    """
    return asyncio.run_coroutine_threadsafe(work, _find_loop())


def leave(code: int) -> None:
    """End this process with an exit code, if it has asked a store; else do nothing.

    Python is not taken down: a thread of obstore's runtime that is about to
    tell of its last answer then would abort the process (SIGABRT).
    """
    if _loop is not None and _process == os.getpid():
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def _find_loop() -> asyncio.AbstractEventLoop:
    global _loop, _process
    with _lock:
        if _loop is None or _process != os.getpid():
            _loop, _process = asyncio.new_event_loop(), os.getpid()
            threading.Thread(target=_loop.run_forever, name="kdr-stores", daemon=True).start()
        return _loop


if hasattr(os, "register_at_fork"):
    # A child must not inherit the lock as taken by a thread that it does not have.
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
