from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.errors import InvalidKey, RegistryError
from hub.registration import Registration
from hub.registry import Registry, RegistryGlance
from kdr_wsgi.commands.common import CommandError
from kdr_wsgi.commands.keys import find_hash, find_key, short_enough, shorten

HASH = "0123456789abcdef" * 4
LIKE = HASH[:20] + "f" * 44
VARIANT = f"{HASH}-0123456789abcdef"

#: Many of them begin alike.
digests = st.text("01", min_size=64, max_size=64)
hashes = digests | digests.map("ada~{}".format) | digests.map(f"{{}}-{'0' * 16}".format)


def among(*keys: str) -> Callable[[str, int], list[str]]:
    return lambda beginning, limit: sorted(key for key in keys if key.startswith(beginning))[:limit]


def test_a_beginning_that_no_other_key_has_is_enough() -> None:
    assert find_key("til", among("tiles", "cube")) == "tiles"
    assert find_key(HASH[:8], among(HASH, "cube")) == HASH


def test_a_whole_key_is_meant_though_another_one_begins_with_it() -> None:
    assert find_key("tiles", among("tiles", "tiles-2")) == "tiles"
    assert find_key(HASH, among(HASH, VARIANT)) == HASH


def test_of_several_keys_that_begin_so_each_is_told() -> None:
    with pytest.raises(CommandError, match="several keys begin with 'ti': tiles, tiles-2; give more of the one"):
        find_key("ti", among("tiles", "tiles-2"))
    with pytest.raises(CommandError, match=r"a0, a1, a2, a3, a4, \.\.\.; give more"):
        find_key("a", among(*(f"a{number}" for number in range(6))))


@pytest.mark.parametrize("given", ["", "_probe", "\0", "\udcff"])
def test_what_cannot_be_a_key_is_no_beginning_of_one(given: str) -> None:
    with pytest.raises(InvalidKey):
        find_key(given, among("tiles"))


def test_what_is_ended_twice_does_not_end_another_key_that_begins_so() -> None:
    """Words begin alike by themselves, as ``tiles`` and ``tiles-2`` do; hashes do not."""
    assert find_hash("tiles", among("tiles-2")) == "tiles"
    assert find_hash(HASH, among(VARIANT)) == HASH
    assert find_hash(HASH[:7], among(HASH)) == HASH[:7]
    assert find_hash(HASH[:8], among(HASH)) == HASH
    assert find_hash(VARIANT[:70], among(HASH, VARIANT)) == VARIANT
    assert find_hash("deadbeef", among("deadbeef", HASH)) == "deadbeef"
    with pytest.raises(CommandError, match="give 'deadbeef-2' whole"):
        find_hash("deadbeef", among("deadbeef-2"))
    with pytest.raises(CommandError, match="several keys"):
        find_hash(HASH[:8], among(HASH, LIKE))


@given(st.sets(hashes | st.text("01z", min_size=1, max_size=9), min_size=1))
def test_what_keys_are_shortened_to_finds_them(keys: set[str]) -> None:
    for key, short in shorten(sorted(keys)).items():
        assert key.startswith(short)
        assert find_key(short, among(*keys)) == key
        assert find_hash(short, among(*keys)) == key


def test_words_are_not_shortened_and_hashes_to_eight_digits() -> None:
    assert shorten([HASH, "tiles"]) == {HASH: HASH[:8], "tiles": "tiles"}
    assert short_enough(HASH) == HASH[:8]
    assert shorten([f"ada~{HASH}", "ada~tiles"]) == {f"ada~{HASH}": f"ada~{HASH[:8]}", "ada~tiles": "ada~tiles"}
    assert find_hash(f"ada~{HASH[:8]}", among(f"ada~{HASH}")) == f"ada~{HASH}"
    assert find_hash("ada~tiles", among("ada~tiles-2")) == "ada~tiles"
    assert short_enough("a b") == "'a b'"


# The registry's part.


@pytest.fixture
def filled(registry_path: Path) -> Path:
    registry = Registry(registry_path)
    for key in ("a", "a\U0010ffff\U0010ffff", "ab", "abc", "b", "%"):
        registry.claim(Registration(key, "tree", f"/{key[:1]}".encode()))
    registry.close()
    return registry_path


@pytest.mark.parametrize(
    ("beginning", "found"),
    [
        ("a", ["a", "ab", "abc", "a\U0010ffff\U0010ffff"]),
        ("ab", ["ab", "abc"]),
        ("%", ["%"]),
        ("_", []),
        ("c", []),
        ("", ["%", "a", "ab", "abc", "a\U0010ffff\U0010ffff", "b"]),
    ],
)
def test_the_registry_finds_keys_by_their_beginning(filled: Path, beginning: str, found: list[str]) -> None:
    registry = Registry(filled)
    assert registry.keys_beginning(beginning, 10) == found
    assert registry.keys_beginning(beginning, 2) == found[:2]
    registry.close()
    with RegistryGlance(filled) as glance:
        assert glance.keys_beginning(beginning, 10) == found


def test_a_glance_changes_nothing_on_the_disk(filled: Path) -> None:
    def look() -> dict[str, tuple[int, int]]:
        return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in filled.parent.iterdir()}

    before = look()
    with RegistryGlance(filled) as glance:
        assert glance.find_root("ab") == b"/a"
        assert glance.find_root("none") is None
        assert look() == before
    assert look() == before


def test_a_glance_sees_what_somebody_has_just_registered_who_has_it_open(filled: Path) -> None:
    registry = Registry(filled)
    registry.claim(Registration("new", "tree", b"/new"))
    with RegistryGlance(filled) as glance:
        assert glance.keys_beginning("n", 2) == ["new"]
    registry.close()


def test_a_glance_makes_no_registry(tmp_path: Path) -> None:
    with pytest.raises(RegistryError):
        RegistryGlance(tmp_path / "none" / "registry.sqlite")
    (tmp_path / "file").write_bytes(b"no registry")
    with RegistryGlance(tmp_path / "file") as glance, pytest.raises(RegistryError):
        glance.keys_beginning("", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
