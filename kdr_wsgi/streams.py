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


class NotYet(Exception):
    """The next piece of a body is not there yet."""


class AwaitedStream:
    """A body whose pieces come from elsewhere; who has better things to do need not wait for them.

    Its length is in the head of the answer.
    """

    @property
    def held_bytes(self) -> int:
        """What it takes of the memory."""
        raise NotImplementedError

    def take(self) -> bytes | None:
        """Return the next piece; None: there is none.

        Raises
        ------
        NotYet
            Before `fileno` can be read from there is none.
        TruncatedBody
        """
        raise NotImplementedError

    def fileno(self) -> int:
        """Return a descriptor that poll(2) and the like find readable once there is a next piece, or none ever."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[bytes]:
        """Wait for each piece."""
        raise NotImplementedError

    def close(self) -> None:
        """Give back what it has; again, that does nothing."""
        raise NotImplementedError
