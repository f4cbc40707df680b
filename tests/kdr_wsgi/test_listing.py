"""Listings: the page, the JSON, and what they never say."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import os
import re
import tracemalloc
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urljoin

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from hub import JupyterRelayHub
from kdr_wsgi import create_app, listing, made
from kdr_wsgi.contents import Child
from kdr_wsgi.folders import Children, FolderOnDisk, Page, SortedFolder

MODIFIED = 1_700_000_000
MODIFIED_TEXT = "2023-11-14T22:13:20Z"

NAMES = st.binary(min_size=1, max_size=30).filter(
    lambda name: b"\0" not in name and b"/" not in name and name not in (b".", b"..")
)


class Client(FlaskClient):
    """One that takes all of each answer, as long as nothing else is said."""

    def open(self, *arguments: Any, buffered: bool = True, **options: Any) -> Any:
        return super().open(*arguments, buffered=buffered, **options)


@pytest.fixture
def client(registry_path: Path) -> Iterator[FlaskClient]:
    app = create_app({"KDR_REGISTRY": str(registry_path)})
    app.test_client_class = Client
    with app.test_client() as client:
        yield client
    app.extensions["kdr"].close()


def entries_of(client: FlaskClient, url: str) -> dict[str, dict[str, Any]]:
    answer = client.get(f"{url}?format=json")
    assert answer.status_code == 200
    entries = answer.get_json()["entries"]
    return {entry["name"]: entry for entry in entries}


def names_in(page: str) -> list[str]:
    return [text.removesuffix("/") for text in Parsed(page).texts]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


class Parsed(html.parser.HTMLParser):
    """A page as a browser reads it: the tags, the attributes, and the text of what has the class ``text``."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self._is_in_text = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.append((tag, found))
        self._is_in_text = found.get("class") == "text"
        if self._is_in_text:
            self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._is_in_text = False

    def handle_data(self, data: str) -> None:
        if self._is_in_text:
            self.texts[-1] += data


# --- what is listed --------------------------------------------------------------------------------------------------


def test_page_and_json_have_name_size_time_and_type(client: FlaskClient, hub: JupyterRelayHub, tree: Path) -> None:
    (tree / "m31.fits").write_bytes(b"x" * 1_234_567)
    (tree / "frames").mkdir()
    for path in (tree / "m31.fits", tree / "frames"):
        os.utime(path, (MODIFIED, MODIFIED))
    for content in (False, True):
        (tree / "frames" / "a").touch()
        os.utime(tree / "frames", (MODIFIED, MODIFIED))
        url = hub.serve_tree(tree, visibility="public", content=content)
        assert entries_of(client, url) == {
            "m31.fits": {
                "name": "m31.fits",
                "href": "./m31.fits",
                "type": "image/fits",
                "size": 1_234_567,
                "modified": MODIFIED_TEXT,
                "preview": "fits.html",
            },
            "frames": {
                "name": "frames",
                "href": "./frames/",
                "type": "folder",
                "size": None,
                # A manifest has no folders.
                "modified": None if content else MODIFIED_TEXT,
            },
        }
        page = client.get(url).text
        assert names_in(page) == ["frames", "m31.fits"]
        assert 'title="1,234,567 bytes">1.2 MB</td>' in page
        assert f'<time datetime="{MODIFIED_TEXT}">2023-11-14 <span>22:13:20</span></time>' in page
        assert '<td class="type">image/fits</td>' in page


