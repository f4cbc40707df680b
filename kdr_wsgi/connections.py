"""Connections of clients, from which requests are taken and to which answers are given without waiting."""

from __future__ import annotations

import errno
import io
import os
import re
import socket
import time
from collections.abc import Iterable
from typing import Any

from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine
from gunicorn.http.wsgi import FileWrapper

from kdr_wsgi.multipart import StreamedRanges
from kdr_wsgi.sending import Rest
from kdr_wsgi.streams import LAST_CHUNK, AwaitedStream, Stream

#: How long no connection is accepted after one could not be for want of a descriptor.
ACCEPT_PAUSE_SECONDS = 0.05

#: How long a client may leave a connection open that has been ended here; and what it may send meanwhile.
CLOSING_SECONDS = 0.5
_CLOSING_BYTES = 65536

_CHUNK_BYTES = 16384

#: Of more than 1,024 writev(2) would take none.
_PIECES = 16

#: An empty line; what ends lines with LF alone the parser is to refuse.
_HEAD_END = re.compile(rb"\n\r?\n")


class Listener:
    """A listener whose connections are of our class.

    Parameters
    ----------
    listener : socket
        As gunicorn has it.
    patience_seconds, head_bytes
        Of each `Connection`.
    """

    def __init__(self, listener: Any, patience_seconds: float, head_bytes: int) -> None:
        self._listener = listener
        self._patience_seconds = patience_seconds
        self._head_bytes = head_bytes
        self.getsockname = listener.getsockname

    def accept(self) -> tuple[Connection, Any]:
        """Accept a connection.

        Raises
        ------
        BlockingIOError
            There is none; or there is no descriptor for it, and who wants to connect waits in the backlog.
        """
        try:
            accepted, address = self._listener.accept()
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            # Gunicorn's worker would end.
            time.sleep(ACCEPT_PAUSE_SECONDS)
            raise BlockingIOError(errno.EAGAIN, "no descriptor is free") from error
        return Connection(accepted, self._patience_seconds, self._head_bytes), address


