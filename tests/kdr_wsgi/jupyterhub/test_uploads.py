"""What kernels upload whose files the service does not see, to a real store, at a real service."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import obstore
import pytest
from blake3 import blake3

import hub.content.uploading
import hub.service
from hub import (
    InvalidOption,
    JupyterRelayHub,
    LimitReached,
    NotSeenThere,
    ServiceRefused,
    ServiceUnreachable,
    UnhashableEntry,
)
from hub.registrar import Claim
from hub.wire import claim_to_json
from kdr_wsgi.cli import main
from kdr_wsgi.errors import StoreFailing
from kdr_wsgi.objects import cleaning
from kdr_wsgi.objects.stores import Stores
from kdr_wsgi.settings import read_stores
from tests.fake_hub import PREFIX, LiveService, fake_hub, live_service
from tests.raw_http import Answer
from tests.stores import write_rules
from tests.swift import Swift, running_swift

LIMIT = 200 << 20

#: Longer than a part, and than what is kept in memory.
LARGE = bytes(range(251)) * 50_000


@pytest.fixture(scope="module")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swift]:
    with running_swift(tmp_path_factory.mktemp("swift")) as swift:
        swift.make_bucket("kept")
        yield swift


@pytest.fixture(scope="module")
def environment(swift: Swift, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What the hub, and its administrator, tell the service."""
    folder = tmp_path_factory.mktemp("service")
    with fake_hub(folder) as environment:
        rules = write_rules(folder / "stores.json", {"prefix": "s3://kept/uploads/", "options": swift.options})
        environment.update(KDR_STORES=str(rules), KDR_UPLOADS="s3://kept/uploads/", KDR_USER_UPLOAD_BYTES=str(LIMIT))
        yield environment


@pytest.fixture(scope="module")
def service(environment: dict[str, str]) -> Iterator[LiveService]:
    with live_service(Path(environment["KDR_STORES"]).parent, environment, "-w", "2") as service:
        yield service


@pytest.fixture
def bucket(swift: Swift) -> Iterator[Any]:
    bucket = swift.bucket("kept")
    yield bucket
    obstore.delete(bucket, [each["path"] for page in obstore.list(bucket) for each in page])


