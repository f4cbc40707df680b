from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hub.registry import Registry
from kdr_wsgi.cli import main
from kdr_wsgi.commands import COMMANDS
from kdr_wsgi.settings import SETTINGS
from tests.kdr_wsgi.commands.conftest import Kdr


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


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["publish"], ["serve", "--workers", "0"], ["list", "x"]])
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
