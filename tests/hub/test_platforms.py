"""Windows, as far as Linux can act it: its name, and nothing of what it has not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

#: For a `sitecustomize`. What others have for Windows is loaded before: it would look for what Linux has not.
WINDOWS = """
import os, select, signal, socket, sys
import asyncio, shutil, subprocess, tempfile
{others}

sys.platform = "win32"
for name in dir(os):
    if name in ("fork", "getuid", "geteuid", "getgid", "getppid", "uname", "register_at_fork", "sched_getaffinity",
        "pread", "preadv", "fchmod", "mkfifo", "statvfs", "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK",
        "O_NOCTTY", "O_PATH"):
        delattr(os, name)
for module, name in ((socket, "AF_UNIX"), (select, "poll"), (signal, "SIGKILL")):
    delattr(module, name)

missing = ("fcntl", "grp", "gunicorn", "pwd", "resource", "termios")
for name in missing:
    sys.modules.pop(name, None)

class NotOnWindows:
    def find_spec(self, name, path=None, target=None):
        if name in missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NotOnWindows())
"""

SENTENCE = "runs on Linux and macOS, not on Windows itself; run Jupyter with its kernels, and this package, in the "


def run_on_windows(folder: Path, *arguments: str, others: str = "") -> subprocess.CompletedProcess[str]:
    (folder / "sitecustomize.py").write_text(WINDOWS.replace("{others}", others))
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": path},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


@pytest.mark.parametrize(
    ("program", "others"),
    [
        ("import hub", ""),
        ("from hub.content.snapshots import SnapshotFolder", ""),
        ("import kdr_wsgi; kdr_wsgi.create_app()", "import flask"),
        ("import kdr_wsgi; kdr_wsgi.__version__", ""),
        # As a Jupyter server does, which tells its log.
        ("import kdr_wsgi; kdr_wsgi._jupyter_server_extension_points()", "import jupyter_server.serverapp, httptools"),
    ],
)
def test_who_imports_it_on_windows_is_told_what_to_do(tmp_path: Path, program: str, others: str) -> None:
    run = run_on_windows(tmp_path, "-c", program, others=others)
    assert run.returncode == 1
    last = run.stderr.splitlines()[-1]
    assert last.startswith("ImportError: ")
    assert SENTENCE in last
    assert "During handling" not in run.stderr


def test_a_package_that_can_do_without_can_do_without_on_windows(tmp_path: Path) -> None:
    run = run_on_windows(tmp_path, "-c", "try: import hub\nexcept ImportError: print('without')")
    assert (run.returncode, run.stdout, run.stderr) == (0, "without\n", "")


@pytest.mark.parametrize("command", [["serve"], ["publish", "."], ["doctor"], ["--help"]])
def test_the_command_says_so_in_a_sentence(tmp_path: Path, command: list[str]) -> None:
    run = run_on_windows(tmp_path, "-m", "kdr_wsgi", *command)
    assert (run.returncode, run.stdout) == (1, "")
    (line,) = run.stderr.splitlines()
    assert line.startswith("kdr: ")
    assert SENTENCE in line
