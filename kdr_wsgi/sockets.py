"""The socket on which a server listens."""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys

#: Connections that wait while all threads are busy (listen(2)).
BACKLOG = 2048


class BindError(Exception):
    """The server cannot listen where it was told to."""

    def __init__(self, bind: str, reason: str) -> None:
        self.bind = bind
        super().__init__(f"cannot listen on {bind}: {reason}")


def listen(bind: str) -> socket.socket:
    """Return a socket that listens on `bind`: ``HOST:PORT``, ``[HOST]:PORT`` or ``unix:PATH``.

    A unix socket has mode 0600. One that a dead server left behind is replaced.

    Raises
    ------
    BindError
    """
    try:
        if bind.startswith("unix:"):
            return _listen_unix(bind, bind.removeprefix("unix:"))
        host, separator, port = bind.rpartition(":")
        if not (separator and host and port.isascii() and port.isdigit() and int(port) < 65536):
            raise BindError(bind, "write HOST:PORT (port 0: a free one) or unix:PATH")
        host = host.removeprefix("[").removesuffix("]")
        family, _, _, _, address = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
        return socket.create_server(address, family=family, backlog=BACKLOG)
    except socket.gaierror as error:
        raise BindError(bind, f"the host is not known: {error.strerror}") from error
    except UnicodeError as error:
        raise BindError(bind, "the host is not known") from error
    except OSError as error:
        is_busy_port = error.errno == errno.EADDRINUSE and not bind.startswith("unix:")
        remedy = "; name another port, or 0 for a free one" if is_busy_port else ""
        raise BindError(bind, f"{os.strerror(error.errno) if error.errno else error}{remedy}") from error


def url_of(listener: socket.socket) -> str:
    """Return where `listener` is reached: ``http://HOST:PORT``, or ``unix:PATH``."""
    address = listener.getsockname()
    if isinstance(address, str):
        return f"unix:{address}"
    host = f"[{address[0]}]" if listener.family == socket.AF_INET6 else address[0]
    return f"http://{host}:{address[1]}"


def is_loopback(listener: socket.socket) -> bool:
    """Whether only this machine reaches `listener`."""
    address = listener.getsockname()
    return isinstance(address, str) or address[0] == "::1" or address[0].startswith("127.")


def _listen_unix(bind: str, path: str) -> socket.socket:
    if not path:
        raise BindError(bind, "name the socket's path behind the colon")
    path = os.path.abspath(path)
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        pass
    else:
        if not stat.S_ISSOCK(status.st_mode):
            raise BindError(bind, "something else than a socket is there")
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(path) != errno.ECONNREFUSED:
                raise BindError(bind, "another server listens there")
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX)
    try:
        _bind_privately(listener, path)
    except BaseException:  # Ctrl-C too leaves no descriptor.
        listener.close()
        raise
    listener.listen(BACKLOG)
    return listener


def _bind_privately(listener: socket.socket, path: str) -> None:
    """Bind to `path` with mode 0600 from the first moment on; chmod would come too late."""
    if sys.platform == "linux":
        # The path gets the mode of the socket. A umask is all threads', and a Jupyter server has many.
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(path)
        return
    umask = os.umask(0o177)
    try:
        listener.bind(path)
    finally:
        os.umask(umask)
