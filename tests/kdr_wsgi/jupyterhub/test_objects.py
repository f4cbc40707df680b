"""What users publish of a real object store at a real service, by content keys that the service makes."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import obstore
import pytest

import hub.service
from hub import JupyterRelayHub, LimitReached, ServiceRefused, ServiceUnreachable
from hub.wire import claim_to_json
from tests.fake_hub import PREFIX, LiveService, fake_hub, live_service
from tests.raw_http import Answer
from tests.stores import write_rules
from tests.swift import Swift, running_swift

TILES = "s3://homes/ada/tiles/"


@pytest.fixture(scope="module")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swift]:
    with running_swift(tmp_path_factory.mktemp("swift")) as swift:
        bucket = swift.make_bucket("homes")
        for user in ("ada", "root"):
            for name in ("0.png", "1/0.png"):
                obstore.put(bucket, f"{user}/tiles/{name}", name.encode())
        yield swift


@pytest.fixture(scope="module")
def service(swift: Swift, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    folder = tmp_path_factory.mktemp("service")
    with fake_hub(folder) as environment:
        rules = write_rules(folder / "stores.json", {"prefix": "s3://homes/{username}/", "options": swift.options})
        environment.update(KDR_STORES=str(rules), KDR_USER_MANIFEST_BYTES="20000")
        with live_service(folder, environment, "-w", "2") as service:
            yield service


@pytest.fixture
def ada(service: LiveService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> JupyterRelayHub:
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "token-of-ada")
    monkeypatch.setenv("KDR_REGISTRY", str(tmp_path / "registry.sqlite"))
    ada = JupyterRelayHub(service="http://{}:{}{}".format(*service.address, PREFIX))
    for publication in ada.list():
        publication.revoke()
    return ada


def get(service: LiveService, url: str, user: str = "ada") -> Answer:
    return service.get(url.removeprefix(f"{PREFIX}wwtkdr/"), {"Authorization": f"token token-of-{user}"})


def test_the_service_makes_the_key_and_keeps_the_promise(
    service: LiveService, ada: JupyterRelayHub, swift: Swift
) -> None:
    url = ada.serve_tree(TILES, content=True)
    assert get(service, url + "1/0.png").body == b"1/0.png"
    assert get(service, url + "1/0.png")["Cache-Control"].endswith("immutable")
    assert get(service, url + "1/0.png", "root").status in (403, 404)
    (published,) = ada.list()
    assert published.registration.content
    assert "s3://homes/ada/tiles" in published.url._repr_html_() + published.location
    bucket: Any = swift.bucket("homes")
    file = ada.serve_file(TILES + "0.png", content=True, visibility="users")
    assert file.key != url.key
    obstore.put(bucket, "ada/tiles/0.png", b"other")
    try:
        assert get(service, file, "root").status == 410
        assert ada.serve_tree(TILES, content=True).key != url.key
    finally:
        obstore.put(bucket, "ada/tiles/0.png", b"0.png")
    assert get(service, file, "root").body == b"0.png"


def test_what_is_another_users_or_not_there_is_refused(ada: JupyterRelayHub) -> None:
    with pytest.raises(ServiceRefused, match="lies below these prefixes: s3://homes/ada/"):
        ada.serve_tree("s3://homes/bob/tiles/", content=True)
    for publish, url in ((ada.serve_tree, "s3://homes/ada/gone/"), (ada.serve_file, "s3://homes/ada/gone")):
        with pytest.raises(ServiceRefused, match="nothing is there"):
            publish(url, content=True)
    assert not ada.list()


def test_no_manifest_of_objects_is_taken_from_a_user(service: LiveService) -> None:
    with closing(http.client.HTTPConnection(*service.address, timeout=60)) as connection:
        target = f"{PREFIX}wwtkdr/_api/manifests/{'0' * 64}?root={quote('s3://homes/ada/tiles')}"
        connection.request("PUT", target, b"", {"Authorization": "token token-of-ada"})
        answer = connection.getresponse()
        assert (answer.status, b"hashed here" in answer.read()) == (400, True)


def test_a_manifest_takes_no_more_than_a_user_may_have(ada: JupyterRelayHub, swift: Swift) -> None:
    bucket = swift.bucket("homes")
    for number in range(150):
        obstore.put(bucket, f"ada/many/{number}", b"x")
    with pytest.raises(LimitReached, match="the manifests of your content keys"):
        ada.serve_tree("s3://homes/ada/many/", content=True)
    assert not ada.list()


def test_a_service_that_makes_no_such_keys_is_told_of(ada: JupyterRelayHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def claim_as_before(claim: Any) -> dict[str, Any]:
        return {name: value for name, value in claim_to_json(claim).items() if name != "is_by_content"}

    monkeypatch.setattr(hub.service, "claim_to_json", claim_as_before)
    with pytest.raises(ServiceUnreachable, match="makes no content keys of objects"):
        ada.serve_tree(TILES, content=True)
