"""Content codings over the wire, from real servers."""

from __future__ import annotations

import gzip
import json
import os
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from blake3 import blake3
from playwright.sync_api import Browser
from wwt_data_formats.folder import Folder
from wwt_data_formats.imageset import ImageSet

from hub import PublishedURL
from tests.conftest import LiveServer, make_settled
from tests.jupyter import WITH_TOKEN, JupyterServer, jupyter_server
from tests.nginx import nginx
from tests.raw_http import Answer, Connection, fetch

#: What browsers send.
BROWSER = "gzip, deflate, br, zstd"

MEDIUM = json.dumps({"numbers": list(range(2000))}).encode()
LARGE = json.dumps({"numbers": list(range(100_000))}).encode()
IMMUTABLE = "private, max-age=31536000, immutable"


@pytest.fixture(params=[MEDIUM, LARGE], ids=["medium", "large"])
def body(request: pytest.FixtureRequest) -> bytes:
    """JSON that is kept in memory, and some that is not."""
    return bytes(request.param)


@pytest.fixture(params=[False, True], ids=["path key", "content key"])
def content(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(autouse=True)
def _no_equal_data_of_other_tests(request: pytest.FixtureRequest) -> Iterator[None]:
    """Equal data is served from wherever it still is."""
    yield
    if "server" in request.fixturenames:
        registry = request.getfixturevalue("server").hub.registry
        for registration in registry.registrations():
            registry.revoke(registration.key)


def write(path: Path, data: bytes, mtime: int = 1_700_000_000) -> None:
    path.write_bytes(data)
    os.utime(path, (mtime, mtime))
    make_settled(path)


def publish(server: LiveServer, path: Path, **options: object) -> PublishedURL:
    serve = server.hub.serve_tree if path.is_dir() else server.hub.serve_file
    return serve(path, visibility="public", **options)  # type: ignore[arg-type]


def ask(server: LiveServer, url: str, accept: str | None = BROWSER, method: str = "GET", **headers: str) -> Answer:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = fetch(server.address, url, sent if accept is None else {"Accept-Encoding": accept, **sent}, method)
    assert answer.is_whole
    return answer


def coding_of(answer: Answer) -> str:
    return next((value for name, value in answer.headers if name.lower() == "content-encoding"), "")


# ---- made here


def test_text_is_compressed_for_whom_takes_it(server: LiveServer, tree: Path, body: bytes, *, content: bool) -> None:
    write(tree / "a.json", body)
    url = publish(server, tree, content=content) + "a.json"
    plain = ask(server, url, None)
    assert (plain.status, plain.body, coding_of(plain)) == (200, body, "")
    for _ in range(2):
        packed = ask(server, url)
        assert (packed.status, coding_of(packed)) == (200, "gzip")
        assert gzip.decompress(packed.body) == body
        assert len(packed.body) < len(body) / 2
        assert packed["ETag"] == plain["ETag"][:-1] + '-gzip"'
        for name in ("Content-Type", "Last-Modified", "Cache-Control", "Accept-Ranges", "Vary"):
            assert packed[name] == plain[name]
    assert packed["Vary"] == "Accept-Encoding"
    if content:
        assert packed["ETag"] == f'"{blake3(body).hexdigest()}-gzip"'
        assert packed["Cache-Control"] == IMMUTABLE


def test_a_single_file_is_compressed_and_has_no_siblings(
    server: LiveServer, tree: Path, body: bytes, *, content: bool
) -> None:
    write(tree / "a.json", body)
    write(tree / "a.json.br", b"brotli")
    write(tree / "a.json.gz", b"somebody's")
    answer = ask(server, publish(server, tree / "a.json", content=content))
    assert coding_of(answer) == "gzip"
    assert gzip.decompress(answer.body) == body


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        (None, ""),
        ("", ""),
        ("gzip;q=0", ""),
        ("*;q=0", ""),
        ("identity;q=0", ""),
        ("br, zstd, deflate", ""),
        ("gzip;q=0.1", "gzip"),
        ("*", "gzip"),
        ("identity, gzip;q=0.9", ""),
        ("br, gzip;q=0.1", "gzip"),
        ("gzip" + "," * 1000, ""),
    ],
)
def test_the_client_chooses(server: LiveServer, tree: Path, accept: str | None, coding: str) -> None:
    write(tree / "a.json", MEDIUM)
    answer = ask(server, publish(server, tree) + "a.json", accept)
    assert (answer.status, coding_of(answer), answer["Vary"]) == (200, coding, "Accept-Encoding")


