from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.content.manifests import ManifestStore, TreeWriter
from hub.content.transfer import receive_tree, send_tree
from hub.content.trees import hash_tree


def test_a_manifest_arrives_as_it_was_in_whatever_pieces_it_comes(tree: Path, tmp_path: Path) -> None:
    (tree / "sub").mkdir()
    for number in range(3000):
        (tree / "sub" / f"{number}.png").write_bytes(b"%d" % number)
    root = bytes(tree)
    here, there = ManifestStore(tmp_path / "here.sqlite"), ManifestStore(tmp_path / "there.sqlite", "ada")
    content = hash_tree(root, here)
    sent = here.open(content, root)
    whole = b"".join(send_tree(sent))
    for size in (7, 1000, len(whole)):
        with TreeWriter(there, root) as writer:
            for columns in receive_tree(whole[start : start + size] for start in range(0, len(whole), size)):
                writer.add(columns)
            assert writer.finish() == content
        received = there.open(content, root)
        assert received.index_checksum == sent.index_checksum
        assert b"".join(send_tree(received)) == whole


@given(st.binary(max_size=300))
def test_no_bytes_make_anything_else_than_a_tree_or_an_error(data: bytes) -> None:
    try:
        entries = [entry for columns in receive_tree([data]) for entry in columns.names.split(b"\0")[:-1]]
    except ValueError:
        return
    assert entries == sorted(set(entries))
    for entry in entries:
        assert not {b"", b".", b".."} & set(entry.split(b"/"))


@pytest.mark.parametrize("entry", [b"", b"/a", b"a/", b"a//b", b"../a", b"a/../b", b"./a", b"x" * 5000])
def test_an_entry_that_is_no_path_below_a_folder_is_refused(entry: bytes) -> None:
    with pytest.raises(ValueError, match=r"ascend|no path|too long"):
        list(receive_tree([entry + b"\0" + bytes(64)]))
