"""Of a file that was not finished nothing is left, however its writer ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.drafts import Draft
from hub.secret import read_secret, secret_path
from tests.conftest import need


@pytest.fixture(params=["unnamed", "named"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder, on a file system with files that have no name, and on one without."""
    if request.param == "named":
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    made = tmp_path / "drafts"
    made.mkdir()
    yield made
    assert not [*made.glob("*.tmp")]


def test_a_file_appears_whole_and_for_the_user_alone(folder: Path) -> None:
    with Draft(folder) as draft:
        draft.file.write(b"whole")
        draft.link(folder / "a")
        assert (folder / "a").read_bytes() == b"whole"
    assert (folder / "a").stat().st_mode & 0o777 == 0o600


def test_a_name_that_is_taken_stays_or_is_taken_over(folder: Path) -> None:
    (folder / "a").write_bytes(b"old")
    with Draft(folder) as draft:
        draft.file.write(b"new")
        with pytest.raises(FileExistsError):
            draft.link(folder / "a")
        assert (folder / "a").read_bytes() == b"old"
        draft.replace(folder / "a")
    assert (folder / "a").read_bytes() == b"new"


def test_what_is_not_finished_is_removed(folder: Path) -> None:
    with Draft(folder) as draft:
        draft.file.write(b"half")
    assert [*folder.iterdir()] == []


KILLED = """
import os, signal, sys
from pathlib import Path
from hub.secret import read_secret
os.link = lambda *arguments, **options: os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "named" and hasattr(os, "O_TMPFILE"):
    del os.O_TMPFILE
read_secret(Path(sys.argv[1]))
"""


def kill_before_the_secret_has_its_name(registry_path: Path, drafts: str) -> list[Path]:
    """Return what is left beside the registry."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(registry_path), drafts], check=False)
    assert done.returncode == -signal.SIGKILL
    return [*registry_path.parent.iterdir()]


def test_who_is_killed_before_the_secret_has_its_name_leaves_nothing(registry_path: Path, tmp_path: Path) -> None:
    with Draft(tmp_path) as draft:
        is_there = draft.name is None
    need("files without a name", is_there=is_there, remedy="tests on a local file system of Linux (open(2), O_TMPFILE)")
    assert kill_before_the_secret_has_its_name(registry_path, "unnamed") == []
    assert len(read_secret(registry_path)) == 32


@pytest.mark.parametrize("written_at", [1, 2**33], ids=["long ago", "before the clock was set back"])
def test_where_drafts_have_names_an_old_one_is_removed_and_nothing_else(registry_path: Path, written_at: int) -> None:
    (old,) = kill_before_the_secret_has_its_name(registry_path, "named")
    secret = secret_path(registry_path)
    young = Path(f"{secret}.0123456789abcdef")
    others = Path(f"{secret}.old")
    for path in (young, others):
        path.touch()
    for path in (old, others):
        os.utime(path, (written_at, written_at))
    read_secret(registry_path)
    assert {*registry_path.parent.iterdir()} == {secret, young, others}