def test_head_has_the_headers_of_get(server: LiveServer, tree: Path, body: bytes, *, content: bool) -> None:
    write(tree / "a.json", body)
    url = publish(server, tree, content=content) + "a.json"
    for accept in (BROWSER, None):
        head = ask(server, url, accept, "HEAD")
        got = ask(server, url, accept)
        assert head.body == b""
        assert {*head.headers} - {("Date", head["Date"])} == {*got.headers} - {("Date", got["Date"])}


def test_ranges_are_of_the_file_as_it_is(server: LiveServer, tree: Path, body: bytes, *, content: bool) -> None:
    write(tree / "a.json", body)
    write(tree / "a.json.br", b"brotli")
    url = publish(server, tree, content=content) + "a.json"
    plain, packed = ask(server, url, None)["ETag"], ask(server, url, "gzip")["ETag"]
    part = ask(server, url, Range="bytes=10-19")
    assert (part.status, part.body, part["ETag"], coding_of(part)) == (206, body[10:20], plain, "")
    assert part["Content-Range"] == f"bytes 10-19/{len(body)}"
    assert part["Vary"] == "Accept-Encoding"
    assert ask(server, url, Range="bytes=10-19", If_Range=plain).status == 206
    # Who has a part of the compressed one gets no other bytes behind it.
    for headers in ({"If_Range": packed, "Range": "bytes=10-19"}, {"Range": "lines=1-2"}):
        whole = ask(server, url, **headers)
        assert (whole.status, whole.body, coding_of(whole)) == (200, body, "")
    several = ask(server, url, Range="bytes=0-1,1000-1001")
    assert (several.status, coding_of(several), several["Vary"]) == (206, "", "Accept-Encoding")


def test_validators_speak_of_the_representation(server: LiveServer, tree: Path, body: bytes, *, content: bool) -> None:
    write(tree / "a.json", body)
    url = publish(server, tree, content=content) + "a.json"
    plain, packed = ask(server, url, None)["ETag"], ask(server, url)["ETag"]
    for method in ("GET", "HEAD"):
        kept = ask(server, url, method=method, If_None_Match=packed)
        assert (kept.status, kept["ETag"], kept["Vary"], coding_of(kept)) == (304, packed, "Accept-Encoding", "")
        assert "Content-Type" not in kept
    assert ask(server, url, If_None_Match=f"{plain}, W/{packed}").status == 304
    assert ask(server, url, If_None_Match=plain).status == 200
    assert ask(server, url, None, If_None_Match=plain).status == 304
    assert ask(server, url, None, If_None_Match=packed).status == 200
    assert ask(server, url, If_Match=packed).status == 200
    assert ask(server, url, If_Match=plain).status == 412
    assert ask(server, url, If_Match=packed, Range="bytes=0-1").status == 412
    assert ask(server, url, If_Modified_Since=ask(server, url)["Last-Modified"]).status == 304


def test_a_changed_file_is_never_answered_with_what_it_was(server: LiveServer, tree: Path, body: bytes) -> None:
    url = publish(server, tree) + "a.json"
    for number in range(10):
        changed = body[:-1] + b"%d" % number
        (tree / "a.json").write_bytes(changed)
        os.utime(tree / "a.json", (1_700_000_000, 1_700_000_000))
        answer = ask(server, url)
        assert (gzip.decompress(answer.body) if coding_of(answer) else answer.body) == changed
    make_settled(tree / "a.json")
    assert coding_of(ask(server, url)) == "gzip"
    (tree / "a.json").unlink()
    assert ask(server, url).status == 404


