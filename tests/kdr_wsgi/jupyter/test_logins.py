"""How long and for whom a login is remembered."""

from __future__ import annotations

import pytest

from kdr_wsgi.jupyter import logins
from kdr_wsgi.jupyter.logins import Login, Logins, credentials_of

OWNER = Login("owner", is_by_token=False)
COOKIE = [("Cookie", "session=1"), ("Host", "lab.example")]


def test_a_login_is_remembered_for_requests_that_differ_in_what_they_ask() -> None:
    known = Logins()
    known.remember(credentials_of("/wwtkdr/k/1.png", [*COOKIE, ("Range", "bytes=0-1")], "10.0.0.1"), OWNER)
    assert known.find(credentials_of("/wwtkdr/k/2.png", [*COOKIE, ("If-None-Match", '"a"')], "10.0.0.1")) == OWNER


@pytest.mark.parametrize(
    ("target", "headers", "remote_ip"),
    [
        ("/a", [("Host", "lab.example")], "10.0.0.1"),
        ("/a", [("Cookie", "session=2"), ("Host", "lab.example")], "10.0.0.1"),
        ("/a", [*COOKIE, ("Authorization", "token x")], "10.0.0.1"),
        ("/a", [*COOKIE, ("X-Remote-User", "eve")], "10.0.0.1"),
        ("/a", [("Cookie", "session=1"), ("Host", "evil.example")], "10.0.0.1"),
        ("/a", COOKIE, "10.0.0.2"),
        ("/a?token=x", COOKIE, "10.0.0.1"),
    ],
)
def test_any_other_credentials_are_asked_anew(target: str, headers: list[tuple[str, str]], remote_ip: str) -> None:
    known = Logins()
    known.remember(credentials_of("/a", COOKIE, "10.0.0.1"), OWNER)
    assert known.find(credentials_of(target, headers, remote_ip)) is None


def test_a_login_is_forgotten_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    known = Logins()
    credentials = credentials_of("/a", COOKIE, "10.0.0.1")
    known.remember(credentials, OWNER)
    now += logins.REMEMBER_SECONDS - 0.1
    assert known.find(credentials) == OWNER
    # Being asked does not make it last.
    now += 0.2
    assert known.find(credentials) is None


def test_the_memory_is_bounded() -> None:
    known = Logins()
    for number in range(3 * logins.CAPACITY):
        known.remember((number,), OWNER)
    assert len(known._known) <= logins.CAPACITY
    assert known.find((3 * logins.CAPACITY - 1,)) == OWNER
