from __future__ import annotations

from pathlib import Path

import pytest

from kdr_wsgi import app
from kdr_wsgi.settings import ServiceSettings, SettingError, read_settings
from tests.stores import write_rules

SERVICE = {
    "JUPYTERHUB_SERVICE_NAME": "kdr",
    "JUPYTERHUB_SERVICE_PREFIX": "/services/kdr/",
    "JUPYTERHUB_API_TOKEN": "a-token",
    "KDR_REGISTRY": "/var/lib/kdr/registry.sqlite",
    "KDR_ROOTS": "/home/{username}",
}
SUBDOMAINS = {
    "JUPYTERHUB_HOST": "https://hub.example",
    "JUPYTERHUB_PUBLIC_URL": "https://kdr--service.hub.example/services/kdr/",
}


def read(monkeypatch: pytest.MonkeyPatch, **changed: str) -> ServiceSettings:
    for name, value in {**SERVICE, **changed}.items():
        monkeypatch.setenv(name, value)
    settings = read_settings()
    assert settings.base_url == "/services/kdr/"
    assert settings.service is not None
    return settings.service


def test_what_a_hub_starts_as_a_service_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    service = read(monkeypatch)
    assert (service.name, service.client_id, service.host) == ("kdr", "service-kdr", "")
    assert (service.login_seconds, service.max_registrations) == (60, 10_000)
    assert "a-token" not in repr(service)


def test_with_subdomains_it_has_a_host_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch, **SUBDOMAINS).host == "https://kdr--service.hub.example"


@pytest.mark.parametrize("host", ["hub.example", "hub.example:8443", "HUB.example"])
def test_a_host_that_is_the_hubs_is_not_its_own(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    # As the hub tells where c.JupyterHub.public_url is set.
    assert read(monkeypatch, **{**SUBDOMAINS, "JUPYTERHUB_PUBLIC_URL": f"https://{host}/services/kdr/"}).host == ""


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"KDR_ROOTS": ""}, "KDR_ROOTS cannot be used: a service of a JupyterHub needs it; name the folders"),
        ({"KDR_ROOTS": "home"}, "KDR_ROOTS cannot be used: 'home' is no absolute path"),
        ({"KDR_REGISTRY": ""}, "KDR_REGISTRY cannot be used: a service of a JupyterHub needs it; name a file"),
        ({"KDR_REGISTRY": "/home/kdr/registry.sqlite"}, "it lies in a folder that users may publish"),
        ({"JUPYTERHUB_API_TOKEN": ""}, "JUPYTERHUB_API_TOKEN cannot be used: a service"),
        ({"KDR_ROUTE": "kdr"}, "KDR_ROUTE cannot be used: the kernels of a hub look"),
        ({"KDR_AS_OWNER": "1"}, "KDR_AS_OWNER cannot be used: a service of a JupyterHub serves many owners"),
        ({"KDR_LOGIN_SECONDS": "0"}, "KDR_LOGIN_SECONDS cannot be used: '0' is no whole number"),
        ({"KDR_USER_REGISTRATIONS": "many"}, "KDR_USER_REGISTRATIONS cannot be used: 'many' is no whole number"),
        ({"JUPYTERHUB_HOST": "https://hub.example"}, "JUPYTERHUB_PUBLIC_URL cannot be used: beside JUPYTERHUB_HOST"),
        ({**SUBDOMAINS, "JUPYTERHUB_PUBLIC_URL": "https://["}, "JUPYTERHUB_PUBLIC_URL cannot be used: it is no URL"),
        ({**SUBDOMAINS, "JUPYTERHUB_HOST": "https://["}, "JUPYTERHUB_HOST cannot be used: it is no URL"),
        ({"JUPYTERHUB_SERVICE_PREFIX": "/\udcff/"}, "JUPYTERHUB_SERVICE_PREFIX cannot be used: .* UTF-8"),
        ({"KDR_BASE_URL": "http://host/"}, "KDR_BASE_URL cannot be used: .* without scheme"),
        ({"KDR_LOGIN_SECONDS": "9" * 5000}, "KDR_LOGIN_SECONDS cannot be used"),
    ],
)
def test_what_would_not_be_safe_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, str], reason: str
) -> None:
    with pytest.raises(SettingError, match=reason):
        read(monkeypatch, **changed)


def test_the_relay_of_a_users_server_is_no_service(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SERVICE.items():
        monkeypatch.setenv(name, value)
    assert read_settings({"KDR_BEHIND_RELAY": "1"}).service is None
    monkeypatch.delenv("JUPYTERHUB_SERVICE_NAME")
    with pytest.raises(SettingError, match="KDR_ROOTS cannot be used: it is for a service of a JupyterHub; set"):
        read_settings()
    monkeypatch.delenv("KDR_ROOTS")
    assert read_settings().service is None


def test_what_small_files_may_take_is_the_administrators_choice(
    monkeypatch: pytest.MonkeyPatch, registry_path: Path
) -> None:
    asked_for = []
    monkeypatch.setattr(app, "FileCache", lambda capacity_bytes: asked_for.append(capacity_bytes))
    for chosen in ({}, {"KDR_CACHE_BYTES": "1000000"}):
        app.create_app({"KDR_REGISTRY": str(registry_path), **chosen})
    assert asked_for == [64 << 20, 1_000_000]
    with pytest.raises(SettingError, match="KDR_CACHE_BYTES cannot be used: 'much' is no whole number"):
        read_settings({"KDR_CACHE_BYTES": "much"})


@pytest.mark.parametrize(
    ("prefixes", "uploads", "reason"),
    [
        (["s3://data/"], "s3://kept/uploads/", "has no store with the prefix 's3://kept/uploads'"),
        (["s3://kept/"], "s3://kept/uploads/", "has no store with the prefix"),
        (
            ["s3://kept/uploads/", "s3://kept/"],
            "s3://kept/uploads/",
            "the store 's3://kept' of KDR_STORES",
        ),
        (["s3://kept/uploads/", "s3://kept/uploads/ada/"], "s3://kept/uploads/", "reaches there, too"),
        (["s3://kept/uploads/", "s3://kept/{username}/"], "s3://kept/uploads/", "reaches there, too"),
        (["s3://kept/uploads/"], "/var/kept", "it begins with none of"),
    ],
)
def test_uploads_are_kept_where_nobody_publishes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, prefixes: list[str], uploads: str, reason: str
) -> None:
    rules = write_rules(tmp_path / "stores.json", *({"prefix": prefix} for prefix in prefixes))
    with pytest.raises(SettingError, match=f"^KDR_UPLOADS cannot be used: .*{reason}"):
        read(monkeypatch, KDR_STORES=str(rules), KDR_UPLOADS=uploads)


def test_the_store_of_uploads_is_none_that_users_publish_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rules = write_rules(tmp_path / "stores.json", {"prefix": "s3://kept/uploads/"}, {"prefix": "s3://kept/uploadable/"})
    service = read(monkeypatch, KDR_STORES=str(rules), KDR_UPLOADS="s3://kept/uploads/")
    assert service.uploads is not None
    assert service.max_upload_bytes == 100 << 30
    roots = {service.uploads.root_of(name) for name in ("ada", "Ada", "a/b", "..", "a b", "ada%2f", "!ada", "é")}
    assert len(roots) == 8
    assert all(root.startswith(b"s3://kept/uploads/") and root.count(b"/") == 4 for root in roots)
    assert b"s3://kept/uploads/ada" in roots
    stores = read_settings().stores
    assert stores.seen_by("ada") == ["s3://kept/uploadable/"]
    assert stores.find(b"s3://kept/uploads/ada/objects", "ada") is None