def test_a_content_keys_file_that_has_changed_is_gone_compressed_too(
    server: LiveServer, tree: Path, body: bytes
) -> None:
    write(tree / "a.json", body)
    url = publish(server, tree, content=True) + "a.json"
    assert coding_of(ask(server, url)) == "gzip"
    write(tree / "a.json", b"0" + body[1:])
    assert ask(server, url).status == 410
    assert ask(server, url, "HEAD").status == 410
    write(tree / "a.json", body)
    assert gzip.decompress(ask(server, url).body) == body


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("small.json", MEDIUM[:1023]),
        ("random.json", os.urandom(5000)),
        ("random.txt", os.urandom(200_000)),
        ("huge.json", b" " * ((4 << 20) + 1)),
    ],
)
def test_what_is_not_worth_it_is_sent_as_it_is(
    server: LiveServer, tree: Path, name: str, data: bytes, *, content: bool
) -> None:
    write(tree / name, data)
    url = publish(server, tree, content=content) + name
    plain = ask(server, url, None)
    for _ in range(2):
        answer = ask(server, url)
        assert (answer.body, coding_of(answer), answer["Vary"]) == (data, "", "Accept-Encoding")
        assert answer["ETag"] == plain["ETag"]
    assert ask(server, url, If_None_Match=plain["ETag"]).status == 304


@pytest.mark.parametrize(("size", "coding"), [(1023, ""), (1024, "gzip"), (4 << 20, "gzip"), ((4 << 20) + 1, "")])
def test_the_limits_of_size(server: LiveServer, tree: Path, size: int, coding: str) -> None:
    write(tree / "a.txt", b"a" * size)
    answer = ask(server, publish(server, tree) + "a.txt")
    assert coding_of(answer) == coding
    assert (gzip.decompress(answer.body) if coding else answer.body) == b"a" * size


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.fits", "a.bin", "a", "a.json.gz", "a.zip", "a.mp4", "a.tiff"])
def test_what_is_no_text_has_neither_codings_nor_siblings(server: LiveServer, tree: Path, name: str) -> None:
    write(tree / name, b"a" * 5000)
    for suffix in (".br", ".zst", ".gz"):
        write(tree / f"{name}{suffix}", b"packed")
    answer = ask(server, publish(server, tree) + name)
    assert (answer.body, coding_of(answer)) == (b"a" * 5000, "")
    assert "Vary" not in answer


@pytest.mark.parametrize("header", [{"Content-Encoding": "gzip"}, {"content-encoding": "br"}, {"Repr-Digest": "a=:b:"}])
def test_a_registration_that_speaks_of_the_bytes_is_left_alone(
    server: LiveServer, tree: Path, header: dict[str, str]
) -> None:
    write(tree / "a.json", MEDIUM)
    write(tree / "a.json.br", b"brotli")
    answer = ask(server, publish(server, tree, headers=header) + "a.json")
    assert answer.body == MEDIUM
    assert coding_of(answer) == header.get("Content-Encoding", header.get("content-encoding", ""))
    assert "Vary" not in answer


def test_vary_is_joined_to_that_of_the_registration(server: LiveServer, tree: Path) -> None:
    write(tree / "a.json", MEDIUM)
    url = publish(server, tree, headers={"Vary": "Cookie"})
    assert ask(server, f"{url}a.json")["Vary"] == "Cookie, Accept-Encoding"


def test_a_variant_has_tags_of_its_own(server: LiveServer, tree: Path) -> None:
    write(tree / "a.json", MEDIUM)
    plain, other = publish(server, tree), publish(server, tree, key="other", headers={"X": "y"})
    tags = {ask(server, f"{url}a.json", accept)["ETag"] for url in (plain, other) for accept in ("gzip", None)}
    assert len(tags) == 4
    tag = ask(server, f"{other}a.json", "gzip")["ETag"]
    assert ask(server, f"{other}a.json", "gzip", If_None_Match=tag).status == 304


def test_an_index_is_compressed_in_its_sandbox(server: LiveServer, tree: Path) -> None:
    write(tree / "index.html", b"<p>word</p>" * 1000)
    answer = ask(server, publish(server, tree))
    assert coding_of(answer) == "gzip"
    assert answer["Content-Security-Policy"] == "sandbox allow-scripts"


