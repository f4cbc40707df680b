"""Files that are open or in memory, as an answer reads them."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable
from email.utils import formatdate
from types import TracebackType
from typing import TYPE_CHECKING, Union

from hub.content.hashing import hash_descriptor
from kdr_wsgi.errors import FileBeingChanged, FileChanged, TruncatedBody
from kdr_wsgi.media_types import MediaType
from kdr_wsgi.ranges import Span
from kdr_wsgi.versions import AnyVersion, read_version

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import WSGIEnvironment

    from kdr_wsgi.heads import Head

#: Up to here a part is read into memory: for so few bytes, sendfile(2) costs more than it saves.
PART_BYTES = 256 * 1024


class _File:
    """One version of a file, and what its headers say; a context manager that closes what is open.

    Attributes
    ----------
    version : FileVersion or MemberVersion
    media_type : MediaType
    etag : str
        The strong entity tag, in its quotes.
    modified_seconds : int
        Last-Modified, seconds since the epoch.
    last_modified : header
        The same as it is sent.
    content : tuple of headers
        What all of the file is as a body.
    head : Head or None
        The last one that was made of all this.
    """

    __slots__ = ("content", "etag", "head", "last_modified", "media_type", "modified_seconds", "version")

    def __init__(self, version: AnyVersion, media_type: MediaType, etag: str = "") -> None:
        self.version: AnyVersion = version
        self.media_type = media_type
        self.etag = etag or version.make_etag()
        self.modified_seconds = version.last_modified(time.time())
        self.last_modified = ("Last-Modified", formatdate(self.modified_seconds, usegmt=True))
        self.content: tuple[tuple[str, str], ...] = (
            ("Content-Type", media_type.content_type),
            ("Content-Length", str(version.size_bytes)),
        )
        self.head: Head | None = None

    @property
    def has_ranges(self) -> bool:
        """Whether parts of it can be asked for."""
        return True

    @property
    def is_packed(self) -> bool:
        """Whether it can be had with the coding gzip without being compressed for it."""
        return False

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class SmallFile(_File):
    """A file in memory; the bytes of its body are all of the one version."""

    __slots__ = ("body",)

    def open(self) -> SmallFile:
        """Return the file; it is in memory."""
        return self

    def open_part(self, _size_bytes: int) -> SmallFile:
        """Return the file; it is in memory."""
        return self

    def __init__(self, version: AnyVersion, media_type: MediaType, body: bytes) -> None:
        super().__init__(version, media_type)
        self.body = body

    def read(self, span: Span) -> bytes:
        """Return the bytes of `span`."""
        return self.body[span.start : span.stop]

    def made_into(self, body: bytes, media_type: MediaType, variant: str) -> SmallFile:
        """Return the file that was made of this one; its entity tag says of which version, and which `variant`."""
        made = SmallFile(self.version._replace(size_bytes=len(body)), media_type, body)
        made.etag = f'{self.etag[:-1]}-{variant}"'
        return made


class OpenFile(_File):
    """A regular file that is open for reading, or a part of it that is a file of its own.

    Attributes
    ----------
    is_promised : bool
        Whether a body counts only if the version is the same at its end.
    start : int
        Where it begins in what is open.
    """

    __slots__ = ("_descriptor", "is_promised", "start")

    def __init__(
        self, descriptor: int, media_type: MediaType, version: AnyVersion | None = None, start: int = 0
    ) -> None:
        self._descriptor = descriptor
        self.is_promised = False
        self.start = start
        super().__init__(version or read_version(descriptor), media_type)

    def open(self) -> OpenFile:
        """Return the file; it is open."""
        return self

    def open_part(self, _size_bytes: int) -> OpenFile:
        """Return the file; it is open."""
        return self

    def has_hash(self, digest: bytes) -> bool:
        """Read the whole file; whether this version of it has the BLAKE3 hash `digest`."""
        hashed = hash_descriptor(self._descriptor)
        return hashed is not None and hashed.endswith(digest) and self.version.is_of(os.fstat(self._descriptor))

    def read_whole(self) -> SmallFile:
        """Return the file with all its bytes.

        Raises
        ------
        FileChanged
            They may be of another version.
        """
        body = os.pread(self._descriptor, self.version.size_bytes, self.start)
        if len(body) != self.version.size_bytes or not self.version.is_of(os.fstat(self._descriptor)):
            raise FileChanged
        return SmallFile(self.version, self.media_type, body)

    def find_path(self) -> bytes | None:
        """Return a path without links at which the file is; None: there is none, or nobody can tell."""
        try:
            # Of a file that was removed, or that a mount hides, it is no path, or that of another file (proc(5)).
            path = os.readlink(b"/proc/self/fd/%d" % self._descriptor)
            is_there = path.startswith(b"/") and self.version.is_of(os.stat(path, follow_symlinks=False))
        except OSError:  # Not Linux, say.
            return None
        return path if is_there else None

    def detach(self) -> int:
        """Hand the descriptor over to the caller, who closes it."""
        descriptor, self._descriptor = self._descriptor, -1
        return descriptor

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor >= 0:
            os.close(self.detach())


class WholeFile(_File):
    """A file that is open for reading, and is made as it is sent, from its begin to its end."""

    __slots__ = ()

    @property
    def has_ranges(self) -> bool:
        """False: a part would cost as much as all that is before it."""
        return False

    def open(self) -> WholeFile:
        """Return the file; it is open."""
        return self

    def open_part(self, _size_bytes: int) -> WholeFile:
        """Return the file; it is open."""
        return self

    def make_body(self, environ: WSGIEnvironment) -> Iterable[bytes]:
        """Return the body of an answer, which takes the descriptor over."""
        raise NotImplementedError

    def read_whole(self) -> SmallFile:
        """Return the file with all its bytes."""
        raise NotImplementedError


class StreamedFile(_File):
    """A file whose bytes come from elsewhere as they are sent."""

    __slots__ = ()

    def open(self) -> StreamedFile:
        """Return the file; it is open."""
        return self

    def open_part(self, _size_bytes: int) -> StreamedFile:
        """Return the file; it is open."""
        return self

    def stream(self, parts: list[tuple[bytes, Span]], tail: bytes) -> Iterable[bytes]:
        """Return a body: spans, each behind a head, and what comes behind them all."""
        raise NotImplementedError

    def read_whole(self) -> SmallFile:
        """Return the file with all its bytes."""
        raise NotImplementedError


File = Union[SmallFile, OpenFile, WholeFile, StreamedFile]


class KeptFile(_File):
    """A large file that other requests read too; it is closed when nothing refers to it any more.

    Parameters
    ----------
    file : OpenFile
        Which hands its descriptor over; of a settled version.
    opener : callable
        Opens the file once more.
    """

    __slots__ = ("_is_promised", "_opener", "_shared")

    def __init__(self, file: OpenFile, opener: Callable[[], File]) -> None:
        super().__init__(file.version, file.media_type)
        self._is_promised = file.is_promised
        self._opener = opener
        self._shared = _SharedDescriptor(file.detach())

    def open(self) -> File:
        """Return the file, open for one reader.

        Raises
        ------
        FileBeingChanged
            There is another one now.
        """
        file = self._opener()
        if file.version != self.version:
            with file:
                raise FileBeingChanged
        return file

    def open_part(self, size_bytes: int) -> File | KeptFile:
        """Return the file for reading so many bytes of it."""
        return self if size_bytes <= PART_BYTES else self.open()

    def read(self, span: Span) -> bytes:
        """Return the bytes of `span`.

        Raises
        ------
        FileBeingChanged
            There are not so many any more; or they are not of this version, where they are promised.
        """
        data = os.pread(self._shared.number, span.size_bytes, span.start)
        if len(data) != span.size_bytes:
            raise FileBeingChanged
        if self._is_promised and not self.version.is_of(os.fstat(self._shared.number)):
            raise FileBeingChanged
        return data

    def peek(self, start: int, size_bytes: int) -> bytes:
        """Return the bytes from `start` on, at most so many, of whatever version."""
        return os.pread(self._shared.number, size_bytes, start)

    def fileno(self) -> int:
        """Return the descriptor, for reading at offsets; it is closed when nothing refers to this file any more."""
        return self._shared.number


class _SharedDescriptor:
    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.close(self.number)


AnyFile = Union[SmallFile, OpenFile, WholeFile, StreamedFile, KeptFile, "PromisedFile", "FileToOpen"]


class FileToOpen(_File):
    """A file that need not be opened to know what it is."""

    __slots__ = ()

    def open(self) -> File:
        """Return the file, open for one reader."""
        raise NotImplementedError

    def open_part(self, size_bytes: int) -> File | KeptFile:
        """Return the file for reading so many bytes of it."""
        raise NotImplementedError


class PromisedFile(_File):
    """A file of a content key, which need not be opened to know what it is.

    Parameters
    ----------
    version : FileVersion
        Of the file that was hashed.
    media_type : MediaType
    digest : bytes
        The BLAKE3 hash, of which the entity tag is made.
    opener : callable
        Opens the file that has this hash, or raises ContentChanged.
    part_opener : callable
        The same, for those who ask for further parts of it too.
    """

    __slots__ = ("_part_opener", "open")

    def __init__(
        self,
        version: AnyVersion,
        media_type: MediaType,
        digest: bytes,
        opener: Callable[[], File],
        part_opener: Callable[[], File | KeptFile],
    ) -> None:
        super().__init__(version, media_type, etag=f'"{digest.hex()}"')
        self.open = opener
        self._part_opener = part_opener

    def open_part(self, size_bytes: int) -> File | KeptFile:
        """Return the file that has the promised bytes, for reading so many of them."""
        return self._part_opener() if size_bytes <= PART_BYTES else self.open()


class CheckedSpan:
    """The bytes of a span of a promised file, for servers to read; they go out by no sendfile(2).

    The last of them are given away only if the file has not changed since it
    was opened. Else it raises TruncatedBody, so that no cache takes for whole
    what has bytes of another version in it.
    """

    def __init__(self, file: OpenFile, span: Span) -> None:
        self._version = file.version
        self._descriptor = file.detach()
        self._position = file.start + span.start
        self._stop = file.start + span.stop

    def read(self, size_bytes: int = -1) -> bytes:
        """Return the next bytes, at most `size_bytes` where that is not negative; none behind the span."""
        left = self._stop - self._position
        data = os.pread(self._descriptor, min(left, size_bytes) if size_bytes >= 0 else left, self._position)
        if not data and left and size_bytes:
            raise TruncatedBody(errno.ECONNABORTED, "a file shrank while it was sent")
        self._position += len(data)
        if self._position == self._stop:
            check_unchanged(self._descriptor, self._version)
        return data

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def check_unchanged(descriptor: int, version: AnyVersion) -> None:
    """Raise TruncatedBody if an open file is not of `version` any more."""
    if not version.is_of(os.fstat(descriptor)):
        raise TruncatedBody(errno.ECONNABORTED, "a file of a content key was changed while it was sent")


class SpanFile:
    """The bytes of a span as a file that WSGI servers send, with sendfile(2) where they can.

    They take the offset from the descriptor and never read past the span. A
    file that ends before its span does raises TruncatedBody, so that the
    connection ends and the short body is not taken for the whole.
    """

    def __init__(self, file: OpenFile, span: Span) -> None:
        self._stop = file.start + span.stop
        self._position = file.start + span.start
        self._descriptor = file.detach()
        os.lseek(self._descriptor, self._position, os.SEEK_SET)

    @property
    def left_bytes(self) -> int:
        """How much of the span is still to be read or sent."""
        return self._stop - self._position

    def send_to(self, descriptor: int) -> int:
        """Send what a socket that never blocks takes at once, by sendfile(2).

        Returns
        -------
        int
            So many bytes; 0: nothing is left.

        Raises
        ------
        BlockingIOError
            It takes nothing now.
        TruncatedBody
            The file ends before the span does.
        OSError
        """
        if self.left_bytes == 0:
            return 0
        sent = os.sendfile(descriptor, self._descriptor, self._position, self.left_bytes)
        if sent == 0:
            raise TruncatedBody(errno.ECONNABORTED, "a file shrank while it was sent")
        self._position += sent
        return sent

    def fileno(self) -> int:
        """Return the descriptor, for sendfile(2)."""
        return self._descriptor

    def read(self, size_bytes: int = -1) -> bytes:
        """Return the next bytes, at most `size_bytes` where that is not negative; none behind the span."""
        left = self.left_bytes
        if left == 0:
            return b""
        data = os.pread(self._descriptor, min(left, size_bytes) if size_bytes >= 0 else left, self._position)
        if not data and size_bytes != 0:
            raise TruncatedBody(errno.ECONNABORTED, "a file shrank while it was sent")
        self._position += len(data)
        return data

    def seek(self, position: int) -> None:
        """Move to `position` in the file; socket.sendfile tells in this way how far it came."""
        self._position = os.lseek(self._descriptor, position, os.SEEK_SET)

    def close(self) -> None:
        """Close the file; raise TruncatedBody if the server met its end before the end of the span."""
        if self._descriptor < 0:
            return
        os.close(self._descriptor)
        self._descriptor = -1
        # Servers close in a `finally`: an error under way means that the client has gone, which is no fault.
        if self._position < self._stop and sys.exc_info()[0] is None:
            raise TruncatedBody(errno.ECONNABORTED, "a file shrank while it was sent")
