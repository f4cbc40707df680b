"""A real browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.conftest import need
from tests.swift import Swift, running_swift

#: Chromium's own calls home fail on a machine without a network, many at a time.
QUIET = ["--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update"]

#: A domain that the browser looks for on this machine, with all that is below it.
DOMAIN = "hub.example"
NAMES = f"--host-resolver-rules=MAP {DOMAIN} 127.0.0.1,MAP *.{DOMAIN} 127.0.0.1"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    need("chromium", is_there=found is not None, remedy="apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", NAMES, *QUIET])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def axe() -> str:
    """The script of axe-core, which looks for what keeps people from using a page."""
    named = os.environ.get("KDR_TEST_AXE", "")
    need(
        "axe-core",
        is_there=os.path.exists(named),
        remedy="npm install axe-core, and name its axe.min.js in KDR_TEST_AXE",
    )
    return Path(named).read_text()


@pytest.fixture(scope="session")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swift]:
    """An object store for all tests that do not stop it."""
    with running_swift(tmp_path_factory.mktemp("swift")) as running:
        yield running
