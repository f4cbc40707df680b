"""Members of zip archives as files that answers read: straight from the archive, inflated, or as gzip has them."""

from __future__ import annotations

import errno
import os
import struct
import zlib
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from werkzeug.wsgi import wrap_file

from hub.content.archives import DEFLATED, STORED, UNREADABLE, Member, read_local_header
from kdr_wsgi.cache import FileCache
from kdr_wsgi.errors import TruncatedBody, UnusableMember
from kdr_wsgi.files import PART_BYTES, FileToOpen, KeptFile, OpenFile, SmallFile, WholeFile
from kdr_wsgi.media_types import MediaType
from kdr_wsgi.multipart import CHUNK_BYTES, StreamedRanges
from kdr_wsgi.ranges import Span
from kdr_wsgi.versions import MemberVersion

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import WSGIEnvironment

#: Up to here a member is read, or inflated, when it is opened; as a file on disk is.
SMALL_MEMBER_BYTES = 65536

#: Deflate makes of a byte no more than so many (https://zlib.net/zlib_tech.html).
_MAX_RATIO = 1032

#: So much of a member may be read without a byte unpacked. No program writes that; a request would go on and on.
_MAX_EMPTY_BYTES = 1 << 20

#: RFC 1952, 2.3: deflate, no flags, no time, of an unknown system.
GZIP_HEAD = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
_GZIP_END = struct.Struct("<LL")
_GZIP_BYTES = len(GZIP_HEAD) + _GZIP_END.size


class Place(NamedTuple):
    """Where a member is found.

    Attributes
    ----------
    root : bytes
        The archive.
    name : bytes
    cache : FileCache
        Where it is kept, if it is small.
    open_archive : callable
        Opens the archive in the version of which the member is.
    """

    root: bytes
    name: bytes
    cache: FileCache
    open_archive: Callable[[], KeptFile]


class ArchiveMember(FileToOpen):
    """A member of an archive.

    Raises
    ------
    UnusableMember
        It can never be sent.
    """

    __slots__ = ("_gzipped", "_is_small", "_member", "_place")

    def __init__(self, place: Place, member: Member, version: MemberVersion, media_type: MediaType) -> None:
        _check(member)
        super().__init__(version, media_type)
        self._place = place
        self._member = member
        self._is_small = max(member.size_bytes, member.packed_bytes) <= SMALL_MEMBER_BYTES
        self._gzipped: GzippedMember | None = None

    @property
    def root(self) -> bytes:
        """The path of the archive."""
        return self._place.root

    @property
    def is_packed(self) -> bool:
        """Whether it is deflated, and can go out as it is to who takes gzip."""
        return self._member.method == DEFLATED

    @property
    def has_ranges(self) -> bool:
        """Whether a part can be read without inflating what is before it; or it is in memory."""
        return self._is_small or not self.is_packed

    def open(self) -> SmallFile | OpenFile | InflatedFile:
        """Return the member, open for one reader.

        Raises
        ------
        UnusableMember
            It is damaged.
        NoSuchEntry, NotReadable, FileBeingChanged
        """
        if self._is_small:
            return self._read()
        archive = self._place.open_archive()
        start = self._find_start(archive)
        if self.is_packed:
            return InflatedFile(self._open_packed(archive, start), self, self._member)
        return self._open_packed(archive, start)

    def open_part(self, size_bytes: int) -> SmallFile | OpenFile | InflatedFile | KeptFile:
        """Return the member for reading so many bytes of it."""
        if self._is_small or self.is_packed or size_bytes > PART_BYTES:
            return self.open()
        archive = self._place.open_archive()
        return KeptMember(archive, self, self._find_start(archive))

    def gzipped(self) -> GzippedMember | None:
        """Return the member with the coding gzip, as the archive has it; None: it has not, or is larger with it."""
        if (
            self._gzipped is None
            and self.is_packed
            and self._member.packed_bytes + _GZIP_BYTES < self.version.size_bytes
        ):
            self._gzipped = GzippedMember(self, self._member.packed_bytes + _GZIP_BYTES)
        return self._gzipped

    def open_gzipped(self, gzipped: GzippedMember) -> SmallFile | PackedFile:
        """Return what `gzipped` is."""
        end = _GZIP_END.pack(self._member.crc, self.version.size_bytes & 0xFFFFFFFF)
        if not self._is_small:
            archive = self._place.open_archive()
            return PackedFile(
                self._open_packed(archive, self._find_start(archive)), self._member.packed_bytes, end, self
            )
        place = (self._place.root, self._place.name, (b"", "gzip of a member"))
        kept = self._place.cache.find_made(place, gzipped.etag)
        if kept is None:
            kept = SmallFile(gzipped.version, self.media_type, GZIP_HEAD + self._read_packed() + end)
            kept.etag, kept.content = gzipped.etag, gzipped.content
            self._place.cache.add_made(place, kept)
        return kept

    def _read(self) -> SmallFile:
        place = (self._place.root, self._place.name, (b"", "member"))
        kept = self._place.cache.find_made(place, self.etag)
        if kept is None:
            body = self._read_packed()
            if self.is_packed:
                body = _inflate(body, self.version.size_bytes)
            if zlib.crc32(body) != self._member.crc:
                raise UnusableMember("its checksum is wrong")
            kept = SmallFile(self.version, self.media_type, body)
            self._place.cache.add(place, kept)
        return kept

    def _read_packed(self) -> bytes:
        archive = self._place.open_archive()
        start = self._find_start(archive)
        return archive.read(Span(start, start + self._member.packed_bytes))

    def _find_start(self, archive: KeptFile) -> int:
        """Return where the member's bytes begin."""
        header = read_local_header(archive.peek, self._member.header_start)
        if (
            header is None
            or not header.has_name(self._place.name)
            or header.method != self._member.method
            or header.room_bytes > self._member.room_bytes
        ):
            raise UnusableMember("its own header and the directory of the archive contradict each other")
        return header.start

    def _open_packed(self, archive: KeptFile, start: int) -> StoredFile:
        opened = archive.open()
        assert isinstance(opened, OpenFile)
        return StoredFile(opened.detach(), self, start)


