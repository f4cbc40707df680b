"""The members of zip archives, in an index that is mapped into memory: names in ascending order, and where each lies.

The central directory is read once for each version of an archive, a piece at a
time. An index is one file (all numbers are little-endian): the names in
ascending order, each followed by a NUL; where each of them begins, in 32 bits;
a record of each. It ends as a manifest does (`hub.content.manifests`), with
the signature of the archive's file in place of a hash.

The format is that of APPNOTE.TXT 6.3.10 (PKWARE); what it leaves open is taken
as Python's `zipfile` takes it.
"""

from __future__ import annotations

import os
import re
import struct
import sys
import time
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from heapq import merge
from itertools import chain, islice, pairwise
from operator import itemgetter, le
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3

from hub.content.entries import SortedEntries
from hub.content.manifests import END, FilePart, ManifestStore, MappedFile, remove_abandoned
from hub.content.signatures import is_settled, make_signature, seconds_until_settled
from hub.content.trees import explained
from hub.errors import ArchiveError, ManifestError, NoArchive
from hub.filesystems import make_private_directories

STORED = 0
DEFLATED = 8

#: In the place of a method: the member is encrypted, or a patch.
UNREADABLE = 0xFFFF

_INDEX_WORD = b"kdr-zip1"
_INDEX_SUFFIX = ".members"

#: Sections 4.3.16, 4.3.15, 4.3.14, 4.3.12 and 4.3.7.
_END_RECORD = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END_RECORD_64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s4xHH4xLLLHHHH6xL")
_LOCAL_HEADER = struct.Struct("<4s2xHH16xHH")
_SIGNATURE_OF_END = b"PK\5\6"
_SIGNATURE_OF_LOCATOR = b"PK\6\7"
_SIGNATURE_OF_END_64 = b"PK\6\6"
_SIGNATURE_OF_ENTRY = b"PK\1\2"
_SIGNATURE_OF_MEMBER = b"PK\3\4"

_MAX_COMMENT_BYTES = 0xFFFF
_FULL_16 = 0xFFFF
_FULL_32 = 0xFFFFFFFF
_ZIP64_FIELD = 0x0001

#: Bits of the flags: encryption, patches, strong encryption, a hidden directory; and that a name is UTF-8 (4.4.4).
_UNREADABLE_FLAGS = 0x2061
_UTF8_FLAG = 0x0800

#: What no URL can name, or not safely. A name that ends with a slash is that of a folder.
_UNSERVED_NAME = re.compile(rb"\A\Z|\A/|//|\0|(?:\A|/)\.\.?(?:/|\Z)")

#: Where a member's header is, its bytes in the archive, its own, CRC-32, method; and how many bytes the name and the
#: extra field of its header may have, so that it does not reach into what comes behind it.
_RECORD = struct.Struct("<QQQLHL")
_RECORD_BUT_ROOM = struct.Struct("<QQQLH")
_PLACE = struct.Struct("<QQ")
_LENGTH = struct.Struct("<L")

_CHUNK_BYTES = 1 << 20

#: So many members are sorted in memory at a time, and so many bytes of names, of which one may have 192 KiB.
_RUN_MEMBERS = 1 << 16
_RUN_BYTES = 32 << 20

_MEMBERS_PER_WRITE = 256

_Named = tuple[bytes, bytes]


class Limits(NamedTuple):
    """How much of an archive may be indexed.

    Attributes
    ----------
    members : int
    directory_bytes : int
        Of its central directory.
    index_bytes : int
        Of what is written.
    """

    members: int
    directory_bytes: int
    index_bytes: int


class Directory(NamedTuple):
    """Where the central directory of an archive is.

    Attributes
    ----------
    start : int
    size_bytes : int
    members : int
        How many the archive says that it has.
    shift_bytes : int
        What stands before the archive proper: a program that unpacks it, say.
    """

    start: int
    size_bytes: int
    members: int
    shift_bytes: int


class Member(NamedTuple):
    """What the directory says of a member.

    Attributes
    ----------
    header_start : int
        Where its header is in the archive.
    packed_bytes : int
        What it takes there.
    size_bytes : int
        What it has unpacked, it says.
    crc : int
        CRC-32 of that.
    method : int
        `STORED`, `DEFLATED`, another one, or `UNREADABLE`.
    room_bytes : int
        What name and extra field of its header may take.
    """

    header_start: int
    packed_bytes: int
    size_bytes: int
    crc: int
    method: int
    room_bytes: int


