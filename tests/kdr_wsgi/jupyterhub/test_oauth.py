from __future__ import annotations

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
        assert cookie.startswith(f"service-kdr-oauth-state-{state}=")
        for attribute in ("HttpOnly", "SameSite=Lax", "Path=/services/kdr/", "Max-Age=600"):
            assert attribute in cookie
    assert first.headers["Location"] != again.headers["Location"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Accept": "image/png"},
        {**PAGE, "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
        {**PAGE, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
        {**PAGE, **AS_ADA_IN_A_BROWSER},
        {**PAGE, **AS_ROOT},
    ],
)
def test_nothing_but_the_page_of_a_window_is_sent_to_the_login(client: FlaskClient, headers: dict[str, str]) -> None:
    assert client.get(FILE, headers=headers).status_code == 404


def test_a_page_is_not_sent_there_by_another_method(client: FlaskClient) -> None:
    assert client.head(FILE, headers=PAGE).status_code == 404
    assert client.post(FILE, headers=PAGE).status_code == 405


def test_behind_tls_the_cookies_are_for_tls_alone(client: FlaskClient) -> None:
    (cookie,) = client.get(FILE, headers={**PAGE, "X-Forwarded-Proto": "https"}).headers.getlist("Set-Cookie")
    assert "Secure" in cookie
    (cookie,) = client.get(FILE, headers=PAGE).headers.getlist("Set-Cookie")
    assert "Secure" not in cookie


def test_logins_that_were_begun_and_left_are_dropped(client: FlaskClient) -> None:
    begun = "; ".join(f"service-kdr-oauth-state-{number}=x" for number in range(20))
    cookies = client.get(FILE, headers={**PAGE, "Cookie": begun}).headers.getlist("Set-Cookie")
    dropped = [cookie for cookie in cookies if "Max-Age=0" in cookie]
    assert (len(dropped), len(cookies)) == (13, 14)


def test_an_address_that_makes_too_large_a_cookie_is_let_go(client: FlaskClient) -> None:
    (cookie,) = client.get(f"{FILE}&y={'y' * 5000}", headers=PAGE).headers.getlist("Set-Cookie")
    assert len(cookie) < 4096


def test_a_cookie_of_somebody_elses_making_is_no_login(client: FlaskClient) -> None:
    headers = {"Cookie": "service-kdr-oauth-state-abc=W10.aaaa.bbbb"}
    answer = client.get("/services/kdr/oauth_callback?state=abc&code=x", headers=headers)
    assert (answer.status_code, "Set-Cookie" in answer.headers) == (400, False)
    assert "was not begun in this browser" in answer.text
