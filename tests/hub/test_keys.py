from __future__ import annotations

import json
import multiprocessing
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.errors import InvalidKey, RegistryError
from hub.keys import MAX_KEY_BYTES, check_key, path_key, shorten_key
from hub.secret import read_secret

VECTORS = json.loads((Path(__file__).parents[1] / "data" / "path-keys.json").read_text())


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["path"])
def test_path_keys_never_change(vector: dict[str, str]) -> None:
    path, extension = bytes.fromhex(vector["path"]), bytes.fromhex(vector["extension"])
    assert path_key(path, extension, bytes.fromhex(vector["secret"])) == vector["key"]


def test_a_file_under_another_name_has_another_key() -> None:
    secret = bytes(32)
    keys = {path_key(b"/a", b"", secret), path_key(b"/a", b".fits", secret), path_key(b"/a.fits", b"", secret)}
    assert len(keys) == 3


@pytest.mark.parametrize("key", ["", "\0", "a\0b", "_probe", "_", ".", "..", "\ud800", "ü" * MAX_KEY_BYTES])
def test_keys_that_no_url_can_carry_are_refused(key: str) -> None:
    with pytest.raises(InvalidKey, match="cannot be used"):
        check_key(key)


@given(st.text(min_size=1, max_size=100))
def test_any_other_key_is_taken_as_it_is(key: str) -> None:
    if not key.startswith("_") and "\0" not in key and key not in (".", ".."):
        assert check_key(key) == key


def test_the_secret_is_made_once_and_for_the_user_alone(registry_path: Path) -> None:
    secret = read_secret(registry_path)
    assert len(secret) == 32
    assert read_secret(registry_path) == secret
    (path,) = registry_path.parent.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_processes_that_make_the_secret_at_once_get_the_same(registry_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        assert len(set(pool.map(read_secret, [registry_path] * 16, chunksize=1))) == 1
    assert len(list(registry_path.parent.iterdir())) == 1


def test_a_damaged_secret_is_told_and_kept(registry_path: Path) -> None:
    read_secret(registry_path)
    (path,) = registry_path.parent.iterdir()
    path.write_bytes(b"short")
    with pytest.raises(RegistryError, match="is damaged; remove it"):
        read_secret(registry_path)
    assert path.read_bytes() == b"short"


def test_a_secret_that_others_know_is_refused(registry_path: Path) -> None:
    read_secret(registry_path)
    (path,) = registry_path.parent.iterdir()
    path.chmod(0o644)
    with pytest.raises(RegistryError, match="is known to others; remove it"):
        read_secret(registry_path)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(RegistryError, match="symbolic links"):
        read_secret(registry_path)


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("tiles", "tiles"),
        ("0123456789" * 6, "0123456789" * 6),
        ("ab" * 32, "abababab"),
        (f"{'0' * 64}-{'1' * 16}", "0" * 8),
        (f"ada~lovelace~{'c' * 64}", "ada~lovelace~cccccccc"),
        ("ada~tiles", "ada~tiles"),
    ],
)
def test_of_a_hash_people_are_shown_the_begin(key: str, shown: str) -> None:
    assert shorten_key(key) == shown
