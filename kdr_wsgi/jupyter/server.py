"""The process that the Jupyter relay starts, with a descriptor, its own number, workers, threads and what runs them."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path

from hub.errors import HubError
from kdr_wsgi.servers import find_runner
from kdr_wsgi.settings import SettingError

#: A child that the Jupyter server forked may hold the pipe open after its end.
LOOK_SECONDS = 2.0


def main() -> int:
    """Serve on the socket that was handed over, until the Jupyter server ends."""
    descriptor, parent, workers, threads = map(int, sys.argv[1:5])
    listener = socket.socket(fileno=descriptor)
    threading.Thread(target=_end_with, args=(parent, Path(listener.getsockname())), daemon=True).start()
    try:
        run = find_runner(sys.argv[5])
        run(listener, {}, workers, threads=threads, is_borrowed=True)
    except (HubError, SettingError) as error:
        print(f"kdr: the relay server cannot start: {error}", file=sys.stderr)
        return 1
    return 0


def _end_with(parent: int, path: Path) -> None:
    """Wait until the Jupyter server has ended; then remove its socket and end this process."""
    # Nothing is ever written to the pipe: it can be read when the process at its other end has ended, killed or not.
    while os.getppid() == parent and not select.select([sys.stdin], [], [], LOOK_SECONDS)[0]:
        continue
    path.unlink(missing_ok=True)
    with suppress(FileNotFoundError):  # The Jupyter server has ended in order, and removes it too.
        path.parent.rmdir()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
