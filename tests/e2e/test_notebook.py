"""What a person sees: notebooks that are run in JupyterLab and Notebook, in a real browser."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser

from kdr_wsgi.demo.lab import NOTEBOOK
from kdr_wsgi.demo.pyramid import make_pyramid
from tests.e2e.lab import opened_notebook
from tests.jupyter import QUIET_LAB, JupyterServer, jupyter_server

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    folder = tmp_path_factory.mktemp("lab")
    home = folder / "home"
    make_pyramid(home / "pyramid")
    shutil.copy(NOTEBOOK, home)
    shutil.copy(EXAMPLES / "anywidget.ipynb", home)
    with jupyter_server(folder, *QUIET_LAB, application="lab", base_url="/user/ada/") as running:
        yield running


def test_the_demonstrations_notebook_shows_tile_and_viewer(browser: Browser, jupyter: JupyterServer) -> None:
    with opened_notebook(browser, jupyter, NOTEBOOK.name) as page:
        failures: list[str] = []
        page.on(
            "response",
            lambda answer: failures.append(answer.url) if "wwtkdr" in answer.url and answer.status >= 400 else None,
        )
        frame = page.frame_locator(".jp-OutputArea-output iframe:not(.kdr-card iframe)")
        frame.locator("html[data-state=ready]").wait_for(timeout=60_000)
        tile = page.locator(".jp-OutputArea-output img")
        assert tile.evaluate("image => image.decode().then(() => image.naturalWidth)") == 256
        link = page.locator(".jp-OutputArea-output a").first
        assert link.inner_text().startswith("/user/ada/wwtkdr/")
        with page.context.expect_page() as opened:
            link.click()
        opened.value.wait_for_load_state()
        assert "index_rel.wtml" in opened.value.content()
        opened.value.close()
        page.wait_for_timeout(1500)  # The tiles fade in.
        shown = Image.open(io.BytesIO(frame.locator("#viewer").screenshot())).convert("L")
        assert len(shown.getcolors() or []) > 50, "the viewer shows nothing"
        assert failures == []
        # The picture in docs/ is made here: KDR_TEST_SCREENSHOT=docs/jupyterlab.jpg pytest tests/e2e/test_notebook.py
        if kept := os.environ.get("KDR_TEST_SCREENSHOT"):
            Image.open(io.BytesIO(page.screenshot())).convert("RGB").save(kept, quality=85)


def test_the_anywidget_example_shows_its_images(browser: Browser, jupyter: JupyterServer) -> None:
    with opened_notebook(browser, jupyter, "anywidget.ipynb") as page:
        images = page.locator(".jp-OutputArea-output img")
        images.nth(2).wait_for(timeout=60_000)
        for number in range(3):
            assert images.nth(number).evaluate("image => image.decode().then(() => image.naturalWidth)") == 120
