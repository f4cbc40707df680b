"""Run something in a forked child, as multiprocessing's default on Linux does."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable


def start_child(work: Callable[[], object]) -> int:
    """Fork; the child works and ends, without pytest's clean-up. Return its process id."""
    child = os.fork()
    if child:
        return child
    try:
        work()
    except BaseException:  # noqa: BLE001  # Nothing may leave the child.
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def in_child(work: Callable[[], object]) -> int:
    """Return the exit code of a child that works."""
    return os.waitstatus_to_exitcode(os.waitpid(start_child(work), 0)[1])
