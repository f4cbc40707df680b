from __future__ import annotations

import io
import json
import os
import re
import subprocess
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from hub import JupyterRelayHub
from kdr_wsgi.cli import main
from kdr_wsgi.commands.rows import read_rows
from kdr_wsgi.commands.tables import describe_bytes, print_rows
from kdr_wsgi.usage import Usage, add_usage, usage_path
from tests.kdr_wsgi.commands.conftest import KDR, Kdr
from tests.terminals import plain, run_in_terminal


def test_list_shows_what_is_registered(kdr: Kdr, tree: Path) -> None:
    assert kdr("list") == (0, "", "nothing is registered; publish something with: kdr publish PATH\n")
    kdr("publish", tree, "--key", "one")
    kdr("publish", tree, "--key", "two", "--visibility", "public", "--ttl", "100")
    code, out, _ = kdr("list")
    one, two = out.splitlines()
    assert (code, one) == (0, f"one  tree  private  when revoked  {tree}")
    assert two.startswith("two  tree  public  ")
    code, out, _ = kdr("list", "--json")
    listed = json.loads(out)
    assert [entry["key"] for entry in listed] == ["one", "two"]
    assert listed[0]["partial_url"] == "/wwtkdr/one/"
    assert listed[0]["path"] == str(tree)


def test_a_terminal_gets_no_control_characters(kdr: Kdr, tmp_path: Path) -> None:
    evil = os.fsencode(tmp_path) + b"/\x1b[31m\xff\n"
    os.mkdir(evil)
    kdr("publish", os.fsdecode(evil), "--key", "\x1b]0;x\x07")
    for command in (("list",), ("doctor",), ("gc", "--missing")):
        out = kdr(*command)[1]
        assert all(line.isprintable() for line in out.splitlines())
    assert json.loads(kdr("list", "--json")[1])[0]["path"] == os.fsdecode(evil)


@pytest.fixture
def filled(kdr: Kdr, tree: Path, registry_path: Path) -> str:
    """A registry with a hashed key, a word and one that many may read; return the hash."""
    key = kdr("publish", tree)[1].split("/")[2]
    kdr("publish", tree, "--key", "cube", "--visibility", "public", "--ttl", "7300")
    return key


def test_elsewhere_than_on_a_terminal_the_lines_are_as_scripts_read_them(
    filled: str, registry_path: Path, tree: Path
) -> None:
    command = [*KDR, "list", "--registry", str(registry_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "20"})
    hashed, cube = sorted(run.stdout.splitlines(), key=len, reverse=True)
    assert hashed == f"{filled}  tree  private  when revoked  {tree}"
    assert re.fullmatch(rf"cube  tree  public  7[23]\d\d s left  {tree}", cube)
    assert run.stderr == ""


def test_on_a_terminal_it_is_a_table_whose_keys_can_be_given_to_other_commands(
    filled: str, registry_path: Path, tree: Path
) -> None:
    code, shown = run_in_terminal([*KDR, "list", "--registry", str(registry_path)], columns=160)
    head, *rows, hint = plain(shown).splitlines()
    assert (code, head.split()) == (0, "KEY KIND WHO MAY READ ENDS HITS SENT LAST READ PATH".split())
    told = {tuple(part.strip() for part in row.split("  ") if part.strip()) for row in rows}
    assert told == {
        (filled[:8], "tree", "private", "when revoked", "0", "0 B", "never", str(tree)),
        ("cube", "tree", "public", "in 2 h", "0", "0 B", "never", str(tree)),
    }
    assert "kdr list --wide has them whole" in hint
    assert main(["revoke", filled[:8], "--registry", str(registry_path)]) == 0
    assert main(["revoke", filled[:8], "--registry", str(registry_path)]) == 1


def test_where_there_is_room_or_it_is_asked_for_keys_are_whole(filled: str, registry_path: Path, tree: Path) -> None:
    command = [*KDR, "list", "--registry", str(registry_path)]
    for shown in (
        run_in_terminal(command, columns=250)[1],
        run_in_terminal([*command, "--wide"], columns=40)[1],
    ):
        assert f"{filled}  tree  private       when revoked     0   0 B  never      {tree}\n" in plain(shown)
        assert "cut" not in plain(shown)


@pytest.mark.parametrize("columns", [20, 40, 59])
def test_a_narrow_terminal_still_shows_everything(filled: str, registry_path: Path, tree: Path, columns: int) -> None:
    _, shown = run_in_terminal([*KDR, "list", "--registry", str(registry_path)], columns=columns)
    assert f"{filled[:8]}  tree  private  when revoked  hits 0  sent 0 B  last read never\n  {tree}\n" in plain(shown)
    assert f"cube  tree  public  in 2 h  hits 0  sent 0 B  last read never\n  {tree}\n" in plain(shown)


