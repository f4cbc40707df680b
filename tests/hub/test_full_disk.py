"""On a full disk nothing that was registered is lost, and once there is room all goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.mounts import own_mounts

#: A disk of two megabytes, for this one process.
ON_A_SMALL_DISK = 'mount -t tmpfs -o size=2m none "$1" && exec "$2" -c "$3" "$1" "$4"'

PREAMBLE = """
import os, sys
import hub

disk, tree = sys.argv[1:]
registry = disk + "/kdr/registry.sqlite"
relay = hub.JupyterRelayHub(registry=registry, base_url="/", key_prefix="")

def keys():
    return {registration.key for registration in relay.registry.registrations()}

def fill():
    with open(disk + "/ballast", "wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(bytes(4096))
        except OSError:
            pass

def make_room():
    os.unlink(disk + "/ballast")
"""

REGISTERING = """
with open(disk + "/ballast", "wb") as ballast:
    ballast.write(bytes(1 << 20))
told = set()
try:
    while True:
        told.add(relay.serve_tree(tree, key=f"k{len(told)}", headers={"X-Long": "x" * 2000}).key)
except hub.RegistryError as error:
    assert "full" in str(error), error
assert len(told) > 10
assert keys() == told
make_room()
told.add(relay.serve_tree(tree, key="after").key)
assert keys() == told
relay.registry.check()
"""

HASHING = """
relay.serve_tree(tree, key="first")
fill()
try:
    relay.serve_tree(tree, content=True)
except (hub.HubError, OSError) as error:
    assert "No space left" in str(error) or "full" in str(error), error
else:
    raise AssertionError("there was room")
names = {name for _, _, names in os.walk(disk + "/kdr") for name in names}
left = {name for name in names if name.endswith(".tmp")}
assert not left, left
make_room()
url = relay.serve_tree(tree, content=True)
assert keys() == {"first", url.key}
"""


COPYING = """
for number in range(9):
    with open(f"{tree}/{number}.png", "wb") as file:
        file.write(bytes([number]) * 50_000)
first = relay.serve_tree(tree, content=True)
fill()
for take in (lambda: relay.serve_tree(tree, content=True, snapshot=disk + "/kept"),
             lambda: relay.serve_file(tree + "/8.png", content=True, snapshot=disk + "/kept")):
    try:
        take()
    except hub.SnapshotError as error:
        assert "No space left" in str(error), error
    except hub.RegistryError as error:
        assert "full" in str(error), error
    else:
        raise AssertionError("there was room")
    assert {name for _, _, names in os.walk(disk) for name in names if name.endswith(".tmp")} == set()
assert keys() == {first.key}
make_room()
assert relay.serve_tree(tree, content=True, snapshot=disk + "/kept") == first
(registration,) = relay.registry.registrations()
assert registration.is_kept
kept = [os.path.join(folder, name) for folder, _, names in os.walk(disk + "/kept/objects") for name in names]
assert {os.path.getsize(path) for path in kept} == {0, 50_000}
assert len(kept) == 10
"""


@pytest.mark.parametrize("program", [REGISTERING, HASHING, COPYING], ids=["registering", "hashing", "copying"])
def test_a_full_disk_loses_nothing(tmp_path: Path, tree: Path, program: str) -> None:
    for number in range(3000):
        (tree / f"{number:04}").touch()
    disk = tmp_path / "disk"
    disk.mkdir()
    command = [*own_mounts(), "sh", "-c", ON_A_SMALL_DISK, "sh", str(disk), sys.executable, PREAMBLE + program]
    done = subprocess.run([*command, str(tree)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
