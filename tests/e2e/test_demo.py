"""The demonstration as a newcomer runs it, and the page that it shows, in a real browser."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageStat
from playwright.sync_api import Browser, Page

from hub import JupyterRelayHub
from hub.version import VERSION
from kdr_wsgi.demo.pyramid import make_pyramid
from tests.conftest import LiveServer, live_server
from tests.e2e.pages import wait_for_state

PIXELS = 512


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "pyramid"
    make_pyramid(folder)
    return folder


@pytest.fixture(scope="module")
def demo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def broken(pyramid: Path, tmp_path: Path) -> Path:
    """The pyramid, to be broken by the test."""
    return Path(shutil.copytree(pyramid, tmp_path / "broken"))


def page_url(server: LiveServer, folder: Path) -> str:
    static = JupyterRelayHub.get_static_files_url(server.hub)
    tiles = server.hub.serve_tree(folder, visibility="public")
    return f"http://127.0.0.1:{server.address[1]}{static}preview/pyramid.html?url={tiles}"


@contextmanager
def opened(browser: Browser, url: str) -> Iterator[tuple[Page, list[str]]]:
    """Open a page; yield it, and what goes wrong on it."""
    page = browser.new_page(viewport={"width": PIXELS, "height": PIXELS + 100})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("response", lambda answer: errors.append(f"{answer.status} {answer.url}") if answer.status >= 500 else None)
    page.goto(url)
    yield page, errors
    page.close()


def difference(page: Page, pyramid: Path) -> float:
    """Return how far what is shown is from the top tile's part with data: the mean over pixels, of 255."""
    page.wait_for_timeout(1500)  # The tiles fade in.
    shown = Image.open(io.BytesIO(page.locator("#viewer").screenshot())).convert("RGB")
    tile = Image.open(pyramid / "0" / "0" / "0_0.png").convert("RGBA")
    extent = tile.getchannel("A").getbbox()
    assert extent is not None
    expected = tile.crop(extent).convert("RGB")
    # The page shows that part as large as fits, in the middle.
    scale = min(shown.width / expected.width, shown.height / expected.height)
    width, height = expected.width * scale, expected.height * scale
    left, top = (shown.width - width) / 2, (shown.height - height) / 2
    part = shown.crop((round(left), round(top), round(left + width), round(top + height)))
    small = [image.resize((64, 64), Image.Resampling.BOX) for image in (part, expected)]
    statistics: Any = ImageStat.Stat(ImageChops.difference(*small))
    return float(max(statistics.mean))


def test_the_page_shows_the_pyramid(browser: Browser, demo_server: LiveServer, pyramid: Path) -> None:
    with opened(browser, page_url(demo_server, pyramid)) as (page, errors):
        assert wait_for_state(page) == "ready", page.locator("#status").inner_text()
        assert page.locator("h1").inner_text() == "NGC 7552, Gemini Observatory"
        assert difference(page, pyramid) < 6
        assert errors == []


def test_zooming_in_shows_finer_tiles(browser: Browser, demo_server: LiveServer, pyramid: Path) -> None:
    urls = []
    with opened(browser, page_url(demo_server, pyramid)) as (page, errors):
        page.on("response", lambda answer: urls.append(answer.url))
        wait_for_state(page)
        page.mouse.move(PIXELS / 2, PIXELS / 2)
        for _ in range(6):
            page.mouse.wheel(0, -300)
            page.wait_for_timeout(150)
        page.wait_for_timeout(1000)
        assert wait_for_state(page) == "ready"
        levels = {found[1] for url in urls if (found := re.search(r"/(\d)/\d+/\d+_\d+\.png", url))}
        assert max(levels) == max(folder.name for folder in pyramid.iterdir() if folder.name.isdigit())
        assert errors == []


def test_a_damaged_tile_fails_the_page(browser: Browser, demo_server: LiveServer, broken: Path) -> None:
    (broken / "1" / "0" / "0_1.png").write_bytes(b"no image")
    with opened(browser, page_url(demo_server, broken)) as (page, _):
        assert wait_for_state(page) == "failed"
        assert "could not be read" in page.locator("#status").inner_text()


