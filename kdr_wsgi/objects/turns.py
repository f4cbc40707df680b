"""Who may wait for a store: so many at a time that a slow one does not hold every thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from kdr_wsgi.errors import StoreBusy

#: A store that has kept somebody waiting for so long is slow: nobody else waits for a turn then.
SLOW_SECONDS = 1.0

#: How long somebody waits for a turn at a store that is quick.
PATIENCE_SECONDS = 1.0


class Turns:
    """Lets so many wait for a store; the rest waits for them while they are quick, and is refused while they are not.

    Parameters
    ----------
    number : int
    name : str
        Of the store, for the log.
    """

    def __init__(self, number: int, name: str) -> None:
        self._number = number
        self._name = name
        self._began: dict[int, float] = {}
        self._last = 0
        self._changed = threading.Condition()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Take a turn.

        Raises
        ------
        StoreBusy
        """
        with self._changed:
            until = time.monotonic() + PATIENCE_SECONDS
            while len(self._began) >= self._number:
                left = until - time.monotonic()
                if left <= 0 or time.monotonic() - min(self._began.values()) > SLOW_SECONDS:
                    raise StoreBusy(f"{self._name}: {self._number} requests wait for it, as many as may (requests)")
                self._changed.wait(min(left, 0.1))
            self._last += 1
            turn = self._last
            self._began[turn] = time.monotonic()
        try:
            yield
        finally:
            with self._changed:
                del self._began[turn]
                self._changed.notify()
