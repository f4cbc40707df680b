"""JupyterLab as a person uses it: a notebook is opened, and all its cells are run."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image
from playwright.sync_api import Browser, Locator, Page

from tests.jupyter import JupyterServer


@contextmanager
def opened_notebook(browser: Browser, jupyter: JupyterServer, notebook: str, *, height: int = 1280) -> Iterator[Page]:
    """Open a notebook in a JupyterLab without sidebars and run all its cells."""
    page = browser.new_page(viewport={"width": 1200, "height": height})
    page.goto(f"{jupyter.origin}{jupyter.base_url}lab/tree/{notebook}?token={jupyter.token}&reset")
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
    # Whether one wants news of Jupyter.
    page.add_style_tag(content=".Toastify { display: none }")
    run_all_cells(page)
    try:
        yield page
    finally:
        page.close()


def run_all_cells(page: Page) -> None:
    """Run all cells of the notebook that JupyterLab or Notebook shows, once its kernel is there."""
    page.wait_for_selector(
        '.jp-Toolbar-kernelStatus[data-status="idle"], .jp-Notebook-ExecutionIndicator[data-status="idle"]',
        timeout=60_000,
    )
    page.locator(".jp-Notebook .jp-Cell").first.click()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()


def wait_for_end(page: Page, seconds: float = 60) -> None:
    """Wait until all cells have been run; fail if one has an error."""
    page.wait_for_function(
        """() => {
            const prompts = [...document.querySelectorAll(".jp-Notebook .jp-CodeCell .jp-InputPrompt")];
            return prompts.length > 0 && prompts.every((prompt) => /\\[\\d+\\]/.test(prompt.textContent));
        }""",
        timeout=seconds * 1000,
    )
    kinds = [f'[data-mime-type="application/vnd.jupyter.{kind}"]' for kind in ("stderr", "error")]
    errors = page.locator(".jp-OutputArea-output").and_(page.locator(", ".join(kinds)))
    assert errors.all_inner_texts() == []


def count_colours(shown: Locator) -> int:
    """Return how many colours a person sees there."""
    picture = Image.open(io.BytesIO(shown.screenshot())).convert("RGB")
    return len(picture.getcolors(picture.width * picture.height) or [])
