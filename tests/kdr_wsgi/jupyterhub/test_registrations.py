from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from hub.registrar import Claim
from hub.registration import Registration
from hub.registry import Registry
from hub.wire import claim_to_json
from tests.fake_hub import AS_ADA, service_client
from tests.stores import write_rules


def test_a_new_registry_gets_the_static_files_again(client: FlaskClient, environment: dict[str, str]) -> None:
    registry = Path(environment["KDR_REGISTRY"])
    told = client.get("/wwtkdr/_api/static", headers=AS_ADA).json
    assert told is not None
    registry.unlink()
    assert client.get("/wwtkdr/_api/static", headers=AS_ADA).json == told
    assert Registry(registry).find(told["key"]) is not None


@pytest.fixture
def claim_object(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[..., TestResponse]]:
    """Claim an address of an object store as ada, at a service that may read some."""
    stores = ({"prefix": "s3://survey/public/"}, {"prefix": "s3://homes/{username}/"})
    for name, value in {**environment, "KDR_STORES": str(write_rules(tmp_path / "s.json", *stores))}.items():
        monkeypatch.setenv(name, value)
    with service_client() as client:

        def claim(root: str, **changes: object) -> TestResponse:
            told = claim_to_json(Claim(Registration("", "tree", root.encode()), root.encode(), b"", None))
            return client.post("/wwtkdr/_api/registrations", json={**told, **changes}, headers=AS_ADA)

        yield claim


@pytest.mark.parametrize("root", ["s3://survey/public", "s3://survey/public/tiles", "s3://homes/ada/x"])
def test_a_user_publishes_what_lies_below_a_prefix(claim_object: Callable[..., TestResponse], root: str) -> None:
    answer = claim_object(root)
    assert (answer.status_code, answer.get_json()["root"]) == (201, root.replace(":", "%3A"))


@pytest.mark.parametrize("root", ["s3://survey", "s3://survey/publicity", "s3://homes/bob/x", "gs://survey/public"])
def test_what_lies_below_none_is_refused_in_a_sentence(claim_object: Callable[..., TestResponse], root: str) -> None:
    answer = claim_object(root)
    assert answer.status_code == 403
    assert "below these prefixes: s3://survey/public/, s3://homes/ada/" in answer.get_json()["error"]


@pytest.mark.parametrize(
    ("root", "changes"),
    [
        ("s3://survey/public/../private", {}),
        ("s3://survey/public/", {}),
        ("s3://survey/public?x=y", {}),
        ("s3://x@survey/public", {}),
        ("s3://survey/public", {"kind": "archive"}),
        ("s3://survey/public", {"content": "0" * 64}),
    ],
)
def test_what_is_no_address_or_no_tree_of_objects_is_refused(
    claim_object: Callable[..., TestResponse], root: str, changes: dict[str, object]
) -> None:
    assert claim_object(root, **changes).status_code == 400


def test_nobody_tells_the_service_what_objects_hash_to(claim_object: Callable[..., TestResponse]) -> None:
    assert claim_object("s3://homes/ada/x", is_by_content="yes").status_code == 400
    told = claim_object("s3://homes/ada/x", is_by_content=True, content="0" * 64, signature="0" * 64)
    assert (told.status_code, "without a hash" in told.get_json()["error"]) == (400, True)
