"""One request on its way to the relay server, and its answer on the way back."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Iterator
from typing import Protocol

from tornado.httputil import HTTPHeaders, ResponseStartLine

from kdr_wsgi.headers import CROSS_ORIGIN, NO_SNIFFING
from kdr_wsgi.jupyter.messages import Headers


class Reader(Protocol):
    """Where an answer goes: what is used here of Tornado's connection to the browser."""

    def write_headers(
        self, start_line: ResponseStartLine, headers: HTTPHeaders, chunk: bytes | None = None
    ) -> Future[None]:
        """Send the head and perhaps the first part of the body; the future is done when it has left."""

    def write(self, chunk: bytes) -> Future[None]:
        """Send a part of the body; the future is done when it has left."""

    def finish(self) -> None:
        """Say that the answer is whole."""

    def close(self) -> None:
        """End the connection at once."""


class _Untouched(HTTPHeaders):
    """Headers that are sent as they came, names and all; Tornado sees the length, and adds what it must."""

    def __init__(self, headers: Headers) -> None:
        super().__init__()
        self._headers = headers
        for name, value in headers:
            if name.lower() == "content-length":
                self["Content-Length"] = value

    def get_all(self) -> Iterator[tuple[str, str]]:
        """Yield what came, then what Tornado has added."""
        yield from self._headers
        for name, value in super().get_all():
            if name != "Content-Length":
                yield name, value


class Exchange:
    """A request that waits for its answer, or gets it.

    Parameters
    ----------
    request : bytes
        The whole request; it has no body.
    reader : Reader
    is_head : bool
        Whether the answer has no body (RFC 9110, 9.3.2).
    adjust : callable, optional
        Changes the headers of the answer.
    knows_chunks : bool
        Whether the browser speaks HTTP/1.1. To another one only the end of the connection tells where an answer ends
        that comes without its length; Tornado would keep the connection if it was asked to.

    Attributes
    ----------
    asked_at : float
        When it was first sent or put in the queue, by the clock of the loop.
    """

    __slots__ = (
        *("_adjust", "_ends_connection", "_knows_chunks", "_reader", "_written"),
        *("asked_at", "attempts", "has_begun", "is_head", "is_over", "request"),
    )

    def __init__(
        self,
        request: bytes,
        reader: Reader,
        *,
        is_head: bool,
        adjust: Callable[[Headers], Headers] | None = None,
        knows_chunks: bool = True,
    ) -> None:
        self.request = request
        self.is_head = is_head
        self.attempts = 0
        self.has_begun = False
        self.is_over = False
        self._reader = reader
        self.asked_at = 0.0
        self._adjust = adjust
        self._knows_chunks = knows_chunks
        self._ends_connection = False
        self._written: Future[None] | None = None

    def begin(self, status: int, reason: str, headers: Headers, chunk: bytes) -> Future[None]:
        """Pass the head on, with what has come of the body."""
        self.has_begun = True
        if self._adjust is not None:
            headers = self._adjust(headers)
        untouched = _Untouched(headers)
        self._ends_connection = not (self._knows_chunks or self.is_head or "Content-Length" in untouched)
        self._written = self._reader.write_headers(ResponseStartLine("HTTP/1.1", status, reason), untouched, chunk)
        return self._written

    def pass_on(self, chunk: bytes) -> Future[None]:
        """Pass a part of the body on."""
        self._written = self._reader.write(chunk)
        return self._written

    def end(self) -> None:
        """Say that the answer is whole."""
        self.is_over = True
        self._reader.finish()
        if self._ends_connection and self._written is not None:
            self._written.add_done_callback(lambda _: self._reader.close())

    def fail(self, status: int, reason: str, sentence: str, *further: tuple[str, str]) -> None:
        """Answer that there is no answer; or, where one has begun, break it off so that it is not taken as whole."""
        if self.is_over:
            return
        if self.has_begun:
            self.is_over = True
            self._reader.close()
            return
        body = f"{sentence}\n".encode()
        headers = [
            *CROSS_ORIGIN,
            *NO_SNIFFING,
            ("Cache-Control", "no-store"),
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(body))),
            *further,
        ]
        self.begin(status, reason, headers, b"" if self.is_head else body)
        self.end()
