"""The status pages on a real JupyterHub: of the shared relay server, and of a user's own Jupyter server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from hub import JupyterRelayHub
from tests.jupyterhub import SharedHub, shared_hub

SECONDS = 30_000


def log_in(page: Page, name: str) -> None:
    page.fill("#username_input", name)
    page.fill("#password_input", "anything")
    page.click("#login_submit")


def make_tiles(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "0.png").write_bytes(b"x" * 1000)
    return folder


def revoke(page: Page, name: str) -> None:
    page.get_by_role("button", name=f"Revoke {name}").click()
    page.get_by_role("button", name="Revoke", exact=True).click()
    expect(page.get_by_role("status")).to_have_text(f"{name} is revoked.", timeout=SECONDS)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedHub]:
    # On a busy machine a user's server takes its time.
    patient = "c.Spawner.start_timeout = c.Spawner.http_timeout = 300"
    with shared_hub(tmp_path_factory.mktemp("shared"), more=patient) as running:
        yield running


def test_users_of_a_service_see_and_end_their_own(
    shared: SharedHub, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = f"{shared.origin}/services/kdr/wwtkdr/_status"
    urls = {
        user: shared.relay_hub(user, monkeypatch).serve_tree(make_tiles(shared.home(user) / f"tiles-of-{user}"))
        for user in ("ada", "bob", "root")
    }
    assert shared.fetch(f"{urls['ada']}0.png", "ada").status == 200
    contexts = {user: browser.new_context() for user in ("ada", "root")}
    try:
        troubles: list[str] = []
        for user, context in contexts.items():
            page = context.new_page()
            page.goto(status)
            log_in(page, user)
            page.wait_for_url(status)
            page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
            expect(page.locator("tr[data-key]")).to_have_count(1, timeout=SECONDS)
            expect(page.locator("tr[data-key]")).to_contain_text(str(shared.home(user) / f"tiles-of-{user}"))
            expect(page.locator("tr[data-key] .size")).to_contain_text("1 kB", timeout=SECONDS)
            expect(page.get_by_text("The whole service")).to_have_count(1 if user == "root" else 0)
        ada = contexts["ada"].pages[0]
        expect(ada.locator("tr[data-key] .hits")).to_have_text("1", timeout=SECONDS)
        assert shared.fetch(f"{urls['ada']}0.png", "ada").status == 200
        expect(ada.locator("tr[data-key] .hits")).to_have_text("2", timeout=SECONDS)
        revoke(ada, "tiles-of-ada/")
        assert troubles == []
    finally:
        for context in contexts.values():
            context.close()
    assert shared.fetch(f"{urls['ada']}0.png", "ada").status == 404
    assert shared.fetch(f"{urls['bob']}0.png", "bob").status == 200
    told = json.loads(shared.fetch(f"{status.removeprefix(shared.origin)}?format=json", "root").body)
    assert {each["user"] for each in told["service"]["registrations"]["by_user"]} == {"bob", "root"}


def test_on_a_hub_users_see_and_end_what_their_own_server_has(shared: SharedHub, browser: Browser) -> None:
    """JupyterHub has a check against forgery of its own in each user's server."""
    server = shared.start_server("ada")
    with server.kernel() as kernel:
        registry = Path(kernel.run("import os; print(os.environ['KDR_REGISTRY'])").strip())
    hub = JupyterRelayHub(registry=registry, base_url="/user/ada/", key_prefix="", service="")
    url = hub.serve_tree(make_tiles(shared.home("ada") / "own"))
    context = browser.new_context()
    try:
        page = context.new_page()
        status = f"{shared.origin}/user/ada/wwtkdr/_status"
        page.goto(status)
        log_in(page, "ada")
        page.wait_for_url(status)
        expect(page.locator("tr[data-key]")).to_have_count(1, timeout=SECONDS)
        assert server.fetch(f"{url}0.png").status == 200
        revoke(page, "own/")
    finally:
        context.close()
    assert server.fetch(f"{url}0.png").status == 404
    hub.registry.close()
    # Somebody else's login is none here.
    assert shared.fetch("/user/ada/wwtkdr/_status?format=json", "bob").status in (302, 403)
