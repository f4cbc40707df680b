from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from hub.commits import map_commits
from hub.registration import Registration
from hub.registry import Registry, RegistryReader


@pytest.fixture
def registry(registry_path: Path) -> Registry:
    registry = Registry(registry_path)
    registry.open()
    return registry


def read(path: Path) -> RegistryReader[Registration]:
    reader = RegistryReader(path, lambda registration: registration)
    reader.find("")
    return reader


def locks_of(path: str) -> int:
    """Return how many locks this process has on a file (proc(5), /proc/locks)."""
    inode, holder = str(os.stat(path).st_ino), str(os.getpid())
    rows = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return sum(row[4] == holder and row[5].rpartition(":")[2] == inode for row in rows if row[1] == "POSIX")


def test_each_commit_of_another_process_changes_the_bytes(registry: Registry, registry_path: Path) -> None:
    reader = read(registry_path)
    commits = map_commits(registry_path)
    program = (
        "import sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1])\n"
        "connection.execute('CREATE TABLE IF NOT EXISTS other (number)')\n"
        "connection.execute('INSERT INTO other VALUES (1)')\n"
        "connection.commit()\n"
    )
    for _ in range(3):
        before = commits[:]
        reader.find("")
        assert commits[:] == before
        subprocess.run([sys.executable, "-c", program, registry_path], check=True)
        assert commits[:] != before


def test_what_is_rolled_back_is_no_commit(registry: Registry, registry_path: Path) -> None:
    reader = read(registry_path)
    before = map_commits(registry_path)[:]
    connection = sqlite3.connect(registry_path)
    connection.execute("DELETE FROM registration")
    connection.rollback()
    connection.close()
    reader.find("")
    assert map_commits(registry_path)[:] == before


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="locks are told by Linux alone")
def test_readers_that_come_and_go_take_no_lock_from_the_others(registry: Registry, registry_path: Path) -> None:
    """Whoever closes a descriptor of a file loses all locks on it (fcntl(2)), and SQLite its hold on the log."""
    first = read(registry_path)
    index = f"{registry_path}-shm"
    locks = locks_of(index)
    assert locks > 0
    for _ in range(5):
        read(registry_path).close()
    assert locks_of(index) == locks
    first.find("")


def test_a_registry_is_mapped_once_for_all_threads(registry: Registry, registry_path: Path) -> None:
    readers = [read(registry_path) for _ in range(5)]
    assert len({id(map_commits(registry_path)) for _ in readers}) == 1


def test_a_registry_that_was_replaced_is_mapped_anew(registry: Registry, registry_path: Path, tmp_path: Path) -> None:
    reader = read(registry_path)
    before = map_commits(registry_path)
    registry.close()
    for path in registry_path.parent.iterdir():
        path.rename(tmp_path / path.name)
    Registry(registry_path).open()
    other = read(registry_path)
    assert map_commits(registry_path) is not before
    reader.close()
    other.find("")


def test_a_registry_that_is_a_link_is_followed(registry: Registry, registry_path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.sqlite"
    link.symlink_to(registry_path)
    assert read(link).find("unknown") is None
    assert map_commits(link) is map_commits(registry_path)
