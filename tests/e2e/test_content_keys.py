"""What a content key's URL yields, over real sockets, while everything happens to the files behind it."""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3
from playwright.sync_api import Browser

from hub.content.cleaning import clean_up
from hub.content.manifests import ManifestStore
from hub.content.snapshots import SnapshotFolder
from kdr_wsgi.store import SMALL_FILE_BYTES
from tests.conftest import LiveServer, make_settled, need
from tests.raw_http import Answer, Connection, fetch

IMMUTABLE = "private, max-age=31536000, immutable"
REVALIDATE = "private, no-cache"

SMALL = 500
LARGE = SMALL_FILE_BYTES * 5


@pytest.fixture(params=[SMALL, LARGE], ids=["small", "large"])
def body(request: pytest.FixtureRequest) -> bytes:
    """What no other test has; small, so that the bytes themselves are hashed, and large, where the signature counts."""
    return os.urandom(request.param)


@pytest.fixture(autouse=True)
def _no_equal_data_of_other_tests(request: pytest.FixtureRequest) -> None:
    """Equal data is served from wherever it still is."""
    if "server" in request.fixturenames:
        registry = request.getfixturevalue("server").hub.registry
        for registration in registry.registrations():
            registry.revoke(registration.key)


def gone(answer: Answer) -> bool:
    """Whether the answer is the 410, which nobody may keep."""
    if answer.status != 410:
        return False
    assert answer["Cache-Control"] == REVALIDATE
    assert b"publish it again, with serve_file or serve_tree and content=True" in answer.body
    assert "ETag" not in answer
    return True


def test_a_file_is_named_by_its_hash_for_ever(server: LiveServer, tree: Path, body: bytes) -> None:
    (tree / "cube.fits").write_bytes(body)
    url = server.hub.serve_file(tree / "cube.fits", content=True, visibility="public")
    digest = blake3(body).hexdigest()
    assert (url, url.key) == (f"/wwtkdr/{digest}/cube.fits", digest)
    answer = fetch(server.address, url)
    assert (answer.status, answer.body) == (200, body)
    assert (answer["ETag"], answer["Cache-Control"]) == (f'"{digest}"', IMMUTABLE)
    assert answer["Content-Type"] == "image/fits"
    part = fetch(server.address, url, {"Range": "bytes=3-9", "If-Range": f'"{digest}"'})
    assert (part.status, part.body, part["Cache-Control"]) == (206, body[3:10], IMMUTABLE)


def test_a_trees_files_are_named_by_theirs(server: LiveServer, tree: Path, body: bytes) -> None:
    (tree / "m\udcfcll").mkdir()
    (tree / "m\udcfcll" / "a#b.png").write_bytes(body)
    url = server.hub.serve_tree(tree, content=True, visibility="public")
    for spelling in ("m%FCll/a%23b.png", "m%FCll//a%23b.png", "./m%FCll/./a%23b.png"):
        answer = fetch(server.address, f"{url}{spelling}")
        assert (answer.status, answer.body) == (200, body)
        assert (answer["ETag"], answer["Cache-Control"]) == (f'"{blake3(body).hexdigest()}"', IMMUTABLE)
    for wrong in ("m%FCll/a%23b.png/", "m%FCll/other", "other", "m%FCll/../m%FCll/a%23b.png"):
        answer = fetch(server.address, f"{url}{wrong}")
        assert (answer.status, answer["Cache-Control"]) == (404, REVALIDATE)


def test_a_304_needs_no_file(server: LiveServer, tree: Path, body: bytes) -> None:
    (tree / "a").write_bytes(body)
    url = server.hub.serve_tree(tree, content=True, visibility="public") + "a"
    (tree / "a").unlink()
    answer = fetch(server.address, url, {"If-None-Match": f'"{blake3(body).hexdigest()}"'})
    assert (answer.status, answer["Cache-Control"]) == (304, IMMUTABLE)
    assert gone(fetch(server.address, url))


