from __future__ import annotations

import pytest

from kdr_wsgi.errors import StoreBusy, StoreFailing, StoreRefusing, StoreTooSlow, StoreUnreachable
from kdr_wsgi.objects.failures import explain
from kdr_wsgi.objects.turns import Turns

ECHO = (
    "Error performing GET https://s3.example.org/b/k?sig=SECRET in 1ms - Server returned non-2xx status code: {}: "
    "<Error><Code>SlowDown</Code><AWSAccessKeyId>SECRET</AWSAccessKeyId><StringToSign>SECRET</StringToSign></Error>"
)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (ECHO.format("403 Forbidden"), StoreRefusing),
        (ECHO.format("401 Unauthorized"), StoreRefusing),
        (ECHO.format("429 Too Many Requests"), StoreBusy),
        (ECHO.format("503 Service Unavailable"), StoreBusy),
        (ECHO.format("504 Gateway Timeout"), StoreTooSlow),
        (ECHO.format("500 Internal Server Error"), StoreUnreachable),
        (ECHO.format("400 Bad Request"), StoreUnreachable),
        ("SECRET HttpError { kind: Timeout, source: SECRET }", StoreTooSlow),
        ("SECRET HttpError { kind: Connect, source: SECRET }", StoreUnreachable),
        ("SECRET", StoreUnreachable),
    ],
)
def test_what_a_store_says_is_told_without_what_it_echoes(text: str, kind: type[StoreFailing]) -> None:
    error = explain(ValueError(text), "s3://b: get of 'k'")
    assert type(error) is kind
    assert "SECRET" not in error.reason + str(error)
    assert error.reason.startswith("s3://b: get of 'k': ")
    assert error.headers[0][0] == "Retry-After"


def test_a_store_that_keeps_all_waiting_is_asked_by_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdr_wsgi.objects.turns.SLOW_SECONDS", 0.0)
    turns = Turns(1, "s3://b")
    with turns.taken(), pytest.raises(StoreBusy) as raised, turns.taken():
        pass
    assert "as many as may" in raised.value.reason
    with turns.taken():  # It has been given back.
        pass
