from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from hub import JupyterRelayHub
from hub.locations import DatabaseLocation, Location, setting_of
from hub.registration import Registration
from hub.registries import registry_at
from hub.secret import read_secret
from kdr_wsgi import create_app
from kdr_wsgi.usage import Usage, add_usage, read_usage, usage_path
from tests.conftest import make_settled
from tests.databases import PASSWORD, QUOTED_PASSWORD
from tests.kdr_wsgi.commands.conftest import KDR

Migrate = Callable[..., tuple[int, str, str]]


@pytest.fixture
def migrate(database: DatabaseLocation, registry_path: Path) -> Migrate:
    """Run ``kdr migrate`` as a process; the password is in the environment, as libpq takes it."""

    def run(*arguments: str, environment: Mapping[str, str] | None = None) -> tuple[int, str, str]:
        done = subprocess.run(
            [*KDR, "migrate", str(registry_path), *arguments],
            env={**os.environ, "PGPASSWORD": PASSWORD, **(environment or {})},
            capture_output=True,
            text=True,
        )
        for told in (done.stdout, done.stderr):
            assert PASSWORD not in told
            assert QUOTED_PASSWORD not in told
        return done.returncode, done.stdout, done.stderr

    return run


def answers(location: Location, urls: list[str]) -> list[tuple[int, bytes]]:
    client = create_app({"KDR_REGISTRY": setting_of(location), "KDR_AS_OWNER": "1"}).test_client()
    return [(answer.status_code, answer.data) for answer in (client.get(url) for url in urls)]


def test_all_is_copied_and_the_urls_stay_the_same(
    migrate: Migrate, hub: JupyterRelayHub, database: DatabaseLocation, registry_path: Path, tree: Path, tmp_path: Path
) -> None:
    (tree / "a").write_bytes(b"1")
    (tree / "b").mkdir()
    (tree / "b" / "c").write_bytes(b"2")
    make_settled(tree / "a")
    hashed, content = hub.serve_tree(tree), hub.serve_tree(tree, content=True)
    kept = hub.serve_tree(tree, content=True, snapshot=tmp_path / "kept")
    urls = [hashed + "a", content + "b/c", kept + "a", hub.serve_file(tree / "a", content=True)]
    hub.registry.claim(
        Registration("ada~x", "tree", b"/\xff", owner="ada", audience=("user:bob",), visibility="listed")
    )
    add_usage(usage_path(registry_path), {hashed.key: Usage(3, 30, 7.5)})
    before = answers(registry_path, urls)
    assert [status for status, _ in before] == [200] * 4

    shown = str(database)
    assert migrate(shown) == (0, f"copied 4 registrations and 3 manifests and indexes to {shown}\n", "")
    copied = registry_at(database)
    assert copied.registrations() == hub.registry.registrations()
    assert read_secret(database) == read_secret(registry_path)
    # The answer above may have been counted by now.
    assert read_usage(database)[hashed.key].hits in (3, 4)
    assert answers(database, urls) == before
    # Who publishes the same path again gets the same URL.
    other = JupyterRelayHub(registry=database, base_url="/", key_prefix="")
    assert other.serve_tree(tree) == hashed

    # A second time nothing is counted twice, and what was claimed meanwhile stays.
    later = other.serve_tree(tree, visibility="public")
    assert migrate(shown)[0] == 0
    found = copied.find(later.key)
    assert found is not None
    assert found.visibility == "public"
    assert read_usage(database)[later.key].hits < 6
    copied.revoke(later.key)
    assert migrate(environment={"KDR_REGISTRY": database.url})[0] == 0
    assert copied.find(later.key) == hub.registry.find(later.key)
    other.registry.close()


def test_another_secret_is_not_overwritten(
    migrate: Migrate, hub: JupyterRelayHub, database: DatabaseLocation, tree: Path
) -> None:
    hub.serve_tree(tree)
    secret = read_secret(database)
    code, out, error = migrate(str(database))
    assert (code, out) == (1, "")
    assert "it has a secret of its own already" in error
    assert "migrate into an empty database" in error
    assert read_secret(database) == secret
    assert registry_at(database).registrations() == []


def test_what_cannot_be_copied_is_told(migrate: Migrate, database: DatabaseLocation, registry_path: Path) -> None:
    code, _, error = migrate(str(database))
    assert (code, "there is no such file" in error) == (1, True)
    assert not registry_path.exists()
    code, _, error = migrate("elsewhere.sqlite")
    assert (code, "is no database; name one" in error) == (1, True)
    code, _, error = migrate(database.url)
    assert (code, "a password on a command line is seen by every user" in error) == (2, True)
