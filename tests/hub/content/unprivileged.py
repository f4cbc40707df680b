"""Python without root's power to read everything."""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import unprivileged


def run_unprivileged(program: str) -> str:
    """Run a program and return what it prints."""
    command = [*unprivileged(), sys.executable, "-c", program]
    return subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False).stdout
