"""`hub.list()`: what is published, as a table and for programs."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import hub as hub_package
from hub import JupyterRelayHub, PublishedURL
from hub.publications import MAX_ROWS
from hub.registration import Registration
from tests.hub.test_card import read


def test_a_program_gets_what_it_needs(hub: JupyterRelayHub, tree: Path) -> None:
    url = hub.serve_tree(tree, "k", visibility="users", ttl=60)
    (one,) = hub.list()
    assert (one.key, one.url, one.kind, one.path, one.visibility) == ("k", url, "tree", tree, "users")
    assert one.expires_at is not None
    assert type(one.url) is PublishedURL
    assert one.revoke()
    assert not one.revoke()
    assert len(hub.list()) == 0


def test_the_latest_comes_first_and_what_has_ended_not_at_all(hub: JupyterRelayHub, tree: Path) -> None:
    for key in ("b", "a", "c"):
        hub.serve_tree(tree, key)
    hub.serve_tree(tree, "ended", ttl=0.001)
    time.sleep(0.01)
    assert [one.key for one in hub.list()] == ["c", "a", "b"]


def test_one_is_found_by_its_place_or_its_key(hub: JupyterRelayHub, tree: Path) -> None:
    for key in ("a", "b", "c"):
        hub.serve_tree(tree, key)
    found = hub.list()
    assert found[-1] == found["a"]
    assert [one.key for one in found[::-1]] == ["a", "b", "c"]
    with pytest.raises(KeyError):
        found["d"]


def test_a_terminal_shows_aligned_text(hub: JupyterRelayHub, tree: Path) -> None:
    hub.serve_tree(tree, "long-key")
    (tree / "a\x1b[2Jb\n").touch()
    hub.serve_file(tree / "a\x1b[2Jb\n", key="k")
    head, *rows = repr(hub.list()).split("\n")
    assert len(rows) == 2
    column = head.index("read by")
    assert {row[column : column + 8] for row in rows} == {"only you"}
    assert "\x1b" not in "".join(rows)


def test_a_table_has_a_row_for_each_with_what_it_revokes(hub: JupyterRelayHub, tree: Path) -> None:
    (tree / "data.csv").touch()
    folder = hub.serve_tree(tree, '"><b>')
    file = hub.serve_file(tree / "data.csv", key="k", trusted=True)
    table = read(hub.list()._repr_html_())
    rows = [row for row in table.all("tr") if "data-kdr-key" in row]
    assert [row["data-kdr-key"] for row in rows] == ["k", '"><b>']
    assert {row["data-kdr-at"] for row in rows} == {"/wwtkdr/"}
    links = [link["href"] for link in table.all("a")]
    assert links == [str(file), "/wwtkdr/_static/preview/table.html?url=../../k/data.csv", str(folder)]
    assert "only you (trusted)" in table.text
    assert str(tree) in table.text
    assert table.all("b") == []


def test_nothing_says_how_to_publish_something(hub: JupyterRelayHub) -> None:
    for shown in (repr(hub.list()), read(hub.list()._repr_html_()).text):
        assert "serve_tree" in shown


def test_of_ten_thousand_the_first_are_shown(hub: JupyterRelayHub, tree: Path) -> None:
    hub.registry.restore(Registration(f"k{number:05}", "tree", bytes(tree)) for number in range(10_000))
    found = hub.list()
    assert len(found) == 10_000
    shown = read(found._repr_html_())
    assert len(shown.all("tr")) == 1 + MAX_ROWS
    assert "and 9,800 more" in shown.text
    assert repr(found).endswith("and 9,800 more, which [200:] shows")
    assert len(repr(found[200:210]).splitlines()) == 11


def test_the_module_lists_what_the_hub_of_this_process_has(
    monkeypatch: pytest.MonkeyPatch, hub: JupyterRelayHub, tree: Path
) -> None:
    monkeypatch.setattr("hub.client._relay_hub", hub)
    hub.serve_tree(tree, "k")
    assert [one.key for one in hub_package.list()] == ["k"]


def test_pythons_own_list_stays_what_it_is() -> None:
    names: dict[str, object] = {}
    exec("from hub import *", names)
    assert "list" not in names
