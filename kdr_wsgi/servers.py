"""The servers that can run the application: gunicorn, and granian as an extra."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Protocol

from kdr_wsgi.settings import SettingError

#: The first is the default.
SERVERS = ("gunicorn", "granian")


class Run(Protocol):
    """How a server is run, in the foreground."""

    def __call__(
        self,
        listener: socket.socket,
        config: Mapping[str, str],
        workers: int,
        *,
        threads: int = ...,
        when_ready: Callable[[], None] = ...,
        is_borrowed: bool = ...,
    ) -> None:
        """Serve on `listener`, which listens already, until a signal ends it."""


def check_installed(server: str) -> None:
    """Raise SettingError if `server` is an extra that is not installed."""
    if find_spec(server) is None:
        raise SettingError(server, f"it is not installed; run: pip install 'kdr-wsgi[{server}]'")


def find_runner(server: str) -> Run:
    """Return what runs `server`, one of `SERVERS`.

    Raises
    ------
    SettingError
        It is not installed.
    """
    check_installed(server)
    if server == "granian":
        from kdr_wsgi import granian_serving

        return granian_serving.run
    from kdr_wsgi import serving

    return serving.run
