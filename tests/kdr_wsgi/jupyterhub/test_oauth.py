from __future__ import annotations

import json
from base64 import b64decode
from urllib.parse import parse_qs, urlsplit

import pytest
from flask.testing import FlaskClient

from tests.fake_hub import AS_ADA_IN_A_BROWSER, AS_ROOT

PAGE = {"Accept": "text/html,*/*;q=0.8"}
FILE = "/services/kdr/wwtkdr/ada~nothing/a b/0.html?x=1"


def test_a_browser_is_sent_to_the_login_with_a_secret_of_its_own(client: FlaskClient) -> None:
    first, again = (client.get(FILE, headers=PAGE) for _ in range(2))
    for answer in (first, again):
        assert answer.status_code == 302
        query = parse_qs(urlsplit(answer.headers["Location"]).query)
        (state,), (client_id,) = query["state"], query["client_id"]
        assert client_id == "service-kdr"
        assert query["redirect_uri"] == ["/services/kdr/oauth_callback"]
        (cookie,) = answer.headers.getlist("Set-Cookie")
        assert cookie.startswith("service-kdr-oauth-state=")
        assert state not in cookie
        for attribute in ("HttpOnly", "SameSite=Lax", "Path=/services/kdr/", "Max-Age=600"):
            assert attribute in cookie
    assert first.headers["Location"] != again.headers["Location"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Accept": "image/png"},
        {**PAGE, "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
        {**PAGE, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe", "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image", "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty", "Sec-Fetch-Site": "same-site"},
        {**PAGE, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe", "Sec-Fetch-Site": "same-site"},
        {"Referer": "http://elsewhere.example/page"},
        {"Referer": "http://["},
        {"Referer": "x"},
        {**PAGE, **AS_ADA_IN_A_BROWSER},
        {**PAGE, **AS_ROOT},
    ],
)
def test_what_no_login_would_help_is_not_sent_there(client: FlaskClient, headers: dict[str, str]) -> None:
    assert client.get(FILE, headers=headers).status_code == 404


def test_a_page_is_not_sent_there_by_another_method(client: FlaskClient) -> None:
    assert client.head(FILE, headers=PAGE).status_code == 404
    assert client.post(FILE, headers=PAGE).status_code == 405


def test_behind_tls_the_cookies_are_for_tls_alone(client: FlaskClient) -> None:
    (cookie,) = client.get(FILE, headers={**PAGE, "X-Forwarded-Proto": "https"}).headers.getlist("Set-Cookie")
    assert "Secure" in cookie
    (cookie,) = client.get(FILE, headers=PAGE).headers.getlist("Set-Cookie")
    assert "Secure" not in cookie


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe", "Sec-Fetch-Site": "same-origin"},
        {"Referer": "http://localhost/user/ada/lab"},
    ],
)
def test_what_a_page_of_the_hub_embeds_is_sent_there_too(client: FlaskClient, headers: dict[str, str]) -> None:
    assert client.get(FILE, headers=headers).status_code == 302
    assert client.head(FILE, headers=headers).status_code == 404


def test_all_logins_that_a_browser_begins_share_a_cookie(client: FlaskClient) -> None:
    (begun,) = client.get(FILE, headers=PAGE).headers.getlist("Set-Cookie")
    again = client.get(f"{FILE}&more", headers={**PAGE, "Cookie": begun.partition(";")[0]})
    assert again.headers.getlist("Set-Cookie") == [begun]


def test_who_is_led_into_somebody_elses_login_begins_an_own_one(client: FlaskClient) -> None:
    of_eve = client.get(FILE, headers=PAGE)
    (state,) = parse_qs(urlsplit(of_eve.headers["Location"]).query)["state"]
    target = f"/services/kdr/oauth_callback?code=of-eve&state={state}"
    # A browser that has begun nothing is told so, and one that has begun a login goes on with its own.
    assert client.get(target).status_code == 400
    (begun,) = client.get(FILE, headers=PAGE).headers.getlist("Set-Cookie")
    answer = client.get(target, headers={"Cookie": begun.partition(";")[0]})
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith("/hub/api/oauth2/authorize?")
    assert not any(cookie.startswith("service-kdr=") for cookie in answer.headers.getlist("Set-Cookie"))


def test_an_address_that_is_too_long_for_a_proxy_is_let_go(client: FlaskClient) -> None:
    answer = client.get(f"{FILE}&y={'y' * 5000}", headers=PAGE)
    assert len(answer.headers["Location"]) < 4096


def test_a_cookie_of_somebody_elses_making_is_no_login(client: FlaskClient) -> None:
    headers = {"Cookie": "service-kdr-oauth-state=W10.aaaa.bbbb"}
    answer = client.get("/services/kdr/oauth_callback?state=abc&code=x", headers=headers)
    assert (answer.status_code, "Set-Cookie" in answer.headers) == (400, False)
    assert "was not begun in this browser" in answer.text


@pytest.mark.parametrize("name", ["service-kdr", "service-kdr-oauth-state", "jupyterhub-session-id", "other"])
def test_cookies_in_odd_bytes_are_none(client: FlaskClient, name: str) -> None:
    odd = "\xff\xfe".encode("latin-1").decode("latin-1")
    for cookie in (f"{name}={odd}", f"{name}={odd}; service-kdr=token-of-ada"):
        assert client.get(FILE, headers={"Cookie": cookie}).status_code == 404
        assert client.get("/services/kdr/oauth_callback?state=x", headers={"Cookie": cookie}).status_code == 400


def test_an_address_with_dots_leads_nowhere_else(client: FlaskClient) -> None:
    for path in ("/services/kdr/wwtkdr/x/../../../../hub/logout", "/services/kdr/wwtkdr/x/%2e%2e/%2E%2e/hub"):
        answer = client.get("/wwtkdr/x/y", headers=PAGE, environ_overrides={"RAW_URI": path})
        assert answer.status_code == 302
        (state,) = parse_qs(urlsplit(answer.headers["Location"]).query)["state"]
        payload = state.partition(".")[0]
        _, address = json.loads(b64decode(payload + "=" * (-len(payload) % 4), "-_"))
        assert address == "/services/kdr/"


def test_a_page_that_tells_its_origin_is_believed_before_what_it_accepts(client: FlaskClient) -> None:
    headers = {**PAGE, **AS_ADA_IN_A_BROWSER, "Origin": "https://elsewhere.example"}
    assert client.get("/services/kdr/wwtkdr/_status", headers=headers).status_code in (302, 401)
