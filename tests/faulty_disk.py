"""A disk that fails as it is told to: a file system of the test's own, through /dev/fuse.

Run as a program it mounts itself, in a mount namespace of its own, serves for
as long as the command behind runs, and takes its orders from a file.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import stat
import struct
import sys
from functools import cache
from pathlib import Path

#: By their names: number, size.
FILES = {b"small": (2, 1000), b"large": (3, 8 << 20)}
ROOT = 1

_LOOKUP, _FORGET, _GETATTR, _OPEN, _READ, _RELEASE, _FLUSH, _INIT = 1, 2, 3, 14, 15, 18, 25, 26
_OPENDIR, _READDIR, _RELEASEDIR, _INTERRUPT, _DESTROY, _BATCH_FORGET = 27, 28, 29, 36, 38, 42
#: What orders call them.
NAMES = {_LOOKUP: "lookup", _GETATTR: "getattr", _OPEN: "open", _READ: "read", _OPENDIR: "opendir", _READDIR: "readdir"}

#: Reads go through to here, each time.
_DIRECT_IO = 1


@cache
def content(name: bytes) -> bytes:
    """Return the bytes of a file."""
    _, size = FILES[name]
    return (name + b" ") * (size // (len(name) + 1)) + b"." * (size % (len(name) + 1))


def order(orders: Path, *operations: str, number: int = errno.EIO, beyond: int = 0) -> None:
    """Let operations fail with an errno from now on, reads from the offset `beyond`; without any, nothing fails."""
    draft = orders.with_suffix(".draft")
    draft.write_text(f"{number} {beyond} {' '.join(operations)}")
    draft.replace(orders)


def _attributes(node: int) -> bytes:
    size = next((size for number, size in FILES.values() if number == node), 0)
    mode = stat.S_IFREG | 0o644 if size else stat.S_IFDIR | 0o755
    times = (1_700_000_000,) * 3
    return struct.pack("<6Q10I", node, size, size // 512, *times, 1, 1, 1, mode, 1, 0, 0, 0, 4096, 0)


def _answer(operation: int, node: int, body: bytes) -> bytes:
    if operation == _INIT:
        return struct.pack("<4I2H2I2H8I", 7, 31, 1 << 17, 0, 16, 12, 1 << 17, 1, 32, 0, *(0,) * 8)
    if operation == _LOOKUP:
        name = body.rstrip(b"\0")
        if name not in FILES:
            raise FileNotFoundError(errno.ENOENT, "")
        number, _ = FILES[name]
        return struct.pack("<4Q2I", number, 0, 0, 0, 0, 0) + _attributes(number)
    if operation == _GETATTR:
        return struct.pack("<Q2I", 0, 0, 0) + _attributes(node)
    if operation in (_OPEN, _OPENDIR):
        return struct.pack("<Q2I", 0, _DIRECT_IO if operation == _OPEN else 0, 0)
    if operation == _READ:
        _, offset, size = struct.unpack_from("<2QI", body)
        name = next(name for name, (number, _) in FILES.items() if number == node)
        return content(name)[offset : offset + size]
    if operation in (_READDIR, _RELEASE, _RELEASEDIR, _FLUSH, _DESTROY):
        return b""
    raise OSError(errno.ENOSYS, "")


def _serve(device: int, orders: Path) -> None:
    while True:
        try:
            request = os.read(device, 1 << 18)
        except OSError as error:
            if error.errno in (errno.EINTR, errno.EAGAIN, errno.ENOENT):
                continue
            return
        _, operation, unique, node = struct.unpack_from("<2I2Q", request)
        if operation in (_FORGET, _BATCH_FORGET, _INTERRUPT):
            continue
        number, beyond, *failing = orders.read_text().split()
        failure, body = 0, b""
        is_within = operation == _READ and struct.unpack_from("<2QI", request, 40)[1] < int(beyond)
        if NAMES.get(operation) in failing and not is_within:
            failure = int(number)
        else:
            try:
                body = _answer(operation, node, request[40:])
            except OSError as error:
                failure = error.errno or errno.EIO
        os.write(device, struct.pack("<IiQ", 16 + len(body), -failure, unique) + body)


def main() -> None:
    """Mount, serve in another process, and become the command."""
    folder, orders, *command = sys.argv[1:]
    order(Path(orders))
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"faulty", os.fsencode(folder), b"fuse", 0, options.encode()) != 0:
        sys.exit(f"cannot mount: {os.strerror(ctypes.get_errno())}")
    parent = os.getpid()
    if os.fork() == 0:
        Path(orders).with_suffix(".pid").write_text(str(os.getpid()))
        libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: it ends with the command.
        if os.getppid() == parent:
            _serve(device, Path(orders))
        os._exit(0)
    os.close(device)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