class Connection(socket.socket):
    """The socket of a client, as gunicorn's worker and its parser of requests use it.

    Parameters
    ----------
    accepted : socket
        Which this one takes over.
    patience_seconds : float
        How long the client may neither send the rest of what it has begun, nor take what it is sent.
    head_bytes : int
        The most that the head of a request may have.

    Attributes
    ----------
    rest : Rest or None
        What is left to send.
    keeps : bool
        Whether another request may follow what is being sent.
    awaited : int
        The event without which nothing can be done, of those of `selectors`; 0: none.
    """

    def __init__(self, accepted: socket.socket, patience_seconds: float, head_bytes: int) -> None:
        super().__init__(accepted.family, accepted.type, accepted.proto, accepted.detach())
        # For the system it never blocks then; Python waits where it is asked for all of something.
        self.settimeout(patience_seconds)
        self._patience_seconds = patience_seconds
        self._head_bytes = head_bytes
        self._received = b""
        self._head_since: float | None = None
        self._held: list[bytes] | None = None
        self._stream: FileWrapper | StreamedRanges | Stream | AwaitedStream | None = None
        self._ended_at: float | None = None
        self._dropped_bytes = 0
        self.rest: Rest | None = None
        self.keeps = True
        self.awaited = 0

    def setblocking(self, flag: bool, /) -> None:
        """Do nothing: it stays as it is."""

    def is_late(self, now: float) -> bool:
        """Whether what is awaited should have come by now, as time.monotonic() has it."""
        if self.rest is not None:
            return self.rest.is_late(now)
        if self._ended_at is not None:
            return now - self._ended_at > CLOSING_SECONDS
        return self._head_since is not None and now - self._head_since > self._patience_seconds

    @property
    def is_ended(self) -> bool:
        """Whether nothing is sent any more."""
        return self._ended_at is not None

    @property
    def awaited_file(self) -> Connection | AwaitedStream:
        """What the event of `awaited` is to happen to: itself, or what the next piece of an answer comes from."""
        source = self.rest.awaited_source if self.rest is not None else None
        return self if source is None else source

    def end(self) -> bool:
        """Send no more and drop what comes; return whether the client has ended too, or is not waited for any more.

        An answer could be lost with what was not read (RFC 9112, 9.6).
        """
        try:
            if self._ended_at is None:
                self._ended_at = time.monotonic()
                self.shutdown(socket.SHUT_WR)
            while self._dropped_bytes < _CLOSING_BYTES:
                dropped = os.read(self.fileno(), _CHUNK_BYTES)
                if not dropped:
                    break
                self._dropped_bytes += len(dropped)
        except BlockingIOError:
            return self.is_late(time.monotonic())
        except OSError:  # It has gone.
            pass
        return True

    @property
    def is_receiving(self) -> bool:
        """Whether a request has come in part."""
        return self._head_since is not None

    def receive_head(self, unreader: Any) -> bool:
        """Read what has come; return whether the head of a request is whole, or the client has ended.

        Parameters
        ----------
        unreader : gunicorn.http.unreader.Unreader
            What the parser reads from; it may have the begin of the head.

        Raises
        ------
        LimitRequestHeaders, LimitRequestLine
            It is too long.
        OSError
        """
        received, behind = self._received, unreader.buf.getvalue()
        if behind:
            received += behind
            unreader.buf = io.BytesIO()
        while not _HEAD_END.search(received):
            if len(received) > self._head_bytes:
                if b"\n" in received:
                    raise LimitRequestHeaders(f"more than {self._head_bytes} bytes")
                raise LimitRequestLine(len(received), self._head_bytes)
            try:
                more = os.read(self.fileno(), _CHUNK_BYTES)
            except BlockingIOError:
                self._received = received
                if received and self._head_since is None:
                    self._head_since = time.monotonic()
                return False
            if not more:
                break
            received += more
        self._received = received
        self._head_since = None
        return True

    def recv(self, *arguments: Any) -> bytes:
        """Return the head that has been received, or what the parser wants of a body, with patience."""
        if self._received:
            received, self._received = self._received, b""
            return received
        try:
            return super().recv(*arguments)
        except TimeoutError as error:
            # What gunicorn takes for a client that has gone, and logs no traceback of.
            raise ConnectionResetError(errno.ECONNRESET, "the client has stalled") from error

    def hold_answer(self) -> None:
        """Send nothing of an answer before `release_answer`."""
        self._held = []

    def take_stream(self, body: Iterable[bytes]) -> bool:
        """Take over the body of an answer, if it is one that is read as it is sent, and say so."""
        if self._held is None or not isinstance(body, (FileWrapper, StreamedRanges, Stream, AwaitedStream)):
            return False
        self._stream = body
        return True

    def sendall(self, data: Any, *_: Any) -> None:
        """Hold `data`; where no answer is held, send what is taken at once, and leave the rest."""
        if self._held is not None:
            self._held.append(data)
        else:
            self._held = [data]
            self.release_answer()

    def release_answer(self) -> None:
        """Send what is held, as far as the client takes it at once; the rest is left.

        Raises
        ------
        OSError
        """
        held, stream, self._held, self._stream = self._held, self._stream, None, None
        if not held:
            return
        if isinstance(stream, Stream) and held[-1] == LAST_CHUNK:
            # To gunicorn, which has written its head and its end, the body is empty.
            held.pop()
            stream = stream.in_chunks()
        if len(held) > _PIECES:
            held = [b"".join(held)]
        if stream is not None:
            self.rest = Rest(self, held, stream, self._patience_seconds)
            return
        try:
            sent = os.writev(self.fileno(), held)
        except BlockingIOError:
            sent = 0
        if sent < sum(map(len, held)):
            self.rest = Rest(self, [b"".join(held)[sent:]], (), self._patience_seconds)

    def drop_answer(self) -> None:
        """Send nothing of what is held, since it has failed."""
        stream, self._held, self._stream = self._stream, None, None
        if stream is not None:
            stream.close()

    def send_rest(self) -> bool:
        """Send what the client takes at once; return whether that was all.

        Raises
        ------
        OSError
            As `Rest.go_on` does; nothing is left then.
        """
        rest, self.rest = self.rest, None
        if rest is None or rest.go_on():
            return True
        self.rest = rest
        return False
