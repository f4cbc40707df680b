from __future__ import annotations

import json
from pathlib import Path

from tests.kdr_wsgi.commands.conftest import KDR, Kdr
from tests.terminals import run_in_terminal


def test_revoke_ends_one_registration(kdr: Kdr, tree: Path) -> None:
    kdr("publish", tree, "--key", "one")
    assert kdr("revoke", "one") == (0, "", "")
    assert kdr("revoke", "one") == (
        1,
        "",
        "kdr: the key 'one' is not registered; kdr list shows what is, whole, or 8 digits of a hash\n",
    )


def test_revoke_takes_the_beginning_of_a_hash_and_whole_words(kdr: Kdr, tree: Path) -> None:
    key = kdr("publish", tree)[1].split("/")[2]
    kdr("publish", tree, "--key", "tiles-2")
    assert kdr("revoke", "tiles") == (
        1,
        "",
        "kdr: the key 'tiles' is not registered; kdr list shows what is, whole, or 8 digits of a hash\n",
    )
    assert kdr("revoke", key[:7])[0] == 1
    assert kdr("revoke", key[:8]) == (0, "", "")
    assert [entry["key"] for entry in json.loads(kdr("list", "--json")[1])] == ["tiles-2"]


def test_on_a_terminal_it_says_which_key_was_meant(kdr: Kdr, tree: Path, registry_path: Path) -> None:
    key = kdr("publish", tree)[1].split("/")[2]
    command = [*KDR, "revoke", key[:8], "--registry", str(registry_path)]
    assert run_in_terminal(command) == (0, f"revoked {key}\r\n")
