from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.registration import Registration, Source
from kdr_wsgi.jupyterhub.roots import AllowedRoots

NAMES = st.binary(min_size=1, max_size=8).filter(lambda name: b"/" not in name and b"\0" not in name)
OWNERS = st.text(min_size=1, max_size=12).filter(lambda name: "\0" not in name and name.isprintable())


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (b"/home/ada", b"/home/ada"),
        (b"/home/ada/", b"/home/ada"),
        (b"/home/ada/x/y", b"/home/ada/x/y"),
        (b"/data/shared/x", b"/data/shared/x"),
        (b"/home/jovyan/x", b"/srv/homes/ada/x"),
        (b"/srv/homes/ada/x", b"/srv/homes/ada/x"),
        (b"/home/adah", None),
        (b"/home/bob", None),
        (b"/home", None),
        (b"/", None),
        (b"/etc/passwd", None),
        (b"/home/ada/../bob", None),
        (b"/home/ada/x/..", None),
        (b"/srv/homes/bob", None),
        (b"/data/sharedx", None),
        (b"home/ada", None),
    ],
)
def test_what_is_below_an_allowed_folder_is_found_and_nothing_else(path: bytes, found: bytes | None) -> None:
    roots = AllowedRoots("/home/{username}:/data/shared:/home/jovyan=/srv/homes/{username}")
    assert roots.locate("ada", path) == found


def test_a_folder_is_told_as_its_owner_sees_it() -> None:
    roots = AllowedRoots("/home/jovyan=/srv/homes/{username}:/data/shared")
    assert roots.seen_by("ada") == [b"/home/jovyan", b"/data/shared"]
    found = roots.as_seen("ada", [b"/srv/homes/ada/x", b"/srv/homes/ada", b"/elsewhere"])
    assert found == [b"/home/jovyan/x", b"/home/jovyan", b"/elsewhere"]


def test_a_folder_that_is_seen_inside_another_one_is_that(tmp_path: Path) -> None:
    roots = AllowedRoots("/home/jovyan=/srv/homes/{username}:/home/jovyan/shared=/srv/shared")
    assert roots.locate("ada", b"/home/jovyan/shared/x") == b"/srv/shared/x"
    assert roots.locate("ada", b"/home/jovyan/x") == b"/srv/homes/ada/x"


@pytest.mark.parametrize("owner", ["", ".", "..", "a/b", "../ada", "a\0b"])
def test_a_name_that_is_none_of_a_folder_has_no_folder(owner: str) -> None:
    roots = AllowedRoots("/home/{username}:/data/shared")
    assert roots.locate(owner, b"/home/x") is None
    assert roots.locate(owner, b"/data/shared") is None


@given(OWNERS, OWNERS, st.lists(NAMES, max_size=4))
def test_nobody_reaches_a_folder_of_somebody_else(owner: str, other: str, names: list[bytes]) -> None:
    path = b"/".join([b"/nowhere/homes", os.fsencode(other), *names])
    found = AllowedRoots("/nowhere/homes/{username}").locate(owner, path)
    if found is not None:
        inside = os.path.join(b"/nowhere/homes", os.fsencode(owner))
        assert found == inside or found.startswith(inside + b"/")
        assert b".." not in found.split(b"/")


def test_a_link_to_a_users_folder_is_followed_and_one_below_it_is_not(tmp_path: Path) -> None:
    for name in ("disk/ada/public", "disk/bob/public", "homes"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "homes" / "ada").symlink_to(tmp_path / "disk" / "ada")
    roots = AllowedRoots(f"{tmp_path}/homes/{{username}}/public")
    real = bytes(tmp_path / "disk" / "ada" / "public")
    assert roots.locate("ada", bytes(tmp_path / "homes" / "ada" / "public" / "x")) == real + b"/x"
    (tmp_path / "disk" / "ada" / "public").rmdir()
    (tmp_path / "disk" / "ada" / "public").symlink_to(tmp_path / "disk" / "bob" / "public")
    # What is opened is this path, through no link.
    assert roots.locate("ada", real + b"/x") == real + b"/x"


def test_places_that_are_not_allowed_any_more_are_left_out() -> None:
    roots = AllowedRoots("/home/{username}")
    outside, inside = Source(b"/data/x", b"s", False), Source(b"/home/ada/x", b"t", True)
    registration = Registration("k", "tree", outside.root, owner="ada", content="c", other_sources=(inside,))
    found = roots.restrict(registration)
    assert found is not None
    assert found.sources == (inside,)
    assert roots.restrict(Registration("k", "tree", b"/data/x", owner="ada")) is None
    of_the_service = Registration("k", "tree", b"/data/x")
    assert roots.restrict(of_the_service) is of_the_service


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it names no folder"),
        (":", "it names no folder"),
        ("home/{username}", "is no absolute path"),
        ("/home/../etc", "is no absolute path"),
        ("/home/x-{username}", "not the whole name of a folder"),
        ("/home/{user}", "what is in braces is not {username}"),
        ("/", "is the whole machine"),
        ("/{username}", "is the whole machine"),
        ("/home/jovyan=srv", "is no absolute path"),
        ("/=/srv/homes/{username}", "is the whole machine"),
    ],
)
def test_what_cannot_be_used_says_why(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        AllowedRoots(text)


@pytest.mark.parametrize(
    ("roots", "path", "may"),
    [
        ("/home/{username}", "/home/kdr/registry.sqlite", True),
        ("/home/{username}/public", "/home/kdr/registry.sqlite", False),
        ("/home/{username}/public", "/home/kdr/public/registry.sqlite", True),
        ("/data", "/data/kdr/registry.sqlite", True),
        ("/data/shared:/home/{username}", "/var/lib/kdr/registry.sqlite", False),
    ],
)
def test_it_is_known_whether_a_user_could_publish_the_registry(roots: str, path: str, may: bool) -> None:
    assert AllowedRoots(roots).may_hold(Path(path)) is may