@given(st.lists(NAMES, max_size=8, unique=True))
def test_any_name_is_shown_as_text_and_its_link_leads_to_it(names: list[bytes]) -> None:
    children = [Child(name, is_folder=index % 3 == 0, size_bytes=index) for index, name in enumerate(names)]
    page = listing._render("key", b"a/<b>&\xff/", b"", Page(children, None, len(names), []))
    empty = Parsed(listing._render("key", b"a/b/", b"", Page([], None, 0, [])))
    parsed = Parsed(page)
    # A browser takes a carriage return for a line's end, and NUL cannot be in a name.
    shown = [name.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n") for name in names]
    assert [text.replace("\r\n", "\n").replace("\r", "\n") for text in parsed.texts] == [
        f"{name}/" if child.is_folder else name for name, child in zip(shown, children, strict=True)
    ]
    links = [attributes["href"] for tag, attributes in parsed.tags if tag == "a" and attributes.get("class") == "text"]
    for link, child in zip(links, children, strict=True):
        path = urljoin("/route/key/a/b/", link).removeprefix("/route/key/a/b/")
        assert unquote_to_bytes(path) == child.name + (b"/" if child.is_folder else b"")
    attributes = {name for _, found in parsed.tags for name in found}
    rows = {
        "aria-hidden",
        "data-picture",
        "loading",
        "decoding",
        "alt",
        "src",
        "title",
        "scope",
        "data-total",
        "data-size",
        "datetime",
    }
    assert attributes <= {name for _, found in empty.tags for name in found} | rows
    assert not any(name.startswith("on") or name == "style" for name in attributes)
    assert [tag for tag, _ in parsed.tags if tag in ("script", "style")] == ["style", "script"]


@given(st.lists(NAMES, max_size=8, unique=True), st.binary(max_size=20))
def test_the_json_of_any_names_is_valid_and_leads_to_them(names: list[bytes], folder: bytes) -> None:
    children = Children(Child(name, is_folder=len(name) % 2 == 0) for name in names)
    body = b"".join(listing._write_json(folder + b"/", children))
    told = json.loads(body)
    assert told["path"] == folder.strip(b"/").decode("utf-8", "replace")
    assert [entry["name"] for entry in told["entries"]] == [name.decode("utf-8", "replace") for name in names]
    assert [unquote_to_bytes(entry["href"].removeprefix("./").rstrip("/")) for entry in told["entries"]] == names
    # The page's script takes it line by line.
    assert body.count(b"\n") == len(names) + 2
    assert body.endswith(b"\n]}\n")


def test_what_is_not_served_has_no_link_and_tells_nothing(
    client: FlaskClient, hub: JupyterRelayHub, tree: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret.fits").write_bytes(b"x" * 777)
    os.mkfifo(tree / "pipe")
    (tree / "outside.fits").symlink_to(tmp_path / "secret.fits")
    (tree / "above").symlink_to("..")
    (tree / "nowhere").symlink_to("missing")
    (tree / "file.fits").write_bytes(b"x" * 5)
    (tree / "inside.fits").symlink_to("file.fits")
    (tree / "sub").mkdir()
    (tree / "folder").symlink_to("sub")
    url = hub.serve_tree(tree, visibility="public")
    entries = entries_of(client, url)
    for name in ("pipe", "outside.fits", "above", "nowhere"):
        assert entries[name] == {"name": name, "href": None, "type": None, "size": None, "modified": None}
        assert client.get(url + name).status_code == 404
    assert (entries["inside.fits"]["size"], entries["folder"]["href"]) == (5, "./folder/")
    page = client.get(url).text
    assert "777" not in page
    assert str(tmp_path) not in page
    assert page.count('<td class="type">not served</td>') == 4
    assert "Preview of outside.fits" not in page
    assert "Preview of inside.fits" in page


def test_links_are_followed_in_folders_that_links_lead_to(
    client: FlaskClient, hub: JupyterRelayHub, tree: Path
) -> None:
    (tree / "a").mkdir()
    (tree / "a" / "file").write_bytes(b"xyz")
    (tree / "a" / "link").symlink_to("file")
    (tree / "b").symlink_to("a")
    url = hub.serve_tree(tree, visibility="public")
    assert entries_of(client, url + "b/")["link"]["size"] == 3


@pytest.mark.parametrize("content", [False, True])
def test_what_is_made_on_request_is_listed_where_it_can_be_made(
    client: FlaskClient, hub: JupyterRelayHub, tree: Path, monkeypatch: pytest.MonkeyPatch, content: bool
) -> None:
    for name in ("a_rel.wtml", "b_rel.wtml", "b.wtml", "c.txt"):
        (tree / name).write_text("<Folder/>")
    url = hub.serve_tree(tree, visibility="public", content=content)
    monkeypatch.setattr(made, "_can_make", lambda: True)
    assert sorted(entries_of(client, url)) == ["a.wtml", "a_rel.wtml", "b.wtml", "b_rel.wtml", "c.txt"]
    assert names_in(client.get(url).text).count("b.wtml") == 1
    assert entries_of(client, url)["a.wtml"]["size"] is None
    monkeypatch.setattr(made, "_can_make", lambda: False)
    assert "a.wtml" not in entries_of(client, url)
    assert "a.wtml" not in names_in(client.get(url).text)


def test_a_row_and_a_folder_have_a_link_to_their_preview(client: FlaskClient, hub: JupyterRelayHub, tree: Path) -> None:
    folder = tree / "50% #1"
    folder.mkdir()
    (folder / "a?.fits").touch()
    (folder / "x.zarr").mkdir()
    url = hub.serve_tree(tree, "a key", visibility="public")
    page = client.get(url + "50%25%20%231/").text
    before = "../../_static/preview/"
    query = "url=../../a%2520key/50%2525%2520%25231/"
    assert f'href="{before}fits.html?{query}a%253F.fits" aria-label="Preview of a?.fits"' in page
    assert f'href="{before}zarr.html?{query}x.zarr/" aria-label="Preview of x.zarr"' in page
    assert "Preview of the folder" not in page
    (folder / "index_rel.wtml").touch()
    page = client.get(url + "50%25%20%231/").text
    assert f'href="{before}pyramid.html?{query}" aria-label="Preview of the folder 50% #1"' in page


def test_a_folder_of_levels_has_a_preview_as_long_as_nothing_else_is_there(
    client: FlaskClient, hub: JupyterRelayHub, tree: Path
) -> None:
    for level in range(3):
        (tree / str(level)).mkdir()
        (tree / str(level) / "tile").touch()
    for content in (False, True):
        url = hub.serve_tree(tree, visibility="public", content=content)
        assert "pyramid.html" in client.get(url).text
    (tree / "notes.txt").touch()
    assert "pyramid.html" not in client.get(hub.serve_tree(tree, visibility="public")).text


def test_breadcrumbs_begin_with_the_key_and_never_name_the_machines_folders(
    client: FlaskClient, hub: JupyterRelayHub, tree: Path
) -> None:
    (tree / "a" / "b").mkdir(parents=True)
    for key, shown in (("my tiles", "my tiles"), (None, None)):
        url = hub.serve_tree(tree, key, visibility="public")
        page = client.get(url + "a/b/").text
        crumbs = re.findall(r'<li><a href="([^"]*)">([^<]*)</a>', page)
        assert crumbs == [("../../", shown or url.key[:8]), ("../", "a")]
        assert "<h1>b</h1>" in page
        assert str(tree) not in page
    # A slash too many is a folder without a name on the way.
    assert re.findall(r'<li><a href="([^"]*)">', client.get(url + "a//b/").text) == ["../../../", "../../"]


# --- how it is answered ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "accept", "content_type"),
    [
        ("", None, "text/html; charset=utf-8"),
        ("", "*/*", "text/html; charset=utf-8"),
        ("", "application/json", "application/json"),
        ("", "text/html;q=0.5, application/json", "application/json"),
        ("?format=html", "application/json", "text/html; charset=utf-8"),
        ("?format=json", "text/html", "application/json"),
        ("?a=b&format=json", None, "application/json"),
        ("?format=xml", None, "text/html; charset=utf-8"),
    ],
)
def test_the_client_chooses_between_page_and_json(
    client: FlaskClient, hub: JupyterRelayHub, tree: Path, query: str, accept: str | None, content_type: str
) -> None:
    url = hub.serve_tree(tree, visibility="public")
    headers = {} if accept is None else {"Accept": accept}
    for answer in (client.get(url + query, headers=headers), client.head(url + query, headers=headers)):
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, content_type)
        assert answer.headers["Vary"] == "Accept"
        assert answer.headers["Cache-Control"] == "private, no-cache"
        assert "Accept-Ranges" not in answer.headers
        assert ("Content-Security-Policy" in answer.headers) == ("html" in content_type)
    assert client.head(url + query, headers=headers).data == b""


