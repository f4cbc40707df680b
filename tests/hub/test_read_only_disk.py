"""Where nobody can write, nothing is registered, and the error says what to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.mounts import with_mounts

MAKE = 'mount -t tmpfs none "$a0"'

PROGRAM = """
import subprocess, sys
import hub
disk, tree, state = sys.argv[1:]
registry = disk + "/kdr/registry.sqlite"

def relay_hub():
    return hub.JupyterRelayHub(registry=registry, base_url="/", key_prefix="")

before = relay_hub()
if state != "missing":
    before.serve_tree(tree, key="before")
if state == "open":
    # Whoever has it open keeps a disk from being mounted anew; seen through another mount it can only be read.
    subprocess.run(["mount", "--bind", disk, disk], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", disk], check=True)
else:
    before.registry.close()
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
for number in range(2):
    try:
        relay_hub().serve_tree(tree, content=bool(number))
    except hub.HubError as error:
        print(error)
if state == "open":
    before.serve_tree(tree, key="after")
    print(*sorted(registration.key for registration in before.registry.registrations()))
"""


@pytest.mark.parametrize("state", ["missing", "closed", "open"])
def test_a_disk_that_can_only_be_read_is_told(tmp_path: Path, tree: Path, state: str) -> None:
    (tree / "a").touch()
    disk = tmp_path / "disk"
    disk.mkdir()
    command = [*with_mounts(MAKE, disk), sys.executable, "-c", PROGRAM, str(disk), str(tree), state]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    first, second, *rest = done.stdout.splitlines()
    remedy = "on a file system that can only be read; name a file elsewhere in KDR_REGISTRY"
    assert remedy in first
    assert remedy in second or "Read-only file system" in second
    # Who had it open, where it can be written, goes on.
    assert rest == (["after before"] if state == "open" else [])
