from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from kdr_wsgi import beneath
from kdr_wsgi.errors import IsDirectory, NoSuchEntry


@pytest.fixture(params=["as it is", "without /proc"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A tree with links in and out; once more where only the walk can tell what was opened."""
    if request.param == "without /proc":
        monkeypatch.setattr(beneath, "_open_where_named", lambda path: None)
    (tmp_path / "outside").write_text("SECRET")
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "a").write_text("x")
    (tree / "in").symlink_to("sub")
    (tree / "up").symlink_to("..")
    (tree / "out").symlink_to("../outside")
    (tree / "absolute").symlink_to(tree / "sub" / "a")
    return os.fsencode(tree)


def read(descriptor: int) -> bytes:
    with open(descriptor, "rb") as file:
        return file.read()


@pytest.mark.parametrize("entry", [b"sub/a", b"in/a", b"absolute", b"/sub//a"])
def test_what_is_inside_is_opened(root: bytes, entry: bytes) -> None:
    assert read(beneath.open_file(root, beneath.split_entry(entry))) == b"x"


@pytest.mark.parametrize("entry", [b"out", b"up/outside", b"nothing", b"sub/a/b", b"up/tree2", b"n" * 300])
def test_what_is_outside_or_missing_is_no_entry(root: bytes, entry: bytes) -> None:
    with pytest.raises(NoSuchEntry):
        beneath.open_file(root, beneath.split_entry(entry))


@pytest.mark.parametrize("entry", [b"", b"sub", b"in", b"sub/"])
def test_a_directory_is_told_apart(root: bytes, entry: bytes) -> None:
    with pytest.raises(IsDirectory):
        beneath.open_file(root, beneath.split_entry(entry))


def test_that_something_outside_is_a_directory_is_not_told(root: bytes) -> None:
    with pytest.raises(NoSuchEntry):
        beneath.open_file(root, [b"up"])


def test_dots_are_no_names() -> None:
    with pytest.raises(NoSuchEntry):
        beneath.split_entry(b"a/../b")
    assert beneath.split_entry(b"./a//b/.") == [b"a", b"b"]


def test_a_link_that_ceases_to_be_one_while_it_is_resolved(root: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: object, **_: object) -> str:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)

    monkeypatch.setattr(beneath, "_open_where_named", lambda path: None)
    monkeypatch.setattr(os, "readlink", fail)
    with pytest.raises(NoSuchEntry):
        beneath.open_file(root, [b"in", b"a"])


def test_the_root_directory_of_the_machine_can_be_a_root(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    (tmp_path / "link").symlink_to("a")
    for name in ("a", "link"):
        names = beneath.split_entry(os.fsencode(tmp_path / name))
        assert read(beneath.open_file(b"/", names)) == b"x"


def test_directories_open_for_listing(root: bytes) -> None:
    for names in ([], [b"sub"], [b"in"]):
        descriptor = beneath.open_directory(root, names)
        try:
            assert os.listdir(descriptor)
        finally:
            os.close(descriptor)
    for names in ([b"up"], [b"out"], [b"sub", b"a"], [b"nothing"]):
        with pytest.raises(NoSuchEntry):
            beneath.open_directory(root, names)


def test_the_status_of_what_links_lead_to_is_told_only_beneath_the_root(root: bytes) -> None:
    a_file = os.stat(root + b"/sub/a")
    for names in ([b"sub", b"a"], [b"in", b"a"], [b"absolute"]):
        assert os.path.samestat(beneath.stat_entry(root, names), a_file)
    for names in ([b"in"], [b"sub"]):
        assert os.path.samestat(beneath.stat_entry(root, names), os.stat(root + b"/sub"))
    assert os.path.samestat(beneath.stat_entry(root, []), os.stat(root))
    for names in ([b"up"], [b"out"], [b"nothing"], [b"up", b"outside"], [b"sub", b"a", b"b"]):
        with pytest.raises(NoSuchEntry):
            beneath.stat_entry(root, names)