def test_where_a_table_has_no_room_a_key_and_a_path_are_whole_all_the_same(
    kdr: Kdr, tree: Path, registry_path: Path
) -> None:
    key = "k" * 150
    kdr("publish", tree, "--key", key)
    _, shown = run_in_terminal([*KDR, "list", "--registry", str(registry_path)], columns=80)
    facts, path = plain(shown).splitlines()
    assert (facts.split("  ")[0], path) == (key, f"  {tree}")


def test_colours_are_for_terminals_that_have_them(filled: str, registry_path: Path) -> None:
    command = [*KDR, "list", "--registry", str(registry_path)]
    assert "\x1b[36m" in run_in_terminal(command)[1]
    assert "\x1b[36m" not in run_in_terminal(command, NO_COLOR="1")[1]
    assert "\x1b" not in run_in_terminal(command, TERM="dumb")[1]


def test_a_terminal_without_utf_8_is_told_all_the_same(kdr: Kdr, tmp_path: Path, registry_path: Path) -> None:
    (tmp_path / "m\u00fcnchen").mkdir()
    kdr("publish", tmp_path / "m\u00fcnchen", "--key", "stra\u00dfe")
    ascii_only = {"LC_ALL": "C", "PYTHONIOENCODING": "", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for columns in (40, 200):
        code, shown = run_in_terminal([*KDR, "list", "--registry", str(registry_path)], columns=columns, **ascii_only)
        assert (code, "stra\\xdfe" in plain(shown), "m\\udcc3\\udcbcnchen" in plain(shown)) == (0, True, True)


def test_a_terminal_is_sent_no_control_characters_of_a_path(kdr: Kdr, tmp_path: Path, registry_path: Path) -> None:
    evil = os.fsencode(tmp_path) + b"/\x1b]0;x\x07[red]\xff\n"
    os.mkdir(evil)
    kdr("publish", os.fsdecode(evil), "--key", "\x1b]0;x\x07")
    for command in (["list"], ["list", "--wide"], ["top"], ["doctor"]):
        shown = run_in_terminal([*KDR, *command, "--registry", str(registry_path)], columns=250, TERM="dumb")[1]
        assert all(line.isprintable() for line in shown.splitlines())
        assert "\\x1b]0;x\\x07" in shown
    assert "[red]\\udcff\\n" in shown


def test_how_registrations_are_used_and_what_is_missing_is_told(
    filled: str, registry_path: Path, kdr: Kdr, tmp_path: Path
) -> None:
    kdr("publish", str(tmp_path), "--key", "gone")
    with closing(JupyterRelayHub(key_prefix="", registry=registry_path).registry) as registry:
        gone = registry.find("gone")
        assert gone is not None
        registry.claim(replace(gone, root=b"/nowhere"))
    add_usage(usage_path(registry_path), {"cube": Usage(1234, 5_600_000, time.time() - 300)})
    console = Console(width=400, record=True, file=io.StringIO(), highlight=False, markup=False)
    print_rows(console, read_rows(JupyterRelayHub(key_prefix="", registry=registry_path)).rows, is_wide=False)
    shown = console.export_text()
    assert re.search(r"cube +tree +public +in 2 h +1,234 +5\.6 MB +5 min ago", shown)
    assert re.search(rf"{filled} +tree +private +when revoked +0 +0 B +never", shown)
    assert re.search(r"gone .* missing: /nowhere", shown)
    told = {entry["key"]: entry for entry in json.loads(kdr("list", "--json")[1])}
    assert (told["cube"]["hits"], told["cube"]["body_bytes"]) == (1234, 5_600_000)
    assert told["gone"]["is_missing"]


def test_what_was_read_may_be_unknown(filled: str, registry_path: Path, kdr: Kdr) -> None:
    usage_path(registry_path).mkdir()
    code, printed, warned = kdr("list", "--json")
    assert code == 0
    assert {entry["hits"] for entry in json.loads(printed)} == {None}
    assert "warning" in warned


@pytest.mark.parametrize(
    ("size_bytes", "told"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (99_949, "99.9 kB"), (99_950, "100 kB"), (999_499, "999 kB"),
     (999_500, "1.0 MB"), (5e15, "5,000 TB")],
)  # fmt: skip
def test_bytes_are_told_as_people_read_them(size_bytes: float, told: str) -> None:
    assert describe_bytes(size_bytes) == told
