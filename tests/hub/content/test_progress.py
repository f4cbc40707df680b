"""The bar as a person sees it: in a terminal, and in a kernel."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import start_new_kernel

from hub.content.progress import Progress
from tests.terminals import plain, run_in_terminal

PROGRAM = """
import time
from hub.content.progress import Progress
with Progress("hashing") as progress:
    progress.expect(4_000_000)
    progress.pass_files(1234)
    progress.expect_no_more()
    for _ in range(8):
        time.sleep({pause})
        progress.add(500_000)
print("done")
"""


def show(program: str, **options: Any) -> str:
    """Run a program in a terminal and return all that it shows."""
    code, shown = run_in_terminal([sys.executable, "-c", program], **options)
    assert code == 0
    return plain(shown)


def test_work_that_lasts_shows_a_bar_in_a_terminal() -> None:
    shown = show(PROGRAM.format(pause=0.25))
    assert re.search(r"hashing .*\d+% of 4\.0 MB, 1,234 files", shown)
    assert shown.count("\n") == 2
    assert shown.endswith("done\n")


def test_short_work_shows_none() -> None:
    assert show(PROGRAM.format(pause=0.01)) == "done\n"


def test_a_terminal_that_cannot_move_its_cursor_shows_none() -> None:
    assert show(PROGRAM.format(pause=0.25), TERM="dumb") == "done\n"


def test_a_narrow_terminal_shows_it_in_one_line() -> None:
    shown = show(PROGRAM.format(pause=0.25), columns=40)
    assert max(len(line) for line in re.split("[\r\n]", shown)) <= 40
    assert re.search(r"hashing \d+% of 4\.0 MB, 1,234 files", shown)


def test_what_is_printed_meanwhile_stays_whole_above_the_bar() -> None:
    program = PROGRAM.format(pause=0.25).replace("progress.add", "print('x' * 150); progress.add")
    assert show(program, columns=100).count("x" * 150 + "\n") == 8


def test_where_nobody_looks_there_is_none() -> None:
    run = subprocess.run([sys.executable, "-c", PROGRAM.format(pause=0.25)], capture_output=True, text=True, check=True)
    assert (run.stdout, run.stderr) == ("done\n", "")


def test_in_a_kernel_without_tqdm_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.content.progress._DELAY_SECONDS", 0.0)
    monkeypatch.setattr("hub.content.bars.is_in_kernel", lambda: True)
    monkeypatch.setattr("hub.content.bars.find_spec", lambda name: None)
    with Progress("hashing") as progress:
        progress.expect(1)
        progress.add(1)
        progress.pass_files(1)


def test_what_a_notebook_starts_prints_none() -> None:
    """As in ``url = !kdr publish --content tiles``."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(pause=0.25)],
        env={**os.environ, "JPY_PARENT_PID": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (run.stdout, run.stderr) == ("done\n", "")


def test_a_kernel_shows_it_in_the_notebook_and_makes_none_for_short_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel keeps each widget that was made (``comm_open``) for as long as it lives, shown or not."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        shown: list[str] = []

        def look(message: dict[str, Any]) -> None:
            if message["msg_type"] in ("display_data", "stream", "comm_open"):
                shown.append(str(message["content"]))

        client.execute_interactive(PROGRAM.format(pause=0.25), output_hook=look, timeout=60)
        assert any("hashing" in text or "application/vnd.jupyter.widget-view" in text for text in shown)
        shown.clear()
        client.execute_interactive(PROGRAM.format(pause=0.0), output_hook=look, timeout=60)
        assert shown == ["{'name': 'stdout', 'text': 'done\\n'}"]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_publishing_a_large_file_shows_how_far_it_is(tmp_path: Path) -> None:
    with (tmp_path / "big").open("wb") as file:
        file.truncate(6 << 30)
    program = (
        f"import hub; hub.JupyterRelayHub(registry={os.fspath(tmp_path / 'registry')!r}, base_url='/')"
        f".serve_file({os.fspath(tmp_path / 'big')!r}, content=True)"
    )
    started = time.monotonic()
    shown = show(program)
    if time.monotonic() - started < 2:
        pytest.skip("this machine hashes 6 GiB before a bar shows")
    assert len(set(re.findall(r"(\d+)% of", shown))) > 3
