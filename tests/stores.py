"""Files of rules for object stores, and what stands between a server and a store in tests."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


def write_rules(path: Path, *rules: dict[str, Any]) -> Path:
    """Write the file that ``KDR_STORES`` names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"stores": rules}))
    path.chmod(0o600)
    return path


class Between:
    """Passes connections on to a store, and can stop to do so.

    Attributes
    ----------
    port : int
    stalls_after_bytes : int or None
        So much of the answers of a connection is passed on, then nothing, while the connection stays.
    cuts_after_bytes : int or None
        So much is passed on, then the connection ends.
    requests : list of str
        The first lines of what was asked.
    """

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.stalls_after_bytes: int | None = None
        self.cuts_after_bytes: int | None = None
        self.requests: list[str] = []
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def endpoint(self) -> str:
        """Where clients find the store through this."""
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        """End all connections."""
        for each in (self._listener, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def drop_connections(self) -> None:
        """End those that there are."""
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                store = socket.create_connection(("127.0.0.1", self._target_port))
            except OSError:
                return
            self._open += [client, store]
            threading.Thread(target=self._ask, args=(client, store), daemon=True).start()
            threading.Thread(target=self._answer, args=(store, client), daemon=True).start()

    def _ask(self, client: socket.socket, store: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                self.requests.append(data.split(b"\r\n", 1)[0].decode("latin-1"))
                store.sendall(data)
        with suppress(OSError):
            store.shutdown(socket.SHUT_RDWR)

    def _answer(self, store: socket.socket, client: socket.socket) -> None:
        passed = 0
        with suppress(OSError):
            while data := store.recv(65536):
                if self.cuts_after_bytes is not None and passed + len(data) > self.cuts_after_bytes:
                    client.sendall(data[: max(0, self.cuts_after_bytes - passed)])
                    break
                while self.stalls_after_bytes is not None and passed + len(data) > self.stalls_after_bytes:
                    threading.Event().wait(0.05)
                client.sendall(data)
                passed += len(data)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)


@contextmanager
def between(target_port: int) -> Iterator[Between]:
    """Stand between a store and its clients."""
    standing = Between(target_port)
    try:
        yield standing
    finally:
        standing.close()
