from __future__ import annotations

from pathlib import Path

from flask.testing import FlaskClient

from hub.registry import Registry
from tests.fake_hub import AS_ADA


def test_a_new_registry_gets_the_static_files_again(client: FlaskClient, environment: dict[str, str]) -> None:
    registry = Path(environment["KDR_REGISTRY"])
    told = client.get("/wwtkdr/_api/static", headers=AS_ADA).json
    assert told is not None
    registry.unlink()
    assert client.get("/wwtkdr/_api/static", headers=AS_ADA).json == told
    assert Registry(registry).find(told["key"]) is not None
