"""A clock that is set back, or on, while all run."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from tests.conftest import LiveServer, make_settled
from tests.jupyter import wait_until
from tests.raw_http import fetch

DAY = 86400

SERVERS = pytest.mark.parametrize("worker_class", ["kdr_wsgi.serving.WatchfulWorker", "granian"])


#: Of libfaketime Python's `time.sleep` fails.
SITECUSTOMIZE = """
import time
def shifted(real, unit):
    return lambda: real() + int(open({path!r}).read()) * unit
time.time, time.time_ns = shifted(time.time, 1), shifted(time.time_ns, 10**9)
"""


class Clock:
    """The clock of a server's Python, which the test sets; file systems and what measures durations keep theirs."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.set(0)
        (folder / "sitecustomize.py").write_text(SITECUSTOMIZE.format(path=str(self._file)))
        self.environment = {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}

    def set(self, seconds: int) -> None:
        draft = self._file.with_suffix(".draft")
        draft.write_text(str(seconds))
        draft.replace(self._file)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    folder = tmp_path / "with a clock"
    folder.mkdir()
    return Clock(folder)


def now_at(server: LiveServer, url: str, tree: Path) -> float:
    """Return the time that a server has, which is the latest at which it says that a file was modified."""
    (tree / "of the future").touch()
    os.utime(tree / "of the future", (2**32, 2**32))
    return parsedate_to_datetime(fetch(server.address, f"{url}of%20the%20future")["Last-Modified"]).timestamp()


@SERVERS
@pytest.mark.parametrize("jump", [-DAY, DAY], ids=["back", "on"])
def test_a_clock_that_is_set_stops_nobody_and_shows_nothing_old(
    start_server: Callable[..., LiveServer],
    tree: Path,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    worker_class: str,
    jump: int,
) -> None:
    server = start_server(worker_class=worker_class, environment=clock.environment)
    url = server.hub.serve_tree(tree, key="k", visibility="public")
    brief = server.hub.serve_tree(tree, key="brief", visibility="public", ttl=2 * DAY)
    bodies = {"small": b"A" * 1000, "large": b"A" * 1_000_000}
    for name, body in bodies.items():
        (tree / name).write_bytes(body)
        os.utime(tree / name, (time.time() + DAY,) * 2)  # Of the future.
        make_settled(tree / name)
    tags = {}
    for name, body in bodies.items():
        answer = fetch(server.address, url + name)
        assert answer.body == body
        tags[name] = answer["ETag"]
    workers = server.workers

    clock.set(jump)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump)
    assert abs(now_at(server, url, tree) - time.time()) < 60
    for name, body in bodies.items():
        answer = fetch(server.address, url + name)
        assert (answer.body, answer["ETag"]) == (body, tags[name])
        assert fetch(server.address, url + name, {"If-None-Match": tags[name]}).status == 304
        # Files of the same size, from an earlier time.
        new = tree / "new"
        new.write_bytes(b"B" * len(body))
        os.utime(new, (1_700_000_000,) * 2)
        new.rename(tree / name)
        for headers in ({}, {"If-None-Match": tags[name]}, {"Range": "bytes=0-999999", "If-Range": tags[name]}):
            answer = fetch(server.address, url + name, headers)
            assert (answer.status, answer.body) == (200, b"B" * len(body))
            assert answer["ETag"] != tags[name]
    # What is claimed now counts, though the clock says that it is older, and lives for as long as it is told to.
    (tree / "other").mkdir()
    (tree / "other" / "small").write_bytes(b"other")
    assert fetch(server.address, brief + "small").status == 200
    for key in ("k", "brief"):
        again = server.hub.serve_tree(tree / "other", key=key, visibility="public", ttl=3600)
        assert fetch(server.address, again + "small").body == b"other"
    gone = server.hub.serve_tree(tree, key="gone", visibility="public", ttl=0.1)
    wait_until(lambda: fetch(server.address, gone + "small").status == 404, "it does not end", 5)
    # Who watches the workers, once a second, has not taken them for dead.
    time.sleep(1.2)
    assert server.workers == workers
    assert fetch(server.address, again + "small").status == 200
