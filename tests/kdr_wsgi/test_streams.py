"""Bodies of unknown length, framed and sent."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdr_wsgi.connections import Connection
from kdr_wsgi.streams import LAST_CHUNK, Stream

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


def read_chunks(framed: bytes) -> tuple[list[bytes], bytes]:
    """Return the chunks, and what is left behind the last one."""
    chunks: list[bytes] = []
    while framed:
        size, _, framed = framed.partition(b"\r\n")
        chunk, end, framed = framed[: int(size, 16)], framed[int(size, 16) :][:2], framed[int(size, 16) + 2 :]
        assert end == b"\r\n"
        if not chunk:
            return chunks, framed
        chunks.append(chunk)
    return chunks, b"no end"


@given(st.lists(st.binary(min_size=1)))
def test_chunks_are_the_pieces(pieces: list[bytes]) -> None:
    framed = b"".join(Stream(iter(pieces), lambda: None).in_chunks())
    assert read_chunks(framed) == (pieces, b"")


class Pieces:
    """A stream that may break off, and notes how often it was closed."""

    def __init__(self, *, breaks_off: bool) -> None:
        self.closed = 0
        self._breaks_off = breaks_off
        self.stream = Stream(self._pieces(), self._close)

    def _pieces(self) -> Iterator[bytes]:
        yield b"first"
        if self._breaks_off:
            raise OSError(5, "the disk is broken")
        yield b"second"

    def _close(self) -> None:
        self.closed += 1


def send(pieces: Pieces, *held: bytes) -> bytes:
    """Return what a client gets of an answer of which gunicorn has written `held`."""
    near, far = socket.socketpair()
    with far, Connection(near, 30.0, 65536) as connection:
        connection.hold_answer()
        assert connection.take_stream(pieces.stream)
        for data in held:
            connection.sendall(data)
        connection.release_answer()
        try:
            assert connection.send_rest()
        finally:
            connection.shutdown(socket.SHUT_WR)
            far.settimeout(5)
            received = far.recv(65536)
            assert pieces.closed == 1
    return received


def test_the_end_that_gunicorn_has_written_comes_behind_the_stream() -> None:
    received = send(Pieces(breaks_off=False), HEAD, LAST_CHUNK)
    assert received == HEAD + b"5\r\nfirst\r\n6\r\nsecond\r\n" + LAST_CHUNK


def test_to_http_1_0_a_stream_goes_as_it_is() -> None:
    assert send(Pieces(breaks_off=False), HEAD) == HEAD + b"firstsecond"


def test_of_a_stream_that_breaks_off_the_end_is_missing() -> None:
    received = b""

    def send_broken() -> None:
        nonlocal received
        pieces = Pieces(breaks_off=True)
        near, far = socket.socketpair()
        with far, Connection(near, 30.0, 65536) as connection:
            connection.hold_answer()
            connection.take_stream(pieces.stream)
            connection.sendall(HEAD)
            connection.sendall(LAST_CHUNK)
            connection.release_answer()
            try:
                connection.send_rest()
            finally:
                assert (pieces.closed, connection.rest) == (1, None)
                received = far.recv(65536)

    with pytest.raises(OSError, match="broken"):
        send_broken()
    assert received == HEAD + b"5\r\nfirst\r\n"


def test_a_stream_of_an_answer_that_has_failed_is_closed() -> None:
    pieces = Pieces(breaks_off=False)
    near, far = socket.socketpair()
    with far, Connection(near, 30.0, 65536) as connection:
        connection.hold_answer()
        connection.take_stream(pieces.stream)
        connection.drop_answer()
    assert pieces.closed == 1
