"""The tutorial and the how-to guides, run as notebooks in JupyterLab: what they promise is seen."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
from PIL import Image
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
def followed(browser: Browser, jupyter: JupyterServer, page: str, *, server: str = "") -> Iterator[Page]:
    """Follow a page of the documentation, in a folder of its own; nothing that it loads may fail."""
    name = Path(page).stem
    home = Path(jupyter.environment["HOME"])
    (home / name).mkdir(exist_ok=True)
    notebook = notebook_of(ROOT / "docs" / page)
    for cell in notebook.cells:
        if cell.source.startswith("%%bash"):
            need("npm", is_there=shutil.which("npm") is not None, remedy=OPTIONAL["npm"])
        # Where a page speaks of another server, that is this one, with its token.
        cell.source = cell.source.replace("http://127.0.0.1:8000", jupyter.origin).replace(
            "token ...", f"token {jupyter.token}"
        )
    nbformat.write(notebook, home / name / f"{name}.ipynb")
    failures: list[str] = []
    with opened_notebook(browser, jupyter, f"{name}/{name}.ipynb", height=1600) as shown:
        shown.on(
            "response",
            lambda answer: (
                failures.append(f"{answer.status} {answer.url}")
                if "wwtkdr" in answer.url and answer.status >= 400
                else None
            ),
        )
        shown.on(
            "requestfailed",
            lambda asked: failures.append(f"{asked.failure} {asked.url}")
            if "wwtkdr" in asked.url and asked.failure != "net::ERR_ABORTED"
            else None,
        )
        wait_for_end(shown)
        yield shown
        if KEPT:
            shown.locator(".jp-Notebook iframe, .jp-Notebook .leaflet-container").last.scroll_into_view_if_needed()
            shown.wait_for_timeout(500)
            shown.screenshot(path=Path(KEPT) / f"{name}.png")
        assert failures == []


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
    ("page", "selector"),
    [
        ("howto/leaflet.md", "#map"),
        ("howto/pmtiles.md", "#map"),
        ("howto/openseadragon.md", "#viewer"),
        ("howto/deckgl.md", "canvas"),
        ("howto/neuroglancer.md", "canvas"),
    ],
)
def test_a_viewer_shows_what_was_published(
    browser: Browser, jupyter: JupyterServer, page: str, selector: str
) -> None:
    with followed(browser, jupyter, page) as shown:
        viewer = frame_of(shown).locator(selector).first
        viewer.wait_for()
        shown.wait_for_timeout(2500)
        assert count_colours(viewer) > 50
