"""What becomes of a registry that is damaged: it is set aside as it is, and a new one takes its place."""

from __future__ import annotations

import errno
import os
import sqlite3
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hub.errors import RegistrySetAside
from hub.secret import secret_path
from hub.settings import REGISTRY_NAME

#: What belongs to a registry, in the order in which it is moved: the new one must meet no log of the old one
#: (https://www.sqlite.org/howtocorrupt.html, 1.4). Whoever has the old one open leaves the new one's log alone: SQLite
#: asks first whether its file has been moved (SQLITE_FCNTL_HAS_MOVED).
_SUFFIXES = ("-wal", "-journal", "-shm", "")

#: What SQLite says of a file that it cannot make sense of (SQLITE_NOTADB, SQLITE_CORRUPT); Python 3.10 has no codes.
_DAMAGED = ("file is not a database", "malformed")

#: So long a file may be empty that a process has made, before it has put a registry into it.
_MAKING_SECONDS = 1.0


def is_damage(error: BaseException) -> bool:
    """Whether SQLite means that the file itself is damaged."""
    return isinstance(error, sqlite3.DatabaseError) and any(words in str(error) for words in _DAMAGED)


def is_ours(path: Path) -> bool:
    """Whether the file at `path` was a registry, by its name, or since a secret lies beside it.

    What somebody has named by mistake stays as it is.
    """
    return path.name == REGISTRY_NAME or secret_path(path).is_file()


def set_aside(path: Path) -> None:
    """Move a damaged registry, which this process does not have open, to another name, unless another process has.

    Raises
    ------
    OSError
        It cannot be moved.
    """
    # What a link leads to, since its log lies there.
    path = Path(os.path.realpath(path))
    aside = move_aside(path)
    if aside is not None:
        warnings.warn(RegistrySetAside(str(path), aside), stacklevel=2)


def move_aside(path: Path) -> str | None:
    """Do the same for any file of SQLite's that is no link; return its new name, None if it was not for us to move.

    Raises
    ------
    OSError
        It cannot be moved.
    """
    with _alone_in(path.parent):
        if not path.exists() or _is_sound(path):
            return None
        aside = _free_name(path)
        for suffix in _SUFFIXES:
            with suppress(FileNotFoundError):
                os.rename(f"{path}{suffix}", f"{aside}{suffix}")
    return aside.name


def is_emptied(path: Path) -> bool:
    """Whether nothing is left of the file; who has it open then locks all others out. One that was just made is not."""
    with suppress(FileNotFoundError):
        status = os.stat(path)
        return status.st_size == 0 and time.time() - status.st_mtime > _MAKING_SECONDS
    return False


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Let no other process set anything in `folder` aside meanwhile, where the file system has locks of folders."""
    # Not of the file: to close it would end the locks that SQLite has on it (howtocorrupt.html, 2.2).
    import fcntl  # Here, since it takes POSIX, and `import hub` does not.

    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            # NFS makes a lock of bytes of it, which takes a file that is open for writing (flock(2)).
            if error.errno not in (errno.EBADF, errno.ENOLCK, errno.ENOTSUP):
                raise
        yield
    finally:
        os.close(descriptor)


def _is_sound(path: Path) -> bool:
    if is_emptied(path):
        return False
    connection = sqlite3.connect(path)
    try:
        return bool(connection.execute("PRAGMA integrity_check(1)").fetchone() == ("ok",))
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            return False
        raise
    finally:
        connection.close()


def _free_name(path: Path) -> Path:
    stem = f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%S')}"
    for number in range(1, 1000):
        name = path.with_name(stem if number == 1 else f"{stem}-{number}")
        if not name.exists():
            return name
    raise FileExistsError(f"{stem} and a thousand others")
