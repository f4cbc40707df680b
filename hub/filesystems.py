"""What the registry asks of the file system that holds it."""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from pathlib import Path

#: Local file systems, where every process that opens a file shares its pages. SQLite's write-ahead log needs
#: that (https://www.sqlite.org/wal.html, "all processes using a database must be on the same host computer");
#: on NFS, SMB, Lustre, FUSE and whatever else is not listed, two hosts could meet.
_SHARING_MEMORY = frozenset("bcachefs btrfs ext2 ext3 ext4 f2fs jfs overlay ramfs reiserfs tmpfs xfs zfs".split())

#: Where Linux shows its processes, its devices and itself (hier(7)); and memory among them that is used for files.
_NO_STORES = (b"/dev", b"/proc", b"/sys")
_STORE_IN_MEMORY = b"/dev/shm"  # nothing is written there

_MOUNT_TABLE = Path("/proc/self/mountinfo")


def make_private_directories(path: Path) -> None:
    """Make the missing directories above `path`, for the user alone."""
    for directory in reversed(path.parents):
        if not directory.exists():
            directory.mkdir(mode=0o700, exist_ok=True)


def find_intruder(folder: Path) -> str | None:
    """Return why somebody else could change what is in `folder`, and what to do; None if nobody can."""
    status = os.stat(folder, follow_symlinks=False)
    if stat.S_ISLNK(status.st_mode):
        return f"{folder} is a link"
    if os.geteuid() not in (0, status.st_uid):
        return f"{folder} belongs to another user"
    if status.st_mode & 0o022:
        return f"other users can write to {folder}; run: chmod go-w {folder}"
    return None


def with_remedy(failure: object, registry: Path) -> str:
    """Return what went wrong with a registry, and what to do where its file system is mounted only for reading."""
    if not _is_read_only(registry):
        return str(failure)
    # Also to read it, SQLite needs files beside it (https://www.sqlite.org/wal.html, "Read-Only Databases").
    return f"{failure}, on a file system that can only be read; name a file elsewhere in KDR_REGISTRY"


def _is_read_only(path: Path) -> bool:
    for place in (path, *path.parents):
        with suppress(OSError):  # It need not exist.
            return bool(os.statvfs(place).f_flag & os.ST_RDONLY)
    return False


def shares_memory(directory: Path, mount_table: Path = _MOUNT_TABLE) -> bool:
    """Whether all processes that can open a file in `directory` run on one host; False where nobody tells."""
    return _find_type(os.path.realpath(directory), mount_table) in _SHARING_MEMORY


def holds_files(path: bytes) -> bool:
    """Whether `path`, absolute and without links, is not one at which the system shows itself or its devices."""
    return _is_at(path, _STORE_IN_MEMORY) or not any(_is_at(path, folder) for folder in _NO_STORES)


def _is_at(path: bytes, folder: bytes) -> bool:
    return path == folder or path.startswith(folder + b"/")


def _find_type(directory: str, mount_table: Path) -> str | None:
    """Return the type of the file system that is mounted deepest above `directory` (proc(5), mountinfo)."""
    try:
        lines = mount_table.read_text("utf-8", "surrogateescape").splitlines()
    except FileNotFoundError:
        return None
    found, depth = None, -1
    for line in lines:
        mount, _, source = line.partition(" - ")
        point = _unescape(mount.split(" ")[4])
        # A later mount on the same point hides an earlier one.
        if len(point) >= depth and (directory + "/").startswith(point.rstrip("/") + "/"):
            found, depth = source.split(" ")[0], len(point)
    return found


def _unescape(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
