"""HTTP as bytes on a socket, so that nothing between the test and the server repairs or hides anything."""

from __future__ import annotations

import socket
from dataclasses import dataclass

TIMEOUT_SECONDS = 20.0


@dataclass(frozen=True)
class Answer:
    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes
    is_whole: bool

    def __getitem__(self, name: str) -> str:
        (value,) = (value for known, value in self.headers if known.lower() == name.lower())
        return value

    def __contains__(self, name: str) -> bool:
        return any(known.lower() == name.lower() for known, _ in self.headers)

    @property
    def names(self) -> set[str]:
        """Those of the headers, in small letters; but for Connection, which need not be sent (RFC 9112, 9.3)."""
        return {name.lower() for name, _ in self.headers} - {"connection"}


class Connection:
    """One connection; requests go out as they are given."""

    def __init__(self, address: tuple[str, int] | str) -> None:
        self.socket = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        self.socket.settimeout(TIMEOUT_SECONDS)
        try:
            self.socket.connect(address)
        except OSError:
            self.socket.close()
            raise
        self.buffer = b""

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, method: str, target: str | bytes, headers: dict[str, str] | None = None) -> None:
        raw = target.encode("latin-1") if isinstance(target, str) else target
        lines = [method.encode() + b" " + raw + b" HTTP/1.1"]
        lines += [
            f"{name}: {value}".encode("latin-1") for name, value in {"Host": "localhost", **(headers or {})}.items()
        ]
        self.socket.sendall(b"\r\n".join([*lines, b"", b""]))

    def request(self, method: str, target: str | bytes, headers: dict[str, str] | None = None) -> Answer:
        self.send(method, target, headers)
        return self.receive(method)

    def receive(self, method: str = "GET") -> Answer:
        while b"\r\n\r\n" not in self.buffer:
            chunk = self.socket.recv(65536)
            if not chunk:
                raise ConnectionError(f"the connection ended within the head: {self.buffer!r}")
            self.buffer += chunk
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        _, status, reason = first.split(" ", 2)
        headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        lengths = [int(value) for name, value in headers if name.lower() == "content-length"]
        if any(name.lower() == "transfer-encoding" for name, _ in headers):
            return Answer(int(status), reason, headers, *self._receive_chunks())
        length = 0 if method == "HEAD" or status in ("204", "304") else lengths[0]
        parts, size = [self.buffer], len(self.buffer)
        while size < length:
            try:
                chunk = self.socket.recv(1 << 20)
            except ConnectionResetError:
                break
            if not chunk:
                break
            parts.append(chunk)
            size += len(chunk)
        received = b"".join(parts)
        body, self.buffer = received[:length], received[length:]
        return Answer(int(status), reason, headers, body, len(body) == length)

    def _receive_chunks(self) -> tuple[bytes, bool]:
        """Return the body, and whether it was whole."""
        chunks: list[bytes] = []
        while self._fill(b"\r\n"):
            line, _, self.buffer = self.buffer.partition(b"\r\n")
            size = int(line, 16)
            if not self._fill(size_bytes=size + 2):
                break
            if size == 0:
                self.buffer = self.buffer[2:]
                return b"".join(chunks), True
            chunks.append(self.buffer[:size])
            self.buffer = self.buffer[size + 2 :]
        return b"".join(chunks), False

    def _fill(self, until: bytes = b"", size_bytes: int = 0) -> bool:
        """Receive so much, or something; return False if the connection ends before."""
        while until not in self.buffer or len(self.buffer) < size_bytes:
            try:
                more = self.socket.recv(65536)
            except ConnectionResetError:
                return False
            if not more:
                return False
            self.buffer += more
        return True


def fetch(
    address: tuple[str, int] | str, target: str | bytes, headers: dict[str, str] | None = None, method: str = "GET"
) -> Answer:
    """Ask once, on a connection of its own."""
    with Connection(address) as connection:
        return connection.request(method, target, headers)
