"""What a path looks like from here: so the shared relay server of a JupyterHub notices that it sees something else.

Both sides look at the same few facts, and the kernel's nonce keys what they
make of them. A view tells nothing but whether they are the same.
"""

from __future__ import annotations

import errno
import heapq
import os
import stat
from collections.abc import Iterator
from contextlib import closing
from secrets import token_bytes
from typing import NamedTuple

from blake3 import blake3

from hub.content.opening import GONE

#: So many bytes at the beginning of a file, and at its end.
EDGE_BYTES = 64 << 10

#: So many entries of a folder, the first by their names.
MAX_ENTRIES = 64

#: Of a folder that has more than these no names are compared, since to find the first ones all must be read.
MAX_LISTED = 100_000

#: What a nonce has, and a view.
NONCE_BYTES = VIEW_BYTES = 32

#: Opening a FIFO that has been put there waits for nobody.
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class View(NamedTuple):
    """What a path looks like to a kernel.

    Attributes
    ----------
    nonce : bytes
        Random, so that nobody keeps what the views of a path are.
    digest : bytes
        The keyed hash of the facts.
    """

    nonce: bytes
    digest: bytes


def see(path: bytes, nonce: bytes = b"") -> View | None:
    """Return the view of a file or a folder; None: it cannot be read, so that there is none.

    Parameters
    ----------
    path : bytes
        Absolute, free of links.
    nonce : bytes
        That of an earlier view; a new one is taken otherwise.
    """
    nonce = nonce or token_bytes(NONCE_BYTES)
    try:
        descriptor = os.open(path, _FLAGS)
        try:
            return View(nonce, see_open(descriptor, nonce))
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM) or error.errno in GONE:
            return None
        raise


def see_open(descriptor: int, nonce: bytes) -> bytes:
    """Return what the facts of an open file or folder make, keyed by a nonce of `NONCE_BYTES`.

    Raises
    ------
    OSError
        It cannot be read.
    """
    status = os.fstat(descriptor)
    facts = _facts_of_folder(descriptor, status) if stat.S_ISDIR(status.st_mode) else _facts_of_file(descriptor, status)
    hasher = blake3(key=nonce)
    for fact in facts:
        # The length first: two facts are not taken for one.
        hasher.update(len(fact).to_bytes(8, "little") + fact)
    return hasher.digest()


def _facts_of_file(descriptor: int, status: os.stat_result) -> Iterator[bytes]:
    yield b"file"
    yield b"%d %d" % (status.st_size, status.st_mtime_ns)
    yield os.pread(descriptor, EDGE_BYTES, 0)
    yield os.pread(descriptor, EDGE_BYTES, max(0, status.st_size - EDGE_BYTES))


def _facts_of_folder(descriptor: int, status: os.stat_result) -> Iterator[bytes]:
    yield b"folder"
    number = 0

    def names() -> Iterator[bytes]:
        nonlocal number
        with closing(os.scandir(descriptor)) as found:
            for item in found:
                number += 1
                if number > MAX_LISTED:
                    return
                yield os.fsencode(item.name)

    first = heapq.nsmallest(MAX_ENTRIES, names())
    if number > MAX_LISTED:
        # In which order a folder gives its names is its file system's affair.
        yield b"many %d" % status.st_mtime_ns
        return
    yield b"%d" % number
    for name in first:
        yield name
        try:
            entry = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
        except FileNotFoundError:  # Removed just now; who looks again finds it so.
            yield b"gone"
            continue
        # The size of a folder is its file system's affair, too.
        yield b"%o %d" % (stat.S_IFMT(entry.st_mode), entry.st_size if stat.S_ISREG(entry.st_mode) else 0)
