from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from hub.registration import Registration
from kdr_wsgi.commands import top
from kdr_wsgi.commands.rows import Row, Rows
from kdr_wsgi.commands.top import Rates
from kdr_wsgi.overview import Published
from kdr_wsgi.usage import Usage
from tests.kdr_wsgi.commands.conftest import KDR, Kdr
from tests.terminals import terminal


@pytest.fixture
def command(kdr: Kdr, tree: Path, registry_path: Path) -> list[str]:
    kdr("publish", tree, "--key", "tiles")
    return [*KDR, "top", "--interval", "0.1", "--registry", str(registry_path)]


def test_it_shows_what_is_registered_as_that_changes_and_q_ends_it(command: list[str], kdr: Kdr, tree: Path) -> None:
    with terminal(command) as running:
        running.wait_for("tiles")
        kdr("publish", tree, "--key", "cube")
        running.wait_for("cube")
        running.wait_for("2 registered")
        running.type("x")
        running.type("q")
        assert running.wait() == 0
        # The screen that was there before comes back, with its cursor.
        assert running.shown.endswith("\x1b[?25h\x1b[?1049l")
        assert running.is_as_before


def test_ctrl_c_ends_it_and_leaves_the_terminal_as_it_was(command: list[str]) -> None:
    with terminal(command) as running:
        running.wait_for("tiles")
        assert not running.is_as_before
        running.type("\x03")
        assert running.wait() == 130
        assert "\x1b[?1049l" in running.shown
        assert "Traceback" not in running.shown
        assert running.is_as_before


def test_kill_leaves_the_terminal_as_it_was_too(command: list[str]) -> None:
    with terminal(command) as running:
        running.wait_for("tiles")
        running.process.terminate()
        assert running.wait() == 128 + 15
        assert "\x1b[?1049l" in running.shown
        assert running.is_as_before


def test_a_narrow_terminal_shows_each_in_one_line(command: list[str]) -> None:
    with terminal(command, columns=40) as running:
        running.wait_for("tiles")
        running.type("q")
        assert running.wait() == 0
        assert max(map(len, running.text.splitlines())) <= 40


def test_without_a_terminal_it_tells_once_and_ends(command: list[str], tree: Path) -> None:
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert (run.stdout, run.stderr) == (f"tiles  0  0  -  {tree}\n", "")
    with terminal(command, TERM="dumb") as running:
        assert running.wait() == 0
        assert running.shown == f"tiles  0  0  -  {tree}\r\n"


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "x"])
def test_an_interval_that_makes_no_sense_is_refused(seconds: str) -> None:
    run = subprocess.run([*KDR, "top", "--interval", seconds], capture_output=True, text=True, check=False)
    assert (run.returncode, f"{seconds!r} is no number of seconds" in run.stderr) == (2, True)


def row(key: str, hits: int | None = None, body_bytes: int = 0, last_at: float | None = None) -> Row:
    usage = None if hits is None else Usage(hits, body_bytes, last_at)
    return Row(Published(Registration(key, "tree", os.fsencode(f"/{key}")), usage, is_missing=False), "")


def test_rates_are_what_has_been_added_from_one_look_to_the_next() -> None:
    rates = Rates()
    rates.learn([row("a", 10, 1000), row("b")], 1.0)
    assert rates.of(row("a")) == (0.0, 0.0)
    rates.learn([row("a", 30, 5000), row("b"), row("new", 7, 7)], 3.0)
    assert rates.of(row("a")) == (10.0, 2000.0)
    assert rates.of(row("new")) == rates.of(row("b")) == (0.0, 0.0)
    assert rates.total() == (10.0, 2000.0)
    # It was revoked and claimed again, and its counts begin anew.
    rates.learn([row("a", 0, 0)], 4.0)
    assert rates.of(row("a")) == (0.0, 0.0)


def test_what_is_used_most_stands_first_and_what_has_no_room_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    rates = Rates()
    before = [row("idle", 5, 0, 100.0), row("busy", 0, 0, 50.0), row("never", 0), row("old", 1, 0, 1.0)]
    rates.learn(before, 0.0)
    rates.learn([before[0], row("busy", 20, 4_000_000, 101.0), *before[2:]], 2.0)
    console = Console(width=120, height=7, highlight=False, markup=False)
    now = Rows([before[0], row("busy", 20, 4_000_000, 101.0), *before[2:]], "")
    console.print(top._screen(now, rates, console.size))
    head, _, titles, *lines, end = capsys.readouterr().out.splitlines()
    assert head.strip() == "4 registered, 10.0 requests/s, 2.0 MB/s"
    assert titles.split()[:2] == ["KEY", "REQ/S"]
    assert [line.split()[0] for line in lines] == ["busy", "idle", "old"]
    assert lines[0].split()[1:4] == ["10.0", "2.0", "MB/s"]
    assert end.strip() == "and 1 more; q: end"


@pytest.mark.parametrize(
    ("width", "heads"),
    [(8, ["KEY"]), (36, ["KEY", "PATH"]), (80, ["KEY", "REQ/S", "SENT/S", "LAST READ", "SENT", "HITS", "PATH"])],
)
def test_in_a_narrow_terminal_each_line_says_what_tells_paths_apart(
    width: int, heads: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.console import Console

    def published(name: str) -> Row:
        registration = Registration(f"a-{name}", "tree", os.fsencode(f"/home/ada/surveys/2026/january/{name}"))
        return Row(Published(registration, Usage(7, 7_000_000, 1e9), is_missing=name == "gone"), "")

    console = Console(width=width, height=10, highlight=False, markup=False)
    console.print(top._screen(Rows([published("tiles"), published("gone")], ""), Rates(), console.size))
    _, _, titles, *lines, _ = capsys.readouterr().out.splitlines()
    assert re.split(r"  +", titles.strip()) == heads
    assert len(lines) == 2
    if "PATH" in heads:
        assert all("\N{HORIZONTAL ELLIPSIS}" in line for line in lines)
        assert [line.rpartition("/")[2].rstrip() for line in lines] == ["tiles", "gone"]
        assert "missing: " in lines[1]
