"""Hash files, a batch at a time: what runs in executors, on this machine or another."""

from __future__ import annotations

import errno
import mmap
import os
import time
from collections.abc import Callable, Sequence
from typing import Union

from blake3 import blake3

from hub.content.opening import open_beneath
from hub.content.signatures import is_settled, make_signature, make_unsettled, seconds_until_settled

HASH_BYTES = 32

#: From here on several threads hash one file faster than one does; measured, docs/benchmarks.md.
LARGE_FILE_BYTES = 1 << 20

#: What is mapped, or read, at a time. Larger buffers fall out of the processor's caches.
_WINDOW_BYTES = 1 << 28
_BUFFER_BYTES = 1 << 22

#: How often a file that changes under our eyes is read before we give up.
_ATTEMPTS = 3

#: What became of a file: its signature and its hash, one after the other, or the errno of what went wrong.
Outcome = Union[bytes, int]

#: The errno of a file that is changed each time that it is read.
CHANGING = errno.EAGAIN

Report = Callable[[int], None]


def hash_batch(
    root: bytes, entries: Sequence[bytes], *, may_map: bool = False, report: Report | None = None
) -> list[Outcome]:
    """Return what became of each of `entries` below the folder `root`.

    It needs nothing but this package and the file system, so that an executor
    may call it on another machine.

    Parameters
    ----------
    root : bytes
    entries : sequence of bytes
    may_map : bool
        Map large files into memory, which is faster. A file that is truncated
        meanwhile ends the process then (SIGBUS, mmap(2)).
    report : callable, optional
        Called with the number of bytes of a large file that have been hashed, now and then.
    """
    # On another machine the folder may be reached through links.
    folder = os.path.realpath(root)
    return [_try_to_hash(folder, entry, may_map, report) for entry in entries]


def _try_to_hash(folder: bytes, entry: bytes, may_map: bool, report: Report | None) -> Outcome:
    try:
        return _hash_file(folder, entry, may_map, report)
    except OSError as error:
        return error.errno or errno.EIO


def _hash_file(folder: bytes, entry: bytes, may_map: bool, report: Report | None) -> Outcome:
    descriptor = open_beneath(folder, entry)
    try:
        for _ in range(_ATTEMPTS):
            outcome = hash_descriptor(descriptor, may_map=may_map, report=report)
            if outcome is not None:
                return outcome
    finally:
        os.close(descriptor)
    return CHANGING


def hash_descriptor(descriptor: int, *, may_map: bool = False, report: Report | None = None) -> bytes | None:
    """Return signature and hash of an open file, one after the other; None if it was changed meanwhile."""
    before = os.fstat(descriptor)
    if wait := seconds_until_settled(before.st_ctime_ns):
        time.sleep(wait)
        before = os.fstat(descriptor)
    settled = is_settled(before.st_ctime_ns)
    signature = make_signature(before)
    digest = _digest(descriptor, before.st_size, may_map, report)
    if digest is None or make_signature(os.fstat(descriptor)) != signature:
        return None
    # What may have changed since without a sign has a signature that is no file's.
    return (signature if settled else make_unsettled(signature)) + digest


def _digest(descriptor: int, size_bytes: int, may_map: bool, report: Report | None) -> bytes | None:
    """Return the hash of an open file; None if it has not `size_bytes` any more."""
    if size_bytes < LARGE_FILE_BYTES:
        data = os.pread(descriptor, size_bytes + 1, 0)
        return blake3(data).digest() if len(data) == size_bytes else None
    return _digest_mapped(descriptor, size_bytes, report) if may_map else _digest_read(descriptor, size_bytes, report)


def _digest_mapped(descriptor: int, size_bytes: int, report: Report | None) -> bytes | None:
    hasher = blake3(max_threads=blake3.AUTO)
    for start in range(0, size_bytes, _WINDOW_BYTES):
        length = min(_WINDOW_BYTES, size_bytes - start)
        try:
            window = mmap.mmap(descriptor, length, prot=mmap.PROT_READ, offset=start)
        except ValueError:  # The file is shorter than that now.
            return None
        with window:
            hasher.update(window)
        if report:
            report(length)
    return hasher.digest()


def _digest_read(descriptor: int, size_bytes: int, report: Report | None) -> bytes | None:
    hasher = blake3(max_threads=blake3.AUTO)
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    position = 0
    while length := os.preadv(descriptor, [buffer], position):
        hasher.update(buffer[:length])
        position += length
        if report:
            report(length)
    return hasher.digest() if position == size_bytes else None