def _check(member: Member) -> None:
    """Raise UnusableMember if the directory alone says that a member cannot be sent."""
    if member.method == UNREADABLE:
        raise UnusableMember("it is encrypted, or is a patch of another file")
    if member.method not in (STORED, DEFLATED):
        raise UnusableMember(
            f"it is compressed by method {member.method}, and only what is stored or deflated is served; "
            "write the archive again with one of these"
        )
    is_stored = member.method == STORED
    if member.packed_bytes != member.size_bytes if is_stored else member.size_bytes > _MAX_RATIO * member.packed_bytes:
        raise UnusableMember("it cannot have as many bytes as the directory of the archive says")


def _inflate(packed: bytes, size_bytes: int) -> bytes:
    """Return all of a small member; raise UnusableMember if it has another size."""
    inflating = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        body = inflating.decompress(packed, size_bytes + 1)
    except zlib.error:
        raise UnusableMember("its compressed bytes are damaged") from None
    if len(body) != size_bytes or not inflating.eof or inflating.unused_data:
        raise UnusableMember("it has not as many bytes as the directory of the archive says")
    return body


class StoredFile(OpenFile):
    """The bytes of a member as the archive has them."""

    __slots__ = ()

    def __init__(self, descriptor: int, member: ArchiveMember, start: int) -> None:
        super().__init__(descriptor, member.media_type, member.version, start)

    def find_path(self) -> None:
        """Return None: at the path of the archive is more than this."""


class KeptMember(KeptFile):
    """A large member, read from the archive that others read, too."""

    __slots__ = ("_archive", "_start")

    def __init__(self, archive: KeptFile, member: ArchiveMember, start: int) -> None:
        super(KeptFile, self).__init__(member.version, member.media_type)
        self._archive = archive
        self._start = start

    def read(self, span: Span) -> bytes:
        """Return the bytes of `span`; raise FileBeingChanged if they are not of this version."""
        return self._archive.read(Span(self._start + span.start, self._start + span.stop))


class InflatedFile(WholeFile):
    """A large deflated member, inflated as it is sent."""

    __slots__ = ("_file", "_member")

    def __init__(self, file: StoredFile, archive_member: ArchiveMember, member: Member) -> None:
        super().__init__(archive_member.version, archive_member.media_type)
        self._file = file
        self._member = member

    def make_body(self, environ: WSGIEnvironment) -> Iterable[bytes]:
        """Return the body of an answer, which takes the descriptor over."""
        return wrap_file(environ, self._make_stream(), CHUNK_BYTES)  # type: ignore[arg-type]  # it asks for all of IO

    def read_whole(self) -> SmallFile:
        """Return the member with all its bytes, which must not be many."""
        stream = self._make_stream()
        try:
            body = b"".join(iter(lambda: stream.read(CHUNK_BYTES), b""))
        except TruncatedBody as error:
            raise UnusableMember("it is damaged") from error
        finally:
            stream.close()
        return SmallFile(self.version, self.media_type, body)

    def _make_stream(self) -> Inflation:
        return Inflation(self._file.detach(), self._file.start, self._member)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.__exit__(kind, error, trace)