def test_head_walks_through_no_folder(
    client: FlaskClient, hub: JupyterRelayHub, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = hub.serve_tree(tree, visibility="public")
    monkeypatch.setattr("os.scandir", None)
    assert client.head(url).status_code == 200
    assert client.head(url + "?format=json").status_code == 200
    assert client.head(url + "none/").status_code == 404


def test_only_the_pages_own_script_and_style_may_run(client: FlaskClient, hub: JupyterRelayHub, tree: Path) -> None:
    answer = client.get(hub.serve_tree(tree, visibility="public"))
    policy = answer.headers["Content-Security-Policy"]
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        ((text),) = re.findall(f"<{tag}[^>]*>(.*?)</{tag}>", answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy


@pytest.mark.parametrize("content", [False, True])
def test_pages_lead_to_each_name_once_in_order(
    client: FlaskClient, hub: JupyterRelayHub, tree: Path, monkeypatch: pytest.MonkeyPatch, content: bool
) -> None:
    names = [b"a", b"a b", b"a+b", b"a-b", b"a.b", b"b\xff", b"b\xfe", b"c&after=z", "é".encode(), b"%41"]
    for name in names:
        (tree / os.fsdecode(name)).touch()
    for folder in ("a0", "b", "z"):
        (tree / folder).mkdir()
        (tree / folder / "file").touch()
        names.append(folder.encode())
    monkeypatch.setattr(listing, "PAGE_ROWS", 3)
    url = hub.serve_tree(tree, visibility="public", content=content)
    seen: list[bytes] = []
    link = "./"
    for _ in range(len(names)):
        page = client.get(url + link[2:]).text
        links = [found["href"] for tag, found in Parsed(page).tags if tag == "a" and found.get("class") == "text"]
        seen += [unquote_to_bytes(found.removeprefix("./").rstrip("/")) for found in links]
        (following,) = re.findall(r'href="([^"]*)" rel="next"', page) or [""]
        assert ("First page" in page) == (link != "./")
        if not following:
            break
        link = following
    assert sorted(seen) == sorted(names)
    if not content:  # A manifest's order is that of whole entries: that of a folder has a slash at its end.
        assert seen == sorted(names)


@given(st.lists(NAMES, min_size=1, max_size=12, unique=True), st.integers(1, 5))
def test_a_cursor_comes_behind_what_it_names(names: list[bytes], limit: int) -> None:
    ordered = sorted(names)

    def behind(after: bytes) -> Iterator[Child]:
        return (Child(name, is_folder=False) for name in ordered if name > after)

    folder = SortedFolder(behind, lambda name: name in names)
    seen: list[bytes] = []
    after: bytes | None = b""
    while after is not None:
        page = folder.find_page(after, limit)
        seen += [child.name for child in page.children if child.name in names]
        after = page.next
    assert seen == ordered


def test_a_cursor_that_is_nonsense_leads_nowhere_else(client: FlaskClient, hub: JupyterRelayHub, tree: Path) -> None:
    (tree / "sub").mkdir()
    (tree / "sub" / "a").touch()
    (tree / "z").touch()
    for content in (False, True):
        url = hub.serve_tree(tree, visibility="public", content=content)
        for after in ("..%2F", "%2F", "%00", "zzz", "~" * 3000, "%zz"):
            answer = client.get(f"{url}sub/?after={after}")
            assert answer.status_code == 200
            assert "z" not in names_in(answer.text)


# --- what it costs, and what goes wrong ------------------------------------------------------------------------------


def test_json_takes_no_memory_for_what_has_been_sent() -> None:
    children = Children(Child(b"tile_%d.png" % number, is_folder=False, size_bytes=1) for number in range(30_000))
    stream = listing._write_json(b"", children)
    tracemalloc.start()
    try:
        size_bytes = sum(map(len, stream))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size_bytes > 3_000_000
    assert peak_bytes < 500_000


def test_the_page_keeps_no_more_names_than_it_shows(tree: Path) -> None:
    for number in range(20_000):
        (tree / f"{number:0100}").touch()
    tracemalloc.start()
    try:
        page = FolderOnDisk(os.fsencode(tree), b"").find_page(b"", 10)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (len(page.children), page.total) == (10, 20_000)
    assert peak_bytes < 200_000


def test_a_folders_descriptors_are_closed_whatever_happens(
    client: FlaskClient, hub: JupyterRelayHub, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1000):
        (tree / f"{number}").touch()
    url = hub.serve_tree(tree, visibility="public")
    client.get(url)
    before = descriptors()
    client.get(url).close()
    client.head(url).close()
    client.get(url + "?format=json").close()
    half = client.get(url + "?format=json", buffered=False)
    assert next(half.iter_encoded()).startswith(b'{"path": ""')
    assert descriptors() > before
    half.close()
    assert descriptors() == before

    stat, asked = os.stat, iter(range(10_000))

    def fail(path: Any, **options: Any) -> os.stat_result:
        if options.get("dir_fd") is not None and next(asked) > 600:
            raise OSError(5, "the disk is broken")
        return stat(path, **options)

    monkeypatch.setattr("os.stat", fail)
    answer = client.get(url + "?format=json", buffered=False)
    pieces: list[bytes] = []
    with pytest.raises(OSError, match="broken"):
        pieces.extend(answer.iter_encoded())
    answer.close()
    received = b"".join(pieces)
    assert received.count(b'"name"') > 100
    assert not received.endswith(b"]}\n")
    # Where the first entry cannot be read, nothing begins.
    assert client.get(url + "?format=json").status_code == 503
    assert client.get(url).status_code == 503
    assert descriptors() == before


def test_a_folder_that_changes_while_it_is_listed_is_valid_json(
    client: FlaskClient, hub: JupyterRelayHub, tree: Path
) -> None:
    for number in range(2000):
        (tree / f"{number}").touch()
    url = hub.serve_tree(tree, visibility="public")
    answer = client.get(url + "?format=json", buffered=False)
    received = b""
    for chunk in answer.iter_encoded():
        received += chunk
        for path in [*tree.glob("[0-9]*")][:300]:
            path.unlink()
        (tree / f"new-{len(received)}").mkdir()
    answer.close()
    names = [entry["name"] for entry in json.loads(received)["entries"]]
    assert 256 <= len({*names}) == len(names)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9949, "9.9 kB"),
        (9950, "10 kB"),
        (999_499, "999 kB"),
        (999_501, "1.0 MB"),
        (41_234_567_890, "41 GB"),
        (2**63, "9.2 EB"),
        (10**22, "10000 EB"),
    ],
)
def test_sizes_are_for_people(size_bytes: int, text: str) -> None:
    assert listing._format_size(size_bytes) == text


def test_years_that_no_calendar_has_are_left_out() -> None:
    assert listing._format_time(2**63 - 1) == datetime.fromtimestamp(9223372036, timezone.utc).strftime(
        "%Y-%m-%dT%H:%M:%SZ"
    )
    assert listing._format_time(10**30) == ""
    child = Child(b"a", is_folder=False, modified_ns=10**30)
    assert '"modified": null' in listing._describe(child)
