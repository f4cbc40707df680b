"""Open what lies beneath a folder, and nothing else."""

from __future__ import annotations

import errno
import os
import stat

# Were a FIFO put there in between, O_NONBLOCK would keep open() from waiting for its writer.
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

#: What opening answers where there is no file to be served: removed, or replaced by something else.
GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO})


def open_beneath(folder: bytes, entry: bytes) -> int:
    """Open the regular file `entry` in `folder`, or below it; return the descriptor.

    Links are followed, and then the file is asked where it is: one that is
    swapped in at whatever moment opens nothing outside.

    Parameters
    ----------
    folder : bytes
        An absolute path, free of links.
    entry : bytes

    Raises
    ------
    OSError
        With ENOENT also for what is no regular file, or is elsewhere.
    """
    path = os.path.join(folder, entry)
    descriptor = os.open(path, _FLAGS)
    try:
        is_regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        if not is_regular or not _place_of(descriptor, path).startswith(folder.rstrip(b"/") + b"/"):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    except BaseException:  # Ctrl-C too leaves no descriptor.
        os.close(descriptor)
        raise
    return descriptor


def _place_of(descriptor: int, path: bytes) -> bytes:
    """Return the path, free of links, of what is open (proc(5), /proc/pid/fd)."""
    try:
        return os.readlink(b"/proc/self/fd/%d" % descriptor)
    except FileNotFoundError:  # Not Linux.
        return os.path.realpath(path)