@pytest.fixture
def ada(service: LiveService, bucket: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> JupyterRelayHub:
    hub = hub_of("ada", service, monkeypatch, tmp_path)
    for publication in hub.list():
        publication.revoke()
    return hub


def hub_of(user: str, service: LiveService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> JupyterRelayHub:
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", f"token-of-{user}")
    monkeypatch.setenv("KDR_REGISTRY", str(tmp_path / user / "registry.sqlite"))
    return JupyterRelayHub(service="http://{}:{}{}".format(*service.address, PREFIX))


def get(service: LiveService, url: str, user: str = "ada", **headers: str) -> Answer:
    return service.get(url.removeprefix(f"{PREFIX}wwtkdr/"), {"Authorization": f"token token-of-{user}", **headers})


def keys_of(bucket: Any) -> list[str]:
    return sorted(each["path"] for page in obstore.list(bucket) for each in page)


def ask(
    service: LiveService, method: str, path: str, body: bytes = b"", user: str = "ada", **headers: str
) -> tuple[int, Any]:
    with closing(http.client.HTTPConnection(*service.address, timeout=60)) as connection:
        given = {"Authorization": f"token token-of-{user}", **headers}
        connection.request(method, f"{PREFIX}wwtkdr/_api/{path}", body, given)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def test_a_file_is_served_from_the_store_by_ranges_after_the_kernel_has_lost_it(
    service: LiveService, ada: JupyterRelayHub, bucket: Any, tmp_path: Path
) -> None:
    path = tmp_path / "cube.fits"
    path.write_bytes(LARGE)
    url = ada.serve_file(path, upload=True)
    path.unlink()
    digest = blake3(LARGE).hexdigest()
    assert keys_of(bucket) == [f"uploads/ada/objects/{digest[:2]}/{digest}"]
    whole = get(service, url)
    assert (whole.status, whole.body, whole["ETag"]) == (200, LARGE, f'"{digest}"')
    part = get(service, url, Range="bytes=5000000-5000009")
    assert (part.status, part.body) == (206, LARGE[5_000_000:5_000_010])
    assert get(service, url, **{"If-None-Match": f'"{digest}"'}).status == 304
    obstore.delete(bucket, keys_of(bucket))
    assert get(service, url).status == 410


def test_a_tree_is_served_from_the_store_and_a_second_upload_sends_nothing(
    service: LiveService, ada: JupyterRelayHub, bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep" / "large.bin").write_bytes(LARGE)
    for number in range(5):
        (tree / f"{number}.png").write_bytes(b"%d" % (number // 2))
    (tree / "empty").write_bytes(b"")
    url = ada.serve_tree(tree, upload=True)
    assert len(keys_of(bucket)) == 5, "equal files are kept once"
    sent: list[object] = []
    monkeypatch.setattr(hub.content.uploading, "_send", lambda *arguments: sent.append(arguments))
    assert ada.serve_tree(tree, upload=True) == url
    assert not sent
    shutil.rmtree(tree)
    assert get(service, f"{url}4.png").body == b"2"
    assert get(service, f"{url}empty").body == b""
    part = get(service, f"{url}deep/large.bin", Range="bytes=-3")
    assert (part.status, part.body) == (206, LARGE[-3:])
    assert [each["name"] for each in json.loads(get(service, f"{url}?format=json").body)["entries"]][:2]
    assert get(service, f"{url}none").status == 404


def test_an_interrupted_upload_registers_nothing_and_goes_on_where_it_was(
    service: LiveService, ada: JupyterRelayHub, bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(12):
        (tree / f"{number:02}").write_bytes(b"%d" % number * 1000)
    send, number_sent = hub.content.uploading._send, 0

    def send_some(*arguments: Any) -> None:
        nonlocal number_sent
        number_sent += 1
        if number_sent > 6:
            raise KeyboardInterrupt
        send(*arguments)

    monkeypatch.setattr(hub.content.uploading, "_send", send_some)
    with pytest.raises(KeyboardInterrupt):
        ada.serve_tree(tree, upload=True)
    assert not ada.list()
    there = len(keys_of(bucket))
    assert 0 < there < 12
    sent: list[object] = []

    def count(*arguments: Any) -> None:
        sent.append(arguments)
        send(*arguments)

    monkeypatch.setattr(hub.content.uploading, "_send", count)
    url = ada.serve_tree(tree, upload=True)
    # A worker lists what others have taken some seconds later, and is sent that once more at the most.
    assert 12 - there <= len(sent) <= 12
    assert get(service, f"{url}11").body == b"11" * 1000


def test_a_connection_that_breaks_in_the_middle_leaves_nothing(service: LiveService, bucket: Any) -> None:
    body = b"broken" + LARGE
    digest = blake3(body).hexdigest()
    with closing(http.client.HTTPConnection(*service.address, timeout=60)) as connection:
        connection.putrequest("PUT", f"{PREFIX}wwtkdr/_api/uploads/{digest}")
        connection.putheader("Authorization", "token token-of-ada")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[: len(body) // 2])
    assert ask(service, "POST", "uploads", json.dumps({"hashes": [digest]}).encode())[1]["missing"] == [digest]
    assert keys_of(bucket) == []


@pytest.mark.parametrize("body", [b"wrong", LARGE])
def test_bytes_that_hash_to_something_else_are_refused_and_not_kept(
    service: LiveService, bucket: Any, body: bytes
) -> None:
    status, told = ask(service, "PUT", f"uploads/{blake3(b'right').hexdigest()}", body)
    assert status == 400
    assert f"hash to {blake3(body).hexdigest()}" in told["error"]
    assert keys_of(bucket) == []


def test_what_was_not_uploaded_is_not_registered(service: LiveService, ada: JupyterRelayHub, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"never sent")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub.content.uploading, "upload", lambda *_, **__: None)
        with pytest.raises(ServiceRefused, match="were not uploaded"):
            ada.serve_file(path, upload=True)
    assert not ada.list()


def test_over_the_limit_is_refused(ada: JupyterRelayHub, bucket: Any, tmp_path: Path) -> None:
    path = tmp_path / "x"
    with path.open("wb") as file:
        file.truncate(LIMIT + 1)
    with pytest.raises(LimitReached, match="may take 209,715,200"):
        ada.serve_file(path, upload=True)
    assert keys_of(bucket) == []
    assert not ada.list()


def test_a_busy_service_is_asked_again(
    service: LiveService, ada: JupyterRelayHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of two workers takes four at a time, which these here hold."""
    body = b"busy" * 1000
    (tmp_path / "x").write_bytes(body)
    held = []
    for number in range(24):
        connection = http.client.HTTPConnection(*service.address, timeout=60)
        connection.putrequest("PUT", f"{PREFIX}wwtkdr/_api/uploads/{blake3(b'%d' % number).hexdigest()}")
        connection.putheader("Authorization", "token token-of-ada")
        connection.putheader("Content-Length", "1000000")
        connection.endheaders(b"begin")
        held.append(connection)
    refused: list[ServiceUnreachable] = []
    ask_service = ada.registrar._ask  # type: ignore[attr-defined]

    def ask_and_let_go(method: str, *arguments: Any, **options: Any) -> object:
        try:
            return ask_service(method, *arguments, **options)
        except ServiceUnreachable as error:
            refused.append(error)
            for connection in held:
                connection.close()
            raise

    monkeypatch.setattr(ada.registrar, "_ask", ask_and_let_go)
    url = ada.serve_file(tmp_path / "x", upload=True)
    for connection in held:
        connection.close()
    assert refused
    assert get(service, url).body == body


def test_a_bucket_that_does_not_exist_is_told_of(swift: Swift, tmp_path: Path) -> None:
    rules = write_rules(tmp_path / "stores.json", {"prefix": "s3://absent/uploads/", "options": swift.options})
    digest = blake3(b"1").hexdigest()
    with fake_hub(tmp_path) as environment:
        environment.update(KDR_STORES=str(rules), KDR_UPLOADS="s3://absent/uploads/")
        with live_service(tmp_path, environment) as service:
            for method, path, body in (
                ("GET", "uploads", b""),
                ("POST", "uploads", json.dumps({"hashes": [digest]}).encode()),
                ("PUT", f"uploads/{digest}", b"1"),
            ):
                status, told = ask(service, method, path, body)
                assert (status, "The object store" in told["error"]) == (502, True)
    # It may go while a kernel sends.
    place = read_stores({"KDR_STORES": str(rules)}).find(b"s3://absent/uploads", "ada")
    assert place is not None
    with pytest.raises(StoreFailing):
        Stores().find(place.rule, place.bucket).write("uploads/a", 1, [b"1"])


def test_no_user_reaches_what_another_has_uploaded(
    service: LiveService, ada: JupyterRelayHub, bucket: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"of ada")
    url = ada.serve_file(path, upload=True)
    digest = blake3(b"of ada").hexdigest()
    root = hub_of("root", service, monkeypatch, tmp_path)
    assert get(service, url, "root").status == 404
    missing = ask(service, "POST", "uploads", json.dumps({"hashes": [digest]}).encode(), "root")[1]["missing"]
    assert missing == [digest], "that another has it is told to nobody"
    for address in (f"s3://kept/uploads/ada/objects/{digest[:2]}/{digest}", "s3://kept/uploads/root/x"):
        with pytest.raises(ServiceRefused, match="below these prefixes: none"):
            root.serve_file(address)
    with pytest.raises(ServiceRefused, match="below these prefixes: none"):
        root.serve_tree("s3://kept/uploads/")
    assert get(service, root.serve_file(path, upload=True), "root").body == b"of ada"
    assert len(keys_of(bucket)) == 2


def test_two_kernels_upload_the_same_at_once(
    service: LiveService, ada: JupyterRelayHub, bucket: Any, tmp_path: Path
) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"together" + LARGE)
    together = threading.Barrier(2)

    def publish(_: int) -> str:
        together.wait()
        return ada.serve_file(path, upload=True)

    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(publish, range(2))
    assert first == second
    assert len(keys_of(bucket)) == 1
    assert get(service, first).body == b"together" + LARGE


def test_a_file_that_changes_after_it_was_hashed_is_told(
    ada: JupyterRelayHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"changing" + LARGE)
    find_missing = ada.registrar.find_missing  # type: ignore[attr-defined]

    def truncate(digests: list[bytes], **_: object) -> object:
        os.truncate(path, 100)
        return find_missing(digests)

    monkeypatch.setattr(ada.registrar, "find_missing", truncate)
    with pytest.raises(UnhashableEntry, match="changed while it was sent"):
        ada.serve_file(path, upload=True)
    assert not ada.list()


def test_who_is_refused_since_the_path_is_not_seen_is_told_of_uploads(
    service: LiveService, ada: JupyterRelayHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x").write_bytes(b"x")

    def as_in_the_home_of_ada(claim: Claim) -> dict[str, object]:
        """The kernel sees another machine's home."""
        return {**claim_to_json(claim), "root": f"{service.folder}/homes/ada/x"}

    monkeypatch.setattr(hub.service, "claim_to_json", as_in_the_home_of_ada)
    with pytest.raises(NotSeenThere, match=r"there is no such file .* publish with upload=True \(kdr publish --upload"):
        ada.serve_file(tmp_path / "x")


def test_gc_removes_what_no_registration_needs_and_is_not_new(
    service: LiveService,
    ada: JupyterRelayHub,
    bucket: Any,
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(3):
        (tree / f"{number}.png").write_bytes(b"gc %d" % number)
    (tmp_path / "x").write_bytes(b"gc of a file")
    url, of_file = ada.serve_tree(tree, upload=True), ada.serve_file(tmp_path / "x", upload=True)
    (tree / "2.png").unlink()
    kept = ada.serve_tree(tree, upload=True)
    assert url.revoke()
    for name in ("KDR_STORES", "KDR_UPLOADS"):
        monkeypatch.setenv(name, environment[name])

    def clean_up() -> str:
        assert main(["gc", "--registry", environment["KDR_REGISTRY"]]) == 0
        return capsys.readouterr().out

    assert "uploads: 0 files removed" in clean_up(), "all of it may be about to be registered"
    monkeypatch.setattr(cleaning, "_GRACE_SECONDS", -3600.0)
    assert "uploads: 1 files removed, 4 bytes" in clean_up()
    assert len(keys_of(bucket)) == 3
    assert get(service, f"{kept}1.png").body == b"gc 1"
    assert get(service, of_file).body == b"gc of a file"


def test_doctor_says_whether_uploads_are_taken(
    service: LiveService, ada: JupyterRelayHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KDR_SERVICE_URL", ada.service)
    main(["doctor"])
    assert "ok    uploads: the shared relay server takes them (upload=True)" in capsys.readouterr().out


@pytest.mark.parametrize("options", [{"service": ""}, {"registry": "r.sqlite"}])
def test_without_a_service_there_is_nothing_to_upload_to(tmp_path: Path, options: dict[str, str]) -> None:
    (tmp_path / "x").write_bytes(b"x")
    own = JupyterRelayHub(**{"registry": tmp_path / "r.sqlite", **options})  # type: ignore[arg-type]
    with pytest.raises(InvalidOption, match="only the shared relay server of a JupyterHub takes files"):
        own.serve_file(tmp_path / "x", upload=True)
