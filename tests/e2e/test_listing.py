"""Listings from real servers, and as people see them: in a real browser, through a real Jupyter server."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser

from hub import JupyterRelayHub
from tests.conftest import LiveServer
from tests.e2e.pages import WatchedPage, find_barriers, logged_in
from tests.jupyter import TOKEN, JupyterServer, jupyter_server
from tests.raw_http import Connection, fetch

BASE = "/user/ada/"
MANY = 100_000


def fill(folder: Path, count: int) -> None:
    """Make so many empty files, named in no order."""
    folder.mkdir()
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        for number in range(count):
            name = f"tile_{number * 7919 % count}.fits"
            os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=descriptor))
    finally:
        os.close(descriptor)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many") / "tiles"
    fill(folder, MANY)
    return folder


# --- servers ---------------------------------------------------------------------------------------------------------


def test_json_comes_in_chunks_and_the_connection_goes_on(server: LiveServer, tree: Path) -> None:
    fill(tree / "tiles", 3000)
    url = server.hub.serve_tree(tree, visibility="public") + "tiles/"
    with Connection(server.address) as connection:
        for _ in range(3):
            answer = connection.request("GET", f"{url}?format=json")
            assert (answer.status, answer.is_whole) == (200, True)
            assert answer["Transfer-Encoding"] == "chunked"
            assert "Content-Length" not in answer
            assert len(json.loads(answer.body)["entries"]) == 3000
            if answer.headers.count(("Connection", "close")):
                break  # Gunicorn's own worker of this kind keeps none.
            head = connection.request("HEAD", f"{url}?format=json")
            assert (head.status, head.body) == (200, b"")
            assert head["Content-Type"] == "application/json"


def ask_in_http_1_0(address: tuple[str, int], url: str, *headers: str) -> bytes:
    with socket.create_connection(address, 20) as connection:
        connection.sendall("\r\n".join([f"GET {url} HTTP/1.0", "Host: 127.0.0.1", *headers, "", ""]).encode())
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize("headers", [(), ("Connection: keep-alive",)])
def test_to_http_1_0_the_end_of_the_connection_is_that_of_the_json(
    server: LiveServer, tree: Path, headers: tuple[str, ...]
) -> None:
    fill(tree / "tiles", 3000)
    url = server.hub.serve_tree(tree, visibility="public") + "tiles/"
    head, _, body = ask_in_http_1_0(server.address, f"{url}?format=json", *headers).partition(b"\r\n\r\n")
    assert b" 200 " in head
    assert b"chunked" not in head.lower()
    assert len(json.loads(body)["entries"]) == 3000


#: Read by the server as it starts: from the 2,000th on, files of the folder cannot be looked at.
FAILING_DISK = """
import itertools, os
stat, count = os.stat, itertools.count()
def fail(path, **options):
    if options.get("dir_fd") is not None and path.startswith(b"tile_") and next(count) >= 2000:
        raise OSError(5, "the disk is broken")
    return stat(path, **options)
