from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from hub import JupyterRelayHub, RegistryTooNew
from hub.version import VERSION
from kdr_wsgi import create_app
from kdr_wsgi import relay as relay_module
from kdr_wsgi.settings import SETTINGS, SettingError, read_settings
from tests.descriptors import no_free_descriptor


@pytest.fixture
def client(registry_path: Path) -> Iterator[FlaskClient]:
    app = create_app({"KDR_REGISTRY": str(registry_path)})
    with app.test_client() as client:
        yield client
    app.extensions["kdr"].close()


def test_any_wsgi_server_will_do(client: FlaskClient, hub: JupyterRelayHub, tree: Path) -> None:
    (tree / "small").write_bytes(b"x" * 10)
    (tree / "large").write_bytes(b"x" * 200_000)
    url = hub.serve_tree(tree, visibility="public")
    assert client.get(url + "small").data == b"x" * 10
    with client.get(url + "large") as answer:
        assert answer.data == b"x" * 200_000
    with client.get(url + "large", headers={"Range": "bytes=0-99999,150000-"}) as answer:
        assert (answer.status_code, answer.data.count(b"x") > 149_000) == (206, True)
    assert client.head(url + "large").content_length == 200_000


def test_owner_reads_private_registrations(registry_path: Path, hub: JupyterRelayHub, tree: Path) -> None:
    (tree / "a").write_text("x")
    url = hub.serve_tree(tree) + "a"
    for as_owner, status in (("1", 200), ("0", 404)):
        app = create_app({"KDR_REGISTRY": str(registry_path), "KDR_AS_OWNER": as_owner})
        assert app.test_client().get(url).status_code == status
        app.extensions["kdr"].close()


def test_what_nobody_foresaw_is_logged_and_told_in_one_line(
    client: FlaskClient,
    hub: JupyterRelayHub,
    tree: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tree / "a").write_text("x")
    url = hub.serve_tree(tree, visibility="public") + "a"

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(f"secret path {tree}")

    monkeypatch.setattr(relay_module, "answer_file", fail)
    with caplog.at_level(logging.ERROR):
        answer = client.get(url)
    assert answer.status_code == 500
    assert str(tree) not in answer.text
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "secret path" in caplog.text


def test_an_unreadable_registry_is_503_until_it_is_readable(
    client: FlaskClient, hub: JupyterRelayHub, registry_path: Path, tree: Path
) -> None:
    (tree / "a").write_text("x")
    url = hub.serve_tree(tree, visibility="public") + "a"
    assert client.get("/wwtkdr/_health").status_code == 200
    for version, status in ((99, 503), (2, 200)):
        with sqlite3.connect(registry_path) as connection:
            connection.execute(f"PRAGMA user_version = {version}")
        connection.close()
        assert client.get(url).status_code == status
        health = client.get("/wwtkdr/_health")
        assert health.status_code == status
        assert str(registry_path) not in health.text


@pytest.mark.parametrize("entry", ["a", "large", "folder/"])
def test_without_a_free_descriptor_clients_are_asked_to_come_again(
    client: FlaskClient, hub: JupyterRelayHub, tree: Path, entry: str
) -> None:
    (tree / "folder").mkdir()
    (tree / "a").write_text("a")
    (tree / "large").write_bytes(bytes(100_000))
    url = hub.serve_tree(tree, visibility="public")
    assert client.get(url + "missing").status_code == 404  # This thread has the registry open now.
    with no_free_descriptor():
        answer = client.get(url + entry)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert client.head(url + entry).status_code == 200


def test_settings_come_from_the_environment_with_config_over_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KDR_REGISTRY", "/environment")
    monkeypatch.setenv("KDR_AS_OWNER", "yes")
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "/user/ada")
    settings = read_settings({"KDR_REGISTRY": str(tmp_path)})
    assert (settings.registry, settings.as_owner, settings.base_url) == (tmp_path, True, "/user/ada/")


def test_wrong_settings_stop_the_start_and_are_named() -> None:
    with pytest.raises(SettingError, match="KDR_AS_OWNER cannot be used: 'maybe' is neither 1 nor 0"):
        create_app({"KDR_AS_OWNER": "maybe"})
    with pytest.raises(SettingError, match="KDR_ROUTE cannot be used: 'a/b': write one word"):
        create_app({"KDR_ROUTE": "a/b"})
    with pytest.raises(SettingError, match="KDR_TRUSTED_PROXIES cannot be used: 'localhost' does not appear"):
        create_app({"KDR_TRUSTED_PROXIES": "localhost"})
    with pytest.raises(SettingError, match="KDR_REGISTERY cannot be used: there are KDR_REGISTRY"):
        create_app({"KDR_REGISTERY": "x"})


def test_a_newer_registry_stops_the_start(registry_path: Path, hub: JupyterRelayHub, tree: Path) -> None:
    hub.serve_tree(tree)
    with sqlite3.connect(registry_path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(RegistryTooNew):
        create_app({"KDR_REGISTRY": str(registry_path)})


def test_the_documentation_lists_every_setting() -> None:
    text = (Path(__file__).parents[2] / "docs" / "reference.md").read_text()
    for setting in SETTINGS:
        assert setting.name in text


def test_the_changelog_speaks_of_this_version() -> None:
    text = (Path(__file__).parents[2] / "CHANGELOG.md").read_text()
    assert f"\n## {VERSION}" in text
