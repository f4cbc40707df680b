from __future__ import annotations

import json
from pathlib import Path

import pytest
from blake3 import blake3

from tests.archives import STORED, write_zip
from tests.kdr_wsgi.commands.conftest import KDR, Kdr
from tests.terminals import run_in_terminal


def test_publish_prints_the_partial_url_alone(kdr: Kdr, tree: Path) -> None:
    code, out, err = kdr("publish", tree, "--key", "tiles/1")
    assert (code, out, err) == (0, "/wwtkdr/tiles%2F1/\n", "")
    (tree / "a b").touch()
    code, out, err = kdr("publish", tree / "a b", "--extension", ".fits", "--visibility", "users", "--ttl", "60")
    assert (code, err) == (0, "")
    assert out.endswith("/a%20b.fits\n")


def test_publish_by_content_prints_the_hash(kdr: Kdr, tree: Path, tmp_path: Path) -> None:
    (tree / "a.fits").write_bytes(b"1")
    digest = blake3(b"1").hexdigest()
    assert kdr("publish", "--content", tree / "a.fits") == (0, f"/wwtkdr/{digest}/a.fits\n", "")
    code, out, err = kdr("publish", "--content", tree, "--snapshot", tmp_path / "kept")
    assert (code, err) == (0, "")
    listed = {entry["partial_url"]: entry for entry in json.loads(kdr("list", "--json")[1])}
    assert listed[f"/wwtkdr/{digest}/a.fits"]["content"] == digest
    assert (listed[out.strip()]["is_snapshot"], listed[out.strip()]["path"]) == (True, str(tmp_path / "kept"))
    assert "private snapshot" in kdr("list")[1]


def test_publish_refuses_what_contradicts_a_content_key(kdr: Kdr, tree: Path) -> None:
    code, out, err = kdr("publish", "--content", tree, "--key", "k")
    assert (code, out) == (1, "")
    assert "a content key is the hash of what is published; leave one of the two out" in err
    assert kdr("publish", tree, "--snapshot", tree)[2].startswith("kdr: snapshot=")


@pytest.mark.parametrize(
    ("key", "command"),
    [(None, "kdr open{registry} {hash}"), ("a b", "kdr open{registry} 'a b'"), ("-x", "kdr open{registry} -- -x")],
)
def test_on_a_terminal_it_says_how_to_open_what_was_published(
    tree: Path, registry_path: Path, key: str | None, command: str
) -> None:
    chosen = [f"--key={key}"] if key else []
    code, shown = run_in_terminal([*KDR, "publish", str(tree), *chosen, "--registry", str(registry_path)], columns=500)
    url, hint = shown.splitlines()
    opening = command.format(registry=f" --registry {registry_path}", hash=url.split("/")[2][:8])
    assert (code, hint) == (0, f"open it in the browser: {opening}")


def test_who_takes_the_url_from_a_script_sees_no_more_than_that(tree: Path, registry_path: Path) -> None:
    script = f"url=$({' '.join(KDR)} publish {tree} --key k --registry {registry_path}); echo got $url"
    assert run_in_terminal(["bash", "-c", script])[1] == "got /wwtkdr/k/\r\n"


def test_an_archive_is_published_by_its_members_with_tree(kdr: Kdr, tree: Path) -> None:
    archive = write_zip(tree / "a.zip", ("member", b"", STORED))
    as_file, as_tree = kdr("publish", archive), kdr("publish", "--tree", archive, "--key", "tiles")
    assert (as_file[0], as_file[1].endswith("/a.zip\n")) == (0, True)
    assert as_tree == (0, "/wwtkdr/tiles/\n", "")
    assert {entry["kind"] for entry in json.loads(kdr("list", "--json")[1])} == {"file", "archive"}
    assert f"archive 'tiles' at {str(archive)!r}: readable on disk" in kdr("doctor")[1]
    archive.write_bytes(archive.read_bytes()[:-1])
    code, out, _ = kdr("doctor")
    assert (code, "is no zip archive, or was cut off; write it again, or revoke it" in out) == (1, True)
    code, _, err = kdr("publish", "--tree", archive, "--extension", ".fits")
    assert (code, "is published by its members (--tree)" in err) == (1, True)
    code, _, err = kdr("publish", "--tree", archive, "--content")
    assert (code, "publish the archive itself, without --tree" in err) == (1, True)
