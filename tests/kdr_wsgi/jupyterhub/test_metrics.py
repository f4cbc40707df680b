"""What is counted, in one process and over several workers."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from gunicorn.http.wsgi import FileWrapper
from prometheus_client.parser import text_string_to_metric_families

from hub.version import VERSION
from tests.conftest import make_settled
from tests.fake_hub import AS_ADA, AS_ROOT, UNANSWERED, LiveService, live_service, publish
from tests.jupyter import wait_until

METRICS = "/wwtkdr/_metrics"

Numbers = dict[tuple[str, ...], float]


def parse(text: str) -> Numbers:
    """Return the samples by their names and the values of their labels."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def ask(client: FlaskClient) -> Numbers:
    answer = client.get(METRICS, headers=AS_ROOT)
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain; version=0.0.4")
    return parse(answer.text)


@pytest.fixture
def published(environment: dict[str, str], tmp_path: Path) -> Path:
    """A folder that is registered under the key ``open``."""
    folder = tmp_path / "homes" / "ada" / "data"
    folder.mkdir(parents=True)
    (folder / "small").write_bytes(b"x" * 10)
    (folder / "large").write_bytes(b"x" * 100_000)
    publish(environment, "ada", "open", "/data")
    return folder


def test_requests_are_counted_by_method_and_status(client: FlaskClient) -> None:
    for method in ("GET", "GET", "POST", "BREW", "WHEN"):
        client.open("/wwtkdr/nothing/here", method=method)
    numbers = ask(client)
    requests = {labels[1:]: number for labels, number in numbers.items() if labels[0] == "kdr_requests_total"}
    assert requests == {("GET", "404"): 2, ("POST", "405"): 1, ("other", "405"): 2}
    assert numbers["kdr_head_seconds_count",] == 5


def test_bytes_are_counted_of_bodies_that_are_sent(client: FlaskClient, published: Path) -> None:
    first = client.get(METRICS, headers=AS_ROOT)
    target = "/wwtkdr/open/large"
    for method, headers in (("GET", {"Range": "bytes=0-99"}), ("GET", {}), ("HEAD", {})):
        with client.open(target, method=method, headers=headers) as answer:
            assert answer.data or method == "HEAD"
    assert ask(client)["kdr_body_bytes_total",] == len(first.data) + 100 + 100_000


def test_only_small_files_are_hits_and_misses(client: FlaskClient, published: Path) -> None:
    make_settled(published / "small")
    for name in ("small", "small", "small", "large", "missing"):
        with client.get(f"/wwtkdr/open/{name}") as answer:
            assert answer.data
    numbers = ask(client)
    assert (numbers["kdr_cache_misses_total",], numbers["kdr_cache_hits_total",]) == (1, 2)


def test_the_hub_is_counted_by_what_it_says(client: FlaskClient) -> None:
    for _ in range(3):
        client.get("/wwtkdr/nothing/here", headers={"Authorization": "token nobody"})
    ask(client)
    assert client.get("/wwtkdr/nothing/here", headers={"Authorization": f"token {UNANSWERED}"}).status_code == 503
    numbers = ask(client)
    for outcome in ("known", "refused", "unavailable"):
        assert numbers["kdr_hub_questions_total", outcome] == 1


def test_registrations_are_those_of_users_at_this_moment(client: FlaskClient, environment: dict[str, str]) -> None:
    assert ask(client)["kdr_registrations",] == 0
    for owner, key in (("ada", "a"), ("ada", "b"), ("bob", "c")):
        publish(environment, owner, key, "")
    numbers = ask(client)
    assert (numbers["kdr_registrations",], numbers["kdr_registration_owners",]) == (3, 2)
    assert numbers["kdr_build_info", VERSION] == 1


def test_nobody_is_named(client: FlaskClient, published: Path) -> None:
    client.get("/wwtkdr/open/small", headers=AS_ADA)
    text = client.get(METRICS, headers=AS_ROOT).text
    assert not re.search(r"ada|root|open|small|data|token-of", text)


