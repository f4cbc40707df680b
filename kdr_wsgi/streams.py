"""Bodies of which nobody knows the length before they are sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator

#: What ends a body in chunks (RFC 9112, 7.1).
LAST_CHUNK = b"0\r\n\r\n"


class Stream:
    """A body that is made as it is sent.

    Parameters
    ----------
    pieces : iterator of bytes
        None of them is empty.
    close : callable
        Gives back what the pieces are made from; called once the body is sent, or cannot be.
    """

    def __init__(self, pieces: Iterator[bytes], close: Callable[[], None]) -> None:
        self._pieces = pieces
        self.close = close

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces

    def in_chunks(self) -> Stream:
        """Return the same as it is sent to who knows HTTP/1.1; where it breaks off, its end is missing."""
        return Stream(_frame(self._pieces), self.close)


def _frame(pieces: Iterator[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield LAST_CHUNK
