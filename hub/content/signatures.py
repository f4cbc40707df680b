"""Signatures: what one stat says of a file, by which a later change shows."""

from __future__ import annotations

import os
import struct
import time

#: How long a file system may go on stamping changes with one and the same time. Linux does for a clock tick,
#: 10 ms at the most (CONFIG_HZ=100), here doubled; file systems with whole seconds do for up to two (FAT).
TICK_NS = 20_000_000
COARSE_TICK_NS = 2_000_000_000

_NUMBERS = struct.Struct("<4Q")
_MASK = (1 << 64) - 1

#: The same bytes, of what all files have but those of the far future, in less time.
_pack = struct.Struct("<QqqQ").pack

SIGNATURE_BYTES = _NUMBERS.size
_SIZE_BYTES = 8


def make_signature(status: os.stat_result) -> bytes:
    """Return size, mtime, ctime (nanoseconds) and inode as bytes.

    No program can set the ctime, so that a rewrite that keeps size and mtime
    shows. The device is left out: its number may be another one after a reboot.
    """
    try:
        return _pack(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    except struct.error:  # A time after the year 2262, which file systems do hold.
        return pack_signature(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def pack_signature(size_bytes: int, modified_ns: int, changed_ns: int, inode: int) -> bytes:
    """Return the signature that these numbers make."""
    return _NUMBERS.pack(size_bytes, modified_ns & _MASK, changed_ns & _MASK, inode & _MASK)


def unpack_signature(signature: bytes) -> tuple[int, int, int, int]:
    """Return size, mtime, ctime and inode."""
    size_bytes, modified_ns, changed_ns, inode = _NUMBERS.unpack(signature)
    return size_bytes, _signed(modified_ns), _signed(changed_ns), inode


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


def make_unsettled(signature: bytes) -> bytes:
    """Return a signature of the same size that is no file's."""
    return signature[:_SIZE_BYTES] + bytes(SIGNATURE_BYTES - _SIZE_BYTES)


def size_field_of(signature: bytes) -> bytes:
    """Return the file's size in bytes as a manifest has it."""
    return signature[:_SIZE_BYTES]


def size_of(signature: bytes) -> int:
    """Return the file's size in bytes."""
    return int.from_bytes(signature[:_SIZE_BYTES], "little")


def is_settled(changed_ns: int) -> bool:
    """Whether a change from now on will be stamped with another ctime than `changed_ns`.

    A time in the future comes from another clock, of which nothing is known.
    """
    return abs(time.time_ns() - changed_ns) > _tick_ns(changed_ns)


def seconds_until_settled(changed_ns: int) -> float:
    """Return how long to wait until a file of that ctime is settled: 0 if it is, or if no waiting helps."""
    now_ns = time.time_ns()
    tick_ns = _tick_ns(changed_ns)
    return (changed_ns + tick_ns - now_ns + 1) / 1e9 if 0 <= now_ns - changed_ns <= tick_ns else 0.0


def is_coarse(time_ns: int) -> bool:
    """Whether a time may come from a file system that keeps whole seconds."""
    return time_ns % 1_000_000_000 == 0


def _tick_ns(changed_ns: int) -> int:
    return COARSE_TICK_NS if is_coarse(changed_ns) else TICK_NS