def test_counts_are_told_while_the_registry_cannot_be_read(client: FlaskClient, environment: dict[str, str]) -> None:
    registry = Path(environment["KDR_REGISTRY"])
    for path in registry.parent.glob("registry.sqlite*"):
        path.unlink()
    registry.write_bytes(b"This is no database, and as long as the head of one would be." * 10)
    numbers = ask(client)
    assert numbers["kdr_hub_questions_total", "known"] == 1
    assert ("kdr_registrations",) not in numbers


def test_the_server_gets_bodies_as_they_are(client: FlaskClient, published: Path) -> None:
    """Gunicorn sends only its own wrapper by sendfile(2)."""
    target = {"REQUEST_METHOD": "GET", "PATH_INFO": "/wwtkdr/open/large"}
    body = client.application.wsgi_app({**target, "wsgi.file_wrapper": FileWrapper}, lambda *_: lambda _: None)
    assert isinstance(body, FileWrapper)
    assert b"".join(body) == b"x" * 100_000
    body.close()


def numbers_of(service: LiveService) -> Numbers:
    answer = service.get("_metrics", AS_ROOT)
    assert answer.status == 200
    return parse(answer.body.decode())


def test_workers_are_added_up_also_those_that_were_killed(environment: dict[str, str], tmp_path: Path) -> None:
    with live_service(tmp_path, environment, "-w", "2") as service:
        (folder,) = service.temporary.iterdir()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        asked = 0

        def ask_all(workers: list[int]) -> None:
            """Send requests until each worker has counted some."""

            def have_counted() -> bool:
                nonlocal asked
                asked += service.get("nothing/here").status == 404
                return all((folder / f"counter_{worker}.db").exists() for worker in workers)

            wait_until(have_counted, "a worker is never asked")

        wait_until(lambda: len(service.workers) == 2, "a worker does not start")
        first = service.workers
        ask_all(first)
        assert numbers_of(service)["kdr_requests_total", "GET", "404"] == asked

        os.kill(first[0], signal.SIGKILL)
        wait_until(lambda: len(service.workers) == 2 and first[0] not in service.workers, "it is not replaced")
        assert numbers_of(service)["kdr_requests_total", "GET", "404"] == asked
        ask_all(service.workers)
        assert numbers_of(service)["kdr_requests_total", "GET", "404"] == asked

        # As a worker leaves it that is killed before it has written its first number.
        (folder / "counter_1.db").touch()
        assert numbers_of(service)["kdr_requests_total", "GET", "404"] == asked
    assert not folder.exists()


def test_a_folder_of_the_administrators_stays(environment: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "metrics"
    folder.mkdir()
    with live_service(tmp_path, {**environment, "PROMETHEUS_MULTIPROC_DIR": str(folder)}, "-w", "1") as service:
        assert numbers_of(service)["kdr_hub_questions_total", "known"] == 1
        assert not [*service.temporary.iterdir()]
    assert [*folder.iterdir()]


def test_a_start_that_fails_leaves_nothing(environment: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gunicorn", "-c", "python:kdr_wsgi.gunicorn_conf", "kdr_wsgi:create_app()"]
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environment = {**os.environ, **environment, "KDR_ROOTS": "", "TMPDIR": str(temporary)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "KDR_ROOTS" in done.stderr
    assert not [*temporary.iterdir()]


def test_without_a_hub_the_configuration_needs_nothing_of_this() -> None:
    program = (
        "import os, sys; sys.modules.update({'prometheus_client': None, 'jupyterhub': None})\n"
        "from kdr_wsgi import gunicorn_conf\n"
        "assert not hasattr(gunicorn_conf, 'accesslog')\n"
        "assert 'PROMETHEUS_MULTIPROC_DIR' not in os.environ\n"
        "from kdr_wsgi import create_app\n"
        "assert create_app().test_client().get('/wwtkdr/_metrics').status_code == 404\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
