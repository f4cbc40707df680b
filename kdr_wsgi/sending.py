"""What is left of an answer, sent as the client takes it."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Iterable

from gunicorn.http.wsgi import FileWrapper

from kdr_wsgi.files import SpanFile
from kdr_wsgi.streams import AwaitedStream, NotYet

#: How long a client that takes all at once has a thread for itself.
SLICE_SECONDS = 0.1

#: Errors of file systems whose files sendfile(2) cannot send.
_NO_SENDFILE = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


class Rest:
    """What is left of an answer.

    Parameters
    ----------
    connection : socket
        One that never blocks.
    pieces : list of bytes
        What is in memory: the head, and a body that is no stream.
    stream : iterable of bytes
        What comes behind it; it is closed once it is sent, or cannot be.
    patience_seconds : float
        How long the client may take nothing.
    """

    def __init__(
        self, connection: socket.socket, pieces: list[bytes], stream: Iterable[bytes], patience_seconds: float
    ) -> None:
        self._connection = connection
        self._pieces: list[bytes | memoryview] = [*pieces]
        self._stream = stream
        #: What the next piece is awaited from, if it comes from elsewhere.
        self._source = stream if isinstance(stream, AwaitedStream) else None
        self._chunks = iter(() if self._source is not None else stream)
        self._awaits_source = False
        self._file = _file_of(stream)
        self._is_corked = False
        self._patience_seconds = patience_seconds
        #: When the client has taken something for the last time, as time.monotonic() has it.
        self.taken_at = time.monotonic()
        self._is_full = False

    @property
    def held_bytes(self) -> int:
        """What it takes of the memory: as long as one byte of a piece is left, all of it."""
        own = sum(memoryview(piece.obj if isinstance(piece, memoryview) else piece).nbytes for piece in self._pieces)
        return own + (self._source.held_bytes if self._source is not None else 0)

    @property
    def awaited_source(self) -> AwaitedStream | None:
        """What the next piece is awaited from; None: it is the client that is waited for."""
        return self._source if self._awaits_source else None

    def is_late(self, now: float) -> bool:
        """Whether it is time to look whether the client has taken anything; `now` as time.monotonic() has it."""
        # A source has its own patience.
        return not self._awaits_source and now - self.taken_at > self._patience_seconds

    def give_way(self) -> None:
        """Let the client take what there is at once, or lose it."""
        self._patience_seconds = 0.0

    def go_on(self) -> bool:
        """Send what the client takes at once, and no longer than others can wait; return whether that was all.

        Raises
        ------
        ConnectionResetError
            The client takes nothing any more.
        OSError
            It has gone; or what is sent cannot be read, or is not what it was.
        """
        if self._awaits_source:
            self._awaits_source = False
            self.taken_at = time.monotonic()
        try:
            try:
                if self._file is not None and not self._is_corked:
                    self._is_corked = _cork(self._connection, is_on=True)
                until = time.monotonic() + SLICE_SECONDS
                while self._send_some():
                    self.taken_at = time.monotonic()
                    if self._is_full or self.taken_at > until:
                        return False
            except BlockingIOError as error:
                # Long before poll(2) says so, which waits until a third of a buffer is free, some can be sent.
                if self.is_late(time.monotonic()):
                    # What gunicorn takes for a client that has gone, and logs no traceback of.
                    raise ConnectionResetError(errno.ECONNRESET, "the client has stalled") from error
                return False
            except NotYet:
                self._awaits_source = True
                return False
        except BaseException:  # Whatever ends the answer leaves no descriptor.
            self._close()
            raise
        self._close()
        if self._is_corked:
            _cork(self._connection, is_on=False)
        return True

    def _send_some(self) -> bool:
        """Send what one system call can; return False if there is nothing left."""
        if not self._pieces:
            if self._file is not None:
                return self._send_file(self._file)
            chunk = self._source.take() if self._source is not None else next(self._chunks, None)
            if chunk is None:
                return False
            self._pieces.append(chunk)
        sent = os.writev(self._connection.fileno(), self._pieces)
        while self._pieces and sent >= len(self._pieces[0]):
            sent -= len(self._pieces.pop(0))
        if sent:
            self._pieces[0] = memoryview(self._pieces[0])[sent:]
        self._is_full = bool(self._pieces)
        return True

    def _send_file(self, file: SpanFile) -> bool:
        try:
            sent = file.send_to(self._connection.fileno())
        except OSError as error:
            if error.errno not in _NO_SENDFILE:
                raise
            self._file = None
            return True
        # What would fit by and by goes out in more, and smaller, pieces than what fits once poll(2) says so.
        self._is_full = file.left_bytes > 0
        return sent > 0

    def _close(self) -> None:
        close = getattr(self._stream, "close", None)
        if close is not None:
            close()


def _file_of(stream: Iterable[bytes]) -> SpanFile | None:
    if isinstance(stream, FileWrapper) and isinstance(stream.filelike, SpanFile):
        return stream.filelike
    return None


def _cork(connection: socket.socket, *, is_on: bool) -> bool:
    """Let the system fill each packet with what comes, where it can be told to (tcp(7), TCP_CORK)."""
    if connection.family == socket.AF_UNIX or not hasattr(socket, "TCP_CORK"):
        return False
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, int(is_on))
    return True
