"""Packages that a test needs, and that must not be in the environment of the others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import need


def install(folder: Path, *requirements: str) -> Path:
    """Install packages, without what they depend on, into a folder of their own."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *requirements]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    need("packages", is_there=done.returncode == 0, remedy=f"pip cannot install {requirements}: {done.stderr}")
    return folder
