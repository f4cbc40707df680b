"""What is counted of each registration, and what becomes of that when something goes wrong."""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from hub import JupyterRelayHub
from hub.locations import Location
from kdr_wsgi import cli, create_app, usage
from kdr_wsgi.answers import Answer
from kdr_wsgi.usage import Usage, UsageCounter, UsageUnavailable, add_usage, read_usage, usage_path
from tests.conftest import LiveServer
from tests.jupyter import wait_until
from tests.mounts import own_mounts
from tests.raw_http import Connection, fetch

TILE = Answer("200 OK", [("Content-Type", "image/png"), ("Content-Length", "7")], (b"x" * 7,))
ONE = Usage(1, 1, 1.0)


@pytest.fixture
def client(registry_path: Path) -> Iterator[FlaskClient]:
    app = create_app({"KDR_REGISTRY": str(registry_path)})
    with app.test_client() as client:
        yield client
    app.extensions["kdr"].close()


@pytest.fixture
def counter(registry_path: Path) -> UsageCounter:
    registry_path.parent.mkdir()
    return UsageCounter(registry_path)


def without_time(registry: Location) -> dict[str, tuple[int, int]]:
    return {key: (read.hits, read.body_bytes) for key, read in read_usage(registry).items()}


def test_of_some_keys_all_is_read_and_of_others_nothing(registry_path: Path) -> None:
    registry_path.parent.mkdir()
    add_usage(usage_path(registry_path), {f"{number}": Usage(number, 0, 1.0) for number in range(2000)})
    keys = [f"{number}" for number in range(0, 2400, 2)]
    read = read_usage(registry_path, keys)
    assert {key: usage.hits for key, usage in read.items()} == {key: int(key) for key in keys if int(key) < 2000}
    assert read_usage(registry_path, []) == {}


# --- what is counted -------------------------------------------------------------------------------------------------


def test_hits_bytes_and_the_last_access_are_counted(
    client: FlaskClient, hub: JupyterRelayHub, registry_path: Path, tree: Path
) -> None:
    (tree / "small").write_bytes(b"x" * 10)
    (tree / "large").write_bytes(b"x" * 200_000)
    (tree / "text.json").write_bytes(b"x" * 20_000)
    url = hub.serve_tree(tree, visibility="public")
    begun = time.time()
    for entry, headers in (
        ("small", {}),
        ("small", {}),
        ("large", {}),
        ("large", {"Range": "bytes=0-99"}),
        ("text.json", {"Accept-Encoding": "gzip"}),
    ):
        with client.get(url + entry, headers=headers) as answer:
            sent = len(answer.data)
            assert answer.status_code in (200, 206)
    usage.write_all()
    (read,) = read_usage(registry_path).values()
    assert (read.hits, read.body_bytes) == (5, 10 + 10 + 200_000 + 100 + sent)
    assert read.last_at is not None
    assert begun <= read.last_at <= time.time()


def test_what_has_no_body_counts_no_bytes_and_what_is_refused_counts_nothing(
    client: FlaskClient, hub: JupyterRelayHub, registry_path: Path, tree: Path
) -> None:
    (tree / "a").write_bytes(b"x" * 10)
    (tree / "folder").mkdir()
    url, private = hub.serve_tree(tree, visibility="public"), hub.serve_tree(tree, "private")
    tag = client.head(url + "a").headers["ETag"]
    assert client.get(url + "a", headers={"If-None-Match": tag}).status_code == 304
    usage.write_all()
    assert without_time(registry_path) == {url.key: (2, 0)}
    for refused, status in (
        (url + "missing", 404),
        (url + "folder", 308),
        (url.rstrip("/"), 308),
        (private + "a", 404),
        ("/wwtkdr/nothing/a", 404),
    ):
        assert client.get(refused).status_code == status
    assert client.get(url + "a", headers={"If-Match": '"b"'}).status_code == 412
    assert client.get(url + "a", headers={"Range": "bytes=10-"}).status_code == 416
    usage.write_all()
    assert without_time(registry_path) == {url.key: (2, 0)}


def test_the_page_of_a_folder_counts(
    client: FlaskClient, hub: JupyterRelayHub, registry_path: Path, tree: Path
) -> None:
    url = hub.serve_tree(tree, visibility="public")
    page = client.get(url).data
    usage.write_all()
    assert without_time(registry_path) == {url.key: (1, len(page))}


