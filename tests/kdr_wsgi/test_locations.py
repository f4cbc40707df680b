from __future__ import annotations

from contextlib import suppress
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdr_wsgi.errors import MalformedHost
from kdr_wsgi.locations import Location, location_finder
from kdr_wsgi.proxies import TrustedProxies

OWN = Location("http", "own:8888", "/user/ada")

texts = st.one_of(st.none(), st.text(st.characters(max_codepoint=255), max_size=20))


def find(proxies: str = "", **variables: str) -> str:
    environ = {
        "wsgi.url_scheme": "http",
        "SERVER_NAME": "machine",
        "SERVER_PORT": "8000",
        "REMOTE_ADDR": "10.0.0.1",
        **variables,
    }
    return location_finder(TrustedProxies(proxies))(environ)


@pytest.mark.parametrize(
    ("proto", "host", "prefix", "seen"),
    [
        (None, None, None, OWN),
        ("https", "hub.example", "/outer/", ("https", "hub.example", "/outer/user/ada")),
        (
            "HTTPS, http",
            " hub.example:8443 ,inner:1",
            "/outer,/inner",
            ("https", "hub.example:8443", "/outer/user/ada"),
        ),
        ("gopher", "", "/", OWN),
    ],
)
def test_of_several_proxies_the_outermost_counts(
    proto: str | None, host: str | None, prefix: str | None, seen: tuple[str, str, str]
) -> None:
    assert OWN.seen_through(proto, host, prefix) == seen


FORWARDED = {
    "HTTP_HOST": "inner:80",
    "HTTP_X_FORWARDED_PROTO": "https",
    "HTTP_X_FORWARDED_HOST": "hub.example",
    "HTTP_X_FORWARDED_PREFIX": "/outer",
    "SCRIPT_NAME": "/caf\xc3\xa9",
}


def test_forwarded_headers_count_from_named_peers_alone() -> None:
    assert find(**FORWARDED) == "http://inner:80/caf%C3%A9"
    assert find("10.0.0.2,unix", **FORWARDED) == "http://inner:80/caf%C3%A9"
    assert find("10.0.0.0/24", **FORWARDED) == "https://hub.example/outer/caf%C3%A9"


@pytest.mark.parametrize("host", ["a", "a.b:1", "[::1]", "[2001:db8::1]:65535", "caf%C3%A9.example", "a_b"])
def test_a_host_may_be_a_name_or_an_address(host: str) -> None:
    assert find(HTTP_HOST=host) == f"http://{host}"


def test_without_a_host_the_servers_own_name_counts() -> None:
    assert find() == "http://machine:8000"


@pytest.mark.parametrize(
    "host",
    [
        "a/b",
        "a b",
        "user@host",
        'a"b',
        "a<b",
        "a\\b",
        "h:port",
        "[::1",
        "é",
        "x" * 300,
        "a?b",
        "a#b",
        "[::::]",
        "[1]",
        "%zz",
        "x:99999",
        "a,b",
    ],
)
def test_a_host_that_is_none_is_refused(host: str) -> None:
    with pytest.raises(MalformedHost):
        find(HTTP_HOST=host)


@pytest.mark.parametrize("prefix", ["outer", "/a b", "/a?b", "/a#b", "/<a>", "/" * 2000])
def test_a_prefix_that_is_no_path_is_refused(prefix: str) -> None:
    with pytest.raises(MalformedHost):
        find("10.0.0.1", **{**FORWARDED, "HTTP_X_FORWARDED_PREFIX": f"{prefix}/x"})


@given(host=texts, proto=texts, forwarded_host=texts, prefix=texts)
def test_what_is_found_is_always_a_url(
    host: str | None, proto: str | None, forwarded_host: str | None, prefix: str | None
) -> None:
    told = {"HOST": host, "X_FORWARDED_PROTO": proto, "X_FORWARDED_HOST": forwarded_host, "X_FORWARDED_PREFIX": prefix}
    with suppress(MalformedHost):
        url = find("10.0.0.1", **{f"HTTP_{name}": value for name, value in told.items() if value is not None})
        parts = urlsplit(url)
        assert parts.scheme in ("http", "https")
        assert f"{parts.scheme}://{parts.netloc}{parts.path}" == url
        assert url.isascii()
        assert parts.hostname
