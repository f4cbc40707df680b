"""Archives that users publish at a shared service, which takes nobody's word for what is in them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from hub.content.archives import index_path
from hub.content.manifests import ManifestStore
from hub.registrar import Claim
from hub.registration import Registration
from hub.registry import Registry
from hub.wire import claim_to_json
from kdr_wsgi import archives
from tests.archives import DEFLATED, START, STORED, changed, entry_of, make_zip
from tests.conftest import make_settled
from tests.fake_hub import AS_ADA, PREFIX

_SOUND = make_zip([("a", b"x" * 9, STORED), ("bb", b"", STORED)])

#: Two of its members share bytes.
_SHARING = changed(_SOUND, entry_of(_SOUND, "bb"), START, 0)


@pytest.fixture
def path(tmp_path: Path, environment: dict[str, str]) -> Path:
    """An archive of ada's."""
    assert environment
    home = tmp_path / "homes" / "ada"
    home.mkdir()
    return home / "a.zip"


def write(path: Path, archive: bytes) -> None:
    path.write_bytes(archive)
    make_settled(path)


def claim(client: FlaskClient, path: Path, **changes: object) -> TestResponse:
    root = os.fsencode(path)
    told = claim_to_json(Claim(Registration("", "archive", root, visibility="public"), root, b"", None))
    return client.post("/wwtkdr/_api/registrations", data=json.dumps({**told, **changes}), headers=AS_ADA)


def test_members_of_an_archive_are_published_and_read(
    client: FlaskClient, path: Path, environment: dict[str, str]
) -> None:
    write(path, make_zip([("a/b", b"body", DEFLATED)]))
    answer = claim(client, path)
    assert answer.status_code == 201, answer.text
    assert answer.json is not None
    registry = Path(environment["KDR_REGISTRY"])
    assert index_path(ManifestStore(registry, "ada"), os.fsencode(path)).exists()
    assert client.get(answer.json["url"].removeprefix(PREFIX[:-1]) + "a/b").data == b"body"
    as_file = claim(client, path, kind="file", name="a.zip")
    assert as_file.json is not None
    assert as_file.json["key"] != answer.json["key"]


@pytest.mark.parametrize(
    ("archive", "reason"),
    [
        (b"none", "it is none, or was cut off"),
        (_SHARING, "share bytes"),
    ],
)
def test_what_cannot_be_served_is_refused_when_it_is_claimed(
    client: FlaskClient, path: Path, environment: dict[str, str], archive: bytes, reason: str
) -> None:
    write(path, archive)
    answer = claim(client, path)
    assert (answer.status_code, reason in answer.text) == (403, True)
    registry = Registry(Path(environment["KDR_REGISTRY"]))
    assert registry.registrations_of("ada") == []
    registry.close()


@pytest.mark.parametrize("archive", [b"none", _SHARING])
def test_what_cannot_be_served_leaves_nothing_by_whatever_name_it_is_claimed(
    client: FlaskClient, path: Path, environment: dict[str, str], archive: bytes
) -> None:
    for number in range(5):
        write(path.with_name(f"{number}.zip"), archive)
        assert claim(client, path.with_name(f"{number}.zip")).status_code == 403
    folder = ManifestStore(Path(environment["KDR_REGISTRY"]), "ada").folder
    assert [each for each in folder.rglob("*") if each.parent != folder or each.is_dir()] == []


def test_no_content_key_is_made_of_members(client: FlaskClient, path: Path) -> None:
    write(path, make_zip([("a", b"", STORED)]))
    assert claim(client, path, content="0f" * 32).status_code == 400


def test_a_folder_is_no_archive_and_what_lies_elsewhere_is_nobodys(
    client: FlaskClient, path: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "b.zip"
    write(elsewhere, make_zip([("a", b"", STORED)]))
    assert claim(client, elsewhere).status_code == 403
    assert claim(client, path.parent).status_code == 403
    path.symlink_to(elsewhere)
    assert claim(client, path).status_code == 403


class TestLimits:
    @pytest.fixture
    def environment(self, environment: dict[str, str]) -> dict[str, str]:
        return {**environment, "KDR_USER_MANIFEST_BYTES": "20000", "KDR_USER_HASHING_BYTES": "1000000"}

    def test_of_members_room_and_reading(
        self, client: FlaskClient, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(path, make_zip([(f"member {number}", b"", STORED) for number in range(500)]))
        answer = claim(client, path)
        assert (answer.status_code, "more room than you may have" in answer.text) == (403, True)
        monkeypatch.setattr(archives, "MAX_MEMBERS", 99)
        write(path, make_zip([(f"{number}", b"", STORED) for number in range(100)]))
        answer = claim(client, path)
        assert (answer.status_code, "it has 100 members, and may have 99 here" in answer.text) == (403, True)

    def test_of_reading_the_same_again_and_again(
        self, client: FlaskClient, path: Path, environment: dict[str, str]
    ) -> None:
        statuses = []
        for number in range(8):
            write(path, make_zip([(f"{number} {other}", b"", STORED) for other in range(60)]))
            statuses.append(claim(client, path).status_code)
        assert statuses[0] == 201
        assert 503 in statuses


def test_an_archive_that_grows_past_the_limits_later_is_not_indexed(
    client: FlaskClient, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(path, make_zip([("a", b"body", STORED)]))
    told = claim(client, path).json
    assert told is not None
    url = told["url"].removeprefix(PREFIX[:-1])
    assert client.get(url + "a").data == b"body"
    monkeypatch.setattr(archives, "MAX_MEMBERS", 1)
    write(path, make_zip([("a", b"body", STORED), ("b", b"", STORED)]))
    answer = client.get(url + "a")
    assert (answer.status_code, "may have 1 here" in answer.text) == (422, True)
