"""Completion as shells do it, each as it is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kdr_wsgi.commands import COMMANDS
from kdr_wsgi.commands.completion import SHELLS
from tests.conftest import need
from tests.kdr_wsgi.commands.conftest import Kdr
from tests.terminals import terminal

#: Says what bash would complete a line to, a word a line.
BASH = """
eval "$(kdr completion bash)"
read -ra COMP_WORDS <<< "$1"
[[ "$1" == *" " ]] && COMP_WORDS+=("")
COMP_LINE=$1 COMP_POINT=${#1} COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_TYPE=9
$(complete -p kdr | sed 's/.*-F \\([^ ]*\\) .*/\\1/') kdr
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(autouse=True)
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry_path: Path) -> None:
    """The command `kdr` of this environment, first on the way."""
    (tmp_path / "bin").mkdir()
    kdr = tmp_path / "bin" / "kdr"
    kdr.write_text(f"#!{sys.executable}\nfrom kdr_wsgi.__main__ import main\nraise SystemExit(main())\n")
    kdr.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("KDR_REGISTRY", str(registry_path))
    (tmp_path / "home").mkdir()


def complete(line: str, **environment: str) -> set[str]:
    """Return what bash would complete `line` to."""
    run = subprocess.run(
        ["bash", "--norc", "-c", BASH, "bash", line],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, **environment},
    )
    assert run.stderr == ""
    return {word.rstrip() for word in run.stdout.splitlines()} - {""}


def test_bash_completes_commands_and_options_and_choices() -> None:
    assert complete("kdr ") == set(COMMANDS)
    assert complete("kdr re") == {"revoke"}
    assert complete("kdr list --") == {"--help", "--json", "--wide", "--registry"}
    assert complete("kdr serve --server g") == {"gunicorn", "granian"}
    assert complete("kdr publish x --visibility p") == {"private", "public"}
    assert complete("kdr completion ") == set(SHELLS)
    assert complete("kdr publish x --key ") == set()


def test_bash_completes_keys_and_what_is_in_a_tree(kdr: Kdr, tree: Path, registry_path: Path) -> None:
    (tree / "level 1").mkdir()
    (tree / "level 1" / "a.png").touch()
    (tree / "b.png").touch()
    key = kdr("publish", tree)[1].split("/")[2]
    kdr("publish", tree, "--key", "tiles")
    for command in ("open", "revoke", "verify"):
        assert complete(f"kdr {command} ") == {key, "tiles"}
        assert complete(f"kdr {command} t") == {"tiles"}
    assert complete("kdr open tiles ") == {"level\\ 1/", "b.png"}
    assert complete("kdr open til b") == {"b.png"}
    assert complete("kdr open tiles ../") == set()
    assert complete(f"kdr revoke --registry {registry_path} t", KDR_REGISTRY="/nothing") == {"tiles"}


def test_bash_completes_paths(tree: Path) -> None:
    (tree / "cube.fits").touch()
    assert complete(f"kdr publish {tree}/cu") == {f"{tree}/cube.fits"}
    assert complete(f"kdr list --registry {tree}/cu") == {f"{tree}/cube.fits"}


def test_completion_makes_no_registry_and_tells_no_mistakes(registry_path: Path, tree: Path) -> None:
    assert complete("kdr revoke ") == set()
    assert not registry_path.parent.exists()
    (tree / "file").write_text("no registry")
    assert complete("kdr revoke ", KDR_REGISTRY=str(tree / "file")) == set()
    assert complete("kdr open x y", KDR_REGISTRY=str(tree / "file")) == set()
    assert [path.name for path in tree.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("shell", "options"), [("bash", ["--norc", "-i"]), ("zsh", ["-f", "-i"]), ("fish", ["--no-config", "-i"])]
)
def test_a_shell_at_a_terminal_completes_after_the_line_that_its_help_tells(
    kdr: Kdr, tree: Path, shell: str, options: list[str]
) -> None:
    need(shell, is_there=shutil.which(shell) is not None, remedy=f"apt-get install {shell}")
    kdr("publish", tree, "--key", "remarkable")
    with terminal([shell, *options], columns=200) as running:
        if shell == "zsh":
            running.type("autoload -U compinit && compinit -u\n")
        running.type(f"{SHELLS[shell]}; echo rea'dy'\n")
        running.wait_for("ready")
        running.type("kdr revo\tremar\t")
        running.wait_for("kdr revoke remarkable")


def test_tcsh_completes_by_the_lines_for_it(kdr: Kdr, tree: Path) -> None:
    need("tcsh", is_there=shutil.which("tcsh") is not None, remedy="apt-get install tcsh")
    kdr("publish", tree, "--key", "remarkable")
    with terminal(["tcsh", "-f"], columns=200) as running:
        running.type(f"set autolist; {SHELLS['tcsh']}; echo rea'dy'\n")
        running.wait_for("ready")
        running.type("kdr revoke remar\t")
        running.wait_for("kdr revoke remarkable")


def test_completion_for_all_commands_of_a_machine_knows_this_one(tmp_path: Path) -> None:
    """As activate-global-python-argcomplete asks, of what pip has made of the entry point."""
    made = shutil.which("kdr", path=str(Path(sys.executable).parent))
    need("the script kdr", is_there=made is not None, remedy="pip install this package")
    command = [sys.executable, "-m", "argcomplete._check_console_script", str(made)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
