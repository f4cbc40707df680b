"""Where the relay server's socket lies."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from kdr_wsgi.jupyter import supervisor
from kdr_wsgi.jupyter.supervisor import Supervisor, remove_abandoned_sockets

LOG = logging.getLogger("test")


@pytest.fixture
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(tempfile.mkdtemp(dir=tmp_path_factory.getbasetemp()))


def make_socket(base: Path, *, age_seconds: float, backlog: int | None = None) -> tuple[Path, socket.socket]:
    """Make a socket as a Jupyter server would; with a backlog, one that is listened on."""
    directory = base / f"kdr-{os.getuid()}-abc"
    directory.mkdir()
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(directory / "relay.sock"))
    if backlog is not None:
        made.listen(backlog)
    then = directory.stat().st_mtime - age_seconds
    os.utime(directory, (then, then))
    return directory, made


@pytest.mark.parametrize("age_seconds", [100, -100], ids=["older", "from before the clock was set back"])
def test_a_socket_that_nobody_listens_on_is_removed(base: Path, age_seconds: float) -> None:
    directory, made = make_socket(base, age_seconds=age_seconds)
    with made:
        remove_abandoned_sockets(base)
        assert not directory.exists()


def test_a_socket_that_may_soon_be_listened_on_stays(base: Path) -> None:
    directory, made = make_socket(base, age_seconds=1)
    with made:
        remove_abandoned_sockets(base)
        assert directory.exists()


def test_a_socket_with_a_full_queue_stays_and_makes_nobody_wait(base: Path) -> None:
    directory, made = make_socket(base, age_seconds=100, backlog=0)
    waiting = [socket.socket(socket.AF_UNIX) for _ in range(3)]
    for client in waiting:
        client.setblocking(False)
        client.connect_ex(str(directory / "relay.sock"))
    remove_abandoned_sockets(base)
    assert directory.exists()
    for client in [made, *waiting]:
        client.close()


def test_what_is_not_the_users_own_is_let_be(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory, made = make_socket(base, age_seconds=100)
    link = base / f"kdr-{os.getuid()}-link"
    link.symlink_to(directory)
    owner = os.getuid()
    monkeypatch.setattr("os.getuid", lambda: owner + 1)
    with made:
        remove_abandoned_sockets(base)
        assert directory.exists()
        assert link.is_symlink()


def test_a_temporary_folder_with_a_long_name_is_passed_over(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = base / ("x" * 100)
    short = base / "r"
    long.mkdir()
    short.mkdir()
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(long))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short))
    path, listener = supervisor._open_socket()
    with listener:
        assert path.parent.parent == short
    assert [*long.iterdir()] == []


def test_with_no_place_for_a_socket_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "PATH_BYTES", 10)
    with pytest.raises(OSError, match="set TMPDIR to a directory of yours with a path of at most"):
        Supervisor({}, 1, "gunicorn", LOG).address()


def run_supervised(check: Callable[[Supervisor], object], registry: Path, base: Path) -> None:
    """Run `check` beside a relay server that is supervised, and then stop it."""

    async def main() -> None:
        watched = Supervisor({"KDR_REGISTRY": str(registry), "TMPDIR": str(base)}, 1, "gunicorn", LOG)
        try:
            await asyncio.get_running_loop().run_in_executor(None, lambda: None)
            watched.address()
            result = check(watched)
            if asyncio.iscoroutine(result):
                await asyncio.wait_for(result, 60)
        finally:
            await watched.stop()

    asyncio.run(main())


async def health(address: str) -> bytes:
    reader, writer = await asyncio.open_unix_connection(address)
    writer.write(b"GET /wwtkdr/_health HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer.partition(b"\r\n")[0]


def test_a_start_that_fails_is_tried_again(
    registry_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(base))
    monkeypatch.setattr(supervisor, "LONGEST_PAUSE_SECONDS", 0.1)
    start = asyncio.create_subprocess_exec
    failures = iter([OSError(24, "Too many open files")] * 2)

    async def moody(*arguments: object, **options: object) -> object:
        for error in failures:
            raise error
        return await start(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("asyncio.create_subprocess_exec", moody)

    async def check(watched: Supervisor) -> None:
        while "Too many open files" not in caplog.text or watched.is_failing():
            await asyncio.sleep(0.02)
        while True:
            try:
                assert await health(watched.address()) == b"HTTP/1.1 200 OK"
                return
            except (ConnectionError, AssertionError):
                await asyncio.sleep(0.05)  # Turned away once more.

    run_supervised(check, registry_path, base)
    assert [*base.iterdir()] == []


def test_a_socket_that_was_cleaned_away_is_made_anew(
    registry_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(base))

    async def check(watched: Supervisor) -> None:
        first = watched.address()
        assert await health(first) == b"HTTP/1.1 200 OK"
        os.unlink(first)
        os.rmdir(os.path.dirname(first))
        second = watched.address()
        assert second != first
        assert await health(second) == b"HTTP/1.1 200 OK"

    run_supervised(check, registry_path, base)
    assert [*base.iterdir()] == []


def test_after_the_end_nothing_is_started(registry_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(base))

    async def main() -> None:
        watched = Supervisor({"KDR_REGISTRY": str(registry_path)}, 1, "gunicorn", LOG)
        await watched.stop()
        with pytest.raises(OSError, match="the Jupyter server ends"):
            watched.address()

    asyncio.run(main())
    assert [*base.iterdir()] == []
