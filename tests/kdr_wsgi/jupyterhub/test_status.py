"""What administrators see, and that others do not."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask.testing import FlaskClient

from hub.version import VERSION
from kdr_wsgi.jupyterhub import status
from tests.conftest import make_settled
from tests.fake_hub import AS_ADA, AS_ADA_IN_A_BROWSER, AS_ROOT, AS_ROOT_IN_A_BROWSER, publish

STATUS = "/wwtkdr/_status"

SHOWN_AS_A_PAGE = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "none"}
BY_A_PAGE_ELSEWHERE = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "cross-site", "Origin": "https://elsewhere.example"}


@pytest.mark.parametrize("page", ["_status", "_metrics"])
@pytest.mark.parametrize(
    ("headers", "code"),
    [
        (AS_ROOT, 200),
        (AS_ROOT_IN_A_BROWSER, 200),
        (AS_ROOT_IN_A_BROWSER | SHOWN_AS_A_PAGE, 200),
        (AS_ROOT_IN_A_BROWSER | BY_A_PAGE_ELSEWHERE, 401),
        (AS_ADA, 403),
        (AS_ADA_IN_A_BROWSER, 404),
        (AS_ADA_IN_A_BROWSER | SHOWN_AS_A_PAGE, 404),
        ({"Authorization": "token of nobody"}, 401),
        ({}, 401),
        (SHOWN_AS_A_PAGE, 302),
    ],
)
def test_who_may_know(client: FlaskClient, page: str, headers: dict[str, str], code: int) -> None:
    assert client.get(f"/wwtkdr/{page}", headers=headers).status_code == code


def test_who_may_not_know_sees_what_is_seen_where_nothing_is(client: FlaskClient) -> None:
    assert client.get(STATUS, headers=AS_ADA_IN_A_BROWSER).data == client.get("/wwtkdr/_nothing").data


def test_a_token_without_the_scope_is_told_which(client: FlaskClient) -> None:
    assert "read:metrics" in client.get(STATUS, headers=AS_ADA).text


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
    assert answer.json == {
        "version": VERSION,
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
    assert told["cache"] == {"hits": 3, "misses": 1, "ratio": 0.75}
    assert "75.0%" in client.get(STATUS, headers=AS_ROOT).text


def test_names_cannot_write_the_page(client: FlaskClient, environment: dict[str, str]) -> None:
    publish(environment, "<script>alert(1)</script>", "a", "")
    answer = client.get(STATUS, headers=AS_ROOT)
    assert answer.content_type == "text/html; charset=utf-8"
    assert "<script" not in answer.text
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
