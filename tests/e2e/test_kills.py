"""Processes that are killed at any moment lose nothing that they were told is registered."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

from hub.registry import Registry

KILLS = 100

REGISTERING = """
import sys
import hub
relay = hub.JupyterRelayHub(registry=sys.argv[1], base_url="/", key_prefix="")
print("begins", flush=True)
for number in range(10**6):
    relay.serve_file(sys.argv[2], key=f"{sys.argv[3]}-{number}")
    print(number, flush=True)
"""


def test_what_a_killed_kernel_was_told_is_registered_is_there(registry_path: Path, tree: Path) -> None:
    """Each kernel is killed within its first thirty milliseconds of work, in the first of them the registry is made."""
    (tree / "a").write_text("a")
    chance = random.Random(0)  # no secret
    told = set()
    for kill in range(KILLS):
        program = [sys.executable, "-c", REGISTERING, str(registry_path), str(tree / "a"), f"k{kill}"]
        with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as kernel:
            assert kernel.stdout is not None
            assert kernel.stdout.readline() == "begins\n"
            time.sleep(chance.uniform(0, 0.03))
            kernel.kill()
            told |= {f"k{kill}-{line.strip()}" for line in kernel.stdout if line.endswith("\n")}
        registry = Registry(registry_path)
        registry.check()
        assert told <= {registration.key for registration in registry.registrations()}
        registry.close()
    assert len(told) > KILLS
    assert {path.name for path in registry_path.parent.iterdir()} == {"registry.sqlite"}
