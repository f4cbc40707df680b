from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from hub.registry import Registry
from hub.version import VERSION
from kdr_wsgi.cli import main, make_parser
from kdr_wsgi.commands import COMMANDS, GROUPS
from kdr_wsgi.settings import SETTINGS
from tests.kdr_wsgi.commands.conftest import KDR, Kdr
from tests.terminals import plain, run_in_terminal, terminal


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("publish /nothing", "cannot serve '/nothing': no such file or directory"),
        ("publish /dev/null", "cannot serve '/dev/null' as a file: it is not a regular file"),
        ("publish / --key _x", "the key '_x' cannot be used: keys that begin with '_' are reserved for the server"),
        ("publish / --extension .x", "--extension is for files, and '/' is a directory"),
        ("publish / --ttl -1", "ttl=-1.0 cannot be used: give a positive number of seconds, or None for no end"),
        ("serve --bind nowhere", "cannot listen on nowhere: write HOST:PORT (port 0: a free one) or unix:PATH"),
        ("serve --bind :1:99999", "cannot listen on :1:99999: write HOST:PORT (port 0: a free one) or unix:PATH"),
        ("serve --bind unix:", "cannot listen on unix:: name the socket's path behind the colon"),
        (f"serve --bind unix:/{'x' * 200}", f"cannot listen on unix:/{'x' * 200}: AF_UNIX path too long"),
        ("demo --bind unix:/x", "a browser opens no unix socket; give --bind HOST:PORT"),
        ("serve --publish /nothing", "cannot serve '/nothing': no such file or directory"),
    ],
)
def test_a_failure_is_one_sentence_and_exit_code_1(kdr: Kdr, arguments: str, sentence: str) -> None:
    assert kdr(*arguments.split()) == (1, "", f"kdr: {sentence}\n")


def test_an_unusable_registry_is_one_sentence(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / "file").touch()
    for command in (["list"], ["publish", str(tree)], ["gc"], ["revoke", "x"], ["serve", "--bind", "127.0.0.1:0"]):
        assert main([*command, "--registry", str(tree / "file" / "registry")]) == 1
        assert capsys.readouterr().err.startswith("kdr: the registry ")


@pytest.mark.parametrize("arguments", [["nothing"], ["publish"], ["serve", "--workers", "0"], ["list", "x"]])
def test_wrong_usage_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: kdr" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_helps_and_takes_a_registry(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert "--registry PATH" in told
    assert command != "serve" or all(" ".join(setting.help.split()) in " ".join(told.split()) for setting in SETTINGS)


def test_a_reader_that_stops_reading_is_no_error(registry_path: Path, tree: Path) -> None:
    registry = Registry(registry_path)
    registry.registrations()
    registry.close()
    command = f"{sys.executable} -m kdr_wsgi list --json --registry {registry_path} | true"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert ended.stderr == ""


def test_without_a_command_all_are_listed_in_groups(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([])
    told = capsys.readouterr()
    assert (ended.value.code, told.out) == (2, "")
    for title, commands in GROUPS.items():
        assert f"\n{title}:\n" in told.err
        for name, help_ in commands.items():
            assert re.search(rf"^  {name} +{help_[:30]}", told.err, re.MULTILINE)
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert (ended.value.code, capsys.readouterr().out) == (0, told.err)


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("lst", "there is no command 'lst'; did you mean list?"),
        ("pubilsh", "there is no command 'pubilsh'; did you mean publish?"),
        ("remove", "there is no command 'remove'; did you mean revoke?"),
        ("frob", "there is no command 'frob'; see kdr --help"),
    ],
)
def test_of_a_misspelt_command_the_nearest_is_told(typed: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([typed, "x"])
    assert (ended.value.code, capsys.readouterr().err.splitlines()[-1]) == (2, f"kdr: error: {told}")


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"kdr {VERSION}\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_of_each_command_can_be_run(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    examples = import_module(f"kdr_wsgi.commands.{name}").COMMAND.examples
    with pytest.raises(SystemExit):
        main([name, "--help"])
    told = capsys.readouterr().out
    assert examples
    for line, purpose in examples:
        assert line in told
        assert purpose in " ".join(told.replace("# ", "").split())
        words = shlex.split(line.partition("|")[0].replace("eval ", "").strip('"$()`'))
        assert make_parser().parse_args(words[words.index("kdr") + 1 :]).run


@pytest.mark.parametrize("name", COMMANDS)
def test_in_a_narrow_terminal_help_fits(name: str) -> None:
    code, shown = run_in_terminal([*KDR, name, "--help"], columns=40)
    assert code == 0
    # What is to be copied stays whole, and so do words.
    usage, _, rest = plain(shown).partition("\n\n")
    assert usage.startswith(f"usage: kdr {name} ")
    wide = [line for line in rest.splitlines() if len(line) > 40]
    assert all(re.match(r" *(kdr|eval) |.*\S{20}", line) for line in wide)


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS), ["list"], ["revoke", "x"]])
def test_no_command_waits_for_what_only_others_need(arguments: list[str], registry_path: Path) -> None:
    program = (
        "import sys; from kdr_wsgi.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "heavy = {'flask', 'gunicorn', 'rich', 'argcomplete', 'tornado', 'tqdm'}\n"
        "heavy |= set() if 'serve' in sys.argv else {'werkzeug'}\n"
        "print(*(heavy & set(sys.modules)), file=sys.stderr)"
    )
    environment = {**os.environ, "KDR_REGISTRY": str(registry_path)}
    command = [sys.executable, "-c", program, *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert run.stderr.splitlines()[-1] == ""


@pytest.mark.parametrize("closing", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_error(closing: str, registry_path: Path, tree: Path) -> None:
    for command in ("publish " + str(tree), "list", "doctor", "top"):
        line = f"{' '.join(KDR)} {command} --registry {registry_path} {closing}"
        run = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
        assert (run.returncode, "Traceback" in run.stderr) == (0, False)


def test_ctrl_c_is_exit_code_130_without_a_traceback(registry_path: Path) -> None:
    with terminal([*KDR, "serve", "--bind", "127.0.0.1:0", "--registry", str(registry_path)]) as running:
        running.wait_for("listening on")
        running.type("\x03")
        assert running.wait() in (0, 130)
        assert "Traceback" not in running.text


def documented(text: str) -> dict[str, str]:
    """Return what a page says that each command takes, by its name."""
    return dict(re.findall(r"^\| `kdr (\w+)([^`]*)` \|", text, re.MULTILINE))


def test_the_documented_commands_are_those_that_there_are() -> None:
    told = documented((Path(__file__).parents[3] / "docs" / "reference.md").read_text("utf-8"))
    assert set(told) == set(COMMANDS)
    for name, takes in told.items():
        parser = argparse.ArgumentParser()
        import_module(f"kdr_wsgi.commands.{name}").COMMAND.add_arguments(parser)
        options = {option for action in parser._actions for option in action.option_strings} - {"-h", "--help"}
        assert set(re.findall(r"--[a-z-]+", takes)) == options
        for action in parser._actions:
            assert action.option_strings or str(action.metavar) in takes
