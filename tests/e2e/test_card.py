"""What a person sees of a publication in JupyterLab, Notebook and the classic notebook, in a real browser."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page

from hub.client import JupyterRelayHub
from tests.conftest import need
from tests.e2e.lab import run_all_cells
from tests.e2e.pages import WatchedPage, find_barriers
from tests.jupyter import QUIET_LAB, TOKEN, JupyterServer, jupyter_server

BASE = "/user/ada/"

#: Another than the default, so that nothing takes that for granted.
ROUTE = "published"
RED = (200, 20, 40)

CELLS = (
    "import hub\nrelay = hub.get_relay_hub()\nrelay.serve_file('red.png')",
    "url = relay.serve_tree('galaxy', key='GALAXY', visibility='users', ttl=86400)\ndisplay(url, url)",
    "relay.serve_tree('<img src=x onerror=alert(1)> $x$', key='HOSTILE')",
    "hub.list()",
)

APPLICATIONS = ("lab", "notebook", "nbclassic")

#: Where Jupyter looks for what JupyterLab loads.
TILE = Path(sys.prefix, "share", "jupyter", "labextensions", "kdr-wsgi", "package.json")


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    folder = tmp_path_factory.mktemp("cards")
    home = folder / "home"
    (home / "galaxy" / "0" / "0").mkdir(parents=True)
    (home / "galaxy" / "0" / "0" / "0.png").write_bytes(b"tile")
    (home / "<img src=x onerror=alert(1)> $x$").mkdir()
    Image.new("RGB", (300, 200), RED).save(home / "red.png")
    with jupyter_server(
        folder, *QUIET_LAB, f"--KernelDataRelay.route={ROUTE}", application="lab", base_url=BASE
    ) as running:
        yield running


def write_notebook(home: Path, name: str, cells: tuple[str, ...], outputs: list[dict[str, Any]] | None = None) -> None:
    told: list[dict[str, Any]] = [
        {
            "cell_type": "code",
            "id": f"cell-{number}",
            "metadata": {},
            "execution_count": None,
            "source": cell,
            "outputs": outputs or [],
        }
        for number, cell in enumerate(cells)
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel}, "cells": told}
    (home / f"{name}.ipynb").write_text(json.dumps(notebook))


@contextmanager
def opened(browser: Browser, jupyter: JupyterServer, application: str, name: str) -> Iterator[tuple[Page, list[str]]]:
    """Open a notebook; yield its page, and what went wrong there that is ours."""
    page = browser.new_page(viewport={"width": 1200, "height": 1300})
    wrong: list[str] = []

    def note(message: ConsoleMessage) -> None:
        # The applications themselves have a lot to say; on a busy machine also of how long something took.
        is_ours = "kdr" in message.text or ROUTE in str(message.location)
        if message.type in ("error", "warning") and is_ours and "to activate" not in message.text:
            wrong.append(message.text)

    page.on("console", note)
    page.on("dialog", lambda dialog: wrong.append(dialog.message) if dialog.type == "alert" else dialog.accept())
    folder = {"lab": "lab/tree", "notebook": "notebooks", "nbclassic": "nbclassic/notebooks"}[application]
    reset = "&reset" if application == "lab" else ""
    page.goto(f"{jupyter.origin}{BASE}{folder}/{name}.ipynb?token={TOKEN}{reset}")
    try:
        yield page, wrong
    finally:
        page.close()


def run_all(page: Page, application: str) -> None:
    if application == "nbclassic":
        need("nbclassic", is_there=find_spec("nbclassic") is not None, remedy="pip install nbclassic")
        page.wait_for_function("window.Jupyter?.notebook?.kernel?.is_connected() && Jupyter.notebook._fully_loaded")
        page.evaluate("Jupyter.notebook.execute_all_cells()")
    else:
        run_all_cells(page)
    page.locator(".kdr-table").wait_for(timeout=60_000)


def published(jupyter: JupyterServer) -> set[str]:
    hub = JupyterRelayHub(registry=jupyter.registry, base_url=BASE)
    try:
        return {one.key for one in hub.list()}
    finally:
        hub.registry.close()


@pytest.mark.parametrize("application", APPLICATIONS)
def test_a_card_shows_and_its_button_revokes(
    browser: Browser, jupyter: JupyterServer, application: str, axe: str
) -> None:
    key = f"pywwt_{application}"
    cells = tuple(cell.replace("GALAXY", application) for cell in CELLS)
    write_notebook(jupyter.folder / "home", application, cells)
    with opened(browser, jupyter, application, application) as (page, wrong):
        previews: list[str] = []
        page.on("request", lambda request: previews.append(request.url) if "/preview/" in request.url else None)
        # What these pages show is another test's.
        page.route("**/_static/preview/**", lambda route: route.fulfill(body="<p>preview", content_type="text/html"))
        run_all(page, application)
        thumbnail = page.locator("img.kdr-thumb")
        assert thumbnail.evaluate("image => image.decode().then(() => image.naturalWidth)") == 300
        seen = Image.open(io.BytesIO(thumbnail.screenshot())).convert("RGB")
        assert seen.getpixel((seen.width // 2, seen.height // 2)) == RED
        cards = page.locator(f".kdr-one[data-kdr-key='{key}']")
        assert cards.count() == 2
        for said in ("galaxy", "folder, 1 file, 4 bytes", "whoever is logged in"):
            assert said in cards.first.inner_text()
        assert "<img src=x onerror=alert(1)> $x$" in page.locator(".kdr-one").last.inner_text()
        assert page.locator(".kdr-table tbody tr").count() >= 3
        for where in (".kdr-one", ".kdr-wide"):
            assert find_barriers(page, axe, where) == []
        assert previews == [], "a preview is loaded before somebody asks for it"
        with page.expect_request(lambda request: "/_static/preview/pyramid.html?url=" in request.url):
            cards.first.locator("summary").click()

        assert key in published(jupyter)
        cards.last.get_by_role("button", name="Revoke galaxy").click()
        for place in (cards.first, cards.last, page.locator(f"tr[data-kdr-key='{key}']")):
            place.get_by_text("Revoked", exact=True).wait_for()
            line = place.locator(".kdr-link a").evaluate("link => getComputedStyle(link).textDecorationLine")
            assert "line-through" in line
            assert place.get_by_role("button").count() == 0
        assert key not in published(jupyter)
        assert "pywwt_HOSTILE" in published(jupyter)
        page.locator("tr[data-kdr-key='pywwt_HOSTILE']").get_by_role("button").press("Enter")
        page.locator("tr[data-kdr-key='pywwt_HOSTILE']").get_by_text("Revoked", exact=True).wait_for()
        assert "pywwt_HOSTILE" not in published(jupyter)
        assert wrong == []


def test_what_was_revoked_elsewhere_looks_so_where_the_notebook_is_seen_again(
    browser: Browser, jupyter: JupyterServer
) -> None:
    write_notebook(jupyter.folder / "home", "elsewhere", tuple(c.replace("GALAXY", "elsewhere") for c in CELLS))
    with opened(browser, jupyter, "lab", "elsewhere") as (page, wrong):
        run_all(page, "lab")
        card = page.locator(".kdr-one[data-kdr-key=pywwt_elsewhere]").first
        card.get_by_role("button", name="Revoke galaxy").wait_for()
        card.get_by_text("whoever is logged in").wait_for()
        hub = JupyterRelayHub(registry=jupyter.registry, base_url=BASE)
        assert hub.registry.revoke("pywwt_elsewhere")
        hub.registry.close()
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        card.get_by_text("Not published any more").wait_for()
        page.locator("tr[data-kdr-key=pywwt_elsewhere]").get_by_text("Not published any more").wait_for()
        for gone in (card.get_by_text("whoever is logged in"), card.locator("details"), card.get_by_role("button")):
            assert not gone.is_visible()
        assert page.locator("tr[data-kdr-key=pywwt_HOSTILE]").get_by_role("button").is_visible()
        assert wrong == []


def test_a_preview_in_a_dark_notebook_is_dark(browser: Browser, jupyter: JupyterServer) -> None:
    write_notebook(jupyter.folder / "home", "dark", (*CELLS[:2], "hub.list()"))
    with opened(browser, jupyter, "lab", "dark") as (page, _):
        page.wait_for_function("document.body.dataset.jpThemeLight")
        page.evaluate("document.body.dataset.jpThemeLight = 'false'")
        run_all(page, "lab")
        card = page.locator(".kdr-one[data-kdr-key=pywwt_GALAXY]").first
        card.locator("summary").click()
        shown = card.frame_locator("iframe").locator("body")
        shown.wait_for()
        red, green, blue = shown.evaluate(
            "body => getComputedStyle(body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
        )
        assert max(red, green, blue) < 60


def test_a_revocation_that_fails_says_what_to_call(browser: Browser, jupyter: JupyterServer) -> None:
    write_notebook(jupyter.folder / "home", "fails", (*CELLS[:2], "hub.list()"))
    with opened(browser, jupyter, "lab", "fails") as (page, _):
        page.route("**/_api/registrations*", lambda route: route.fulfill(status=403))
        run_all(page, "lab")
        card = page.locator(".kdr-one[data-kdr-key=pywwt_GALAXY]").first
        button = card.get_by_role("button", name="Revoke galaxy")
        button.click()
        card.get_by_text("Not revoked (status 403); call url.revoke() in a cell.").wait_for()
        row = page.locator("tr[data-kdr-key=pywwt_GALAXY]")
        row.get_by_role("button").click()
        row.get_by_text("call hub.list()['pywwt_GALAXY'].revoke() in a cell.").wait_for()
        page.unroute("**/_api/registrations*")
        page.route("**/_api/registrations*", lambda route: route.abort())
        button.click()
        card.get_by_text("Not revoked; call url.revoke() in a cell.").wait_for()


@pytest.fixture
def outputs(tmp_path: Path) -> list[dict[str, Any]]:
    """What a saved notebook has of a card, and of a table."""
    (tmp_path / "tree").mkdir()
    hub = JupyterRelayHub(registry=tmp_path / "registry" / "registry.sqlite", base_url=BASE, route=ROUTE)
    url = hub.serve_tree(tmp_path / "tree", "saved", trusted=True)
    shown = [url._repr_html_(), hub.list()._repr_html_()]
    hub.registry.close()
    return [{"output_type": "display_data", "metadata": {}, "data": {"text/html": html}} for html in shown]


@pytest.mark.parametrize("application", APPLICATIONS)
def test_a_notebook_that_is_not_trusted_shows_facts_and_no_button(
    browser: Browser, jupyter: JupyterServer, application: str, outputs: list[dict[str, Any]]
) -> None:
    write_notebook(jupyter.folder / "home", f"foreign-{application}", ("url",), outputs)
    with opened(browser, jupyter, application, f"foreign-{application}") as (page, wrong):
        link = page.locator(f"a[href='{BASE}{ROUTE}/pywwt_saved/']").first
        link.wait_for(timeout=60_000)
        area = page.locator(".jp-OutputArea, .output").first
        area.get_by_text("only you").first.wait_for()
        assert "act with the login" in area.inner_text()
        assert "--kdr-line" not in area.inner_text(), "the text of the style shows"
        assert "querySelector" not in area.inner_text(), "the text of the script shows"
        assert page.locator(".kdr-button").count() == 0
        assert wrong == []


def test_an_exported_notebook_asks_nothing_of_any_server(
    browser: Browser, tmp_path: Path, outputs: list[dict[str, Any]]
) -> None:
    write_notebook(tmp_path, "exported", ("url",), outputs)
    command = [sys.executable, "-m", "nbconvert", "--to", "html", "exported.ipynb"]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path, timeout=100)
    page = browser.new_page()
    address = (tmp_path / "exported.html").as_uri()
    watched = WatchedPage(page, address)
    page.route("https://**", lambda route: route.fulfill(body=""))
    page.goto(address)
    page.get_by_text("only you").first.wait_for()
    assert page.locator(".kdr-button").count() == 0
    assert [problem for problem in watched.problems if "kdr" in problem or ROUTE in problem] == []
    page.close()


def test_what_somebody_else_wrote_leads_a_button_nowhere_else(browser: Browser, jupyter: JupyterServer) -> None:
    """Jupyter's own API deletes files by the same method."""
    html = (
        "<div class=kdr-card data-kdr-key=k data-kdr-at='/user/ada/api/contents/red.png?' data-kdr-name=a>"
        "<span class=kdr-act></span></div>"
        "<div class=kdr-card data-kdr-key=k data-kdr-at='https://elsewhere.example/' data-kdr-name=b>"
        "<span class=kdr-act></span></div>"
        "<div class=kdr-card data-kdr-key=k data-kdr-at='http://[' data-kdr-name=c><span class=kdr-act></span></div>"
    )
    cells = (f"from IPython.display import HTML\nHTML({html!r})", *CELLS[:2], "hub.list()")
    write_notebook(jupyter.folder / "home", "led", cells)
    with opened(browser, jupyter, "lab", "led") as (page, _):
        run_all(page, "lab")
        page.locator(".kdr-one .kdr-button").first.wait_for()
        assert page.locator("[data-kdr-key=k]").count() == 3
        assert page.locator("[data-kdr-key=k] button").count() == 0


