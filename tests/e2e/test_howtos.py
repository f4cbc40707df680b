"""The tutorial and the how-to guides, run as notebooks in JupyterLab: what they promise is seen."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, FrameLocator, Page

from tests.conftest import free_port, need, need_zarr, wait_for_port
from tests.docs.blocks import OPTIONAL, ROOT
from tests.docs.notebooks import notebook_of
from tests.e2e.lab import count_colours, opened_notebook, wait_for_end
from tests.e2e.pages import logged_in
from tests.jupyter import QUIET_LAB, JupyterServer, Kernel, jupyter_server

#: A folder for pictures of what is seen; none are kept without it.
KEPT = os.environ.get("KDR_TEST_SCREENSHOTS")


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    with jupyter_server(
        tmp_path_factory.mktemp("howtos"), *QUIET_LAB, application="lab", base_url="/user/ada/"
    ) as running:
        yield running


LOCAL = re.compile(r"http://127\.0\.0\.1:|blob:|data:")

#: What a viewer asks for that need not be there: tiles beyond the edge of a map, and parts of a HiPS.
MAY_BE_MISSING = re.compile(r"404 .*(/\d+/\d+/\d+\.png|/Moc\.fits|/Norder3/Allsky\.png)")


@contextmanager
def followed(jupyter: JupyterServer, guide: str, server: str) -> Iterator[Kernel]:
    """Follow a guide in a kernel, with `server` for the one that it speaks of."""
    need_zarr((ROOT / "docs" / guide).read_text())
    folder = Path(jupyter.environment["HOME"]) / Path(guide).stem
    folder.mkdir()
    with jupyter.kernel() as kernel:
        kernel.run(f"import os; os.chdir({str(folder)!r})")
        for cell in notebook_of(ROOT / "docs" / guide).cells:
            if cell.source.startswith("%%bash"):
                need("npm", is_there=shutil.which("npm") is not None, remedy=OPTIONAL["npm"])
            source = cell.source.replace("http://127.0.0.1:8000", server)
            kernel.run(source.replace("token ...", f"token {jupyter.token}"))
        yield kernel


@contextmanager
def looked_at(browser: Browser, jupyter: JupyterServer, url: str) -> Iterator[Page]:
    """Open a page with the login; it asks for nothing from elsewhere, and nothing that it needs fails."""
    failures: list[str] = []
    with logged_in(browser, jupyter, viewport={"width": 900, "height": 600}) as page:
        page.on("response", lambda answer: failures.append(f"{answer.status} {answer.url}"))
        page.on("request", lambda asked: failures.append(f"{LOCAL.match(asked.url) and 200} {asked.url}"))
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.goto(url)
        yield page
    kept = [told for told in failures if not re.match(r"[23]\d\d ", told) and not MAY_BE_MISSING.fullmatch(told)]
    assert kept == []


def wait_for_picture(page: Page, selector: str, colours: int = 50) -> None:
    """Wait until a person sees something there."""
    viewer = page.locator(selector).first
    viewer.wait_for()
    deadline = time.monotonic() + 60
    while (seen := count_colours(viewer)) <= colours and time.monotonic() < deadline:
        page.wait_for_timeout(250)
    assert seen > colours, "the viewer shows nothing"


def frame_of(shown: Page) -> FrameLocator:
    return shown.frame_locator(".jp-OutputArea-output iframe >> nth=-1")


def test_the_tutorial_ends_with_a_picture_and_a_viewer(browser: Browser, jupyter: JupyterServer) -> None:
    page = ROOT / "docs" / "tutorial.md"
    notebook = notebook_of(page)
    assert notebook.cells[-1].source == "tiles.revoke()"
    home = Path(jupyter.environment["HOME"])
    (home / "tutorial").mkdir(exist_ok=True)
    notebook.cells.pop()
    nbformat.write(notebook, home / "tutorial" / "tutorial.ipynb")
    with opened_notebook(browser, jupyter, "tutorial/tutorial.ipynb", height=2000) as shown:
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


@pytest.mark.parametrize(
    ("guide", "selector"),
    [
        ("howto/aladin.md", "#sky"),
        ("howto/leaflet.md", "#map"),
        ("howto/pmtiles.md", "#map"),
        ("howto/openseadragon.md", "#viewer"),
        ("howto/deckgl.md", "canvas"),
    ],
)
def test_a_viewer_shows_what_was_published(browser: Browser, jupyter: JupyterServer, guide: str, selector: str) -> None:
    embedded = re.search(
        r"^IFrame\((.*), width", (ROOT / "docs" / guide).read_text().rpartition("import IFrame")[2], re.M
    )
    assert embedded is not None
    with followed(jupyter, guide, jupyter.origin) as kernel:
        address = kernel.run(f"print({embedded[1]})").strip()
    # The kernel has gone; the viewer does without.
    with looked_at(browser, jupyter, jupyter.origin + address) as page:
        # The controls of Aladin have colours of their own.
        wait_for_picture(page, selector, 2500 if "aladin" in guide else 50)
        keep(page, guide)


def test_neuroglancer_reads_a_public_volume_from_another_port(browser: Browser, jupyter: JupyterServer) -> None:
    port = free_port()
    command = [sys.executable, "-m", "kdr_wsgi", "serve", "--registry", str(jupyter.registry), "--workers", "1"]
    with subprocess.Popen([*command, "--bind", f"127.0.0.1:{port}"]) as server:
        try:
            wait_for_port(port, server)
            with followed(jupyter, "howto/neuroglancer.md", f"http://127.0.0.1:{port}") as kernel:
                address = kernel.run("print(viewer.get_viewer_url())").strip()
                # What the kernel's own server lacks (its icon) is not ours.
                page = browser.new_page(viewport={"width": 900, "height": 600})
                chunks: list[int] = []
                page.on("response", lambda answer: chunks.append(answer.status) if "/s0/" in answer.url else None)
                page.goto(address)
                wait_for_picture(page, "canvas")
                keep(page, "howto/neuroglancer.md")
                page.close()
            assert set(chunks) == {200}
        finally:
            server.terminate()


@pytest.mark.parametrize("guide", ["howto/dask.md", "howto/zarr.md"])
def test_a_guide_without_a_viewer_runs_in_a_kernel(jupyter: JupyterServer, guide: str) -> None:
    with followed(jupyter, guide, jupyter.origin) as kernel:
        assert jupyter.fetch(kernel.run("print(url)").strip()).status == 200


def test_every_guide_is_tried() -> None:
    # howto/object-stores.md needs a store: test_objects_http.py publishes from one.
    tried = {*re.findall(r"howto/[\w-]+\.md", Path(__file__).read_text())}
    assert {f"howto/{path.name}" for path in (ROOT / "docs" / "howto").glob("*.md")} == tried


def keep(page: Page, guide: str) -> None:
    if KEPT:
        page.screenshot(path=Path(KEPT) / f"{Path(guide).stem}.png")
