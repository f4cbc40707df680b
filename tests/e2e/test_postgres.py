"""Real servers, several of them, on one registry in PostgreSQL."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hub import JupyterRelayHub
from hub.locations import DatabaseLocation
from kdr_wsgi.usage import read_usage
from tests.conftest import LiveServer, live_server
from tests.databases import PASSWORD, QUOTED_PASSWORD, DatabaseServer, Wire, name_of
from tests.fake_hub import AS_ADA, PREFIX, fake_hub, live_service
from tests.jupyter import wait_until
from tests.kdr_wsgi.commands.conftest import KDR
from tests.raw_http import fetch

DATA = b"tile" * 1000

KINDS = ("kdr_wsgi.serving.WatchfulWorker", "gthread", "granian")


def start(
    stack: ExitStack,
    tmp_path_factory: pytest.TempPathFactory,
    url: str,
    kind: str = KINDS[0],
    workers: int = 2,
    **settings: str,
) -> LiveServer:
    """Start a server as on a machine of its own, which shares nothing but the database."""
    folder = tmp_path_factory.mktemp("machine")
    environment = {"KDR_REGISTRY": url, "JUPYTER_RUNTIME_DIR": str(folder / "runtime"), **settings}
    # As kdr_wsgi.gunicorn_conf has it: a worker that begins while the database is away asks it nothing.
    environment["GUNICORN_CMD_ARGS"] = "--preload"
    return stack.enter_context(live_server(folder, kind, workers=workers, environment=environment))


def within_a_second(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 1
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def publisher(database: DatabaseLocation) -> JupyterRelayHub:
    return JupyterRelayHub(registry=database, base_url="/", key_prefix="")


@pytest.fixture
def tiles(tree: Path) -> Path:
    (tree / "0.png").write_bytes(DATA)
    return tree


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_registered_is_read_everywhere_within_a_second_and_what_is_revoked_nowhere(
    database: DatabaseLocation,
    publisher: JupyterRelayHub,
    tiles: Path,
    tmp_path_factory: pytest.TempPathFactory,
    kind: str,
) -> None:
    with ExitStack() as stack:
        servers = [start(stack, tmp_path_factory, database.url, kind) for _ in range(2)]

        def statuses(target: str) -> set[int]:
            # Often enough that each worker of each server is asked.
            return {fetch(server.address, target).status for server in servers for _ in range(6)}

        assert statuses("/wwtkdr/tiles/0.png") == {404}
        url = publisher.serve_tree(tiles, key="tiles", visibility="public")
        within_a_second(lambda: statuses(url + "0.png") == {200})
        content = publisher.serve_tree(tiles, content=True, visibility="public")
        within_a_second(lambda: statuses(content + "0.png") == {200})
        for published in (url, content):
            published.revoke()
            within_a_second(lambda published=published: statuses(published + "0.png") == {404})  # type: ignore[misc]
    # What was read at either is counted together.
    counted = read_usage(database)
    assert counted[url.key].hits >= 12
    assert counted[content.key].hits >= 12


def test_a_database_that_ends_under_load_costs_what_is_not_known_alone(
    database: DatabaseLocation,
    database_server: DatabaseServer,
    publisher: JupyterRelayHub,
    tiles: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    known = publisher.serve_tree(tiles, key="known", visibility="public") + "0.png"
    unread = publisher.serve_tree(tiles, key="unread", visibility="public") + "0.png"
    seen: dict[str, Counter[int]] = {known: Counter(), "/wwtkdr/nobodys/0.png": Counter()}
    stop = threading.Event()
    with ExitStack() as stack:
        # Each worker knows what it was asked for.
        server = start(stack, tmp_path_factory, database.url, workers=1)
        wait_until(
            lambda: {fetch(server.address, known).status for _ in range(20)} == {200}, "the server does not answer"
        )

        def read_on(target: str) -> None:
            while not stop.is_set():
                seen[target][fetch(server.address, target).status] += 1

        threads = [threading.Thread(target=read_on, args=(target,)) for target in seen for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            database_server.stop()
            try:
                answer = fetch(server.address, unread)
                wait_until(lambda: fetch(server.address, unread).status == 503, "nobody notices")
                answer = fetch(server.address, unread)
                assert answer["Retry-After"] == "5"
                assert PASSWORD.encode() not in answer.body
                assert fetch(server.address, known).status == 200
                wait_until(lambda: seen["/wwtkdr/nobodys/0.png"][503] > 0, "it is found that there is none")
            finally:
                database_server.start()
            wait_until(
                lambda: {fetch(server.address, unread).status for _ in range(20)} == {200}, "it does not recover"
            )
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert seen[known].keys() == {200}
    assert seen["/wwtkdr/nobodys/0.png"].keys() <= {404, 503}


def test_after_the_grace_what_was_known_is_refused_and_a_revoked_key_never_comes_back(
    database: DatabaseLocation,
    database_server: DatabaseServer,
    publisher: JupyterRelayHub,
    tiles: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    revoked = publisher.serve_tree(tiles, key="revoked", visibility="public")
    kept = publisher.serve_tree(tiles, key="kept", visibility="public")
    wire = Wire(database_server.port)
    with ExitStack() as stack:
        stack.callback(wire.close)
        url = database_server.url(name_of(database), port=wire.port)
        server = start(stack, tmp_path_factory, url, workers=1, KDR_REGISTRY_GRACE="6")

        def statuses(target: str) -> set[int]:
            return {fetch(server.address, target + "0.png").status for _ in range(12)}

        wait_until(lambda: statuses(revoked) == statuses(kept) == {200}, "the server does not answer")
        wire.cut()
        revoked.revoke()
        wait_until(lambda: statuses(kept) == {503}, "what nobody vouches for is served")
        assert statuses(revoked) == {503}
        wire.mend()
        wait_until(lambda: statuses(kept) == {200}, "it does not recover")
        assert statuses(revoked) == {404}


def test_the_commands_work_and_tell_no_password(
    database: DatabaseLocation,
    database_server: DatabaseServer,
    tiles: Path,
    tmp_path: Path,
) -> None:
    printed: list[str] = []

    def kdr(*arguments: str, url: str = database.url) -> tuple[int, str]:
        done = subprocess.run(
            [*KDR, *arguments],
            env={**os.environ, "KDR_REGISTRY": url, "COLUMNS": "200"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        printed.append(done.stdout)
        return done.returncode, done.stdout

    def shows(expected: str, *arguments: str, code: int = 0, url: str = database.url) -> None:
        found, told = kdr(*arguments, url=url)
        assert (found, expected in told) == (code, True), told

    shows("/wwtkdr/tiles/", "publish", str(tiles), "--key", "tiles")
    code, content = kdr("publish", str(tiles), "--content")
    assert code == 0
    key = content.strip().rstrip("/").rpartition("/")[2]
    shows("tiles", "list")
    listed = json.loads(kdr("list", "--json")[1])
    assert sorted(each["key"] for each in listed) == sorted(["tiles", key])
    shows("1 file", "verify", key)
    shows(f"registry {database}: sound, schema 1, in PostgreSQL, 2 registrations", "doctor")
    shows("no server runs for this registry", "open", "tiles", code=1)
    shows("0 removed", "gc")
    shows("tiles", "top")
    shows("", "revoke", "tiles")
    shows("is not registered", "revoke", "tiles", code=1)
    shows("a password on a command line is seen by every user", "list", "--registry", database.url, code=2)
    # One that is not there, one that lets nobody in, and one that does not answer.
    shows("does not exist", "list", url=database_server.url("elsewhere"), code=1)
    shows(
        "password authentication failed",
        "doctor",
        url=database_server.url("postgres", password=f"x{QUOTED_PASSWORD}"),
        code=1,
    )
    shows("and run kdr doctor again", "doctor", url=database_server.url("elsewhere"), code=1)
    shows("Connection refused", "publish", str(tiles), url=database_server.url("kdr", port=1), code=1)
    shows(
        "registry='postgresql://...' cannot be used", "serve", url=f"postgresql://kdr:{PASSWORD}#@127.0.0.1/kdr", code=1
    )
    for text in printed:
        assert PASSWORD not in text
        assert QUOTED_PASSWORD not in text


def test_no_process_and_no_log_tells_the_password(
    database: DatabaseLocation,
    database_server: DatabaseServer,
    publisher: JupyterRelayHub,
    tiles: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    url = publisher.serve_tree(tiles, visibility="public")
    secrets = [PASSWORD.encode(), QUOTED_PASSWORD.encode()]
    for server in ("gunicorn", "granian"):
        with subprocess.Popen(
            [*KDR, "serve", "--server", server, "--bind", f"unix:{tmp_path}/{server}.sock", "--as-owner"],
            env={**os.environ, "KDR_REGISTRY": database.url},
            stdout=subprocess.PIPE,
        ) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline().startswith(b"listening on")
                socket = f"{tmp_path}/{server}.sock"
                assert fetch(socket, url + "0.png").body == DATA
                page = fetch(socket, "/wwtkdr/_status", {"Accept": "text/html"})
                assert page.status == 200
                database_server.stop()
                try:
                    wait_until(lambda socket=socket: fetch(socket, "/wwtkdr/x/").status == 503, "it is there")
                    texts = [page.body, fetch(socket, "/wwtkdr/_status").body, fetch(socket, "/wwtkdr/_health").body]
                    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
                    texts += [Path(f"/proc/{each}/cmdline").read_bytes() for each in (process.pid, *children)]
                finally:
                    database_server.start()
            finally:
                process.terminate()
            assert process.wait(30) == 0
            texts.append(process.stdout.read())
        texts.append("".join(capfd.readouterr()).encode())
        for text in texts:
            assert not any(secret in text for secret in secrets)
        assert str(database).encode() in texts[-1]


@pytest.fixture
def hub_environment(tmp_path: Path, database: DatabaseLocation) -> Iterator[dict[str, str]]:
    with fake_hub(tmp_path) as environment:
        yield {**environment, "KDR_REGISTRY": database.url}


def test_two_services_of_a_hub_share_a_registry(
    hub_environment: dict[str, str],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "homes" / "ada" / "tiles"
    folder.mkdir(parents=True)
    (folder / "0.png").write_bytes(DATA)
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "token-of-ada")
    with ExitStack() as stack:
        services = []
        for _ in range(2):
            machine = tmp_path_factory.mktemp("machine")
            environment = {**hub_environment, "JUPYTER_RUNTIME_DIR": str(machine / "runtime")}
            services.append(stack.enter_context(live_service(machine, environment, "-w", "2")))
        one, other = (
            JupyterRelayHub(service=f"http://127.0.0.1:{service.address[1]}{PREFIX}", key_prefix="")
            for service in services
        )
        # Kernels have no connection to the database, nor its address: they ask the service.
        tree, content = one.serve_tree(folder, visibility="users"), one.serve_tree(folder, content=True)
        for url in (tree, content):
            for service in services:
                within_a_second(
                    lambda url=url, service=service: fetch(service.address, url + "0.png", AS_ADA).body == DATA  # type: ignore[misc]
                )
        assert sorted(each.url for each in other.list()) == sorted([tree, content])
        assert other.serve_tree(folder, visibility="users") == tree
        assert other.serve_tree(folder, content=True) == content
        assert other.list()[tree.key].revoke()
        for service in services:
            within_a_second(lambda service=service: fetch(service.address, tree + "0.png", AS_ADA).status == 404)  # type: ignore[misc]
        for service in services:
            assert PASSWORD not in service.log.read_text()
