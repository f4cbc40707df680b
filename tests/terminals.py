"""A real terminal, and a program that runs in it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

_SECONDS = 60.0

#: What moves the cursor, clears, and colours: ECMA-48, 5.4; and what names the terminal's window.
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\].*?(?:\x07|\x1b\\)|\x1b[=>]")


@dataclass
class Terminal:
    """A terminal in which a program runs, and what it has shown."""

    process: subprocess.Popen[bytes]
    descriptor: int
    side: int
    before: list[object]
    shown: str = field(default="")

    def type(self, keys: str) -> None:
        os.write(self.descriptor, keys.encode())

    def resize(self, columns: int, lines: int = 24) -> None:
        _resize(self.descriptor, columns, lines)

    @property
    def is_as_before(self) -> bool:
        """Whether lines are edited and shown again as they were before the program."""
        return bool(termios.tcgetattr(self.side) == self.before)

    @property
    def text(self) -> str:
        """What has been shown, without colours and movements."""
        return plain(self.shown)

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + _SECONDS
        while text not in self.text:
            assert time.monotonic() < deadline, f"{text!r} is not shown, but: {self.text}"
            self._read()

    def wait(self) -> int:
        """Wait until the program ends; return its exit code."""
        deadline = time.monotonic() + _SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it goes on, and has shown: {self.text}"
            self._read()
        while self._read():
            pass
        return self.process.returncode

    def _read(self) -> bool:
        if not select.select([self.descriptor], [], [], 0.1)[0]:
            return False
        read = os.read(self.descriptor, 65536)
        self.shown += read.decode(errors="replace")
        return bool(read)


@contextmanager
def terminal(command: Sequence[str], *, columns: int = 100, **environment: str | None) -> Iterator[Terminal]:
    """Run a command in a terminal, with variables of the environment set, or removed (None)."""
    descriptor, side = pty.openpty()
    _resize(descriptor, columns)
    variables = {"TERM": "xterm-256color", **environment}
    cleaned = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    before = termios.tcgetattr(side)
    process = subprocess.Popen(
        command,
        stdin=side,
        stdout=side,
        stderr=side,
        env={name: value for name, value in {**cleaned, **variables}.items() if value is not None},
        start_new_session=True,
        # Ctrl-C reaches the programs of the terminal that is theirs.
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    try:
        yield Terminal(process, descriptor, side, before)
    finally:
        process.kill()
        process.wait()
        os.close(side)
        os.close(descriptor)


def run_in_terminal(command: Sequence[str], *, columns: int = 100, **environment: str | None) -> tuple[int, str]:
    """Run a command in a terminal to its end; return its exit code and all that it shows, colours and all."""
    with terminal(command, columns=columns, **environment) as running:
        code = running.wait()
        return code, running.shown


def plain(shown: str) -> str:
    """Return what was shown without colours and movements of the cursor."""
    without = _CONTROL.sub("", shown).replace("\r\n", "\n")
    while "\b" in without.lstrip("\b"):
        without = re.sub("[^\b]\b", "", without)
    return without


def _resize(descriptor: int, columns: int, lines: int = 24) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("4H", lines, columns, 0, 0))
