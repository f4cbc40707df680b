"""Preview pages as a person sees them: through a real Jupyter server, in a real browser, watched closely."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from hub import JupyterRelayHub
from tests.e2e.pages import WatchedPage, find_barriers, logged_in, wait_for_state
from tests.jupyter import JupyterServer, jupyter_server

BASE_URL = "/user/ada/"


class Watched(WatchedPage):
    """A preview."""

    def wait(self) -> str:
        """Return how the page says that it is, once it is ready or has failed."""
        return wait_for_state(self.page)

    @property
    def sentence(self) -> str:
        """What stands in its status line."""
        return self.page.locator("#status").inner_text()

    @property
    def read_bytes(self) -> int:
        """How much of the file the page says that it has read."""
        return int(self.page.evaluate("document.documentElement.dataset.bytes ?? '0'"))

    def find_barriers(self, axe: str) -> list[str]:
        """Return what axe-core finds that is serious for who cannot see or use a mouse."""
        return find_barriers(self.page, axe)


@dataclass
class Previews:
    """Opens previews of files that are private to the person who is logged in to a Jupyter server."""

    jupyter: JupyterServer
    context: BrowserContext
    hub: JupyterRelayHub

    @contextmanager
    def opened(
        self, name: str, path: Path, entry: str = "", *, is_tree: bool = False, more: str = ""
    ) -> Iterator[Watched]:
        """Show a file, or an entry of a folder, with the preview `name`."""
        url = self.hub.serve_tree(path) + quote(entry) if is_tree or path.is_dir() else str(self.hub.serve_file(path))
        relative = "../../" + url.removeprefix(f"{BASE_URL}wwtkdr/")
        with self.at(f"{BASE_URL}wwtkdr/_static/preview/{name}.html?url={quote(relative, safe='')}{more}") as watched:
            yield watched

    @contextmanager
    def at(self, address: str) -> Iterator[Watched]:
        """Open an address of the server."""
        watched = Watched(self.context.new_page(), f"{self.jupyter.origin}/")
        watched.page.goto(f"{self.jupyter.origin}{address}")
        try:
            yield watched
            keep_screenshot(watched.page, address)
        finally:
            watched.page.close()


def keep_screenshot(page: Page, address: str) -> None:
    """Write what is seen into the folder that `KDR_TEST_SCREENSHOTS` names, to be looked at."""
    if folder := os.environ.get("KDR_TEST_SCREENSHOTS"):
        test = os.environ["PYTEST_CURRENT_TEST"].rpartition("::")[2].partition(" ")[0]
        page.screenshot(path=Path(folder, f"{test}.png"))


@pytest.fixture(scope="session")
def preview_jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    with jupyter_server(tmp_path_factory.mktemp("previews"), base_url=BASE_URL) as running:
        yield running


@pytest.fixture
def previews(browser: Browser, preview_jupyter: JupyterServer) -> Iterator[Previews]:
    hub = JupyterRelayHub(registry=preview_jupyter.registry, base_url=BASE_URL, key_prefix="")
    with logged_in(browser, preview_jupyter, viewport={"width": 1100, "height": 800}) as page:
        yield Previews(preview_jupyter, page.context, hub)
    hub.registry.close()