def need_tile() -> None:
    remedy = "pip install '.[jupyter]' (an editable install does not put it there)"
    need("labextension", is_there=TILE.exists(), remedy=remedy)


def test_jupyter_finds_what_jupyterlab_loads() -> None:
    need_tile()
    run = subprocess.run(
        [sys.executable, "-m", "jupyter", "labextension", "list"], check=True, capture_output=True, text=True
    )
    (line,) = (line for line in (run.stdout + run.stderr).splitlines() if "kdr-wsgi" in line)
    assert "enabled" in line
    assert "OK" in line


def test_a_tile_of_jupyterlab_opens_the_page_of_what_is_published(browser: Browser, jupyter: JupyterServer) -> None:
    need_tile()
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.route(f"**/{ROUTE}/_status?*", lambda route: route.fulfill(body="<h1>The page</h1>", content_type="text/html"))
    page.goto(f"{jupyter.origin}{BASE}lab?token={TOKEN}&reset")
    page.locator(".jp-LauncherCard").get_by_text("Published files").click(timeout=60_000)
    frame = page.frame_locator("iframe[title='Published files']")
    frame.get_by_role("heading", name="The page").wait_for()
    shown = page.locator("iframe[title='Published files']").get_attribute("src")
    assert shown is not None
    assert shown.endswith("/_status?theme=light")
    with page.context.expect_page() as tab:
        page.get_by_role("button", name="Open in a browser tab").click()
    assert tab.value.url == f"{jupyter.origin}{BASE}{ROUTE}/_status"
    tab.value.close()
    page.keyboard.press("Control+Shift+C")
    page.locator(".lm-CommandPalette-input").fill("published files")
    page.get_by_text("Kernel Data Relay: published files").first.wait_for()
    page.close()