class ArchiveIndex(SortedEntries):
    """The members of one version of an archive, in ascending order of their names.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    signature : bytes
        Of the archive's file (`hub.content.signatures`).

    Raises
    ------
    ManifestError
    """

    def __init__(self, path: Path) -> None:
        mapped = MappedFile(path, _INDEX_WORD)
        self._bytes = mapped.bytes
        self._count = mapped.count
        self.signature = mapped.digest
        self._records = len(self._bytes) - END.size - self._count * _RECORD.size
        self._starts = self._records - self._count * _LENGTH.size
        if self._starts < 0:
            raise mapped.damage()

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, position: int) -> bytes:
        """Return the name at `position`."""
        start = self._start(position)
        return self._bytes[start : self._start(position + 1) - 1]

    def member(self, position: int) -> Member:
        """Return the member at `position`."""
        return Member._make(_RECORD.unpack_from(self._bytes, self._records + position * _RECORD.size))

    def find_member(self, name: bytes) -> Member | None:
        """Return the member that is called `name`; None if there is none."""
        position = self.find(name)
        return None if position is None else self.member(position)

    def total_bytes(self) -> int:
        """Return the size of all members together, unpacked."""
        return sum(size_bytes for _, _, size_bytes, *_ in _RECORD.iter_unpack(self._bytes[self._records : -END.size]))

    def _start(self, position: int) -> int:
        if position == self._count:
            return self._starts  # The names end where that column begins.
        start: int = _LENGTH.unpack_from(self._bytes, self._starts + position * _LENGTH.size)[0]
        return start


def index_name(root: bytes) -> str:
    """Return what the index of the archive at `root` is called, but for its suffix."""
    return blake3(root).hexdigest(16)


def index_path(store: ManifestStore, root: bytes) -> Path:
    """Return where the index of the archive at `root` is."""
    return store.root_folder(root) / f"{index_name(root)}{_INDEX_SUFFIX}"


def open_index(store: ManifestStore, root: bytes, signature: bytes) -> ArchiveIndex | None:
    """Return the index of the archive at `root` if it is of the version with this signature; else None."""
    try:
        index = ArchiveIndex(index_path(store, root))
    except ManifestError:  # There is none yet; or it is damaged, and is made again.
        return None
    return index if index.signature == signature else None


def check_archive(root: bytes) -> None:
    """Raise NoArchive or ArchiveError if the file at `root` has not the end of an archive."""
    path = os.fsdecode(root)
    with _opened(root, path) as descriptor:
        find_directory(descriptor, os.fstat(descriptor).st_size, path)


