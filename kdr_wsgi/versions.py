"""Which version of a file this is, and the entity tag that says so."""

from __future__ import annotations

import os
import secrets
import time
from typing import NamedTuple, Union

from hub.content.signatures import TICK_NS, is_coarse, is_settled, pack_signature, unpack_signature
from kdr_wsgi.objects.versions import ObjectVersion


class FileVersion(NamedTuple):
    """What one stat says of a file.

    Attributes
    ----------
    size_bytes, device, inode : int
    modified_ns, changed_ns : int
        mtime and ctime, nanoseconds since the epoch.
    is_settled : bool
        Whether each later change will show in these numbers.
    """

    size_bytes: int
    device: int
    inode: int
    modified_ns: int
    changed_ns: int
    is_settled: bool

    @classmethod
    def of(cls, signature: bytes) -> FileVersion:
        """Return the version that a signature is of; the device is not known."""
        size_bytes, modified_ns, changed_ns, inode = unpack_signature(signature)
        return cls(size_bytes, 0, inode, modified_ns, changed_ns, is_settled=changed_ns != 0)

    def has_signature(self, signature: bytes) -> bool:
        """Whether `signature` is of this version, and each later one has another."""
        return self.is_settled and signature == self.make_signature()

    def make_signature(self) -> bytes:
        """Return the signature of this version."""
        return pack_signature(self.size_bytes, self.modified_ns, self.changed_ns, self.inode)

    def make_etag(self) -> str:
        """Return the strong entity tag (RFC 9110, 8.8.3), in its quotes.

        The ctime, which no program can set, shows a rewrite that keeps size
        and mtime. A version that is not settled gets a tag that never comes
        again, since it might name two contents.
        """
        numbers = f"{self.inode:x}-{self.size_bytes:x}-{self.modified_ns:x}-{self.changed_ns:x}"
        return f'"{numbers}"' if self.is_settled else f'"{numbers}-{secrets.token_hex(8)}"'

    def last_modified(self, now_seconds: float) -> int:
        """Last-Modified in seconds since the epoch, never later than now (RFC 9110, 8.8.2.1) nor before the epoch."""
        return max(0, min(self.modified_ns // 1_000_000_000, int(now_seconds)))

    def is_of(self, status: os.stat_result) -> bool:
        """Whether `status` is of the same file in the same version."""
        return (
            status.st_ctime_ns == self.changed_ns
            and status.st_ino == self.inode
            and status.st_size == self.size_bytes
            and status.st_mtime_ns == self.modified_ns
            and status.st_dev == self.device
        )


class MemberVersion(NamedTuple):
    """The version of a member of an archive: that of the archive, and which member it is.

    Attributes
    ----------
    size_bytes : int
        The member's, not packed.
    archive : FileVersion
    start : int
        Where the member is in the archive.
    crc : int
    """

    size_bytes: int
    archive: FileVersion
    start: int
    crc: int

    @property
    def modified_ns(self) -> int:
        """The archive's mtime."""
        return self.archive.modified_ns

    @property
    def changed_ns(self) -> int:
        """The archive's ctime."""
        return self.archive.changed_ns

    @property
    def is_settled(self) -> bool:
        """Whether each later change of the archive will show."""
        return self.archive.is_settled

    def has_signature(self, signature: bytes) -> bool:
        """Whether the archive has this signature, and each later version another."""
        return self.archive.has_signature(signature)

    def make_etag(self) -> str:
        """Return the strong entity tag, in its quotes: that of the archive, and what tells its members apart."""
        return f'{self.archive.make_etag()[:-1]}-{self.start:x}-{self.size_bytes:x}-{self.crc:x}"'

    def last_modified(self, now_seconds: float) -> int:
        """Last-Modified of the archive; the times of members know no time zone."""
        return self.archive.last_modified(now_seconds)

    def is_of(self, status: os.stat_result) -> bool:
        """Whether `status` is of the same archive in the same version."""
        return self.archive.is_of(status)


#: What a file, a member of an archive, or an object has.
AnyVersion = Union[FileVersion, MemberVersion, ObjectVersion]


def read_version(descriptor: int) -> FileVersion:
    """Return the version of an open file, after waiting for the end of the clock tick in which it was changed."""
    version = _version_of(os.fstat(descriptor))
    if not version.is_settled and not is_coarse(version.changed_ns):
        time.sleep(TICK_NS / 1e9)
        version = _version_of(os.fstat(descriptor))
    return version


def _version_of(status: os.stat_result) -> FileVersion:
    changed_ns = status.st_ctime_ns
    return FileVersion(
        status.st_size, status.st_dev, status.st_ino, status.st_mtime_ns, changed_ns, is_settled(changed_ns)
    )
