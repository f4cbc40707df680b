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

    Attributes
    ----------
    asked_at : float
        When it was first sent or put in the queue, by the clock of the loop.
    """

    __slots__ = ("_adjust", "_reader", "asked_at", "attempts", "has_begun", "is_head", "is_over", "request")

    def __init__(
        self,
        request: bytes,
        reader: Reader,
        *,
        is_head: bool,
        adjust: Callable[[Headers], Headers] | None = None,
    ) -> None:
        self.request = request
        self.is_head = is_head
        self.attempts = 0
        self.has_begun = False
        self.is_over = False
        self._reader = reader
        self.asked_at = 0.0
        self._adjust = adjust

    def begin(self, status: int, reason: str, headers: Headers, chunk: bytes) -> Future[None]:
        """Pass the head on, with what has come of the body."""
        self.has_begun = True
        if self._adjust is not None:
            headers = self._adjust(headers)
        return self._reader.write_headers(ResponseStartLine("HTTP/1.1", status, reason), _Untouched(headers), chunk)

    def pass_on(self, chunk: bytes) -> Future[None]:
        """Pass a part of the body on."""
        return self._reader.write(chunk)

    def end(self) -> None:
        """Say that the answer is whole."""
        self.is_over = True
        self._reader.finish()

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