def test_notebook_opens_the_page_by_its_menu(browser: Browser, jupyter: JupyterServer) -> None:
    need_tile()
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.goto(f"{jupyter.origin}{BASE}tree?token={TOKEN}")
    page.get_by_role("menuitem", name="View", exact=True).click(timeout=60_000)
    with page.context.expect_page() as tab:
        page.get_by_role("menuitem", name="Kernel Data Relay: published files").click()
    assert tab.value.url == f"{jupyter.origin}{BASE}{ROUTE}/_status"
    page.close()


def test_the_picture_of_the_docs(browser: Browser, jupyter: JupyterServer) -> None:
    """The picture in docs/ is made here: KDR_TEST_CARD_SCREENSHOT=docs/card.png pytest tests/e2e/test_card.py."""
    if not (kept := os.environ.get("KDR_TEST_CARD_SCREENSHOT")):
        pytest.skip("makes the picture of the docs where KDR_TEST_CARD_SCREENSHOT names a file")
    galaxy = "relay.serve_tree('galaxy', key='galaxy', visibility='users', ttl=86400)"
    write_notebook(jupyter.folder / "home", "picture", (CELLS[0].replace("red", "m51"), galaxy, "hub.list()"))
    # Rings of light: a galaxy for who looks from afar.
    rings = Image.radial_gradient("L").resize((300, 300))
    Image.merge("RGB", [rings.point(lambda value, k=k: max(0, 255 - k * value)) for k in (1, 2, 1)]).save(
        jupyter.folder / "home" / "m51.png"
    )
    with opened(browser, jupyter, "lab", "picture") as (page, _):
        page.set_viewport_size({"width": 1150, "height": 760})
        run_all(page, "lab")
        page.locator("img.kdr-thumb").evaluate("image => image.decode()")
        # As it is on a machine of one's own, without what JupyterLab asks at its first start.
        page.add_style_tag(content=".Toastify { display: none }")
        page.evaluate(
            """words => {
                const walk = document.createTreeWalker(document.querySelector('.jp-Notebook'), NodeFilter.SHOW_TEXT);
                while (walk.nextNode())
                    for (const [old, other] of words) walk.currentNode.data = walk.currentNode.data.replace(old, other);
            }""",
            [[str(jupyter.folder / "home"), "/home/ada"], [f"/{ROUTE}/", "/wwtkdr/"]],
        )
        Image.open(io.BytesIO(page.locator(".jp-Notebook").screenshot())).convert("RGB").save(kept, optimize=True)
