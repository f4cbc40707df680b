"""The tutorial and the how-to guides, run as notebooks in JupyterLab: what they promise is seen."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, FrameLocator, Page

from tests.conftest import need
from tests.docs.blocks import OPTIONAL, ROOT
from tests.docs.notebooks import notebook_of
from tests.e2e.lab import count_colours, opened_notebook, wait_for_end
from tests.jupyter import QUIET_LAB, JupyterServer, jupyter_server

#: A folder for pictures of what is seen; none are kept without it.
KEPT = os.environ.get("KDR_TEST_SCREENSHOTS")


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    with jupyter_server(
        tmp_path_factory.mktemp("howtos"), *QUIET_LAB, application="lab", base_url="/user/ada/"
    ) as running:
        yield running


@contextmanager
def followed(browser: Browser, jupyter: JupyterServer, guide: str) -> Iterator[Page]:
    """Follow a guide in a kernel, and open the page that it embeds last; nothing that the page loads may fail."""
    folder = Path(jupyter.environment["HOME"]) / Path(guide).stem
    folder.mkdir()
    with jupyter.kernel() as kernel:
        kernel.run(f"import os; os.chdir({str(folder)!r})")
        address = ""
        for cell in notebook_of(ROOT / "docs" / guide).cells:
            if cell.source.startswith("%%bash"):
                need("npm", is_there=shutil.which("npm") is not None, remedy=OPTIONAL["npm"])
            # Where a guide speaks of another server, that is this one, with its token.
            source = cell.source.replace("http://127.0.0.1:8000", jupyter.origin)
            kernel.run(source.replace("token ...", f"token {jupyter.token}"))
            if embedded := re.search(r"^IFrame\((.*), width", source, re.MULTILINE):
                address = kernel.run(f"print({embedded[1]})").strip()
        page = browser.new_page(viewport={"width": 900, "height": 600})
        failures: list[str] = []
        page.on("response", lambda answer: failures.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None)
        page.on("request", lambda asked: None if asked.url.startswith((jupyter.origin, "blob:", "data:")) else failures.append(asked.url))
        page.on("pageerror", lambda error: failures.append(str(error)))
        # The login, as JupyterLab's own address with the token gives it.
        page.goto(f"{jupyter.origin}{jupyter.base_url}api/status?token={jupyter.token}")
        page.goto(f"{jupyter.origin}{address}")
        yield page
        if KEPT:
            page.screenshot(path=Path(KEPT) / f"{Path(guide).stem}.png")
        page.close()
        # A map asks for tiles beyond its edge, too.
        assert [failure for failure in failures if not re.fullmatch(r"404 .*/map/.*\.png|404 .*/\d+/\d+/\d+\.png", failure)] == []


def frame_of(shown: Page) -> FrameLocator:
    return shown.frame_locator(".jp-OutputArea-output iframe >> nth=-1")


def test_the_tutorial_ends_with_a_picture_and_a_viewer(browser: Browser, jupyter: JupyterServer) -> None:
    page = ROOT / "docs" / "tutorial.md"
    notebook = notebook_of(page)
    assert notebook.cells[-1].source == "tiles.revoke()"
    home = Path(jupyter.environment["HOME"])
    (home / "tutorial").mkdir()
    last = notebook.cells.pop()
    nbformat.write(notebook, home / "tutorial" / "tutorial.ipynb")
    with opened_notebook(browser, jupyter, "tutorial/tutorial.ipynb", height=1600) as shown:
        wait_for_end(shown)
        tile = shown.locator(".jp-OutputArea-output img")
        assert tile.evaluate("image => image.decode().then(() => image.naturalWidth)") == 256
        viewer = frame_of(shown).locator("#viewer canvas").first
        viewer.wait_for()
        shown.wait_for_timeout(1500)  # The tiles fade in.
        assert count_colours(viewer) > 50
        if KEPT:
            shown.screenshot(path=Path(KEPT) / "tutorial.png")
        address = tile.get_attribute("src")
        assert address is not None
        assert jupyter.fetch(address).status == 200
    assert last.source == "tiles.revoke()"


@pytest.mark.parametrize(
    ("guide", "selector"),
    [
        ("howto/leaflet.md", "#map"),
        ("howto/pmtiles.md", "#map"),
        ("howto/openseadragon.md", "#viewer"),
        ("howto/deckgl.md", "canvas"),
        ("howto/neuroglancer.md", "canvas"),
    ],
)
def test_a_viewer_shows_what_was_published(browser: Browser, jupyter: JupyterServer, guide: str, selector: str) -> None:
    with followed(browser, jupyter, guide) as page:
        viewer = page.locator(selector).first
        viewer.wait_for()
        deadline = time.monotonic() + 30
        while (colours := count_colours(viewer)) <= 50 and time.monotonic() < deadline:
            page.wait_for_timeout(250)
        assert colours > 50, "the viewer shows nothing"
