from __future__ import annotations

import os
import socket
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from kdr_wsgi.errors import HubUnavailable
from kdr_wsgi.jupyterhub import logins as logins_module
from kdr_wsgi.jupyterhub.logins import Logins, Member
from kdr_wsgi.settings import read_settings
from tests.conftest import free_port
from tests.fake_hub import ACCESS, PREFIX
from tests.forking import in_child


def make(environment: dict[str, str], **changed: str) -> tuple[Logins, Counter[str]]:
    """Return logins, and what counts the questions to the hub."""
    os.environ.update({**environment, **changed})
    service = read_settings().service
    assert service is not None
    asked: Counter[str] = Counter()
    return Logins(service, PREFIX, lambda outcome: asked.update([outcome])), asked


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what the tests set."""
    monkeypatch.setattr(os, "environ", os.environ.copy())


def test_the_hub_is_asked_once_for_all_tiles_of_all_threads(environment: dict[str, str]) -> None:
    logins, asked = make(environment)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: logins.find("token-of-ada", "s"), range(200)))
    assert {(member.name, member.may_enter) for member in found if member} == {("ada", True)}
    assert asked == {"known": 1}
    # Another session of the browser is another login.
    logins.find("token-of-ada", "t")
    assert asked == {"known": 2}


def test_a_token_that_is_none_is_asked_for_once_too(environment: dict[str, str]) -> None:
    logins, asked = make(environment)
    assert [logins.find("wrong") for _ in range(5)] == [None] * 5
    assert asked == {"refused": 1}


def test_after_its_time_a_login_is_asked_for_again(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logins, asked = make(environment, KDR_LOGIN_SECONDS="1")
    logins.find("token-of-ada")
    logins.find("token-of-ada")
    assert asked == {"known": 1}
    logins._known.expire(logins._known.timer() + 2)
    logins.find("token-of-ada")
    assert asked == {"known": 2}


def test_a_hub_that_is_not_there_is_not_asked_again_at_once(environment: dict[str, str]) -> None:
    logins, asked = make(environment, JUPYTERHUB_API_URL=f"http://127.0.0.1:{free_port()}/hub/api")
    for _ in range(5):
        with pytest.raises(HubUnavailable):
            logins.find("token-of-ada")
    assert asked == {"unavailable": 1}


def test_a_hub_that_says_nothing_is_waited_for_no_longer_than_that(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logins_module, "PATIENCE_SECONDS", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        logins, _ = make(environment, JUPYTERHUB_API_URL=f"http://127.0.0.1:{silent.getsockname()[1]}/hub/api")
        with pytest.raises(HubUnavailable):
            logins.find("token-of-ada")


def test_it_works_after_a_fork_as_gunicorn_makes_one(environment: dict[str, str]) -> None:
    logins, _ = make(environment)
    assert in_child(lambda: logins.find("token-of-ada")) == 0
    member = logins.find("token-of-ada")
    assert member is not None
    assert logins.scope == ACCESS


def test_an_answer_is_remembered_before_the_question_is_forgotten(environment: dict[str, str]) -> None:
    logins, _ = make(environment)
    known_by_then = []

    class Watched(dict[bytes, "Future[Member | None]"]):
        def __delitem__(self, login: bytes) -> None:
            known_by_then.append(login in logins._known)
            super().__delitem__(login)

    logins._asked = Watched()
    logins.find("token-of-ada")
    # Else another thread would ask again in between.
    assert known_by_then == [True]
