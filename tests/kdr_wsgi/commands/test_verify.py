from __future__ import annotations

from pathlib import Path

from tests.kdr_wsgi.commands.conftest import Kdr


def test_verify_tells_each_difference(kdr: Kdr, tree: Path) -> None:
    (tree / "a\n").write_bytes(b"12")
    (tree / "b").write_bytes(b"345")
    key = kdr("publish", "--content", tree)[1].split("/")[2]
    assert kdr("verify", key) == (0, f"{tree}: 2 files, 5 bytes: as the key promises\n", "")
    (tree / "a\n").unlink()
    (tree / "b").write_bytes(b"3456")
    code, out, err = kdr("verify", key)
    told = f"missing  a\\n\nchanged  b\n{tree}: 2 files, 4 bytes: 2 files are not what the key promises\n"
    assert (code, out) == (1, told)
    assert err == ("kdr: 1 of 1 places have not what the key promises; publish again for a key of what is there now\n")


def test_of_equal_data_each_place_counts(kdr: Kdr, tree: Path, tmp_path: Path) -> None:
    keys = set()
    for place in (tree, tmp_path / "copy"):
        place.mkdir(exist_ok=True)
        (place / "a").write_bytes(b"1")
        keys.add(kdr("publish", "--content", place)[1].split("/")[2])
    (key,) = keys
    assert kdr("verify", key)[1].count("1 files, 1 bytes: as the key promises") == 2
    (tmp_path / "copy" / "a").unlink()
    (tmp_path / "copy").rmdir()
    assert "1 of 2 places" in kdr("verify", key)[2]
    assert f"missing  {tmp_path / 'copy'}\n" in kdr("verify", key)[1]
    assert f"ok    tree '{key[:8]}' at '{tree}': readable on disk" in kdr("doctor")[1]
    assert kdr("gc", "--missing")[1].startswith("0 removed")
    (tree / "a").unlink()
    tree.rmdir()
    assert f"bad   tree '{key[:8]}'" in kdr("doctor")[1]
    assert "1 removed" in kdr("gc", "--missing")[1]


def test_verify_needs_a_content_key(kdr: Kdr, tree: Path) -> None:
    kdr("publish", tree, "--key", "k")
    assert kdr("verify", "k")[::2] == (
        1,
        "kdr: 'k' is no content key, and promises nothing; publish with --content for one\n",
    )
    assert kdr("verify", "none")[::2] == (1, "kdr: the key 'none' is not registered; kdr list shows what is\n")


def test_verify_takes_the_beginning_of_a_key(kdr: Kdr, tree: Path) -> None:
    (tree / "a").write_bytes(b"1")
    key = kdr("publish", "--content", tree)[1].split("/")[2]
    assert kdr("verify", key[:4]) == (0, f"{tree}: 1 files, 1 bytes: as the key promises\n", "")
    kdr("publish", tree, "--key", key[:3])
    assert kdr("verify", key[:2])[2].startswith(f"kdr: several keys begin with '{key[:2]}': {key[:3]}, {key}; give")