def test_threads_lose_no_count(counter: UsageCounter, registry_path: Path) -> None:
    def work() -> None:
        for number in range(2000):
            counter.count(f"key-{number % 3}", TILE)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        counter.write()
    for thread in threads:
        thread.join()
    counter.write()
    read = without_time(registry_path)
    assert sum(hits for hits, _ in read.values()) == 16_000
    assert sum(body_bytes for _, body_bytes in read.values()) == 7 * 16_000


def test_counts_are_written_by_themselves_and_no_thread_stays(
    counter: UsageCounter, registry_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "WRITE_SECONDS", 0.05)

    def threads() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name == "kdr-usage"]

    for hits in (1, 2):
        counter.count("a", TILE)
        assert threads()
        wait_until(lambda hits=hits: without_time(registry_path) == {"a": (hits, 7 * hits)}, "nothing is written")
        wait_until(lambda: not threads(), "the thread goes on")


def test_the_file_is_for_the_user_alone(counter: UsageCounter, registry_path: Path) -> None:
    counter.count("a", TILE)
    counter.write()
    assert stat.S_IMODE(usage_path(registry_path).stat().st_mode) == 0o600


def test_who_reaches_a_registry_through_a_link_counts_in_the_same_place(registry_path: Path, tmp_path: Path) -> None:
    registry_path.parent.mkdir()
    registry_path.touch()
    link = tmp_path / "link.sqlite"
    link.symlink_to(registry_path)
    add_usage(usage_path(link), {"a": Usage(1, 2, 3.0)})
    assert read_usage(registry_path) == {"a": Usage(1, 2, 3.0)}


def test_counting_writes_nothing_to_the_registry(
    client: FlaskClient, hub: JupyterRelayHub, registry_path: Path, tree: Path
) -> None:
    """All readers would forget what they know of it."""
    (tree / "a").write_text("a")
    url = hub.serve_tree(tree, visibility="public")
    with sqlite3.connect(registry_path) as connection:
        before = connection.execute("PRAGMA data_version").fetchone()
        client.get(url + "a")
        usage.write_all()
        assert connection.execute("PRAGMA data_version").fetchone() == before
    connection.close()
    assert read_usage(registry_path).keys() == {url.key}