def test_first_requests_at_once_all_get_it(start_server: Callable[..., LiveServer], tree: Path) -> None:
    server = start_server()
    write(tree / "a.json", LARGE)
    url = publish(server, tree) + "a.json"
    with ThreadPoolExecutor(16) as pool:
        answers = [*pool.map(lambda _: ask(server, url), range(32))]
    assert {gzip.decompress(answer.body) for answer in answers} == {LARGE}
    assert len({answer["ETag"] for answer in answers}) == 1


def peak_bytes(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def test_many_large_files_at_once_take_little_memory(start_server: Callable[..., LiveServer], tree: Path) -> None:
    server = start_server()
    # Hex compresses to a little more than half.
    data = random.Random(0).randbytes(1 << 20).hex().encode() * 2
    for number in range(100):
        (tree / f"{number}.json").write_bytes(b"%03d" % number + data[3:])
    make_settled(tree / "99.json")
    url = publish(server, tree)
    (worker,) = server.workers
    before = peak_bytes(worker)

    def is_right(number: int) -> bool:
        answer = ask(server, f"{url}{number}.json", "gzip")
        return coding_of(answer) == "gzip" and gzip.decompress(answer.body)[:3] == b"%03d" % number

    with ThreadPoolExecutor(50) as pool:
        assert all(pool.map(is_right, range(100)))
    # What is kept (64 MiB), and what four threads have in hand.
    assert peak_bytes(worker) - before < 130 << 20


# ---- files beside it


def test_the_best_sibling_that_the_client_takes_is_sent(server: LiveServer, tree: Path, *, content: bool) -> None:
    write(tree / "a.json", MEDIUM)
    packed = {"br": b"brotli", "zstd": b"zstandard" * 20_000, "gzip": gzip.compress(MEDIUM)}
    for suffix, data in zip((".br", ".zst", ".gz"), packed.values(), strict=True):
        write(tree / f"a.json{suffix}", data, 1_700_000_100)
    url = publish(server, tree, content=content) + "a.json"
    for accept, coding in [
        (BROWSER, "br"),
        ("gzip, zstd", "zstd"),
        ("gzip", "gzip"),
        ("br;q=0.5, gzip", "gzip"),
        ("br;q=0, *", "zstd"),
    ]:
        answer = ask(server, url, accept)
        assert (coding_of(answer), answer.body) == (coding, packed[coding])
        assert (answer["Content-Type"], answer["Vary"]) == ("application/json", "Accept-Encoding")
        assert answer["Last-Modified"] == "Tue, 14 Nov 2023 22:15:00 GMT"
        assert ask(server, url, accept, If_None_Match=answer["ETag"]).status == 304
        head = ask(server, url, accept, "HEAD")
        assert (head["ETag"], head["Content-Length"]) == (answer["ETag"], str(len(packed[coding])))
        if content:
            assert answer["ETag"] == f'"{blake3(packed[coding]).hexdigest()}"'
            assert answer["Cache-Control"] == IMMUTABLE
    # By its own name each is what it was.
    own = ask(server, f"{url}.gz")
    assert (own["Content-Type"], own.body, coding_of(own)) == ("application/gzip", packed["gzip"], "")


def test_a_sibling_counts_as_soon_as_it_is_there_and_as_long(server: LiveServer, tree: Path) -> None:
    write(tree / "a.json", MEDIUM)
    url = publish(server, tree) + "a.json"
    beside = tree / "a.json.br"
    for _ in range(2):
        assert coding_of(ask(server, url)) == "gzip"
        write(beside, b"first")
        assert ask(server, url).body == b"first"
        write(beside, b"again")
        assert ask(server, url).body == b"again"
        write(beside, b"large" * 20_000)
        assert ask(server, url).body == b"large" * 20_000
        beside.unlink()
    write(beside, b"older", 1_699_999_999)
    assert coding_of(ask(server, url)) == "gzip"
    os.utime(beside, (1_700_000_000, 1_700_000_000))
    assert coding_of(ask(server, url)) == "br"
    write(tree / "a.json", LARGE, 1_700_000_001)
    assert gzip.decompress(ask(server, url).body) == LARGE
    (tree / "a.json").unlink()
    assert ask(server, url).status == 404


def test_what_is_no_file_within_the_tree_is_no_sibling(server: LiveServer, tree: Path, tmp_path: Path) -> None:
    write(tree / "a.json", MEDIUM)
    write(tmp_path / "secret", b"secret", 1_800_000_000)
    url = publish(server, tree) + "a.json"
    (tree / "a.json.br").mkdir()
    (tree / "a.json.zst").symlink_to(tmp_path / "secret")
    os.mkfifo(tree / "a.json.gz")
    answer = ask(server, url)
    assert (coding_of(answer), gzip.decompress(answer.body)) == ("gzip", MEDIUM)
    (tree / "a.json.zst").unlink()
    write(tree / "inside", b"inside")
    (tree / "a.json.zst").symlink_to("inside")
    assert ask(server, url).body == b"inside"


def test_an_old_sibling_of_a_content_key_is_not_used(server: LiveServer, tree: Path) -> None:
    write(tree / "a.json", MEDIUM)
    write(tree / "a.json.br", b"old", 1_600_000_000)
    assert coding_of(ask(server, publish(server, tree, content=True) + "a.json")) == "gzip"


def test_a_sibling_of_a_content_key_that_has_changed_is_as_if_absent(server: LiveServer, tree: Path) -> None:
    write(tree / "a.json", MEDIUM)
    write(tree / "a.json.br", b"brotli")
    write(tree / "a.json.zst", b"zstandard" * 20_000)
    url = publish(server, tree, content=True) + "a.json"
    assert ask(server, url).body == b"brotli"
    write(tree / "a.json.br", b"BROTLI")
    assert ask(server, url).body == b"zstandard" * 20_000
    (tree / "a.json.zst").unlink()
    assert gzip.decompress(ask(server, url).body) == MEDIUM
    # What is not in the manifest does not exist.
    write(tree / "a.json.gz", b"new")
    assert gzip.decompress(ask(server, url).body) == MEDIUM


def test_a_hostile_sibling_is_in_the_sandbox_of_what_it_stands_for(server: LiveServer, tree: Path) -> None:
    write(tree / "a.svg", b"<svg/>")
    write(tree / "a.svg.gz", b"\x7fELF<script>alert(1)</script>")
    answer = ask(server, publish(server, tree) + "a.svg")
    assert (coding_of(answer), answer["Content-Type"]) == ("gzip", "image/svg+xml")
    assert answer["Content-Security-Policy"] == "sandbox allow-scripts"
    assert answer["X-Content-Type-Options"] == "nosniff"


def test_no_descriptor_is_left_open(start_server: Callable[..., LiveServer], tree: Path, *, content: bool) -> None:
    server = start_server()
    for name in ("a.json", "b.json", "b.json.br", "c.json", "c.json.br"):
        write(tree / name, LARGE, 1_600_000_000 if name == "c.json.br" else 1_700_000_000)
    url = publish(server, tree, content=content)
    (worker,) = server.workers
    with Connection(server.address) as connection:
        counts = set()
        for _ in range(3):
            for name in ("a.json", "b.json", "c.json"):
                for method in ("GET", "HEAD"):
                    sent = {"Accept-Encoding": BROWSER}
                    answer = connection.request(method, f"{url}{name}", sent)
                    assert connection.request(method, f"{url}{name}", {**sent, "If-None-Match": answer["ETag"]}).status
                    connection.request(method, f"{url}{name}", {**sent, "If-Match": '"x"'})
            # Of the tree alone: each thread opens the registry when it is first asked.
            opened = [os.readlink(link) for link in Path(f"/proc/{worker}/fd").iterdir()]
            counts.add(sum(path.startswith(os.fspath(tree)) for path in opened))
    # With a content key HEAD opens the file, which then stays open for a while.
    assert counts == {int(content)}


# ---- WTML


@pytest.fixture
def wtml_url(server: LiveServer, tree: Path) -> str:
    folder = Folder(name="set")
    folder.children += [ImageSet(name=f"set {number}", url="{1}/{3}/{3}_{2}.png") for number in range(20)]
    write(tree / "index_rel.wtml", folder.to_xml_string().encode())
    return publish(server, tree) + "index.wtml"


def test_made_wtml_is_compressed_for_each_url(server: LiveServer, wtml_url: str, tree: Path) -> None:
    write(tree / "index.wtml.br", b"of something that is not there")
    for host in ("one.example", "two.example", "one.example"):
        plain = ask(server, wtml_url, None, Host=host)
        packed = ask(server, wtml_url, Host=host)
        assert coding_of(packed) == "gzip"
        assert gzip.decompress(packed.body) == plain.body
        assert f"http://{host}/".encode() in plain.body
        assert packed["ETag"] == plain["ETag"][:-1] + '-gzip"'
        assert packed["Vary"] == plain["Vary"] == "Accept-Encoding"
        assert ask(server, wtml_url, Host=host, If_None_Match=packed["ETag"]).status == 304
        assert ask(server, wtml_url, Host=host, Range="bytes=0-3").body == plain.body[:4]
    other = ask(server, wtml_url, Host="two.example", If_None_Match=packed["ETag"])
    assert other.status == 200


# ---- on the way


def test_nothing_is_compressed_twice_behind_nginx(server: LiveServer, tree: Path, tmp_path: Path) -> None:
    write(tree / "a.json", LARGE)
    url = publish(server, tree) + "a.json"
    with nginx(tmp_path, server.address[1], "/kdr") as front:
        assert gzip.decompress(front.fetch(f"{front.origin}/kdr{url}", {"Accept-Encoding": "gzip"})) == LARGE
        assert front.fetch(f"{front.origin}/kdr{url}", {"Accept-Encoding": "identity"}) == LARGE


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    with jupyter_server(tmp_path_factory.mktemp("jupyter"), base_url="/user/ada/") as running:
        yield running


def test_json_comes_compressed_once_through_jupyter(jupyter: JupyterServer, tree: Path, browser: Browser) -> None:
    write(tree / "a.json", LARGE)
    write(tree / "a.txt", b"a page of the same origin")
    write(tree / "b.json", MEDIUM)
    write(tree / "b.json.gz", gzip.compress(MEDIUM, 9, mtime=0))
    with jupyter.kernel() as kernel:
        url = kernel.publish(tree)
        plain = jupyter.fetch(f"{url}a.json")
        assert (plain.body, coding_of(plain)) == (LARGE, "")
        packed = jupyter.fetch(f"{url}a.json", {"Accept-Encoding": BROWSER})
        assert (coding_of(packed), packed["Vary"]) == ("gzip", "Accept-Encoding")
        assert gzip.decompress(packed.body) == LARGE
        assert jupyter.fetch(f"{url}b.json", {"Accept-Encoding": BROWSER}).body == gzip.compress(MEDIUM, 9, mtime=0)
        kept = jupyter.fetch(f"{url}a.json", {"Accept-Encoding": BROWSER, "If-None-Match": packed["ETag"]})
        assert (kept.status, kept["ETag"]) == (304, packed["ETag"])
        head = jupyter.fetch(f"{url}a.json", {"Accept-Encoding": BROWSER}, "HEAD")
        assert (head["Content-Length"], coding_of(head)) == (packed["Content-Length"], "gzip")
        part = jupyter.fetch(f"{url}a.json", {"Accept-Encoding": BROWSER, "Range": "bytes=0-9"})
        assert (part.status, part.body, coding_of(part)) == (206, LARGE[:10], "")

        page = browser.new_page(extra_http_headers=WITH_TOKEN)
        page.goto(f"{jupyter.origin}{url}a.txt")
        for name, body in (("a.json", LARGE), ("b.json", MEDIUM)):
            coding, text = page.evaluate(
                "url => fetch(url).then(async r => [r.headers.get('Content-Encoding'), await r.text()])", url + name
            )
            assert (coding, text.encode()) == ("gzip", body)
        page.close()