@contextmanager
def _opened(root: bytes, path: str) -> Iterator[int]:
    """Open an archive for the block, in which errors are about it."""
    try:
        descriptor = os.open(root, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise ArchiveError(path, error.strerror or str(error)) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def index_archive(store: ManifestStore, root: bytes) -> None:
    """See to it that there is an index of the archive at `root`, as it is now.

    Raises
    ------
    NoArchive
        The file is none.
    ArchiveError
        The archive cannot be served.
    ManifestError
        The index cannot be written.
    """
    path = os.fsdecode(root)
    with _opened(root, path) as descriptor:
        time.sleep(seconds_until_settled(os.fstat(descriptor).st_ctime_ns))
        status = os.fstat(descriptor)
        signature = make_signature(status)
        if open_index(store, root, signature) is None:
            make_index(store, root, descriptor)
        if make_signature(os.fstat(descriptor)) != signature or not is_settled(status.st_ctime_ns):
            raise ArchiveError(path, "it is being changed; try again when it is whole")


def make_index(
    store: ManifestStore,
    root: bytes,
    descriptor: int,
    limits: Limits | None = None,
    count: Callable[[int], None] = lambda _: None,
) -> ArchiveIndex:
    """Read the directory of an archive, and write its index.

    Parameters
    ----------
    store : ManifestStore
        Where it is kept.
    root : bytes
    descriptor : int
        The archive's file, open for reading; of a settled version.
    limits : Limits, optional
    count : callable
        Is told how many bytes are to be read; what it raises ends the call.

    Raises
    ------
    NoArchive, ArchiveError, ManifestError
    """
    path = os.fsdecode(root)
    status = os.fstat(descriptor)
    directory = find_directory(descriptor, status.st_size, path)
    if limits is not None:
        _check_limits(directory, limits, path)
    count(directory.size_bytes)
    with explained(store), ExitStack() as stack:
        folder = store.root_folder(root)
        make_private_directories(folder / "file")
        store.check_private(root)
        remove_abandoned(folder)
        scratch, names, records = (stack.enter_context(FilePart(folder)) for _ in range(3))
        sorting = _Sorting(scratch, directory, path, None if limits is None else limits.index_bytes)
        for entry in _read_entries(descriptor, directory, limits, path):
            sorting.add(*entry)
        starts = array("L" if array("L").itemsize == _LENGTH.size else "I")
        position = 0
        sorted_members = sorting.finish()
        while some := list(islice(sorted_members, _MEMBERS_PER_WRITE)):
            for name, _ in some:
                starts.append(position)
                position += len(name) + 1
            if position > _FULL_32:
                raise ArchiveError(path, "the names of its members have more than 4 GiB")
            names.write(b"\0".join([name for name, _ in some]) + b"\0")
            records.file.write(b"".join([record for _, record in some]))
        index_bytes = position + len(starts) * (_LENGTH.size + _RECORD.size) + END.size
        if limits is not None and index_bytes > limits.index_bytes:
            raise _takes_too_much(path)
        if sys.byteorder == "big":
            starts.byteswap()
        names.write(starts.tobytes())
        records.file.seek(0)
        while block := records.file.read(_CHUNK_BYTES):
            names.write(block)
        made = index_path(store, root)
        names.publish(made, len(starts), make_signature(status), _INDEX_WORD)
        return ArchiveIndex(made)


def find_directory(descriptor: int, size_bytes: int, path: str) -> Directory:
    """Return where the central directory of an archive is.

    The last record that says so counts, and has a directory before it; one
    that says that there are no members, only if there is no other.

    Raises
    ------
    NoArchive, ArchiveError
    """
    begin = max(size_bytes - _MAX_COMMENT_BYTES - _END_RECORD.size, 0)
    tail = _read(descriptor, size_bytes - begin, begin, path)
    empty: Directory | None = None
    # Behind the comment there may be what does not belong to the archive.
    for is_exact in (True, False):
        at = len(tail)
        while (at := tail.rfind(_SIGNATURE_OF_END, 0, at + 3)) >= 0:
            if at + _END_RECORD.size > len(tail):
                continue
            fields = _END_RECORD.unpack_from(tail, at)
            behind_bytes = len(tail) - at - _END_RECORD.size - fields[-1]
            if behind_bytes < 0 or (behind_bytes == 0) is not is_exact:
                continue
            directory = _understand_end(descriptor, begin + at, fields, path)
            if directory is None:
                continue
            if directory.size_bytes:
                return directory
            empty = empty or directory
    if empty is not None:
        return empty
    raise NoArchive(path)


def _understand_end(descriptor: int, end: int, fields: tuple[int, ...], path: str) -> Directory | None:
    """Return the directory that an end record at `end` speaks of, if there is one."""
    _, disk, first_disk, _, members, size_bytes, start, _ = fields
    if end >= _LOCATOR.size + _END_RECORD_64.size:
        place = end - _LOCATOR.size - _END_RECORD_64.size
        both = _read(descriptor, _LOCATOR.size + _END_RECORD_64.size, place, path)
        if both[:4] == _SIGNATURE_OF_END_64 and both[_END_RECORD_64.size :][:4] == _SIGNATURE_OF_LOCATOR:
            _, _, _, _, disk, first_disk, _, members, size_bytes, start = _END_RECORD_64.unpack_from(both)
            end = place
    shift_bytes = end - size_bytes - start
    if shift_bytes < 0 or members * _ENTRY.size > size_bytes:
        return None
    if size_bytes == 0:
        return Directory(end, 0, 0, shift_bytes)
    if _read(descriptor, 4, end - size_bytes, path) != _SIGNATURE_OF_ENTRY:
        return None
    if disk or first_disk:
        raise ArchiveError(path, "it is one of several parts; join them first: zip -s 0 PARTS.zip --out WHOLE.zip")
    return Directory(end - size_bytes, size_bytes, members, shift_bytes)


def _takes_too_much(path: str) -> ArchiveError:
    return ArchiveError(path, "the list of its members takes more room than you may have here")


def _read(descriptor: int, size_bytes: int, start: int, path: str) -> bytes:
    """Return some bytes of an archive; raise ArchiveError if that fails."""
    try:
        return os.pread(descriptor, size_bytes, start)
    except OSError as error:
        raise ArchiveError(path, error.strerror or str(error)) from error


def _check_limits(directory: Directory, limits: Limits, path: str) -> None:
    if directory.members > limits.members:
        raise ArchiveError(path, f"it has {directory.members:,} members, and may have {limits.members:,} here")
    if directory.size_bytes > limits.directory_bytes:
        raise ArchiveError(path, f"its directory has {directory.size_bytes:,} bytes, which is too much here")


#: A member as the directory has it: its name, None if it is not served; a record but for the room; the bytes that it
#: takes at least: where they begin, and end.
_Entry = tuple[bytes | None, bytes, int, int]


def _read_entries(descriptor: int, directory: Directory, limits: Limits | None, path: str) -> Iterator[_Entry]:
    """Yield all members in the order of the directory."""
    position, stop = directory.start, directory.start + directory.size_bytes
    buffer, at, count = b"", 0, 0
    while position < stop:
        block = _read(descriptor, min(_CHUNK_BYTES, stop - position), position, path)
        if not block:
            raise ArchiveError(path, "its directory is cut off")
        position += len(block)
        buffer, at = buffer[at:] + block, 0
        size_bytes = len(buffer)
        # One loop without calls: there may be millions.
        while at + _ENTRY.size <= size_bytes:
            fields = _ENTRY.unpack_from(buffer, at)
            signature, flags, method, crc, packed, size, name_bytes, extra_bytes, comment_bytes, disk, start = fields
            if signature != _SIGNATURE_OF_ENTRY:
                raise ArchiveError(path, "its directory is damaged")
            name_stop = at + _ENTRY.size + name_bytes
            behind = name_stop + extra_bytes + comment_bytes
            if behind > size_bytes:
                break
            if packed == _FULL_32 or size == _FULL_32 or start == _FULL_32:
                packed, size, start = _read_zip64(
                    buffer[name_stop : name_stop + extra_bytes], packed, size, start, path
                )
            if disk and disk != _FULL_16:
                raise ArchiveError(path, "some of its members are in another file; join its parts first")
            start += directory.shift_bytes
            least = start + _LOCAL_HEADER_BYTES + name_bytes + packed
            if least > directory.start:
                raise ArchiveError(path, "a member reaches into its directory")
            name = decode_name(buffer[at + _ENTRY.size : name_stop], flags)
            record = _RECORD_BUT_ROOM.pack(
                start, packed, size, crc, UNREADABLE if flags & _UNREADABLE_FLAGS else method
            )
            yield name if _is_served(name) else None, record, start, least
            count += 1
            at = behind
        if limits is not None and count > limits.members:
            raise ArchiveError(path, f"it has more than {limits.members:,} members")
    if at != len(buffer):
        raise ArchiveError(path, "its directory is cut off")
    # Writers that know no Zip64 count modulo 65,536.
    if directory.members not in (count, count & _FULL_16):
        raise ArchiveError(path, f"it says that it has {directory.members:,} members, and has {count:,}")


def _is_served(name: bytes) -> bool:
    # The regular expression takes longer than all else of a member.
    if b"/." in name or b"//" in name or b"\0" in name or name[:1] in (b"", b".", b"/"):
        return not _UNSERVED_NAME.search(name)
    return True


def _read_zip64(extra: bytes, packed_bytes: int, size_bytes: int, start: int, path: str) -> tuple[int, int, int]:
    """Return sizes and place of a member, those that are too large for 32 bits from its extra field (4.5.3)."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == _ZIP64_FIELD:
            numbers = extra[at + 4 : at + 4 + length]
            large = iter(struct.unpack(f"<{len(numbers) // 8}Q", numbers[: len(numbers) // 8 * 8]))
            try:
                size_bytes, packed_bytes, start = (
                    next(large) if number == _FULL_32 else number for number in (size_bytes, packed_bytes, start)
                )
            except (StopIteration, RuntimeError):
                raise ArchiveError(path, "its directory is damaged: a size for Zip64 is missing") from None
            break
        at += 4 + length
    return packed_bytes, size_bytes, start


def decode_name(raw: bytes, flags: int) -> bytes:
    """Return a member's name as URLs have it: UTF-8, from the code page 437 where the flags do not say UTF-8."""
    return raw if flags & _UTF8_FLAG or raw.isascii() else raw.decode("cp437").encode()


class _Sorting:
    """Brings members into the order of their names, those of one run at a time in memory."""

    def __init__(self, scratch: FilePart, directory: Directory, path: str, max_bytes: int | None) -> None:
        self._scratch = scratch
        self._directory = directory
        self._path = path
        self._max_bytes = max_bytes
        self._starts = array("Q")
        self._stops = array("Q")
        self._run: list[_Named] = []
        self._run_bytes = 0
        #: Of those that are written: where each begins and ends, and its first and last name.
        self._runs: list[tuple[int, int, bytes, bytes]] = []

    def add(self, name: bytes | None, record: bytes, start: int, stop: int) -> None:
        self._starts.append(start)
        self._stops.append(stop)
        if name is not None:
            self._run.append((name, record))
            self._run_bytes += len(name)
            if len(self._run) >= _RUN_MEMBERS or self._run_bytes >= _RUN_BYTES:
                self._write_run()

    def finish(self) -> Iterator[_Named]:
        """Yield the names in ascending order, each with its whole record; of one that is there twice the last."""
        self._check_apart()
        starts, limit = self._starts, self._directory.start
        last: _Named | None = None
        for named in chain(self._merged(), [None]):
            if last is not None and (named is None or named[0] != last[0]):
                name, record = last
                start, packed_bytes = _PLACE.unpack_from(record)
                behind = bisect_right(starts, start)
                stop = starts[behind] if behind < len(starts) else limit
                room_bytes = stop - start - _LOCAL_HEADER_BYTES - packed_bytes
                yield name, record + _LENGTH.pack(min(room_bytes, _FULL_32))
            last = named

    def _check_apart(self) -> None:
        """Raise ArchiveError if two members share bytes: so small archives come to unpack to far too much."""
        if not all(map(le, self._starts, islice(self._starts, 1, None))):
            order = sorted(range(len(self._starts)), key=self._starts.__getitem__)
            self._starts = array("Q", map(self._starts.__getitem__, order))
            self._stops = array("Q", map(self._stops.__getitem__, order))
        if not all(map(le, self._stops, islice(self._starts, 1, None))):
            raise ArchiveError(self._path, "two of its members share bytes, as in archives that are made to do harm")

    def _merged(self) -> Iterable[_Named]:
        if not self._runs:
            self._run.sort(key=itemgetter(0))
            return self._run
        if self._run:
            self._write_run()
        self._scratch.file.flush()
        runs = [self._read_run(start, stop) for start, stop, _, _ in self._runs]
        if all(one[3] < other[2] for one, other in pairwise(self._runs)):
            return chain.from_iterable(runs)
        return merge(*runs, key=itemgetter(0))

    def _write_run(self) -> None:
        self._run.sort(key=itemgetter(0))
        file = self._scratch.file
        start = file.tell()
        file.write(b"".join([_LENGTH.pack(len(name)) + name + record for name, record in self._run]))
        self._runs.append((start, file.tell(), self._run[0][0], self._run[-1][0]))
        self._run, self._run_bytes = [], 0
        # The index will have all of that, but for members with one name.
        if self._max_bytes is not None and file.tell() > self._max_bytes:
            raise _takes_too_much(self._path)

    def _read_run(self, position: int, stop: int) -> Iterator[_Named]:
        descriptor = self._scratch.file.fileno()
        buffer, at = b"", 0
        while position < stop or at < len(buffer):
            behind = 0
            name_start = at + _LENGTH.size
            if name_start <= len(buffer):
                name_stop = name_start + _LENGTH.unpack_from(buffer, at)[0]
                behind = name_stop + _RECORD_BUT_ROOM.size
            if not behind or behind > len(buffer):
                block = os.pread(descriptor, min(_CHUNK_BYTES, stop - position), position)
                position += len(block)
                buffer, at = buffer[at:] + block, 0
                continue
            yield buffer[name_start:name_stop], buffer[name_stop:behind]
            at = behind


class LocalHeader(NamedTuple):
    """What stands before a member's bytes in the archive.

    Attributes
    ----------
    raw_name : bytes
    method : int
    start : int
        Where the bytes begin that follow.
    room_bytes : int
        What name and extra field take.
    """

    raw_name: bytes
    method: int
    start: int
    room_bytes: int

    def has_name(self, name: bytes) -> bool:
        """Whether its name is `name`, which URLs have; that it is UTF-8 some writers say in the directory alone."""
        return self.raw_name == name or decode_name(self.raw_name, 0) == name


_LOCAL_HEADER_BYTES = 30

#: Longer than nearly all headers with their names.
_HEAD_BYTES = 512


def read_local_header(read: Callable[[int, int], bytes], start: int) -> LocalHeader | None:
    """Return the header of the member at `start`; None: there is none.

    `read` returns what is at an offset, at most so many bytes.
    """
    head = read(start, _HEAD_BYTES)
    if len(head) < _LOCAL_HEADER_BYTES or head[:4] != _SIGNATURE_OF_MEMBER:
        return None
    _, flags, method, name_bytes, extra_bytes = _LOCAL_HEADER.unpack_from(head)
    raw = head[_LOCAL_HEADER_BYTES : _LOCAL_HEADER_BYTES + name_bytes]
    if len(raw) < name_bytes:
        raw = read(start + _LOCAL_HEADER_BYTES, name_bytes)
    return LocalHeader(
        raw,
        UNREADABLE if flags & _UNREADABLE_FLAGS else method,
        start + _LOCAL_HEADER_BYTES + name_bytes + extra_bytes,
        name_bytes + extra_bytes,
    )