def test_wrong_tiles_are_seen(browser: Browser, demo_server: LiveServer, pyramid: Path, broken: Path) -> None:
    for path in broken.glob("[1-9]/*/*.png"):
        Image.new("RGB", (256, 256)).save(path)
    with opened(browser, page_url(demo_server, broken)) as (page, _):
        wait_for_state(page)
        assert difference(page, pyramid) > 6


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("", "Name what is to be shown"),
        ("?url=https://elsewhere.example/x/", "of its own relay server only"),
        ("?url=javascript:alert(1)", "of its own relay server only"),
        ("?url=/wwtkdr/unknown/", "status 404"),
    ],
)
def test_a_wrong_address_is_explained(browser: Browser, demo_server: LiveServer, query: str, told: str) -> None:
    static = JupyterRelayHub.get_static_files_url(demo_server.hub)
    with opened(browser, f"http://127.0.0.1:{demo_server.address[1]}{static}preview/pyramid.html{query}") as (page, _):
        assert wait_for_state(page) == "failed"
        assert told in page.locator("#status").inner_text()


def test_script_in_data_runs_without_the_viewers_login(browser: Browser, demo_server: LiveServer, tree: Path) -> None:
    (tree / "evil.html").write_text(
        "<script>document.title = origin;try { document.cookie } catch (e) { document.title += ' no cookies' }</script>"
    )
    url = demo_server.hub.serve_tree(tree, visibility="public")
    with opened(browser, f"http://127.0.0.1:{demo_server.address[1]}{url}evil.html") as (page, _):
        assert page.title() == "null no cookies"


def kdr_demo(registry: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "kdr_wsgi", "demo", "--registry", str(registry), *arguments]


@pytest.mark.parametrize(("arguments", "static"), [(["--plain"], "static"), ([], "pywwt_static")])
def test_demo_check_reads_tiles_through_the_server_and_leaves_nothing(
    registry_path: Path, arguments: list[str], static: str
) -> None:
    command = kdr_demo(registry_path, "--check", *arguments)
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.count("ok    ") == (6 if arguments else 7)
    listed = subprocess.run(
        [sys.executable, "-m", "kdr_wsgi", "list", "--registry", str(registry_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert [line.split()[0] for line in listed.stdout.splitlines()] == [f"{static}{VERSION}"]
    assert list((registry_path.parent / "registry.sqlite.servers").iterdir()) == []


def open_demo(process: subprocess.Popen[str]) -> str:
    """Return the address that a demonstration says to open."""
    assert process.stdout is not None
    while not (line := process.stdout.readline()).startswith("open "):
        assert line, "the demonstration has ended"
    return line.removeprefix("open ").strip()


def test_the_plain_demo_ends_with_a_signal_and_leaves_no_process(browser: Browser, registry_path: Path) -> None:
    command = kdr_demo(registry_path, "--plain")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        with opened(browser, open_demo(process)) as (page, errors):
            assert wait_for_state(page) == "ready"
            assert errors == []
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_the_demo_opens_its_notebook_in_jupyterlab_and_ends_with_a_signal(
    browser: Browser, registry_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with subprocess.Popen(
        kdr_demo(registry_path), stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        page = browser.new_page()
        page.goto(open_demo(process))
        page.locator(".jp-Notebook h1").get_by_text("A tile pyramid").wait_for(timeout=60_000)
        page.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert [*tmp_path.glob("kdr-*")] == []


def test_a_pyramid_makes_the_viewer_ask_for_nothing_else(
    demo_server: LiveServer, browser: Browser, broken: Path
) -> None:
    description = broken / "index_rel.wtml"
    url = re.sub(r'Url="[^"]*"', 'Url="/hub/logout?{1}{2}{3}"', description.read_text())
    description.write_text(url)
    asked: list[str] = []
    page = browser.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.goto(page_url(demo_server, broken))
    page.wait_for_selector("html[data-state=failed]")
    assert "must lie below its folder" in page.inner_text("#status")
    assert not any("logout" in url for url in asked)
    page.close()
