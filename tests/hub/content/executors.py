"""Executors that tell what they were given."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any


class Recording(Executor):
    """Hashes here and now, and knows which entries it has hashed."""

    def __init__(self) -> None:
        self.entries: list[bytes] = []

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        self.entries += arguments[1]
        done: Future[Any] = Future()
        done.set_result(function(*arguments, **options))
        return done


class Interrupted(Recording):
    """Is interrupted by Ctrl-C after some batches."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self.left = batches

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return super().submit(function, *arguments, **options)
