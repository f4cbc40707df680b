"""The log of a service under gunicorn."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.fake_hub import AS_ADA, AS_ROOT_IN_A_BROWSER, PREFIX, LiveService, fake_hub, live_service, publish
from tests.raw_http import Connection, fetch


@pytest.fixture
def service(tmp_path: Path) -> Iterator[LiveService]:
    with fake_hub(tmp_path) as environment, live_service(tmp_path, environment, "-w", "1") as service:
        yield service


def lines_of(service: LiveService, count: int) -> list[dict[str, Any]]:
    """Return the lines of the access log, once there are as many."""

    def parse(text: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    return parse(service.wait_for_log(lambda text: len(parse(text)) >= count))


def test_a_request_is_one_object(service: LiveService) -> None:
    answer = service.get("_status", AS_ROOT_IN_A_BROWSER)
    (line,) = lines_of(service, 1)
    assert datetime.fromisoformat(line.pop("time")).utcoffset() == timedelta(0)
    assert 0 <= line.pop("seconds") < 60
    assert line == {
        "method": "GET",
        "path": f"{PREFIX}wwtkdr/_status",
        "status": 200,
        "bytes": len(answer.body),
        "peer": "127.0.0.1",
        "user": "root",
    }


def test_the_size_of_a_body_is_logged_however_it_is_sent(tmp_path: Path) -> None:
    with fake_hub(tmp_path) as environment, live_service(tmp_path, environment, "-w", "1") as service:
        root = tmp_path / "homes/ada/tree"
        root.mkdir(parents=True)
        (root / "large").write_bytes(bytes(1_000_000))
        publish(environment, "ada", "~ada.tree", "/tree")
        for method in ("GET", "HEAD"):
            with Connection(service.address) as connection:
                assert connection.request(method, f"{PREFIX}wwtkdr/~ada.tree/large").status == 200
        assert [line["bytes"] for line in lines_of(service, 2)] == [1_000_000, 0]


def test_nothing_is_logged_that_logs_somebody_in(service: LiveService) -> None:
    headers = {"Referer": "http://localhost/?token=s3cret-referrer", "User-Agent": "s3cret-agent"}
    service.get("nothing/here?token=s3cret-query#s3cret-fragment", headers | AS_ADA)
    service.get("nothing/here", headers | {"Authorization": "token s3cret-header"})
    service.get("_status", headers | {"Cookie": "service-kdr=s3cret-cookie"})
    fetch(service.address, f"{PREFIX}oauth_callback?code=s3cret-code&state=s3cret-state", headers)
    fetch(service.address, f"http://s3cret-user:s3cret-word@localhost{PREFIX}?s3cret-query", headers)
    assert [line["user"] for line in lines_of(service, 5)] == ["ada", None, None, None, None]
    text = service.log.read_text()
    assert "s3cret" not in text
    assert "token-of" not in text


def test_no_name_breaks_a_line(service: LiveService) -> None:
    name = "a%0A%7B%22user%22:%22root%22%7D%0D%00%1B%C3%BC%FF|`^"
    service.get(name)
    assert [line["path"] for line in lines_of(service, 1)] == [f"{PREFIX}wwtkdr/{name}"]


def test_what_gunicorn_itself_refuses_is_logged(service: LiveService) -> None:
    service.get("nothing/here?token=s3cret", {"Content-Length": "nonsense"})
    (line,) = lines_of(service, 1)
    assert (line["path"], line["status"]) == (f"{PREFIX}wwtkdr/nothing/here", 400)
    assert "s3cret" not in service.log.read_text()


@pytest.mark.parametrize("line", ["GET /a?token=s3cret\xff HTTP/1.1", "GET http://[a?token=s3cret HTTP/1.1"])
def test_of_a_request_that_cannot_be_understood_no_query_is_logged_or_sent_back(
    service: LiveService, line: str
) -> None:
    with Connection(service.address) as connection:
        connection.socket.sendall(f"{line}\r\nHost: a\r\n\r\n".encode("latin-1"))
        answer = connection.receive()
    assert answer.status == 400
    assert "s3cret" not in service.wait_for_log(lambda text: "Invalid HTTP request line" in text)
    assert b"s3cret" not in answer.body
