"""Services of a hub that knows two users, one of whom is an administrator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from tests.fake_hub import fake_hub, service_client


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """What the hub tells its service."""
    with fake_hub(tmp_path) as environment:
        yield environment


@pytest.fixture
def client(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[FlaskClient]:
    """A service in this process."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with service_client() as client:
        yield client
