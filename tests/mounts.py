"""Disks of a test's own: processes that see mounts that nobody else sees."""

from __future__ import annotations

import shutil
import subprocess

from tests.conftest import need


def own_mounts() -> list[str]:
    """Return a command that gives the command behind it mounts of its own, and the right to mount."""
    can = shutil.which("unshare") and not subprocess.run(["unshare", "-rm", "true"], check=False).returncode
    need("unshare", is_there=bool(can), remedy="apt-get install util-linux, where users may have own namespaces")
    return ["unshare", "-rm"]


def with_mounts(script: str, *arguments: object) -> list[str]:
    """Return a command that runs a shell script, with mounts of its own, before the command behind it."""
    script = "".join(f"a{number}=$1; shift; " for number, _ in enumerate(arguments)) + script
    return [*own_mounts(), "sh", "-c", f'{script} && exec "$@"', "sh", *map(str, arguments)]


def run_inside(process: int, *command: object) -> str:
    """Run a command with the mounts of a process that `own_mounts` has started, and return what it prints."""
    enter = ["nsenter", "-t", str(process), "-U", "-m", "--preserve-credentials"]
    return subprocess.run([*enter, *map(str, command)], check=True, stdout=subprocess.PIPE, text=True).stdout
