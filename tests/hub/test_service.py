"""What a kernel makes of what answers at ``KDR_SERVICE_URL``; the service itself is tested in a real hub."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hub import InvalidOption, JupyterRelayHub, LimitReached, ServiceRefused, ServiceUnreachable
from hub.registration import Registration
from hub.wire import registration_to_json
from tests.forking import in_child

TOLD = registration_to_json(Registration("k", "tree", b"/data"))


@contextmanager
def answering(status: int, body: bytes) -> Iterator[tuple[str, list[str]]]:
    """Run a server that gives one and the same answer; yield its URL, and what it is asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(f"{self.command} {self.path} {self.headers['Authorization']}")
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.headers["Content-Length"] = "0"
            self.do_POST()

        def log_message(self, *_: object) -> None:
            """Be silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/services/kdr", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "a-token")


def test_one_request_registers_and_names_the_url(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(201, b'{"key": "ada~k", "url": "/services/kdr/wwtkdr/ada~k/"}') as (url, asked):
        monkeypatch.setenv("KDR_SERVICE_URL", url)
        published = JupyterRelayHub().serve_tree(tree)
    assert (published, published.key) == ("/services/kdr/wwtkdr/ada~k/", "ada~k")
    assert asked == ["POST /services/kdr/wwtkdr/_api/registrations token a-token"]


def test_a_registry_that_is_named_and_an_empty_service_mean_the_users_own(
    tree: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KDR_SERVICE_URL", "http://127.0.0.1:1/services/kdr/")
    monkeypatch.setenv("KDR_REGISTRY", str(tmp_path / "own.sqlite"))
    for made in (JupyterRelayHub(service=""), JupyterRelayHub(registry=tmp_path / "named.sqlite")):
        assert made.serve_tree(tree).startswith("/wwtkdr/")
        made.registry.close()


@pytest.mark.parametrize(
    ("status", "body", "error", "sentence"),
    [
        (400, b'{"error": "no"}', ServiceRefused, "^no$"),
        (403, b'{"error": "not allowed"}', ServiceRefused, "^not allowed$"),
        (429, b'{"error": "enough"}', LimitReached, "^enough$"),
        (503, b'{"error": "later"}', ServiceUnreachable, "later"),
        (404, b"<html>", ServiceUnreachable, "something else answers there .status 404.; tell"),
        (404, b"{}", ServiceUnreachable, "something else answers there .status 404.; tell"),
        (302, b"", ServiceUnreachable, "something else answers there .status 302."),
        (200, b"[]", ServiceUnreachable, "something else answers there .status 200."),
        (200, b"\xff", ServiceUnreachable, "something else answers there .status 200."),
        (200, b"[" * 100_000, ServiceUnreachable, "something else answers there .status 200."),
        (201, b"{}", ServiceUnreachable, "its version does not fit"),
        (201, b'{"key": "k", "url": null}', ServiceUnreachable, "its version does not fit"),
    ],
)
def test_what_it_answers_is_told_in_a_sentence(
    tree: Path, status: int, body: bytes, error: type[Exception], sentence: str
) -> None:
    with answering(status, body) as (url, _), pytest.raises(error, match=sentence):
        JupyterRelayHub(service=url).serve_tree(tree)


@pytest.mark.parametrize("registration", [{"key": "k"}, {**TOLD, "headers": []}, {**TOLD, "root": 1}, TOLD, None])
def test_an_answer_of_another_version_is_told_of(registration: object) -> None:
    with (
        answering(200, json.dumps({"registrations": [registration]}).encode()) as (url, _),
        pytest.raises(ServiceUnreachable, match="its version does not fit"),
    ):
        JupyterRelayHub(service=url).registrar.registrations()


def test_a_card_and_a_table_are_of_what_the_service_has(tree: Path) -> None:
    (tree / "a").write_bytes(bytes(7))
    url = "/services/kdr/wwtkdr/ada~k/"
    listed = {**registration_to_json(Registration("ada~k", "tree", bytes(tree))), "visibility": ["group:astro"]}
    answer = {"key": "ada~k", "url": url, "registrations": [{**listed, "url": url}]}
    with answering(200, json.dumps(answer).encode()) as (service, _):
        made = JupyterRelayHub(service=service)
        card = made.serve_tree(tree)._repr_html_()
        table = made.list()
        assert "1 file, 7 bytes" in card
        for shown in (card, table._repr_html_(), repr(table)):
            assert "you, group astro" in shown
            assert url in shown
        assert table[0].visibility == ["group:astro"]
        assert table["ada~k"].path == tree


def test_the_services_own_static_files_have_a_card(tree: Path) -> None:
    answer = {"key": "pywwt_static1", "url": "/services/kdr/wwtkdr/pywwt_static1/", "registrations": []}
    with answering(200, json.dumps(answer).encode()) as (service, _):
        card = JupyterRelayHub(service=service).get_static_files_url()._repr_html_()
    assert "everyone" in card
    assert "Nothing is published" not in card


def test_a_service_that_does_not_answer_leaves_a_link(tree: Path) -> None:
    with answering(200, b'{"key": "ada~k", "url": "/services/kdr/wwtkdr/ada~k/"}') as (service, _):
        url = JupyterRelayHub(service=service).serve_tree(tree)
    card = url._repr_html_()
    assert f'<a href="{url}"' in card
    assert "cannot be told: the shared relay server" in card


@pytest.mark.parametrize(
    "url", ["kdr", "ftp://a/", "http://", "http://a:x/", "http://[a/", "http://a/?b", "http://a:0/"]
)
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InvalidOption, match="write http://HOST:PORT/services/NAME/"):
        JupyterRelayHub(service=url)


@pytest.mark.parametrize("token", ["", "a\nb", "é"])
def test_without_a_token_nothing_is_sent(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", token)
    with pytest.raises(InvalidOption, match="JUPYTERHUB_API_TOKEN"):
        JupyterRelayHub(service="http://a/services/kdr/")


def test_a_list_of_users_needs_the_service(hub: JupyterRelayHub, tree: Path) -> None:
    with pytest.raises(InvalidOption, match="users and groups are known to the shared relay server"):
        hub.serve_tree(tree, visibility=["user:bob"])
    with pytest.raises(InvalidOption, match=r"write a list: \['group:astro'\]"):
        hub.serve_tree(tree, visibility="group:astro")
    for wrong in ([], ["bob"], ["group:"], "nobody", 3):
        with pytest.raises(InvalidOption, match="visibility"):
            hub.serve_tree(tree, visibility=wrong)  # type: ignore[arg-type]


def test_it_works_in_a_forked_child(tree: Path) -> None:
    with answering(201, b'{"key": "ada~k", "url": "/u/"}') as (url, asked):
        made = JupyterRelayHub(service=url)
        made.serve_tree(tree)
        assert in_child(lambda: made.serve_tree(tree)) == 0
        assert len(asked) == 2
