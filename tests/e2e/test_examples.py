"""The notebooks of examples/: each runs, what it publishes is read, and what it shows is seen in JupyterLab."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from playwright.sync_api import Browser, Page

from tests.conftest import need_zarr
from tests.e2e.lab import count_colours, opened_notebook, wait_for_end
from tests.jupyter import QUIET_LAB, JupyterServer, jupyter_server

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOKS = sorted(path.stem for path in EXAMPLES.glob("*.ipynb"))

#: A folder for pictures of what is seen; none are kept without it.
KEPT = os.environ.get("KDR_TEST_SCREENSHOTS")

#: Prints the address of everything that a notebook has published.
PUBLISHED = """
import json
from hub import PublishedURL
print(json.dumps([str(value) for value in [*globals().values()] if isinstance(value, PublishedURL)]))
"""


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    folder = tmp_path_factory.mktemp("examples")
    with jupyter_server(folder, *QUIET_LAB, application="lab", base_url="/user/ada/") as running:
        for name in NOTEBOOKS:
            (Path(running.environment["HOME"]) / name).mkdir()
            shutil.copy(EXAMPLES / f"{name}.ipynb", Path(running.environment["HOME"]) / name)
        yield running


def read(name: str) -> Any:
    return nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_an_example_is_kept_without_what_it_printed(name: str) -> None:
    cells = [cell for cell in read(name).cells if cell.cell_type == "code"]
    assert [cell.outputs for cell in cells] == [[] for _ in cells]
    assert {cell.execution_count for cell in cells} == {None}


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_an_example_runs_and_what_it_publishes_is_read(name: str, jupyter: JupyterServer) -> None:
    Path(os.environ["HOME"]).mkdir()
    need_zarr((EXAMPLES / f"{name}.ipynb").read_text())
    notebook = read(name)
    notebook.cells.append(nbformat.v4.new_code_cell(PUBLISHED))
    # As a kernel of that server gets it.
    kernel = {**jupyter.environment, "KDR_REGISTRY": str(jupyter.registry), "KDR_BASE_URL": jupyter.base_url}
    folder = Path(jupyter.environment["HOME"]) / name
    NotebookClient(notebook, timeout=100, resources={"metadata": {"path": str(folder)}}).execute(env=kernel)
    addresses = json.loads(notebook.cells[-1].outputs[0].text)
    assert addresses != []
    for address in addresses:
        assert jupyter.fetch(address).status == 200


#: Of each notebook: what is seen, how many colours it has at the least, and what is said beside it.
SEEN = {
    "fits_cube": ("canvas", 100, "plane 0: status 206, 262144 bytes"),
    "pmtiles": ("canvas", 50, "21 tiles in the directory, 16 drawn"),
    "zarr_slices": ("canvas", 100, "slice 32 of 64: 4 chunks"),
    "cog_ipyleaflet": (".leaflet-container", 100, "heights.tif"),
    "anywidget": ("img", 3, ""),
}


@pytest.mark.parametrize("name", SEEN)
def test_an_example_shows_what_it_promises(name: str, browser: Browser, jupyter: JupyterServer) -> None:
    need_zarr((EXAMPLES / f"{name}.ipynb").read_text())
    selector, colours, told = SEEN[name]
    with opened_notebook(browser, jupyter, f"{name}/{name}.ipynb", height=1700) as page:
        shown = page.locator(f".jp-OutputArea-output {selector}").first
        page.locator(".jp-OutputArea", has_text=told).last.wait_for(timeout=100_000)
        shown.wait_for(timeout=60_000)
        wait_for_end(page)
        page.wait_for_timeout(1000)
        assert count_colours(shown) >= colours
        keep(page, name)


def test_the_pyramid_of_the_examples_is_seen_in_its_viewer(browser: Browser, jupyter: JupyterServer) -> None:
    with opened_notebook(browser, jupyter, "tile_pyramid/tile_pyramid.ipynb") as page:
        viewer = page.frame_locator(".jp-OutputArea-output iframe").locator("#viewer canvas").first
        viewer.wait_for(timeout=60_000)
        wait_for_end(page)
        page.wait_for_timeout(1500)  # The tiles fade in.
        assert count_colours(viewer) > 50
        keep(page, "tile_pyramid")


def test_a_slider_reads_another_plane(browser: Browser, jupyter: JupyterServer) -> None:
    with opened_notebook(browser, jupyter, "fits_cube/fits_cube.ipynb", height=1700) as page:
        page.get_by_text("plane 0: status 206").wait_for(timeout=100_000)
        slider = page.get_by_role("slider", name="plane")
        slider.focus()
        slider.press("ArrowRight")
        page.get_by_text("plane 1: status 206, 262144 bytes").wait_for()


def test_every_example_is_looked_at() -> None:
    assert set(NOTEBOOKS) == {*SEEN, "tile_pyramid"}


def keep(page: Page, name: str) -> None:
    if KEPT:
        page.screenshot(path=Path(KEPT) / f"{name}.png")
