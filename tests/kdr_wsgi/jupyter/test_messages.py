"""What of a message is passed on."""

from __future__ import annotations

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tornado.httputil import HTTPHeaders, HTTPInputError

from kdr_wsgi.jupyter.messages import end_to_end, format_request
from kdr_wsgi.locations import Location
from kdr_wsgi.viewers import Viewer

LOCATION = Location("https", "hub.example:8443", "/user/a%20b")


class Reading:
    """What a server understands of a request."""

    def __init__(self, request: bytes) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.messages = 0
        parser = httptools.HttpRequestParser(self)
        parser.feed_data(request)
        self.method = parser.get_method()

    def on_url(self, target: bytes) -> None:
        self.target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_message_complete(self) -> None:
        self.messages += 1

    def __getitem__(self, name: bytes) -> bytes:
        (value,) = (value for known, value in self.headers if known == name)
        return value


def understood(target: str = "/wwtkdr/k/a", viewer: Viewer = "owner", **headers: str) -> Reading:
    sent = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Reading(format_request("GET", target, sent, viewer, LOCATION))


def test_the_server_is_told_who_asks_and_where_the_browser_is() -> None:
    request = understood()
    assert request.method == b"GET"
    assert request[b"kdr-viewer"] == b"owner"
    assert request[b"x-forwarded-proto"] == b"https"
    assert request[b"x-forwarded-host"] == request[b"host"] == b"hub.example:8443"
    assert request[b"x-forwarded-prefix"] == b"/user/a%20b"


def test_what_the_server_acts_upon_is_passed_on() -> None:
    request = understood(
        Range="bytes=0-1", If_Range='"a"', If_None_Match='"b"', Accept="text/plain", Accept_Encoding="br, gzip;q=0.5"
    )
    assert request[b"accept-encoding"] == b"br, gzip;q=0.5"
    assert request[b"range"] == b"bytes=0-1"
    assert request[b"if-range"] == b'"a"'
    assert request[b"if-none-match"] == b'"b"'
    assert request[b"accept"] == b"text/plain"


SECRET = "secret-of-the-user"


@pytest.mark.parametrize(
    "name",
    "Cookie Authorization X-Xsrftoken Kdr-Viewer X-Forwarded-For X-Forwarded-Prefix Forwarded Connection Upgrade Te "
    "Transfer-Encoding Content-Length Proxy-Authorization Host Expect Keep-Alive".split(),
)
def test_cookies_tokens_and_claims_stay_here(name: str) -> None:
    request = Reading(format_request("GET", "/wwtkdr/k/a", [(name, SECRET)], "anyone", LOCATION))
    assert SECRET.encode() not in b" ".join(value for _, value in request.headers)
    assert request[b"kdr-viewer"] == b"anyone"


@pytest.mark.parametrize(
    ("sent", "passed_on"),
    [
        ("/wwtkdr/k/a%23b%3Fc%252f", "/wwtkdr/k/a%23b%3Fc%252f"),
        ("/wwtkdr/k/a?x=1", "/wwtkdr/k/a?x=1"),
        ("/wwtkdr/k/a?token=SECRET", "/wwtkdr/k/a"),
        ("/wwtkdr/k/a?token=SECRET&x=1&y", "/wwtkdr/k/a?x=1&y"),
        ("/wwtkdr/k/a?x=1&%74oken=SECRET", "/wwtkdr/k/a?x=1"),
        ("/wwtkdr/k/a?x=?token=1", "/wwtkdr/k/a?x=?token=1"),
        ("/wwtkdr/k/token=1", "/wwtkdr/k/token=1"),
        ("/wwtkdr/k/a?", "/wwtkdr/k/a"),
        ("/wwtkdr/k/\xc3\xbc%20\xff", "/wwtkdr/k/%C3%BC%20%FF"),
    ],
)
def test_the_target_is_passed_on_as_it_was_sent_without_the_token(sent: str, passed_on: str) -> None:
    assert understood(sent).target.decode() == passed_on


@given(
    st.lists(st.tuples(st.sampled_from(["Range", "If-Range", "Accept", "If-Match"]), st.text(max_size=40)), max_size=4)
)
def test_no_value_that_tornado_lets_in_makes_a_second_request(pairs: list[tuple[str, str]]) -> None:
    headers = HTTPHeaders()
    for name, value in pairs:
        try:
            headers.add(name, value)
        except HTTPInputError:
            continue
    request = Reading(format_request("GET", "/wwtkdr/k/a", headers.get_all(), "anyone", LOCATION))
    assert request.messages == 1
    assert request[b"kdr-viewer"] == b"anyone"


def test_headers_of_the_connection_are_not_for_the_browser() -> None:
    sent = [(b"ETag", b'"a"'), (b"Connection", b"close"), (b"transfer-encoding", b"chunked"), (b"Vary", b"Origin")]
    assert end_to_end(sent) == [("ETag", '"a"'), ("Vary", "Origin")]