class Inflation:
    """The bytes of a deflated member for servers to read, whatever its size with little memory.

    The last of them are given away only if there are as many as the directory
    says, and have its checksum. Else it raises TruncatedBody, so that the
    connection ends.
    """

    def __init__(self, descriptor: int, start: int, member: Member) -> None:
        self._descriptor = descriptor
        self._position = start
        self._stop = start + member.packed_bytes
        self._left_bytes = member.size_bytes
        self._expected_crc = member.crc
        self._crc = 0
        self._inflating = zlib.decompressobj(-zlib.MAX_WBITS)

    def read(self, size_bytes: int = -1) -> bytes:
        """Return the next bytes, at most `size_bytes` where that is not negative; none behind the last."""
        wanted = min(self._left_bytes, size_bytes if size_bytes >= 0 else self._left_bytes)
        if not wanted:
            return b""
        data = self._inflate(wanted)
        if not data:
            raise TruncatedBody(errno.ECONNABORTED, "a member of an archive is shorter than it should be")
        self._crc = zlib.crc32(data, self._crc)
        self._left_bytes -= len(data)
        if not self._left_bytes and (self._inflate(1) or self._crc != self._expected_crc):
            raise TruncatedBody(errno.ECONNABORTED, "a member of an archive is damaged")
        return data

    def _inflate(self, size_bytes: int) -> bytes:
        """Return some bytes, at most so many; none at the end of the member."""
        empty_bytes = 0
        while not self._inflating.eof:
            packed = self._inflating.unconsumed_tail
            if not packed and self._position < self._stop:
                packed = os.pread(self._descriptor, min(CHUNK_BYTES, self._stop - self._position), self._position)
                self._position += len(packed)
            try:
                data = self._inflating.decompress(packed, size_bytes)
            except zlib.error as error:
                raise TruncatedBody(errno.ECONNABORTED, f"a member of an archive is damaged: {error}") from error
            if data:
                return data
            if not packed and not self._inflating.eof:
                raise TruncatedBody(errno.ECONNABORTED, "a member of an archive is cut off")
            empty_bytes += len(packed)
            if empty_bytes > _MAX_EMPTY_BYTES:
                raise TruncatedBody(
                    errno.ECONNABORTED, "a member of an archive is damaged: it has blocks with nothing in"
                )
        return b""

    def close(self) -> None:
        """Close the archive."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class GzippedMember(FileToOpen):
    """A deflated member with the coding gzip."""

    __slots__ = ("_member",)

    def __init__(self, member: ArchiveMember, size_bytes: int) -> None:
        version = member.version._replace(size_bytes=size_bytes)
        super().__init__(version, member.media_type, etag=f'{member.etag[:-1]}-gzip"')
        self.content = (
            ("Content-Type", member.media_type.content_type),
            ("Content-Encoding", "gzip"),
            ("Content-Length", str(size_bytes)),
        )
        self._member = member

    @property
    def has_ranges(self) -> bool:
        """Whether a request with Range gets a part: of the member as it is without a coding."""
        return self._member.has_ranges

    def open(self) -> SmallFile | PackedFile:
        """Return the member as gzip has it, open for one reader; raises as `ArchiveMember.open` does."""
        return self._member.open_gzipped(self)

    def open_part(self, _size_bytes: int) -> SmallFile | PackedFile:
        """Return the same."""
        return self.open()


class PackedFile(WholeFile):
    """A large deflated member with the coding gzip, sent from the archive."""

    __slots__ = ("_end", "_file", "_packed_bytes")

    def __init__(self, file: StoredFile, packed_bytes: int, end: bytes, member: ArchiveMember) -> None:
        super().__init__(member.version, member.media_type)
        self._file = file
        self._packed_bytes = packed_bytes
        self._end = end

    def make_body(self, _environ: WSGIEnvironment) -> Iterable[bytes]:
        """Return the body of an answer, which takes the descriptor over."""
        return StreamedRanges(self._file, [(GZIP_HEAD, Span(0, self._packed_bytes))], self._end)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.__exit__(kind, error, trace)
