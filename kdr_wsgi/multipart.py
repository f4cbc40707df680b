"""Several ranges in one body: multipart/byteranges (RFC 9110, 14.6)."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterable, Iterator

from kdr_wsgi.errors import TruncatedBody
from kdr_wsgi.files import KeptFile, OpenFile, SmallFile, StreamedFile, check_unchanged
from kdr_wsgi.media_types import MediaType
from kdr_wsgi.ranges import Span, coalesce

CHUNK_BYTES = 65536


class ByteRanges:
    """The spans of an answer, joined where the head of one more part would cost more than the gap.

    Attributes
    ----------
    spans : list of Span
    content_type : str
    length_bytes : int
        The exact size of the body.
    """

    def __init__(self, spans: list[Span], media_type: MediaType, size_bytes: int) -> None:
        # It is drawn only now, so no file can have been made to hold it.
        boundary = secrets.token_hex(16)
        self.content_type = f"multipart/byteranges; boundary={boundary}"
        self._head = f"\r\n--{boundary}\r\nContent-Type: {media_type.content_type}\r\nContent-Range: "
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self._size_bytes = size_bytes
        self.spans = coalesce(spans, gap_bytes=len(self._part_head(Span(0, size_bytes))))
        heads_bytes = sum(len(self._part_head(span)) for span in self.spans)
        spans_bytes = sum(span.size_bytes for span in self.spans)
        self.length_bytes = heads_bytes + spans_bytes + len(self._tail)

    def body(self, file: SmallFile | OpenFile | StreamedFile | KeptFile) -> Iterable[bytes]:
        """Return the body; it takes over the descriptor of an `OpenFile`."""
        if isinstance(file, OpenFile):
            return StreamedRanges(file, [(self._part_head(span), span) for span in self.spans], self._tail)
        if isinstance(file, StreamedFile):
            return file.stream([(self._part_head(span), span) for span in self.spans], self._tail)
        parts = [self._part_head(span) + file.read(span) for span in self.spans]
        return [b"".join((*parts, self._tail))]

    def _part_head(self, span: Span) -> bytes:
        return f"{self._head}{span.content_range(self._size_bytes)}\r\n\r\n".encode()


class StreamedRanges:
    """The parts of a body, read from the file as they are sent."""

    def __init__(self, file: OpenFile, parts: list[tuple[bytes, Span]], tail: bytes) -> None:
        self._promised = file.version if file.is_promised else None
        self._start = file.start
        self._descriptor = file.detach()
        self._parts = parts
        self._tail = tail

    def __iter__(self) -> Iterator[bytes]:
        for head, span in self._parts:
            yield head
            position, stop = self._start + span.start, self._start + span.stop
            while position < stop:
                chunk = os.pread(self._descriptor, min(stop - position, CHUNK_BYTES), position)
                if not chunk:
                    raise TruncatedBody(errno.ECONNABORTED, "a file shrank while it was sent")
                position += len(chunk)
                yield chunk
        if self._promised:
            check_unchanged(self._descriptor, self._promised)
        yield self._tail

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
