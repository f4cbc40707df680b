"""Pages that are watched: what they complain of, what they ask for, and what keeps people from using them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page, Request

from tests.jupyter import JupyterServer


@contextmanager
def logged_in(browser: Browser, jupyter: JupyterServer, **options: Any) -> Iterator[Page]:
    """Open a window of somebody who is logged in to a Jupyter server."""
    context = browser.new_context(**options)
    try:
        page = context.new_page()
        page.goto(f"{jupyter.origin}{jupyter.base_url}api/status?token={jupyter.token}")
        yield page
    finally:
        context.close()


@dataclass
class WatchedPage:
    """A page, and what it has done besides what a person sees.

    Attributes
    ----------
    within : str
        What the addresses of all that it may ask for begin with.
    problems : list of str
        Errors of its scripts, what is on its console, and requests to anywhere else.
    requests : list of Request
        What it has asked for.
    """

    page: Page
    within: str
    problems: list[str] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("pageerror", lambda error: self.problems.append(f"script: {error}"))
        self.page.on("console", self._hear)
        self.page.on("request", self._note)

    def _hear(self, said: ConsoleMessage) -> None:
        if "willReadFrequently" not in said.text:  # It is the test that reads what is drawn.
            self.problems.append(f"console: {said.type}: {said.text}")

    def _note(self, request: Request) -> None:
        self.requests.append(request)
        if not request.url.startswith((self.within, "data:", "blob:")):
            self.problems.append(f"elsewhere: {request.url}")


def wait_for_state(page: Page) -> str:
    """Return how a page of ours says that it is, once it is ready or has failed."""
    # (Playwright's wait_for_function evaluates text, which the page's policy forbids.)
    page.locator("html[data-state=ready], html[data-state=failed]").wait_for(timeout=60_000)
    return str(page.evaluate("document.documentElement.dataset.state"))


def find_barriers(page: Page, axe: str, where: str = "html") -> list[str]:
    """Return what axe-core finds, in a part of a page, that is in the way of who cannot see or use a mouse."""
    page.evaluate(axe)
    found: Any = page.evaluate("where => axe.run(where, {resultTypes: ['violations']})", where)
    return [
        f"{each['impact']}: {each['id']}: {each['help']} {json.dumps([node['html'] for node in each['nodes']])}"
        for each in found["violations"]
    ]
