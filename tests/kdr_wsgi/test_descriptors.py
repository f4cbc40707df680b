from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
from kdr_wsgi.descriptors import make_room_for_connections
print(make_room_for_connections(16), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "connections", "limit"),
    [
        (1024, 20000, 4096, 8608),  # What most systems start programs with.
        (1024, 1024, 304, 1024),
        (10000, 20000, 4096, 10000),
        (100, 100, 16, 100),
    ],
)
def test_as_many_connections_as_leave_descriptors_for_what_they_ask_for(
    soft: int, hard: int, connections: int, limit: int
) -> None:
    program = [sys.executable, "-c", PROGRAM, str(soft), str(hard)]
    told = subprocess.run(program, check=True, capture_output=True, text=True).stdout
    assert [int(number) for number in told.split()] == [connections, limit, hard]
