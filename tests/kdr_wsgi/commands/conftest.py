"""The command `kdr`: in this process, as a process, and as a server that runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from kdr_wsgi.cli import main

Kdr = Callable[..., tuple[int, str, str]]

#: How each test starts it as a process.
KDR = [sys.executable, "-m", "kdr_wsgi"]


@pytest.fixture
def kdr(registry_path: Path, capsys: pytest.CaptureFixture[str]) -> Kdr:
    """Run a command in this process; return its exit code and what it printed."""

    def run(command: str, *arguments: str | os.PathLike[str]) -> tuple[int, str, str]:
        code = main([command, "--registry", str(registry_path), *map(str, arguments)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


class Serving:
    """`kdr serve` as a process, and the lines that it has printed."""

    def __init__(self, stack: ExitStack, registry_path: Path, *arguments: str, lines: int = 1) -> None:
        self.process = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", "kdr_wsgi", "serve", "--registry", str(registry_path), *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        stack.callback(self.process.kill)
        assert self.process.stdout is not None
        self.lines = [self.process.stdout.readline().strip() for _ in range(lines)]

    @property
    def address(self) -> tuple[str, int] | str:
        where = self.lines[0].removeprefix("listening on ")
        if where.startswith("unix:"):
            return where.removeprefix("unix:")
        host, _, port = where.removeprefix("http://").rpartition(":")
        return host, int(port)

    def stop(self) -> tuple[int, str]:
        """End it as a service manager does; return its exit code and what it said on stderr."""
        self.process.send_signal(signal.SIGTERM)
        _, err = self.process.communicate(timeout=30)
        return self.process.returncode, err


@pytest.fixture
def serve(registry_path: Path) -> Iterator[Callable[..., Serving]]:
    with ExitStack() as stack:
        yield lambda *arguments, **options: Serving(stack, registry_path, *map(str, arguments), **options)