def test_counts_belong_to_a_key_until_gc_finds_it_gone(
    hub: JupyterRelayHub, registry_path: Path, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, other = hub.serve_tree(tree), hub.serve_tree(tree, "other")
    add_usage(usage_path(registry_path), {url.key: Usage(2, 20, 1.0), other.key: Usage(3, 30, 2.0)})
    url.revoke()
    assert hub.serve_tree(tree) == url
    assert cli.main(["gc", "--registry", str(registry_path)]) == 0
    assert without_time(registry_path) == {url.key: (2, 20), other.key: (3, 30)}
    url.revoke()
    assert cli.main(["gc", "--registry", str(registry_path)]) == 0
    assert without_time(registry_path) == {other.key: (3, 30)}
    assert "counts of 1 key" in capsys.readouterr().out


# --- what goes wrong -------------------------------------------------------------------------------------------------


def test_what_cannot_be_written_is_kept_and_told_once(
    counter: UsageCounter, registry_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    in_the_way = usage_path(registry_path)
    in_the_way.mkdir()
    for _ in range(3):
        counter.count("a", TILE)
        counter.write()
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert str(in_the_way) in record.message
    in_the_way.rmdir()
    counter.write()
    assert without_time(registry_path) == {"a": (3, 21)}
    assert len(caplog.records) == 1


@pytest.mark.parametrize("bytes_of_no_sense", [b"no database, and long enough to be none" * 100, None])
def test_a_damaged_file_is_set_aside_and_counting_begins_anew(
    counter: UsageCounter, registry_path: Path, caplog: pytest.LogCaptureFixture, bytes_of_no_sense: bytes | None
) -> None:
    path = usage_path(registry_path)
    add_usage(path, {f"key-{number}": ONE for number in range(2000)})
    if bytes_of_no_sense is None:
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(os.urandom(path.stat().st_size - 4096))
    else:
        path.write_bytes(bytes_of_no_sense)
    with pytest.raises(UsageUnavailable):
        read_usage(registry_path)
    counter.count("a", TILE)
    counter.write()
    assert without_time(registry_path) == {"a": (1, 7)}
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert len(list(path.parent.glob("*.usage.damaged-*"))) == 1


@pytest.mark.parametrize("become", ["gone", "empty"])
def test_a_file_that_is_removed_or_emptied_is_made_again(
    counter: UsageCounter, registry_path: Path, become: str
) -> None:
    path = usage_path(registry_path)
    for _ in range(2):
        counter.count("a", TILE)
        counter.write()
        assert without_time(registry_path) == {"a": (1, 7)}
        if become == "gone":
            path.unlink()
        else:
            os.truncate(path, 0)
        assert read_usage(registry_path) == {}


def test_a_later_version_is_left_alone(counter: UsageCounter, registry_path: Path) -> None:
    path = usage_path(registry_path)
    add_usage(path, {"a": ONE})
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    for use in (lambda: read_usage(registry_path), lambda: add_usage(path, {"a": ONE})):
        with pytest.raises(UsageUnavailable, match="upgrade"):
            use()


def test_gc_goes_on_where_counts_cannot_be_read(
    registry_path: Path, hub: JupyterRelayHub, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.serve_tree(tree)
    usage_path(registry_path).write_bytes(b"no database" * 1000)
    assert cli.main(["gc", "--registry", str(registry_path)]) == 1
    told = capsys.readouterr()
    assert "0 removed" in told.out
    assert "counts of what was read" in told.err


def test_a_child_leaves_the_counts_to_its_parent(counter: UsageCounter, registry_path: Path) -> None:
    counter.count("a", TILE)
    child = os.fork()
    if child == 0:
        counter.write()
        counter.count("b", TILE)
        counter.write()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    counter.write()
    assert without_time(registry_path) == {"a": (1, 7), "b": (1, 7)}


ON_A_SMALL_DISK = 'mount -t tmpfs -o size=128k none "$1" && exec "$2" -c "$3" "$1"'

FULL = """
import logging, os, sys
from pathlib import Path
from kdr_wsgi import usage
from kdr_wsgi.answers import Answer

logging.basicConfig(format="%(message)s")
registry = Path(sys.argv[1], "registry.sqlite")
counter = usage.UsageCounter(registry)
for number in range(40):
    for key in range(100):
        counter.count(f"{number}-{key}-{'x' * 100}", Answer("200 OK", [("Content-Length", "1")], (b"x",)))
    counter.write()
"""
READ_ONLY = f"""
import subprocess
{FULL.replace("counter = ", 'subprocess.run(["mount", "-o", "remount,ro", sys.argv[1]], check=True); counter = ')}
"""
ROOM = """
assert not usage.usage_path(registry).exists() or len(usage.read_usage(registry)) < 4000
subprocess = __import__("subprocess")
subprocess.run(["mount", "-o", "remount,rw,size=8m", sys.argv[1]], check=True)
counter.write()
counted = usage.read_usage(registry)
assert len(counted) == 4000 and {each.hits for each in counted.values()} == {1}, len(counted)
"""


@pytest.mark.parametrize(("program", "reason"), [(FULL, "full"), (READ_ONLY, "Read-only")], ids=["full", "read-only"])
def test_a_disk_that_takes_nothing_costs_no_count_and_one_line(tmp_path: Path, program: str, reason: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = [*own_mounts(), "sh", "-c", ON_A_SMALL_DISK, "sh", str(disk), sys.executable, program + ROOM]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert reason in line


# --- servers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("worker_class", ["gunicorn", "granian"])
def test_workers_count_together_and_a_restart_keeps_it(
    start_server: Callable[..., LiveServer], tree: Path, worker_class: str
) -> None:
    server = start_server(worker_class=worker_class, workers=2)
    (tree / "a").write_bytes(b"x" * 10)
    url = server.hub.serve_tree(tree, visibility="public")
    for _ in range(10):
        connections = [Connection(server.address) for _ in range(4)]
        for connection in connections:
            with connection:
                assert connection.request("GET", url + "a").status == 200
    # What was counted in the last moment is written at the end.
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(30)
    assert without_time(server.hub.registry.location) == {url.key: (40, 400)}


def test_a_worker_that_is_killed_loses_at_most_what_it_had_not_written(
    start_server: Callable[..., LiveServer], tree: Path
) -> None:
    server = start_server(worker_class="gunicorn")
    (tree / "a").write_bytes(b"x" * 10)
    url = server.hub.serve_tree(tree, visibility="public")
    registry = server.hub.registry.location
    for _ in range(5):
        fetch(server.address, url + "a")
    wait_until(lambda: without_time(registry) == {url.key: (5, 50)}, "nothing is written", 5)
    (worker,) = server.workers
    fetch(server.address, url + "a")
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: server.workers not in ([], [worker]), "no new worker")
    fetch(server.address, url + "a")
    wait_until(lambda: without_time(registry)[url.key][0] in (6, 7), "nothing is written", 5)