def rewrite_in_place(path: Path, body: bytes) -> None:
    with path.open("r+b") as file:
        file.write(body)


def rename_over(path: Path, body: bytes) -> None:
    path.with_name("new").write_bytes(body)
    path.with_name("new").rename(path)


def rewrite_and_set_back(path: Path, body: bytes) -> None:
    before = path.stat()
    path.write_bytes(body)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def put_folder(path: Path, body: bytes) -> None:
    path.unlink()
    path.mkdir()


def put_fifo(path: Path, body: bytes) -> None:
    path.unlink()
    os.mkfifo(path)


def put_link(path: Path, body: bytes) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


CHANGES: list[Callable[[Path, bytes], None]] = [
    rewrite_in_place,
    rename_over,
    rewrite_and_set_back,
    lambda path, body: os.truncate(path, len(body) - 1),
    lambda path, body: path.unlink(),
    put_folder,
    put_fifo,
    put_link,
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", ["file", "tree"])
def test_what_has_changed_is_gone(
    server: LiveServer, tree: Path, body: bytes, change: Callable[[Path, bytes], None], kind: str
) -> None:
    path = tree / "a"
    path.write_bytes(body)
    make_settled(path)
    serve = server.hub.serve_file if kind == "file" else server.hub.serve_tree
    url = serve(path if kind == "file" else tree, content=True, visibility="public")
    url_of_a = url if kind == "file" else f"{url}a"
    assert fetch(server.address, url_of_a).body == body
    change(path, body[::-1])
    for method in ("GET", "HEAD"):
        assert fetch(server.address, url_of_a, method=method).status == 410
    assert gone(fetch(server.address, url_of_a))
    assert gone(fetch(server.address, url_of_a, {"Range": "bytes=0-1"}))
    assert gone(fetch(server.address, url_of_a, {"Range": "bytes=0-1,5-6"}))


def test_a_file_that_was_touched_or_written_anew_with_the_same_bytes_is_served(
    server: LiveServer, tree: Path, body: bytes
) -> None:
    path = tree / "a"
    path.write_bytes(body)
    url = server.hub.serve_tree(tree, content=True, visibility="public") + "a"
    before = fetch(server.address, url)
    changes: list[Callable[[], None]] = [
        lambda: os.utime(path, (1, 1)),
        lambda: rename_over(path, body),
        lambda: path.chmod(0o644),
    ]
    for change in changes:
        change()
        after = fetch(server.address, url)
        assert (after.status, after.body) == (200, body)
        assert [after[name] for name in ("ETag", "Last-Modified", "Cache-Control")] == [
            before[name] for name in ("ETag", "Last-Modified", "Cache-Control")
        ]


def test_files_that_are_too_large_to_be_read_for_a_request_are_gone_when_touched(
    start_server: Callable[..., LiveServer], tree: Path
) -> None:
    with (tree / "a").open("wb") as file:
        file.truncate((256 << 20) + 1)
    server = start_server()
    url = server.hub.serve_file(tree / "a", content=True, visibility="public")
    assert fetch(server.address, url, method="HEAD").status == 200
    os.utime(tree / "a")
    assert gone(fetch(server.address, url))
    assert server.hub.serve_file(tree / "a", content=True, visibility="public") == url
    assert fetch(server.address, url, method="HEAD").status == 200


def test_the_tree_is_what_it_was(server: LiveServer, tree: Path) -> None:
    (tree / "a").write_bytes(b"1")
    (tree / "sub").mkdir()
    (tree / "sub" / "b").write_bytes(b"2")
    (tree / "sub" / "deep").mkdir()
    (tree / "sub" / "deep" / "c<d").write_bytes(b"3")
    url = server.hub.serve_tree(tree, content=True, visibility="public")
    (tree / "later").write_bytes(b"4")
    (tree / "sub" / "index.html").write_bytes(b"5")
    assert fetch(server.address, url + "later").status == 404
    page = fetch(server.address, url)
    assert (page.status, page["Cache-Control"]) == (200, REVALIDATE)
    assert b'"./a"' in page.body
    assert b'"./sub/"' in page.body
    assert b"later" not in page.body
    sub = fetch(server.address, url + "sub/")
    assert b'"./b"' in sub.body
    assert b'"./deep/"' in sub.body
    assert b"index.html" not in sub.body
    assert b"c&lt;d" in fetch(server.address, url + "sub/deep/").body
    redirect = fetch(server.address, url + "sub")
    assert (redirect.status, redirect["Location"], redirect["Cache-Control"]) == (308, "./sub/", REVALIDATE)
    assert fetch(server.address, url + "none/").status == 404
    assert fetch(server.address, url[:-1]).status == 308


def test_a_listing_leads_to_more_rows_than_a_page_has(server: LiveServer, tree: Path) -> None:
    for number in range(305):
        (tree / f"{number:05}").touch()
    url = server.hub.serve_tree(tree, content=True, visibility="public")
    page = fetch(server.address, url).body
    assert page.count(b"<tr data-size") == 300
    assert b'href="./?after=00299"' in page
    assert fetch(server.address, f"{url}?after=00299").body.count(b"<tr data-size") == 5


def test_an_index_of_the_tree_is_served_for_its_folder(server: LiveServer, tree: Path) -> None:
    (tree / "index.html").write_bytes(b"<p>hi")
    url = server.hub.serve_tree(tree, content=True, visibility="public")
    answer = fetch(server.address, url)
    assert (answer.body, answer["Cache-Control"]) == (b"<p>hi", IMMUTABLE)
    assert answer["Content-Security-Policy"] == "sandbox allow-scripts"


def test_links_inside_are_served_and_those_that_are_turned_are_not(server: LiveServer, tree: Path) -> None:
    (tree / "data").mkdir()
    (tree / "data" / "1").write_bytes(b"one")
    (tree / "data" / "2").write_bytes(b"two")
    (tree / "latest").symlink_to("data/1")
    (tree / "folder").symlink_to("data")
    url = server.hub.serve_tree(tree, content=True, visibility="public")
    assert fetch(server.address, url + "latest").body == b"one"
    assert fetch(server.address, url + "folder/2").body == b"two"
    (tree / "latest").unlink()
    (tree / "latest").symlink_to("data/2")
    assert gone(fetch(server.address, url + "latest"))


def test_equal_files_have_one_key_and_each_name_goes_on_working(server: LiveServer, tree: Path) -> None:
    urls = []
    for name in ("a.png", "b.fits", "c"):
        (tree / name).write_bytes(b"same")
        urls.append(server.hub.serve_file(tree / name, content=True, visibility="public"))
    urls.append(server.hub.serve_file(tree / "c", ".wtml", content=True, visibility="public"))
    assert len({url.key for url in urls}) == 1
    types = ["image/png", "image/fits", "application/octet-stream", "application/x-wtml"]
    for url, content_type in zip(urls, types, strict=True):
        answer = fetch(server.address, url)
        assert (answer.status, answer["Content-Type"].partition(";")[0]) == (200, content_type)
    assert fetch(server.address, urls[0].replace("a.png", "z.png")).status == 404
    urls[0].revoke()
    assert fetch(server.address, urls[2]).status == 404
    server.hub.serve_file(tree / "c", content=True, visibility="public")
    assert [fetch(server.address, url).status for url in urls] == [404, 404, 200, 404]


def test_trust_and_headers_give_a_url_of_its_own(server: LiveServer, tree: Path) -> None:
    (tree / "a.html").write_bytes(b"<p>")
    plain = server.hub.serve_tree(tree, content=True, visibility="public")
    trusted = server.hub.serve_tree(tree, content=True, visibility="public", trusted=True)
    own = server.hub.serve_tree(tree, content=True, visibility="public", headers={"X-Own": "1"})
    assert len({plain, trusted, own}) == 3
    assert trusted.key.startswith(f"{plain.key}-")
    answers = [fetch(server.address, url + "a.html") for url in (plain, trusted, own)]
    assert ["Content-Security-Policy" in answer for answer in answers] == [True, False, True]
    assert ["X-Own" in answer for answer in answers] == [False, False, True]
    assert len({answer["ETag"] for answer in answers}) == 3
    assert {answer["Cache-Control"] for answer in answers} == {IMMUTABLE}


def test_a_tree_that_changed_keeps_the_old_url_for_what_did_not(server: LiveServer, tree: Path) -> None:
    (tree / "a").write_bytes(b"1")
    (tree / "b").write_bytes(b"1")
    old = server.hub.serve_tree(tree, content=True, visibility="public")
    (tree / "b").write_bytes(b"2")
    new = server.hub.serve_tree(tree, content=True, visibility="public")
    assert old != new
    assert [fetch(server.address, url + "a").body for url in (old, new)] == [b"1", b"1"]
    assert gone(fetch(server.address, old + "b"))
    assert fetch(server.address, new + "b").body == b"2"


@pytest.mark.parametrize("kind", ["file", "tree"])
def test_equal_data_is_read_wherever_it_still_is(
    server: LiveServer, tree: Path, tmp_path: Path, body: bytes, kind: str
) -> None:
    roots = [tree, tmp_path / "second", tmp_path / "third"]
    urls = set()
    for root in roots:
        root.mkdir(exist_ok=True)
        (root / "a").write_bytes(body)
        options = {"content": True, "visibility": "public"}
        if kind == "file":
            urls.add(server.hub.serve_file(root / "a", **options))  # type: ignore[arg-type]
        else:
            urls.add(server.hub.serve_tree(root, **options) + "a")  # type: ignore[arg-type]
    (url,) = urls
    rewrite_in_place(roots[2] / "a", body[::-1])
    assert fetch(server.address, url).body == body
    (roots[0] / "a").unlink()
    assert fetch(server.address, url).body == body
    (roots[1] / "a").unlink()
    assert gone(fetch(server.address, url))


def test_what_is_kept_is_served_though_it_is_published_from_elsewhere_too(
    server: LiveServer, tree: Path, tmp_path: Path
) -> None:
    body = os.urandom(LARGE)
    (tree / "a").write_bytes(body)
    url = server.hub.serve_file(tree / "a", content=True, visibility="public", snapshot=tmp_path / "kept")
    assert server.hub.serve_file(tree / "a", content=True, visibility="public") == url
    (tree / "a").unlink()
    assert fetch(server.address, url).body == body
    assert list(clean_up(server.hub.registry, [SnapshotFolder(tmp_path / "kept", server.hub.registry)]))[1][1] == (0, 0)
    assert fetch(server.address, url).body == body


@pytest.mark.parametrize(
    "headers", [{}, {"Range": "bytes=0-40000000"}, {"Range": "bytes=0-20000000,30000000-47999999"}]
)
@pytest.mark.parametrize("change", [rewrite_in_place, rewrite_and_set_back, lambda path, body: os.truncate(path, 10)])
def test_a_file_that_is_changed_while_it_is_sent_is_never_taken_for_whole(
    server: LiveServer, tree: Path, change: Callable[[Path, bytes], None], headers: dict[str, str]
) -> None:
    path = tree / "a"
    path.write_bytes(bytes(48_000_000))
    make_settled(path)
    url = server.hub.serve_file(path, content=True, visibility="public")
    with Connection(server.address) as connection:
        connection.send("GET", url, headers)
        time.sleep(0.3)
        change(path, b"x" * 48_000_000)
        assert not connection.receive().is_whole


def test_a_file_that_was_replaced_while_it_is_sent_is_sent_as_it_was(server: LiveServer, tree: Path) -> None:
    path = tree / "a"
    path.write_bytes(bytes(48_000_000))
    make_settled(path)
    url = server.hub.serve_tree(tree, content=True, visibility="public") + "a"
    with Connection(server.address) as connection:
        connection.send("GET", url)
        time.sleep(0.3)
        path.with_name("new").write_bytes(b"x")
        path.with_name("new").rename(path)
        answer = connection.receive()
        assert answer.body == bytes(48_000_000) or not answer.is_whole


def test_a_store_through_a_memory_map_into_a_small_file_never_gets_out(server: LiveServer, tree: Path) -> None:
    """The system writes no time for it at once, but small files are hashed."""
    path = tree / "a"
    path.write_bytes(os.urandom(SMALL))
    make_settled(path)
    url = server.hub.serve_file(path, content=True, visibility="public")
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as stored:
        stored[:3] = b"new"
        assert gone(fetch(server.address, url))


def test_a_snapshot_outlives_its_original(server: LiveServer, tree: Path, tmp_path: Path) -> None:
    small, large = os.urandom(SMALL), os.urandom(LARGE)
    (tree / "sub").mkdir()
    (tree / "sub" / "a.png").write_bytes(small)
    (tree / "b").write_bytes(large)
    whole = server.hub.serve_tree(tree, content=True, snapshot=tmp_path / "kept", visibility="public")
    file = server.hub.serve_file(tree / "b", ".fits", content=True, snapshot=tmp_path / "kept", visibility="public")
    (tree / "sub" / "a.png").write_bytes(b"overwritten")
    (tree / "b").unlink()
    for url, body, content_type in (
        (whole + "sub/a.png", small, "image/png"),
        (whole + "b", large, "application/octet-stream"),
        (file, large, "image/fits"),
    ):
        answer = fetch(server.address, url)
        assert (answer.status, answer.body, answer["Content-Type"]) == (200, body, content_type)
        assert answer["ETag"] == f'"{blake3(body).hexdigest()}"'
    assert b'"./a.png"' in fetch(server.address, whole + "sub/").body
    for path in (tmp_path / "kept" / "objects").rglob("*/*"):
        path.chmod(0o600)
        path.write_bytes(path.read_bytes()[::-1])
    for url in (whole + "sub/a.png", whole + "b", file):
        assert gone(fetch(server.address, url))


def test_wtml_that_is_made_of_it_is_asked_for_again(server: LiveServer, tree: Path) -> None:
    (tree / "index_rel.wtml").write_text(
        '<Folder Name="f"><Place Name="p"><ForegroundImageSet><ImageSet Name="i" Url="{1}.png"/>'
        "</ForegroundImageSet></Place></Folder>"
    )
    url = server.hub.serve_tree(tree, content=True, visibility="public")
    answer = fetch(server.address, url + "index.wtml")
    assert (answer.status, answer["Cache-Control"]) == (200, REVALIDATE)
    assert f"http://localhost{url}{{1}}.png".encode() in answer.body
    (tree / "index_rel.wtml").write_text('<Folder Name="other"/>')
    assert fetch(server.address, url + "index.wtml").status == 410


def test_a_manifest_that_is_lost_is_told(start_server: Callable[..., LiveServer], tree: Path) -> None:
    (tree / "a").write_bytes(b"1")
    server = start_server()
    url = server.hub.serve_tree(tree, content=True, visibility="public")
    ManifestStore(server.hub.registry.location).manifest_path(url.key).unlink()
    answer = fetch(server.address, url + "a")
    assert (answer.status, answer["Cache-Control"]) == (503, REVALIDATE)
    assert b"publish the tree again, with content=True" in answer.body
    server.hub.serve_tree(tree, content=True, visibility="public")
    assert fetch(server.address, url + "a").body == b"1"


def test_a_manifest_that_is_damaged_is_told(start_server: Callable[..., LiveServer], tree: Path) -> None:
    (tree / "a").write_bytes(b"1")
    server = start_server()
    url = server.hub.serve_tree(tree, content=True, visibility="public")
    path = ManifestStore(server.hub.registry.location).manifest_path(url.key)
    path.write_bytes(path.read_bytes().replace(b"a\0", b"b\0"))
    for entry in ("a", "b", ""):
        assert fetch(server.address, url + entry).status == 503
    server.hub.serve_tree(tree, content=True, visibility="public")
    assert fetch(server.address, url + "a").body == b"1"


def test_no_descriptor_is_left_open(start_server: Callable[..., LiveServer], tree: Path) -> None:
    (tree / "small").write_bytes(os.urandom(SMALL))
    (tree / "large").write_bytes(os.urandom(LARGE))
    (tree / "changed").write_bytes(os.urandom(LARGE))
    make_settled(tree / "changed")
    server = start_server()
    url = server.hub.serve_tree(tree, content=True, visibility="public")
    (tree / "changed").write_bytes(os.urandom(LARGE))
    (worker,) = server.workers

    def ask_everything() -> int:
        for name, headers in (
            ("small", {}),
            ("large", {}),
            ("large", {"Range": "bytes=0-9"}),
            ("large", {"Range": "bytes=0-9,90000-90009"}),
            ("large", {"Range": "bytes=99999999-"}),
            ("large", {"If-None-Match": "*"}),
            ("changed", {}),
        ):
            for method in ("GET", "HEAD"):
                fetch(server.address, url + name, headers, method)
        return len(os.listdir(f"/proc/{worker}/fd"))

    # Each of the four threads opens the registry once.
    for _ in range(5):
        before = ask_everything()
    for _ in range(20):
        after = ask_everything()
    assert after < before + 20


def test_a_browser_asks_once(start_server: Callable[..., LiveServer], tree: Path, browser: Browser) -> None:
    (tree / "page.html").write_bytes(b"<title>page</title>")
    (tree / "tile.png").write_bytes(os.urandom(SMALL))
    server = start_server()
    page_url = server.hub.serve_file(tree / "page.html", visibility="public", trusted=True)
    hashed = server.hub.serve_tree(tree, content=True, visibility="public") + "tile.png"
    plain = server.hub.serve_tree(tree, visibility="public") + "tile.png"
    host, port = server.address
    page = browser.new_page()
    page.goto(f"http://{host}:{port}{page_url}")
    sent = page.evaluate(
        """async urls => {
            const sizes = {}
            for (const url of urls) {
                for (let time = 0; time < 3; time++) await (await fetch(url)).blob()
                const entries = performance.getEntriesByName(new URL(url, location).href)
                sizes[url] = entries.map(entry => entry.transferSize)
            }
            return sizes
        }""",
        [hashed, plain],
    )
    page.close()
    assert sent[hashed][0] > 0
    assert sent[hashed][1:] == [0, 0]
    assert all(size > 0 for size in sent[plain])


def test_private_content_is_for_the_owner(server: LiveServer, tree: Path) -> None:
    (tree / "a").write_bytes(b"1")
    url = server.hub.serve_tree(tree, content=True)
    assert fetch(server.address, url + "a", {"If-None-Match": "*"}).status == 404
    server.hub.serve_tree(tree, content=True, visibility="public")
    assert fetch(server.address, url + "a").status == 200


def test_b3sum_gives_the_same_hash(server: LiveServer, tree: Path) -> None:
    b3sum = shutil.which("b3sum")
    need("b3sum", is_there=b3sum is not None, remedy="apt-get install b3sum")
    assert b3sum is not None
    (tree / "a").write_bytes(os.urandom(LARGE))
    url = server.hub.serve_file(tree / "a", content=True, visibility="public")
    assert subprocess.run([b3sum, tree / "a"], capture_output=True, text=True, check=True).stdout.split()[0] == url.key
