"""What users see of their own, and administrators of all; and that others do not."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from flask.testing import FlaskClient

from hub.registration import Registration
from hub.registry import Registry
from hub.version import VERSION
from kdr_wsgi import status
from kdr_wsgi.usage import write_all
from tests.conftest import make_settled
from tests.fake_hub import AS_ADA, AS_ADA_IN_A_BROWSER, AS_ROOT, AS_ROOT_IN_A_BROWSER, publish

STATUS = "/wwtkdr/_status"

SHOWN_AS_A_PAGE = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "none"}
IN_A_SANDBOX = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "cross-site", "Origin": "null"}
BY_A_PAGE_ELSEWHERE = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "cross-site", "Origin": "https://elsewhere.example"}


@pytest.mark.parametrize(
    ("headers", "metrics", "own"),
    [
        (AS_ROOT, 200, 200),
        (AS_ROOT_IN_A_BROWSER, 200, 200),
        (AS_ROOT_IN_A_BROWSER | SHOWN_AS_A_PAGE, 200, 200),
        (AS_ROOT_IN_A_BROWSER | BY_A_PAGE_ELSEWHERE, 401, 401),
        (AS_ADA, 403, 200),
        (AS_ADA_IN_A_BROWSER, 404, 200),
        (AS_ADA_IN_A_BROWSER | SHOWN_AS_A_PAGE, 404, 200),
        (AS_ADA_IN_A_BROWSER | BY_A_PAGE_ELSEWHERE, 401, 401),
        (AS_ADA_IN_A_BROWSER | IN_A_SANDBOX, 401, 401),
        ({"Authorization": "token of nobody"}, 401, 401),
        ({}, 401, 401),
        (SHOWN_AS_A_PAGE, 302, 302),
    ],
)
def test_who_may_know(client: FlaskClient, headers: dict[str, str], metrics: int, own: int) -> None:
    assert client.get("/wwtkdr/_metrics", headers=headers).status_code == metrics
    assert client.get(STATUS, headers=headers).status_code == own


def test_who_may_not_know_sees_what_is_seen_where_nothing_is(client: FlaskClient) -> None:
    assert client.get("/wwtkdr/_metrics", headers=AS_ADA_IN_A_BROWSER).data == client.get("/wwtkdr/_nothing").data


def test_a_token_without_the_scope_is_told_which(client: FlaskClient) -> None:
    assert "read:metrics" in client.get("/wwtkdr/_metrics", headers=AS_ADA).text


def test_users_see_their_own_and_no_totals(client: FlaskClient, environment: dict[str, str]) -> None:
    for owner, key in (("ada", "ada~a"), ("bob", "bob~b")):
        Path(environment["KDR_ROOTS"].format(username=owner)).mkdir()
        publish(environment, owner, key, "")
    told = client.get(f"{STATUS}?format=json", headers=AS_ADA).json
    assert told is not None
    (mine,) = told["registrations"]
    home = environment["KDR_ROOTS"].format(username="ada")
    assert (mine["key"], mine["path"], mine["is_missing"]) == ("ada~a", home, False)
    assert mine["partial_url"] == "/services/kdr/wwtkdr/ada~a/"
    assert "service" not in told
    text = client.get(STATUS, headers=AS_ADA_IN_A_BROWSER).text
    assert "ada~a" in text
    assert "bob" not in text
    assert "The whole service" not in text


def test_a_user_is_told_the_size_of_the_own_alone(client: FlaskClient, environment: dict[str, str]) -> None:
    for owner, key in (("ada", "ada~a"), ("bob", "bob~b")):
        home = Path(environment["KDR_ROOTS"].format(username=owner))
        home.mkdir()
        (home / "file").write_text("1234567")
        publish(environment, owner, key, "")
    told = client.get(f"{STATUS}/size?key=ada~a", headers=AS_ADA).json
    assert told == {"size_bytes": 7, "files": 1, "is_more": False, "problem": None, "preview": None}
    for key in ("bob~b", "nothing"):
        assert client.get(f"{STATUS}/size?key={key}", headers=AS_ADA).status_code == 404


@pytest.mark.parametrize("kind", ["tree", "file"])
def test_a_link_that_is_swapped_in_does_not_tell_what_others_have(
    client: FlaskClient, environment: dict[str, str], kind: Literal["tree", "file"]
) -> None:
    ada, bob = (Path(environment["KDR_ROOTS"].format(username=owner)) for owner in ("ada", "bob"))
    ada.mkdir()
    bob.mkdir()
    (bob / "secret").touch()
    (ada / "folder").symlink_to(bob)
    registry = Registry(Path(environment["KDR_REGISTRY"]))
    for name in ("secret", "nothing"):
        registry.claim(Registration(f"ada~{name}", kind, bytes(ada / "folder" / name), owner="ada"))
    registry.close()
    told = client.get(f"{STATUS}?format=json", headers=AS_ADA).json
    assert told is not None
    assert [each["is_missing"] for each in told["registrations"]] == [True, True]


def test_what_is_read_of_it_is_counted(client: FlaskClient, environment: dict[str, str]) -> None:
    home = Path(environment["KDR_ROOTS"].format(username="ada"))
    home.mkdir()
    (home / "file").write_text("1234567")
    publish(environment, "ada", "ada~a", "")
    assert client.get("/wwtkdr/ada~a/file").data == b"1234567"
    write_all()
    told = client.get(f"{STATUS}?format=json", headers=AS_ADA).json
    assert told is not None
    (mine,) = told["registrations"]
    assert (mine["hits"], mine["body_bytes"]) == (1, 7)


REVOKING = "/wwtkdr/_api/registrations?key=ada~a"
OF_THE_PAGE = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        (AS_ADA, 200),
        (AS_ADA | BY_A_PAGE_ELSEWHERE, 200),  # No page has a token unless somebody gives it one.
        (AS_ADA_IN_A_BROWSER | OF_THE_PAGE, 200),
        (AS_ADA_IN_A_BROWSER | {"Origin": "http://localhost"}, 200),
        (AS_ADA_IN_A_BROWSER, 401),
        (AS_ADA_IN_A_BROWSER | BY_A_PAGE_ELSEWHERE, 401),
        (AS_ADA_IN_A_BROWSER | IN_A_SANDBOX, 401),
        (AS_ADA_IN_A_BROWSER | {"Origin": "null"}, 401),
        (AS_ADA_IN_A_BROWSER | {"Origin": "http://localhost:8000"}, 401),
        (AS_ADA_IN_A_BROWSER | {"Sec-Fetch-Site": "same-site"}, 401),
        (AS_ADA_IN_A_BROWSER | {"Sec-Fetch-Site": "none"}, 401),
        (AS_ROOT_IN_A_BROWSER | OF_THE_PAGE, 404),
        (OF_THE_PAGE, 401),
    ],
)
def test_the_owner_revokes_by_a_token_or_by_the_page(
    client: FlaskClient, environment: dict[str, str], headers: dict[str, str], code: int
) -> None:
    publish(environment, "ada", "ada~a", "")
    assert client.delete(REVOKING, headers=headers).status_code == code
    left = client.get("/wwtkdr/_api/registrations", headers=AS_ADA).json
    assert left is not None
    assert len(left["registrations"]) == (0 if code == 200 else 1)


def test_the_login_of_a_browser_registers_nothing(client: FlaskClient) -> None:
    answer = client.post("/wwtkdr/_api/registrations", json={}, headers=AS_ADA_IN_A_BROWSER | OF_THE_PAGE)
    assert answer.status_code == 401


def test_a_browser_logs_in_at_the_hub(client: FlaskClient) -> None:
    answer = client.get(STATUS, headers=SHOWN_AS_A_PAGE)
    assert "/hub/api/oauth2/authorize" in answer.headers["Location"]


@pytest.mark.parametrize(
    ("query", "headers"),
    [("?format=json", {}), ("?format=json", {"Accept": "text/html"}), ("", {"Accept": "application/json"})],
)
def test_programs_get_json(
    client: FlaskClient, environment: dict[str, str], query: str, headers: dict[str, str]
) -> None:
    for owner, key in (("ada", "a"), ("bob", "b"), ("bob", "c"), ("cyd", "d")):
        publish(environment, owner, key, "")
    body = client.get("/wwtkdr/nothing/here").data
    answer = client.get(STATUS + query, headers=AS_ROOT | headers)
    assert answer.json is not None
    assert (answer.json["version"], answer.json["registrations"], answer.json["trouble"]) == (VERSION, [], None)
    assert answer.json["service"] == {
        "requests": 1,
        "body_bytes": len(body),
        "cache": {"hits": 0, "misses": 0, "ratio": None},
        "registrations": {
            "total": 4,
            "by_user": [{"user": "bob", "count": 2}, {"user": "ada", "count": 1}, {"user": "cyd", "count": 1}],
        },
    }


def test_the_ratio_of_hits(client: FlaskClient, environment: dict[str, str]) -> None:
    file = Path(environment["KDR_ROOTS"].format(username="ada"), "small")
    file.parent.mkdir()
    file.write_text("x")
    make_settled(file)
    publish(environment, "ada", "open", "")
    for _ in range(4):
        client.get("/wwtkdr/open/small")
    told = client.get(f"{STATUS}?format=json", headers=AS_ROOT).json
    assert told is not None
    assert told["service"]["cache"] == {"hits": 3, "misses": 1, "ratio": 0.75}
    assert "75.0%" in client.get(STATUS, headers=AS_ROOT).text


def test_names_cannot_write_the_page(client: FlaskClient, environment: dict[str, str]) -> None:
    publish(environment, "<script>alert(1)</script>", "a", "")
    answer = client.get(STATUS, headers=AS_ROOT)
    assert answer.content_type == "text/html; charset=utf-8"
    assert "<script>" not in answer.text
    assert "&lt;script&gt;" in answer.text
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_a_long_page_ends_and_says_so(
    client: FlaskClient, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "MAX_ROWS", 2)
    for number in range(5):
        publish(environment, f"user-{number}", f"key-{number}", "")
    text = client.get(STATUS, headers=AS_ROOT).text
    assert "user-1" in text
    assert "user-2" not in text
    assert "The first 2 users; 3 more have registrations." in text


@pytest.mark.parametrize("headers", [AS_ROOT, AS_ADA, {}])
def test_each_answer_has_each_header_once(client: FlaskClient, headers: dict[str, str]) -> None:
    names = [name for name, _ in client.get(STATUS, headers=headers).headers]
    assert sorted(names) == sorted(set(names))
