"""The documentation's site: built as `tox -e docs` builds it, and looked at."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from playwright.sync_api import Browser
from sphinx.util.inventory import InventoryFile

import hub
from kdr_wsgi.commands import COMMANDS
from kdr_wsgi.settings import SETTINGS
from tests.docs.blocks import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-n", "-b", "html"]
    built = subprocess.run(
        [*command, "-d", str(folder / "trees"), str(ROOT / "docs"), str(folder / "html")],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert (built.returncode, built.stderr) == (0, "")
    return folder / "html"


class QuietHandler(SimpleHTTPRequestHandler):
    def log_request(self, code: object = "-", size: object = "-") -> None:
        pass


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(site))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_all_that_hub_exports_is_described(site: Path) -> None:
    inventory = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="")
    described = {name for kind in inventory.data if kind.startswith("py:") for name in inventory.data[kind]}
    missing = {f"hub.{name}" for name in hub.__all__ if name != "__version__"} - described
    assert missing == set()
    assert {"hub.JupyterRelayHub.serve_tree", "hub.pywwt.enable", "kdr_wsgi.create_app"} <= described


def test_each_command_and_each_setting_is_described(site: Path) -> None:
    page = (site / "commands.html").read_text()
    assert [name for name in COMMANDS if f'id="kdr-{name}"' not in page] == []
    assert "--visibility V" in page
    page = (site / "settings.html").read_text()
    assert [setting.name for setting in SETTINGS if setting.name not in page] == []


def test_every_page_of_the_docs_is_in_the_navigation(site: Path) -> None:
    front = (site / "index.html").read_text()
    pages = [page.relative_to(ROOT / "docs").with_suffix(".html").as_posix() for page in (ROOT / "docs").rglob("*.md")]
    assert [page for page in pages if page != "index.html" and f'href="{page}"' not in front] == []


def test_a_search_finds_a_page(browser: Browser, address: str) -> None:
    page = browser.new_page()
    page.goto(f"{address}search.html?q=KDR_NGINX_ACCEL")
    page.locator("#search-results a", has_text="nginx in front").first.wait_for()
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["index", "api", "commands"])
def test_pages_have_no_barriers(browser: Browser, address: str, axe: str, scheme: str, name: str) -> None:
    context = browser.new_context(color_scheme="dark" if scheme == "dark" else "light")
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda asked: None if asked.url.startswith(address) else problems.append(asked.url))
    page.goto(f"{address}{name}.html")
    page.evaluate(axe)
    found = page.evaluate("axe.run(document.querySelector('article'), {resultTypes: ['violations']})")
    assert [(rule["id"], len(rule["nodes"])) for rule in found["violations"]] == []
    assert problems == []
    context.close()