os.stat = fail
"""


@pytest.mark.parametrize("worker_class", ["kdr_wsgi.serving.WatchfulWorker", "sync", "granian"])
def test_a_disk_that_fails_in_the_midst_ends_the_answer_short(
    start_server: Callable[..., LiveServer], tree: Path, tmp_path: Path, worker_class: str
) -> None:
    fill(tree / "tiles", 3000)
    (tmp_path / "sitecustomize.py").write_text(FAILING_DISK)
    server = start_server(worker_class=worker_class, environment={"PYTHONPATH": str(tmp_path)})
    url = server.hub.serve_tree(tree, visibility="public") + "tiles/"
    answer = fetch(server.address, f"{url}?format=json")
    assert answer.status == 200
    assert not answer.is_whole
    assert answer.body.count(b'"name"') <= 2000
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.body)
    assert fetch(server.address, f"{url}?format=json").status == 503


def test_clients_that_take_nothing_hold_neither_threads_nor_memory(
    start_server: Callable[..., LiveServer], many: Path
) -> None:
    server = start_server(worker_class="kdr_wsgi.serving.WatchfulWorker")
    url = server.hub.serve_tree(many, visibility="public")
    fetch(server.address, url)
    (worker,) = server.workers
    before = resident_bytes(worker)
    descriptors = Path(f"/proc/{worker}/fd")
    with ExitStack() as stack:
        for _ in range(40):  # The server has four threads.
            connection = stack.enter_context(Connection(server.address))
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.send("GET", f"{url}?format=json")
        time.sleep(1)
        assert fetch(server.address, url).status == 200
        grown = resident_bytes(worker) - before
        print(f"40 listings that nobody reads: {grown / 1e6:.1f} MB more, {len([*descriptors.iterdir()])} descriptors")
        assert grown < 40e6
    deadline = time.monotonic() + 20
    while len([*descriptors.iterdir()]) > 60 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert len([*descriptors.iterdir()]) <= 60


def test_the_json_of_a_large_folder_takes_little_memory(server: LiveServer, many: Path) -> None:
    url = server.hub.serve_tree(many, visibility="public")
    # By then the worker has read all of its code.
    fetch(server.address, f"{url}?format=json&after=a", method="HEAD")
    fetch(server.address, url)
    before = {worker: peak_bytes(worker) for worker in server.workers}
    answer = fetch(server.address, f"{url}?format=json")
    assert len(json.loads(answer.body)["entries"]) == MANY
    for worker, peak in before.items():
        grown = peak_bytes(worker) - peak
        print(f"{len(answer.body) / 1e6:.0f} MB of JSON: the peak of the worker is {grown / 1e6:.1f} MB higher")
        assert grown < 8e6


def resident_bytes(process: int) -> int:
    return _status(process, "VmRSS")


def peak_bytes(process: int) -> int:
    return _status(process, "VmHWM")


def _status(process: int, field: str) -> int:
    text = Path(f"/proc/{process}/status").read_text()
    (kilobytes,) = re.findall(rf"{field}:\s+(\d+) kB", text)
    return int(kilobytes) * 1024


# --- through Jupyter -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    with jupyter_server(tmp_path_factory.mktemp("jupyter"), base_url=BASE) as running:
        yield running


@pytest.fixture(scope="module")
def hub(jupyter: JupyterServer) -> Iterator[JupyterRelayHub]:
    made = JupyterRelayHub(registry=jupyter.registry, base_url=BASE, key_prefix="")
    yield made
    made.registry.close()


@pytest.mark.parametrize("headers", [(), ("Connection: keep-alive",)])
def test_jupyter_passes_the_json_on_as_it_comes(
    jupyter: JupyterServer, hub: JupyterRelayHub, tree: Path, headers: tuple[str, ...]
) -> None:
    fill(tree / "tiles", 3000)
    url = hub.serve_tree(tree) + "tiles/?format=json"
    answer = jupyter.fetch(url)
    assert (answer["Transfer-Encoding"], answer.is_whole) == ("chunked", True)
    assert len(json.loads(answer.body)["entries"]) == 3000
    assert jupyter.fetch(url, method="HEAD")["Content-Type"] == "application/json"
    token = f"Authorization: token {TOKEN}"
    old = ask_in_http_1_0(jupyter.address, url, token, f"X: {jupyter.port}", *headers)
    head, _, body = old.partition(b"\r\n\r\n")
    assert b"chunked" not in head.lower()
    assert len(json.loads(body)["entries"]) == 3000


# --- in a browser ----------------------------------------------------------------------------------------------------


@dataclass
class Visit(WatchedPage):
    """A page in a browser that is logged in to Jupyter."""

    jupyter: JupyterServer = field(kw_only=True)

    def open(self, url: str, *, state: str | None = "ready") -> None:
        self.requests.clear()
        self.page.goto(f"{self.jupyter.origin}{url}")
        if state is not None:
            self.page.locator(f"html[data-state={state}]").wait_for(timeout=60_000)

    def names(self) -> list[str]:
        return self.page.locator("tbody .text").all_inner_texts()

    def sort(self, column: str) -> None:
        self.page.get_by_role("columnheader", name=column).get_by_role("button").click()

    @property
    def status(self) -> str:
        return self.page.get_by_role("status").inner_text()


@contextmanager
def visiting(browser: Browser, jupyter: JupyterServer, **options: Any) -> Iterator[Visit]:
    with logged_in(browser, jupyter, viewport={"width": 1000, "height": 800}, **options) as page:
        visit = Visit(page, f"{jupyter.origin}{BASE}", jupyter=jupyter)
        yield visit
        assert visit.problems == []


@pytest.fixture
def visit(browser: Browser, jupyter: JupyterServer) -> Iterator[Visit]:
    with visiting(browser, jupyter) as opened:
        yield opened


def fill_with_science(tree: Path) -> None:
    for folder in ("frames", "catalogue", "m31.zarr"):
        (tree / folder).mkdir()
    for name, size_bytes in (("tile_2.fits", 5000), ("tile_10.fits", 20), ("Stars.csv", 1_234_567), ("notes", 1)):
        (tree / name).write_bytes(b"x" * size_bytes)
    for days, name in enumerate(("notes", "tile_10.fits", "Stars.csv", "tile_2.fits")):
        os.utime(tree / name, (1_700_000_000 + days * 86400,) * 2)
    make_picture(tree / "galaxy.png", 64)
    os.mkfifo(tree / "pipe")


def make_picture(path: Path, side: int, *, is_noisy: bool = False) -> None:
    picture = Image.effect_noise((side, side), 90) if is_noisy else Image.linear_gradient("L").resize((side, side))
    picture.save(path)


def test_a_folder_is_sorted_by_each_column(visit: Visit, hub: JupyterRelayHub, tree: Path) -> None:
    fill_with_science(tree)
    visit.open(hub.serve_tree(tree, "science"))
    folders = ["catalogue/", "frames/", "m31.zarr/"]
    files = ["galaxy.png", "notes", "pipe", "Stars.csv", "tile_2.fits", "tile_10.fits"]
    assert visit.names() == folders + files
    assert visit.page.get_by_role("columnheader", name="Name").get_attribute("aria-sort") == "ascending"
    visit.sort("Name")
    assert visit.names() == [*reversed(folders + files)]
    visit.sort("Size")
    assert visit.names()[:2] == ["Stars.csv", "tile_2.fits"]
    assert visit.names()[-4:] == [*folders, "pipe"]
    visit.sort("Size")
    assert visit.names()[:2] == ["notes", "tile_10.fits"]
    assert visit.names()[-1] == "pipe"
    visit.sort("Modified")
    times = [name for name in visit.names() if name in ("notes", "tile_10.fits", "Stars.csv", "tile_2.fits")]
    assert times == ["tile_2.fits", "Stars.csv", "tile_10.fits", "notes"]
    visit.sort("Type")
    assert visit.names()[:2] == ["notes", *folders[:1]]
    assert visit.status == "9 entries"
    assert not any("format=json" in request.url for request in visit.requests)


def test_the_list_narrows_as_one_types(visit: Visit, hub: JupyterRelayHub, tree: Path) -> None:
    fill_with_science(tree)
    visit.open(hub.serve_tree(tree))
    field = visit.page.get_by_role("searchbox", name="Filter by name")
    field.press_sequentially("TILE_")
    assert visit.names() == ["tile_2.fits", "tile_10.fits"]
    assert visit.status == "2 of 9 entries"
    field.fill("s.csv")
    assert visit.names() == ["Stars.csv"]
    field.fill(".*(")
    assert visit.names() == []
    assert visit.page.get_by_text("No name has that in it.").is_visible()
    field.fill("")
    assert len(visit.names()) == 9


def test_keys_lead_through_the_rows_and_breadcrumbs_back(visit: Visit, hub: JupyterRelayHub, tree: Path) -> None:
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "b" / "c.txt").write_text("hello")
    (tree / "z").touch()
    url = hub.serve_tree(tree, "my tiles")
    visit.open(url)
    page = visit.page
    page.get_by_role("searchbox").focus()
    for _ in range(5):  # The heads of the columns, and the first row.
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "a/"
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.textContent") == "z"
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    page.wait_for_url("**/a/")
    page.get_by_role("link", name="b/").click()
    page.wait_for_url("**/a/b/")
    assert page.get_by_role("heading").inner_text() == "b"
    crumbs = page.get_by_role("navigation", name="Breadcrumb").get_by_role("link")
    assert crumbs.all_inner_texts() == ["my tiles", "a"]
    crumbs.first.click()
    page.wait_for_url(f"**{url}")
    assert visit.names() == ["a/", "z"]


def test_pictures_are_of_the_files_themselves_and_cost_little_until_they_are_asked_for(
    visit: Visit, hub: JupyterRelayHub, tree: Path
) -> None:
    for number in range(60):
        make_picture(tree / f"small_{number:02}.png", 64)
    make_picture(tree / "a_large.png", 700, is_noisy=True)
    Image.effect_noise((1500, 1500), 90).save(tree / "b_huge.png")
    assert 128 * 1024 < (tree / "a_large.png").stat().st_size < 1024 * 1024 < (tree / "b_huge.png").stat().st_size
    visit.open(hub.serve_tree(tree))
    visit.page.wait_for_load_state("networkidle")
    first = visit.page.get_by_role("row", name="small_00.png").locator("img")
    assert first.evaluate("image => image.decode().then(() => image.naturalWidth)") == 64
    fetched = [request for request in visit.requests if request.resource_type == "image"]
    total = sum(request.sizes()["responseBodySize"] for request in fetched)
    print(f"{len(fetched)} pictures fetched, {total:,} bytes")
    assert not any("a_large" in request.url or "b_huge" in request.url for request in fetched)
    visit.page.get_by_role("button", name="Pictures").click()
    large = visit.page.get_by_role("row", name="a_large.png").locator("img")
    assert large.evaluate("image => image.decode().then(() => image.naturalWidth)") == 700
    assert visit.page.get_by_role("row", name="b_huge.png").locator("img").count() == 0
    assert visit.page.get_by_role("button", name="Pictures").get_attribute("aria-pressed") == "true"


def test_rows_link_to_their_previews(visit: Visit, hub: JupyterRelayHub, tree: Path) -> None:
    fill_with_science(tree)
    visit.open(hub.serve_tree(tree, "science"))
    preview = visit.page.get_by_role("link", name="Preview of tile_2.fits", exact=True)
    address = preview.evaluate("link => link.href")
    assert address == f"{visit.jupyter.origin}{BASE}wwtkdr/_static/preview/fits.html?url=../../science/tile_2.fits"
    assert visit.page.get_by_role("link", name="Preview of notes").count() == 0


@pytest.mark.parametrize("content", [False, True], ids=["on disk", "content key"])
def test_a_hundred_thousand_entries_are_usable(visit: Visit, hub: JupyterRelayHub, many: Path, content: bool) -> None:
    url = hub.serve_tree(many, content=content)
    page = visit.page
    begun = time.monotonic()
    visit.open(url, state=None)
    page.locator("tbody tr").first.wait_for()
    first = time.monotonic() - begun
    page.locator("html[data-state=ready]").wait_for(timeout=120_000)
    whole = time.monotonic() - begun
    print(f"{MANY:,} entries: first rows after {first:.2f} s, all after {whole:.2f} s")
    assert visit.status == "100,000 entries"
    assert visit.names()[:3] == ["tile_0.fits", "tile_1.fits", "tile_2.fits"]
    assert page.get_by_role("table").get_attribute("aria-rowcount") == "100001"
    assert page.locator("tbody tr").count() < 200
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.get_by_text("tile_99999.fits").wait_for()
    assert page.get_by_text("tile_99999.fits").evaluate("link => link.closest('tr').ariaRowIndex") == "100001"
    page.evaluate("scrollTo(0, document.body.scrollHeight / 2)")
    page.get_by_text("tile_50000.fits").wait_for()
    page.get_by_role("link", name="tile_50000.fits", exact=True).focus()
    for _ in range(60):
        page.keyboard.press("ArrowDown")
    page.wait_for_function("document.activeElement.textContent === 'tile_50060.fits'")
    visit.page.get_by_role("searchbox").fill("9999")
    assert visit.status == "19 of 100,000 entries"
    assert visit.names()[0] == "tile_9999.fits"
    row = page.get_by_role("row", name="tile_9999.fits").first
    assert row.locator("td").all_inner_texts()[:2] == ["image/fits", "0 B"]
    assert row.get_by_role("link", name="Preview of tile_9999.fits").count() == 1


def test_rows_that_the_script_makes_are_those_of_the_server(
    visit: Visit, hub: JupyterRelayHub, tree: Path, jupyter: JupyterServer
) -> None:
    """Of a folder with so many entries that the script makes all rows anew."""
    fill_with_science(tree)
    (tree / "b\udcff#%?.fits").write_bytes(b"x" * 9950)
    (tree / "<img src=x onerror=told=1>.csv").write_bytes(b"x" * 999_501)
    url = hub.serve_tree(tree, "science")
    take = """() => Object.fromEntries([...document.querySelectorAll("tbody tr:not(.space)")].map((row) => {
        const copy = row.cloneNode(true);
        copy.querySelectorAll("a").forEach((link, index) => {
            // Of the same URL there are several spellings; %FF is no text.
            link.setAttribute("href", decodeURIComponent(row.querySelectorAll("a")[index].href.replaceAll("%FF", "")));
        });
        for (const name of ["data-size", "data-picture", "aria-rowindex"]) { copy.removeAttribute(name); }
        const sorted = [...copy.querySelectorAll("*")].map((element) => [
            element.localName, ...[...element.attributes].map(({ name, value }) => `${name}=${value}`).sort(),
        ]);
        return [copy.querySelector(".text").textContent, JSON.stringify([sorted, copy.textContent])];
    }))"""
    visit.open(url)
    served = visit.page.evaluate(take)
    for number in range(1001):
        (tree / f"~{number}").touch()
    visit.open(url)
    visit.page.get_by_role("searchbox").fill(".")
    made = visit.page.evaluate(take)
    assert len(served) == 11
    assert {name: row for name, row in served.items() if "." in name} == made


def test_without_its_script_the_page_lists_and_leads_on(
    browser: Browser, jupyter: JupyterServer, hub: JupyterRelayHub, tree: Path
) -> None:
    fill(tree / "tiles", 1500)
    (tree / "sub").mkdir()
    url = hub.serve_tree(tree)
    with visiting(browser, jupyter, java_script_enabled=False) as visit:
        visit.open(url, state=None)
        assert visit.page.get_by_role("searchbox").count() == 0
        assert visit.page.get_by_role("button").count() == 0
        visit.page.get_by_role("link", name="tiles/").click()
        visit.page.wait_for_url("**/tiles/")
        assert visit.status == "300 of 1,500 entries, in the order of their names"
        seen = visit.names()
        while (following := visit.page.get_by_role("link", name="Next page")).count():
            after = f"after={seen[-1]}"
            following.click()
            visit.page.wait_for_url(f"**{after}")
            seen += visit.names()
        assert seen == sorted(f"tile_{number}.fits" for number in range(1500))
        visit.page.get_by_role("link", name="First page").click()
        visit.page.wait_for_url("**/tiles/")


def test_a_list_that_breaks_off_is_not_taken_for_whole(visit: Visit, hub: JupyterRelayHub, tree: Path) -> None:
    fill(tree / "tiles", 1500)
    url = hub.serve_tree(tree) + "tiles/"
    half = fetch(visit.jupyter.address, f"{url}?format=json", visit.jupyter.with_token).body[:50_000].decode()
    visit.page.route("**/*format=json", lambda route: route.fulfill(content_type="application/json", body=half))
    visit.open(url, state="failed")
    assert "could not be read" in visit.status
    assert visit.page.locator("tbody tr").count() == 300
    assert visit.page.get_by_role("link", name="Next page").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1000])
def test_the_page_has_no_barriers(
    browser: Browser, jupyter: JupyterServer, hub: JupyterRelayHub, tree: Path, axe: str, scheme: Any, width: int
) -> None:
    fill_with_science(tree)
    (tree / "index_rel.wtml").write_text("<Folder/>")
    fill(tree / "tiles", 1200)
    url = hub.serve_tree(tree, "science")
    # The page's policy lets no other script in.
    with visiting(browser, jupyter, color_scheme=scheme, bypass_csp=True) as visit:
        visit.page.set_viewport_size({"width": width, "height": 800})
        for folder in ("", "tiles/"):
            visit.open(url + folder)
            assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
            assert find_barriers(visit.page, axe) == []


def test_the_picture_in_the_documentation(
    browser: Browser, jupyter: JupyterServer, hub: JupyterRelayHub, tree: Path
) -> None:
    """Is taken with ``KDR_TEST_LISTING=docs/listing.png``."""
    fill_with_galaxies(tree)
    with visiting(browser, jupyter) as visit:
        visit.page.set_viewport_size({"width": 960, "height": 560})
        visit.open(hub.serve_tree(tree, "andromeda") + "survey/")
        visit.page.wait_for_load_state("networkidle")
        picture = Image.open(io.BytesIO(visit.page.screenshot())).convert("RGB")
    assert len(picture.convert("L").getcolors() or []) > 100
    if kept := os.environ.get("KDR_TEST_LISTING"):
        picture.quantize(128).save(kept, optimize=True)


def fill_with_galaxies(tree: Path) -> None:
    survey = tree / "survey"
    for folder in ("calibration frames", "catalogue", "cube.zarr"):
        (survey / folder).mkdir(parents=True)
    for number in range(1, 6):
        red, green, blue = (
            Image.radial_gradient("L").point(lambda value, power=power: round(255 * (1 - value / 255) ** power))
            for power in (2 + number, 3 + number, 2.5 + number)
        )
        Image.merge("RGB", (red, green, blue)).save(survey / f"galaxy_{number}.jpg")
    for name, size_bytes in (
        ("exposure_9.fits", 33_557_760),
        ("exposure_10.fits", 33_557_760),
        ("mosaic.tif", 812_345_678),
        ("stars.parquet", 41_234_567_890),
        ("regions.geojson", 18_220),
        ("README.md", 912),
    ):
        with open(survey / name, "wb") as file:
            file.truncate(size_bytes)
    for number, path in enumerate(sorted(survey.iterdir())):
        os.utime(path, (1_790_000_000 + number * 54_321,) * 2)
