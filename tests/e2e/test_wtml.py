"""WTML with absolute URLs, from real servers, as the browser's side of the proxies wants it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from wwt_data_formats.folder import Folder
from wwt_data_formats.imageset import ImageSet

from hub import JupyterRelayHub
from kdr_wsgi import create_app
from tests.conftest import LiveServer, make_settled
from tests.raw_http import Answer, fetch


def write_wtml(path: Path, url: str = "{1}/{3}/{3}_{2}.png") -> None:
    folder = Folder(name="set")
    folder.children.append(ImageSet(name="set", url=url))
    path.write_text(folder.to_xml_string(), encoding="utf-8")
    make_settled(path)


def url_in(answer: Answer) -> str:
    assert answer.status == 200
    assert answer["Content-Type"] == "application/x-wtml"
    (imageset,) = ElementTree.fromstring(answer.body).iter("ImageSet")
    return imageset.attrib["Url"]


@pytest.fixture
def url(server: LiveServer, tree: Path) -> str:
    write_wtml(tree / "index_rel.wtml")
    return server.hub.serve_tree(tree, visibility="public") + "index.wtml"


def test_it_is_made_for_whom_the_host_was_named(server: LiveServer, url: str) -> None:
    for host in ("hub.example", "[::1]:8888"):
        answer = fetch(server.address, url, {"Host": host})
        assert url_in(answer) == f"http://{host}{url.removesuffix('index.wtml')}{{1}}/{{3}}/{{3}}_{{2}}.png"
        assert answer["Access-Control-Allow-Origin"] == "*"
        assert answer["Cache-Control"] == "private, no-cache"


def test_a_detour_in_the_path_is_not_in_the_urls(server: LiveServer, tree: Path) -> None:
    (tree / "a b").mkdir()
    write_wtml(tree / "a b" / "index_rel.wtml")
    root = server.hub.serve_tree(tree, visibility="public")
    answer = fetch(server.address, f"{root}.//%61%20b/./index.wtml?x=1")
    assert url_in(answer) == f"http://localhost{root}a%20b/{{1}}/{{3}}/{{3}}_{{2}}.png"


def test_what_is_there_itself_is_served_as_it_is(server: LiveServer, url: str, tree: Path) -> None:
    (tree / "index.wtml").write_text("mine")
    assert fetch(server.address, url).body == b"mine"
    (tree / "index.wtml").unlink()
    assert url_in(fetch(server.address, url)).startswith("http://localhost/")


@pytest.mark.parametrize("entry", ["other.wtml", "index_rel_rel.wtml", "index.WTML", "index.wtml/", "../index.wtml"])
def test_what_cannot_be_made_is_missing(server: LiveServer, url: str, entry: str) -> None:
    answer = fetch(server.address, url.removesuffix("index.wtml") + entry)
    assert answer.status == 404


def test_a_directory_is_no_source(server: LiveServer, tree: Path) -> None:
    (tree / "a_rel.wtml").mkdir()
    assert fetch(server.address, server.hub.serve_tree(tree, visibility="public") + "a.wtml").status == 404


def test_of_a_single_file_nothing_is_made(server: LiveServer, tree: Path) -> None:
    write_wtml(tree / "index_rel.wtml")
    url = server.hub.serve_file(tree / "index_rel.wtml", visibility="public")
    assert fetch(server.address, url).body == (tree / "index_rel.wtml").read_bytes()
    assert fetch(server.address, url.replace("_rel", "")).status == 404


def test_a_link_out_of_the_tree_is_not_made_into_anything(server: LiveServer, tree: Path, tmp_path: Path) -> None:
    write_wtml(tmp_path / "outside.wtml")
    (tree / "index_rel.wtml").symlink_to(tmp_path / "outside.wtml")
    url = server.hub.serve_tree(tree, visibility="public") + "index.wtml"
    assert fetch(server.address, url).status == 404


def test_head_ranges_and_validators_are_those_of_a_file(server: LiveServer, url: str) -> None:
    whole = fetch(server.address, url)
    head = fetch(server.address, url, method="HEAD")
    assert [pair for pair in head.headers if pair[0] != "Date"] == [pair for pair in whole.headers if pair[0] != "Date"]
    assert int(head["Content-Length"]) == len(whole.body)
    assert fetch(server.address, url, {"Range": "bytes=2-5"}).body == whole.body[2:6]
    for headers in ({"If-None-Match": whole["ETag"]}, {"If-Modified-Since": whole["Last-Modified"]}):
        answer = fetch(server.address, url, headers)
        assert (answer.status, answer.body, answer["ETag"]) == (304, b"", whole["ETag"])


def test_the_tag_speaks_of_the_source_and_of_the_base(server: LiveServer, url: str, tree: Path) -> None:
    def tag(host: str = "a.example") -> str:
        return fetch(server.address, url, {"Host": host})["ETag"]

    first = tag()
    assert tag() == first
    assert tag("b.example") != first
    assert fetch(server.address, url, {"Host": "b.example", "If-None-Match": first}).status == 200
    write_wtml(tree / "index_rel.wtml")
    assert tag() != first, "the source was written anew"
    write_wtml(tree / "index_rel.wtml", url="other/{1}.png")
    answer = fetch(server.address, url, {"If-None-Match": first})
    assert url_in(answer).endswith("other/{1}.png")


def test_the_source_cannot_be_told_from_what_is_made_by_its_tag(server: LiveServer, url: str) -> None:
    source = fetch(server.address, url.replace("index", "index_rel"))
    assert fetch(server.address, url, {"If-None-Match": source["ETag"]}).status == 200


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('<!DOCTYPE F [<!ENTITY a "b">]><Folder Name="&a;"/>', "document type declaration"),
        ("<Folder>", "no well-formed XML"),
        ("<Folder>" + " " * 5_000_000 + "</Folder>", "larger than 4,194,304 bytes"),
    ],
)
def test_a_source_that_cannot_be_used_is_explained(server: LiveServer, tree: Path, text: str, sentence: str) -> None:
    (tree / "index_rel.wtml").write_text(text)
    answer = fetch(server.address, server.hub.serve_tree(tree, visibility="public") + "index.wtml")
    assert answer.status == 422
    assert sentence in answer.body.decode()
    assert answer["Access-Control-Allow-Origin"] == "*"


def test_a_source_of_more_than_64_kib_is_read_whole(server: LiveServer, tree: Path) -> None:
    (tree / "index_rel.wtml").write_text(f'<Folder Url="a.wtml">{" " * 100_000}</Folder>')
    answer = fetch(server.address, server.hub.serve_tree(tree, visibility="public") + "index.wtml")
    assert ElementTree.fromstring(answer.body).attrib["Url"].startswith("http://localhost/")


@pytest.mark.parametrize("host", ["a/b", "user@host", "a b"])
def test_a_host_that_is_none_is_refused(server: LiveServer, url: str, host: str) -> None:
    assert fetch(server.address, url, {"Host": host}).status == 400


def test_the_urls_are_spelled_as_the_hub_spells_them(start_server: Callable[..., LiveServer], tree: Path) -> None:
    write_wtml(tree / "index_rel.wtml")
    server = start_server(environment={"KDR_BASE_URL": "/user/a@b c/"})
    hub = JupyterRelayHub(registry=server.hub.registry.location, base_url="/user/a@b c/")
    url = hub.serve_tree(tree, "a (key) of/mine~", visibility="public")
    assert url == "/user/a@b%20c/wwtkdr/pywwt_a%20%28key%29%20of%2Fmine~/"
    assert url_in(fetch(server.address, url + "index.wtml")) == f"http://localhost{url}{{1}}/{{3}}/{{3}}_{{2}}.png"
    hub.registry.close()


FORWARDED = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "hub.example", "X-Forwarded-Prefix": "/outer"}


@pytest.mark.parametrize(
    ("proxies", "base"), [("", "http://localhost"), ("127.0.0.1,unix", "https://hub.example/outer")]
)
def test_proxies_are_believed_if_they_were_named(
    start_server: Callable[..., LiveServer], tree: Path, proxies: str, base: str
) -> None:
    write_wtml(tree / "index_rel.wtml")
    server = start_server(environment={"KDR_TRUSTED_PROXIES": proxies})
    url = server.hub.serve_tree(tree, visibility="public")
    answer = fetch(server.address, url + "index.wtml", FORWARDED)
    assert url_in(answer) == f"{base}{url}{{1}}/{{3}}/{{3}}_{{2}}.png"


def test_what_it_takes_is_an_extra(
    registry_path: Path, hub: JupyterRelayHub, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wtml(tree / "index_rel.wtml")
    url = hub.serve_tree(tree, visibility="public")
    monkeypatch.delitem(sys.modules, "kdr_wsgi.wtml", raising=False)
    monkeypatch.setitem(sys.modules, "wwt_data_formats.folder", None)
    app = create_app({"KDR_REGISTRY": str(registry_path)})
    client = app.test_client()
    answer = client.get(url + "index.wtml")
    assert answer.status_code == 501
    assert "pip install 'kdr-wsgi[wwt]'" in answer.text
    assert client.get(url + "index_rel.wtml").status_code == 200
    assert client.get(url + "other.wtml").status_code == 404
    app.extensions["kdr"].close()


def test_only_who_may_read_the_tree_reads_what_is_made_of_it(server: LiveServer, tree: Path) -> None:
    write_wtml(tree / "index_rel.wtml")
    assert fetch(server.address, server.hub.serve_tree(tree) + "index.wtml").status == 404
