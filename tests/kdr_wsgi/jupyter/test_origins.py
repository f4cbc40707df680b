"""From which page a request comes."""

from __future__ import annotations

import pytest
from tornado.httputil import HTTPHeaders

from kdr_wsgi.origins import Origins, is_origin, with_credentials

HOSTS = ("lab.example:8888", "")


@pytest.mark.parametrize(
    ("headers", "is_foreign"),
    [
        ({}, False),
        ({"Sec-Fetch-Site": "same-origin"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Sec-Fetch-Site": "same-site"}, True),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, True),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, True),
        ({"Sec-Fetch-Site": "unheard-of"}, True),
        ({"Origin": "http://lab.example:8888"}, False),
        ({"Origin": "https://lab.example:8888"}, False),
        ({"Origin": "http://lab.example"}, True),
        ({"Origin": "http://lab.example:8888.evil.example"}, True),
        ({"Origin": "null"}, True),
        ({"Origin": ""}, True),
        ({"Origin": "http://"}, True),
        ({"Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"}, True),
        ({"Referer": "http://lab.example:8888/lab?x"}, False),
        ({"Referer": "http://lab.example:8888"}, False),
        ({"Referer": "http://evil.example/http://lab.example:8888/"}, True),
        ({"Referer": "http://lab.example:8888@evil.example/"}, True),
        ({"Referer": "not an address"}, True),
        ({"Referer": "http://["}, True),
    ],
)
def test_who_is_foreign(headers: dict[str, str], is_foreign: bool) -> None:
    assert Origins().is_foreign(HTTPHeaders(headers), HOSTS) is is_foreign


def test_an_allowed_origin_is_not_foreign_and_may_send_its_login() -> None:
    origins = Origins(allowed=frozenset({"https://viewer.example"}))
    assert not origins.is_foreign(HTTPHeaders({"Origin": "https://viewer.example"}), HOSTS)
    assert origins.is_foreign(HTTPHeaders({"Origin": "http://viewer.example"}), HOSTS)
    assert not origins.is_foreign(
        HTTPHeaders({"Sec-Fetch-Site": "cross-site", "Referer": "https://viewer.example/page"}), HOSTS
    )
    assert origins.may_send_login("https://viewer.example")
    assert not origins.may_send_login("https://evil.example")


@pytest.mark.parametrize(
    ("origins", "foreign"),
    [
        (Origins(jupyter_allowed="https://viewer.example"), False),
        (Origins(jupyter_allowed="*"), False),
        (Origins(jupyter_pattern=r"https://.*\.example"), False),
        (Origins(jupyter_pattern=r"https://viewer"), True),
        (Origins(jupyter_allowed="https://other.example"), True),
    ],
)
def test_what_jupyter_allows_is_allowed_but_for_its_login(origins: Origins, foreign: bool) -> None:
    assert origins.is_foreign(HTTPHeaders({"Origin": "https://viewer.example"}), HOSTS) is foreign
    assert not origins.may_send_login("https://viewer.example")


def test_jupyter_says_whether_the_pages_it_allows_send_their_login() -> None:
    origins = Origins(jupyter_allowed="https://viewer.example", jupyter_credentials=True)
    assert origins.may_send_login("https://viewer.example")
    assert not origins.may_send_login("https://evil.example")


@pytest.mark.parametrize("text", ["https://a.example", "http://a.example:80", "https://[::1]:8888", "app://x"])
def test_an_origin(text: str) -> None:
    assert is_origin(text)


@pytest.mark.parametrize("text", ["", "*", "null", "a.example", "https://", "https://a/", "https://A", "https://a b"])
def test_no_origin(text: str) -> None:
    assert not is_origin(text)


def test_an_answer_for_an_allowed_origin_has_one_vary() -> None:
    headers = with_credentials([("Vary", "Accept-Encoding"), ("ETag", '"a"')], "https://viewer.example")
    assert [value for name, value in headers if name == "Vary"] == ["Accept-Encoding, Origin"]


def test_an_answer_for_an_allowed_origin_names_it() -> None:
    headers = [("Access-Control-Allow-Origin", "*"), ("Access-Control-Allow-Headers", "Range"), ("ETag", '"a"')]
    assert with_credentials(headers, "https://viewer.example") == [
        ("Access-Control-Allow-Headers", "Range, Authorization"),
        ("ETag", '"a"'),
        ("Access-Control-Allow-Origin", "https://viewer.example"),
        ("Access-Control-Allow-Credentials", "true"),
        ("Vary", "Origin"),
    ]
