"""Files that are given their name when they are whole."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType

#: What ends the name of a draft, where it must have one.
DRAFT_SUFFIX = ".tmp"

#: What open(2) answers where the file system, or the kernel, has no files without a name: NFS, say.
_NO_UNNAMED_FILES = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL})

#: Through which a file without a name is given one (open(2), O_TMPFILE).
_DESCRIPTORS = "/proc/self/fd"


class Draft:
    """A new file that is given its name when it is whole; a context manager that removes it otherwise.

    Until then it has none, where the file system can do that: of a process
    that is killed it leaves nothing.

    Parameters
    ----------
    folder : Path
        Where it will be.
    prefix : str
        What begins its name, where it must have one.

    Attributes
    ----------
    file : binary file
        Open for reading and writing, for the user alone.
    name : Path or None
        What it is called before it is whole, where it must be called something.
    """

    def __init__(self, folder: Path, prefix: str = "") -> None:
        self._folder = folder
        self._prefix = prefix
        self.name: Path | None = None
        descriptor = _open_unnamed(folder)
        if descriptor is None:
            path = self._make_name()
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            self.name = path
        self.file = open(descriptor, "w+b")  # noqa: SIM115  # closed by __exit__

    def __enter__(self) -> Draft:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.name is not None:
            with suppress(FileNotFoundError):
                os.unlink(self.name)
        with suppress(OSError):  # A full disk has been told of before.
            self.file.close()

    def link(self, path: Path) -> None:
        """Give the file a name that is free, or raise FileExistsError."""
        self.file.flush()
        if self.name is None:
            number = self.file.fileno()
            # Python calls linkat(2), which can follow the link, only where a folder is named; absolute paths ignore it.
            os.link(f"{_DESCRIPTORS}/{number}", path, src_dir_fd=number, follow_symlinks=True)
        else:
            os.link(self.name, path)

    def replace(self, path: Path) -> None:
        """Give the file a name, whatever had it before."""
        self.file.flush()
        if self.name is None:
            try:
                self.link(path)
            except FileExistsError:
                name = self._make_name()
                self.link(name)
                self.name = name
        if self.name is not None:
            os.replace(self.name, path)

    def _make_name(self) -> Path:
        return self._folder / f"{self._prefix}{os.urandom(8).hex()}{DRAFT_SUFFIX}"


def _open_unnamed(folder: Path) -> int | None:
    """Return the descriptor of a new file in `folder` that has no name; None where there are none."""
    if not hasattr(os, "O_TMPFILE") or not os.path.isdir(_DESCRIPTORS):
        return None
    try:
        return os.open(folder, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno in _NO_UNNAMED_FILES:
            return None
        raise
