"""Open what lies beneath a root, and nothing else, whatever links are swapped in at whatever moment.

A root is an absolute path that was free of links when it was registered.
Where one of its folders has become a link since, there is nothing.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import TypeVar

from kdr_wsgi.errors import FileBeingChanged, IsDirectory, NoSuchEntry, NotReadable, StorageFailing, TooManyOpenFiles

# O_PATH opens a directory that may be searched but not listed; elsewhere than on Linux that takes O_SEARCH.
_SEARCH: int = getattr(os, "O_PATH", 0) or getattr(os, "O_SEARCH", os.O_RDONLY)
_DIRECTORY_FLAGS = _SEARCH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Were a FIFO swapped in between, O_NONBLOCK would keep open() from waiting for its writer.
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO})

#: What the system says where a disk is broken, a file server is gone or has forgotten us, or what should answer for a
#: mount in its place has ended (FUSE).
_FAILING = frozenset(
    getattr(errno, name)
    for name in (
        *("EIO", "ENODEV", "ENOMEDIUM", "EUCLEAN", "EBADMSG", "EREMOTEIO", "ESTALE", "ENOTCONN", "ECONNABORTED"),
        *("ETIMEDOUT", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "ENOLINK", "ESHUTDOWN"),
    )
    if hasattr(errno, name)  # Not all systems have each.
)

_Opened = TypeVar("_Opened")


def split_entry(entry: bytes) -> list[bytes]:
    """Return the names in `entry`; like the kernel, take several slashes for one.

    Raises
    ------
    NoSuchEntry
        It has a ``..``, which is no name of a file.
    """
    names = [name for name in entry.split(b"/") if name and name != b"."]
    if b".." in names:
        raise NoSuchEntry
    return names


def join_names(root: bytes, names: list[bytes]) -> bytes:
    """Return the path that `names` lead to from `root`."""
    return b"/".join((root.rstrip(b"/"), *names))


def open_file(root: bytes, names: list[bytes]) -> int:
    """Open a regular file beneath the directory `root`, following links that stay inside; return the descriptor.

    Raises
    ------
    NoSuchEntry
        Missing, outside, or neither a regular file nor a directory.
    NotReadable
    IsDirectory
    """
    descriptor = _open_where_named(join_names(root, names))
    return _follow(root, names, _walk_to_file) if descriptor is None else descriptor


def open_directory(root: bytes, names: list[bytes]) -> int:
    """Open a directory for listing, `root` itself or one beneath it, by the rules of `open_file`."""
    return _follow(root, names, _walk_to_directory)


def stat_entry(root: bytes, names: list[bytes]) -> os.stat_result:
    """Return the status of what `names` lead to, by the rules of `open_file`, whatever it is; nothing is opened.

    Raises
    ------
    NoSuchEntry
        Missing, or outside.
    NotReadable
    """
    return _follow(root, names, _walk_to_status)


def open_root_file(root: bytes) -> int:
    """Open the regular file `root`.

    Raises
    ------
    NoSuchEntry, NotReadable
    """
    descriptor = _open_where_named(root)
    if descriptor is not None:
        return descriptor
    try:
        folder, name = os.path.split(root)
        return _walk_to_file(folder, [name])
    except IsDirectory:
        raise NoSuchEntry from None
    except OSError as error:
        raise explain(error) from error


def explain(error: OSError) -> Exception:
    """Return the request's error for an errno that can be foreseen, else `error`."""
    if error.errno in _MISSING:
        return NoSuchEntry()
    if error.errno in (errno.EACCES, errno.EPERM):
        return NotReadable()
    if error.errno == errno.EAGAIN:  # Somebody holds a lease to write (fcntl(2)), which O_NONBLOCK does not wait for.
        return FileBeingChanged()
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return TooManyOpenFiles()
    if error.errno in _FAILING:
        return StorageFailing(str(error))
    return error


def _open_where_named(path: bytes) -> int | None:
    """Open the regular file `path` if no link is on the way; None: only a walk can tell.

    That takes no walk: what a descriptor has open has one path, free of links
    (proc(5), /proc/pid/fd), and where that is the path asked for, it is beneath
    the root as the path is.
    """
    try:
        descriptor = _open_regular(path)
    except (OSError, IsDirectory, NoSuchEntry):
        # It may be of something outside, of which nobody is to learn.
        return None
    try:
        if os.readlink(b"/proc/self/fd/%d" % descriptor) == path:
            return descriptor
    except OSError:
        pass  # Not Linux, or there is no /proc to be read: the walk does without.
    os.close(descriptor)
    return None


def _follow(root: bytes, names: list[bytes], walk: Callable[[bytes, list[bytes]], _Opened]) -> _Opened:
    """Walk, no step following a link; where a link is met, find out first where all links lead, and walk there."""
    try:
        try:
            return walk(root, names)
        except OSError as error:
            # What a step onto a link answers; O_DIRECTORY makes it ENOTDIR.
            if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                raise
        return walk(root, _resolve(root, names))
    except OSError as error:
        raise explain(error) from error


def _resolve(root: bytes, names: list[bytes]) -> list[bytes]:
    """Return the names that lead from `root` to where the links among `names` point, if that is beneath."""
    try:
        real_root = os.path.realpath(root)
        real = os.path.realpath(join_names(real_root, names))
    except RecursionError:  # More links after one another than the kernel follows.
        raise NoSuchEntry from None
    except OSError as error:
        if error.errno == errno.EINVAL:  # From readlink(2): it has ceased to be a link just now.
            raise NoSuchEntry from None
        raise
    inside = real_root.rstrip(b"/") + b"/"
    if real != real_root and not real.startswith(inside):
        raise NoSuchEntry
    return [name for name in real[len(inside) :].split(b"/") if name]


def _walk_to_file(root: bytes, names: list[bytes]) -> int:
    if not names:
        raise IsDirectory
    directory = _enter(root, names[:-1])
    try:
        return _open_regular(names[-1], directory)
    finally:
        os.close(directory)


def _walk_to_directory(root: bytes, names: list[bytes]) -> int:
    directory = _enter(root, names)
    try:
        return os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    finally:
        os.close(directory)


def _walk_to_status(root: bytes, names: list[bytes]) -> os.stat_result:
    directory = _enter(root, names[:-1])
    try:
        if not names:
            return os.fstat(directory)
        status = os.stat(names[-1], dir_fd=directory, follow_symlinks=False)
    finally:
        os.close(directory)
    if stat.S_ISLNK(status.st_mode):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return status


def _enter(root: bytes, names: list[bytes]) -> int:
    """Return a descriptor of the directory that `names` lead to from `root`, through no link on the whole path."""
    descriptor = os.open(b"/", _DIRECTORY_FLAGS)
    for name in [*root.split(b"/"), *names]:
        if not name:
            continue
        above = descriptor
        try:
            descriptor = os.open(name, _DIRECTORY_FLAGS, dir_fd=above)
        finally:
            os.close(above)
    return descriptor


def _open_regular(path: bytes, directory: int | None = None) -> int:
    # Asked before it is opened, since others notice when a FIFO or a device is opened.
    _check_regular(os.stat(path, dir_fd=directory, follow_symlinks=False))
    descriptor = os.open(path, _FILE_FLAGS, dir_fd=directory)
    try:
        _check_regular(os.fstat(descriptor))
    except BaseException:  # Ctrl-C too leaves no descriptor.
        os.close(descriptor)
        raise
    return descriptor


def _check_regular(status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    if stat.S_ISDIR(status.st_mode):
        raise IsDirectory
    if stat.S_ISLNK(status.st_mode):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    raise NoSuchEntry
