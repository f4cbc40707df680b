"""The process that the Jupyter relay starts: ``python -m kdr_wsgi.jupyter.server DESCRIPTOR WORKERS THREADS``."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path

from hub.errors import HubError
from kdr_wsgi import serving
from kdr_wsgi.settings import SettingError


def main() -> int:
    """Serve on the socket that was handed over, until standard input ends."""
    descriptor, workers, threads = map(int, sys.argv[1:])
    listener = socket.socket(fileno=descriptor)
    threading.Thread(target=_end_with_parent, args=(listener.getsockname(),), daemon=True).start()
    try:
        serving.run(listener, {}, workers, threads=threads, is_borrowed=True)
    except (HubError, SettingError) as error:
        print(f"kdr: the relay server cannot start: {error}", file=sys.stderr)
        return 1
    return 0


def _end_with_parent(address: str) -> None:
    """Wait until the Jupyter server has ended; then remove its socket and end this process."""
    # Nothing is ever written to the pipe: it ends when the process at its other end does, killed or not.
    os.read(sys.stdin.fileno(), 1)
    path = Path(address)
    path.unlink(missing_ok=True)
    with suppress(FileNotFoundError):  # The Jupyter server has ended in order, and removes it too.
        path.parent.rmdir()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
