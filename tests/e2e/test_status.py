"""The status page in a browser, through a real Jupyter server; and pages that have no business with it."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from hub import JupyterRelayHub
from kdr_wsgi.usage import read_usage
from tests.conftest import LiveServer
from tests.e2e.pages import WatchedPage, find_barriers, logged_in
from tests.jupyter import JupyterServer, jupyter_server, wait_until

BASE = "/user/ada/"
STATUS = f"{BASE}wwtkdr/_status"
API = f"{BASE}wwtkdr/_api/registrations"

#: What a page may take to show what has changed: counts are written once a second, and asked for every two.
SECONDS = 20_000


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Be silent."""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The origin of another server, which Jupyter allows to read with a login, and its folder."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "page.html").write_text("<!doctype html><title>elsewhere</title>")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory, elsewhere: tuple[str, Path]) -> Iterator[JupyterServer]:
    arguments = (f"--ServerApp.allow_origin={elsewhere[0]}", "--ServerApp.allow_credentials=True")
    with jupyter_server(tmp_path_factory.mktemp("jupyter"), *arguments, base_url=BASE) as running:
        yield running


@pytest.fixture
def hub(jupyter: JupyterServer) -> Iterator[JupyterRelayHub]:
    made = JupyterRelayHub(registry=jupyter.registry, base_url=BASE, key_prefix="")
    yield made
    for registration in made.registry.registrations():
        made.registry.revoke(registration.key)
    made.registry.close()


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    folder = tmp_path / "tiles"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes(b"x" * 1000)
    return folder


@contextmanager
def looking(browser: Browser, jupyter: JupyterServer, **options: Any) -> Iterator[Page]:
    """Open the page as its owner; fail on what it says in its console, or asks elsewhere."""
    with logged_in(browser, jupyter, **options) as page:
        watched = WatchedPage(page, f"{jupyter.origin}/")
        page.goto(f"{jupyter.origin}{STATUS}")
        yield page
    assert watched.problems == []


def row_of(page: Page, name: str) -> Any:
    return page.locator("#rows tr", has=page.get_by_role("link", name=name, exact=True))


# --- what it shows ---------------------------------------------------------------------------------------------------


def test_the_page_shows_what_is_published_and_what_is_read_of_it(
    jupyter: JupyterServer, hub: JupyterRelayHub, browser: Browser, tiles: Path
) -> None:
    url = hub.serve_tree(tiles)
    public = hub.serve_file(tiles / "0.png", visibility="public", ttl=7200)
    with looking(browser, jupyter) as page:
        row = row_of(page, "tiles/")
        expect(row).to_contain_text(str(tiles), timeout=SECONDS)
        expect(row).to_contain_text("only you")
        expect(row.locator(".ends")).to_have_text("when revoked")
        expect(row.locator(".size")).to_have_text("3 kB3 files", timeout=SECONDS)
        expect(row.locator(".last")).to_have_text("never")
        expect(row_of(page, "0.png")).to_contain_text("everyone")
        expect(row_of(page, "0.png").locator(".ends")).to_have_text("in 2 hours")
        # It updates itself, in place.
        row.evaluate("element => { element.marked = true; }")
        for number in range(3):
            assert jupyter.fetch(f"{url}{number}.png").status == 200
        expect(row.locator(".hits")).to_have_text("3", timeout=SECONDS)
        expect(row.locator(".sent")).to_have_text("3 kB")
        expect(row.locator(".sent")).to_have_attribute("title", "3,000 bytes")
        expect(row.locator(".last")).to_have_text(re.compile("just now|seconds? ago"))
        expect(row.locator(".last")).to_have_attribute("title", re.compile("20[0-9][0-9]"))
        assert row.evaluate("element => element.marked")
        expect(page.locator("#said")).to_be_empty()
        # What is published now comes by itself, first; what has ended elsewhere goes.
        (tiles / "later").mkdir()
        hub.serve_tree(tiles / "later")
        public.revoke()
        expect(page.locator("#rows tr").first).to_contain_text("later/", timeout=SECONDS)
        expect(row_of(page, "0.png")).to_have_count(0, timeout=SECONDS)
        # Its links lead to what is published.
        row.locator("a.link").click()
        expect(page.get_by_role("link", name="2.png", exact=True)).to_be_visible()


def test_in_a_tab_of_jupyterlab_it_has_its_theme_and_opens_links_beside_it(
    jupyter: JupyterServer, hub: JupyterRelayHub, browser: Browser, tiles: Path
) -> None:
    hub.serve_tree(tiles)
    with logged_in(browser, jupyter, color_scheme="light") as page:
        page.route("**/frame", lambda route: route.fulfill(body="", content_type="text/html"))
        page.goto(f"{jupyter.origin}{BASE}frame")
        page.evaluate(
            "address => { const frame = document.createElement('iframe'); frame.src = address; "
            "document.body.replaceChildren(frame); }",
            f"{STATUS}?theme=dark",
        )
        frame = page.frame_locator("iframe")
        expect(frame.locator("a.link").first).to_have_attribute("target", "_blank", timeout=SECONDS)
        assert frame.locator("html").evaluate("root => getComputedStyle(root).colorScheme") == "dark"
        seen = frame.locator("body").evaluate("body => getComputedStyle(body).backgroundColor")
        assert seen == "rgb(18, 21, 27)"


def test_rows_are_sorted_and_filtered(
    jupyter: JupyterServer, hub: JupyterRelayHub, browser: Browser, tmp_path: Path
) -> None:
    for name in ("beta", "alpha", "gamma"):
        (tmp_path / name).mkdir()
        hub.serve_tree(tmp_path / name, visibility="public" if name == "beta" else "private")

    def names(page: Page) -> list[str]:
        return page.locator("#rows a.link").all_inner_texts()

    with looking(browser, jupyter) as page:
        expect(page.locator("tr[data-key]")).to_have_count(3, timeout=SECONDS)
        assert names(page) == ["gamma/", "alpha/", "beta/"]
        head = page.get_by_role("columnheader", name="Published")
        head.get_by_role("button").press("Enter")
        expect(head).to_have_attribute("aria-sort", "ascending")
        assert names(page) == ["alpha/", "beta/", "gamma/"]
        head.get_by_role("button").press("Enter")
        expect(head).to_have_attribute("aria-sort", "descending")
        assert names(page) == ["gamma/", "beta/", "alpha/"]
        page.get_by_role("searchbox").fill("public bet")
        assert names(page) == ["beta/"]
        expect(page.locator("#summary")).to_contain_text("1 of 3 registrations")


def test_many_registrations_are_shown_a_part_at_a_time(
    jupyter: JupyterServer, hub: JupyterRelayHub, browser: Browser, tiles: Path
) -> None:
    for number in range(120):
        hub.serve_tree(tiles, f"run-{number:03}")
    with looking(browser, jupyter) as page:
        expect(page.locator("tr[data-key]")).to_have_count(100, timeout=SECONDS)
        page.get_by_role("button", name="Show more of 120").click()
        expect(page.locator("tr[data-key]")).to_have_count(120)
        page.get_by_role("searchbox").fill("run-007")
        expect(page.locator("tr[data-key]")).to_have_count(1)


def test_it_asks_nothing_while_nobody_looks(
    jupyter: JupyterServer, hub: JupyterRelayHub, browser: Browser, tiles: Path
) -> None:
    hub.serve_tree(tiles)
    with looking(browser, jupyter) as page:
        expect(page.locator("tr[data-key]")).to_have_count(1, timeout=SECONDS)
        page.wait_for_load_state("networkidle")
        asked: list[str] = []
        page.evaluate("""() => {
            Object.defineProperty(document, "hidden", {value: true, configurable: true});
            document.dispatchEvent(new Event("visibilitychange"));
        }""")
        page.on("request", lambda request: asked.append(request.url))
        page.wait_for_timeout(3500)
        assert asked == []
        with page.expect_request(re.compile("format=json")):
            page.evaluate("""() => {
                delete document.hidden;
                document.dispatchEvent(new Event("visibilitychange"));
            }""")


def test_without_a_script_it_is_a_plain_table(
    jupyter: JupyterServer, hub: JupyterRelayHub, browser: Browser, tiles: Path
) -> None:
    url = hub.serve_tree(tiles, "chosen", visibility="users")
    jupyter.fetch(f"{url}0.png")
    wait_until(lambda: "chosen" in read_usage(jupyter.registry), "nothing is counted")
    with looking(browser, jupyter, java_script_enabled=False) as page:
        row = page.locator("#rows tr")
        for fact in ("tiles/", "tree", str(tiles), "chosen", "users", "when revoked", "1,000", "UTC"):
            expect(row).to_contain_text(fact)
        expect(page.get_by_role("searchbox")).to_be_hidden()
        row.locator("a.link").click()
        expect(page.get_by_role("link", name="2.png", exact=True)).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_everybody_can_use_it(
    jupyter: JupyterServer, hub: JupyterRelayHub, browser: Browser, tiles: Path, axe: str, scheme: Any, width: int
) -> None:
    hub.serve_tree(tiles, visibility="public")
    hub.serve_tree(tiles, "gone", trusted=True, ttl=1000)
    hub.serve_tree(tiles, content=True)
    jupyter.fetch(f"{BASE}wwtkdr/gone/0.png")
    # A policy lets nothing else run on the page; this one looks at it.
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}, "bypass_csp": True}
    with looking(browser, jupyter, **options) as page:
        expect(page.locator("tr[data-key]")).to_have_count(3, timeout=SECONDS)
        expect(page.locator("tr[data-key] .size", has_text="files")).to_have_count(3, timeout=SECONDS)
        assert find_barriers(page, axe) == []
        page.get_by_role("button", name="Revoke tiles/").first.click()
        assert find_barriers(page, axe) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


# --- revoking --------------------------------------------------------------------------------------------------------


def test_a_registration_is_ended_with_the_keyboard(
    jupyter: JupyterServer, hub: JupyterRelayHub, browser: Browser, tiles: Path
) -> None:
    (tiles / "other").mkdir()
    kept, url = hub.serve_tree(tiles / "other"), hub.serve_tree(tiles)
    with looking(browser, jupyter) as page:
        button = page.get_by_role("button", name="Revoke tiles/")
        button.focus()
        page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog", name="Revoke this registration?")
        expect(dialog).to_contain_text(str(tiles))
        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
        expect(button).to_be_focused()
        # What is chosen unless somebody chooses otherwise keeps it.
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Keep it")).to_be_focused()
        page.keyboard.press("Enter")
        expect(dialog).to_be_hidden()
        assert jupyter.fetch(f"{url}0.png").status == 200
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.get_by_role("status")).to_have_text("tiles/ is revoked.", timeout=SECONDS)
        expect(row_of(page, "tiles/")).to_have_count(0)
        expect(page.get_by_role("button", name="Revoke other/")).to_be_focused()
        assert jupyter.fetch(f"{url}0.png").status == 404
        assert jupyter.fetch(kept).status == 200
        page.get_by_role("button", name="Revoke other/").click()
        page.get_by_role("button", name="Revoke", exact=True).click()
        expect(page.get_by_text("Nothing is published.")).to_be_visible(timeout=SECONDS)


def with_forgery_token(cookie: str) -> dict[str, str]:
    (token,) = re.findall(r"(?:^|; )_xsrf=([^;]*)", cookie)
    return {"Cookie": cookie, "X-XSRFToken": token}


def test_a_login_by_cookie_takes_jupyters_token_against_forgery_and_a_page_of_its_own(
    jupyter: JupyterServer, hub: JupyterRelayHub, tiles: Path, elsewhere: tuple[str, Path]
) -> None:
    hub.serve_tree(tiles, "k")
    login = jupyter.log_in()
    shown = jupyter.fetch_plain(STATUS, {"Cookie": login, "Accept": "text/html"})
    set_by_it = [value.partition(";")[0] for name, value in shown.headers if name == "Set-Cookie"]
    cookie = "; ".join([*(part for part in login.split("; ") if "_xsrf" not in part), *set_by_it])
    if "_xsrf" not in cookie:  # The login has set it.
        cookie = login
    good = with_forgery_token(cookie)
    own = {"Origin": jupyter.origin}
    for headers in (
        {},
        own,
        {"Cookie": cookie},
        {"Cookie": cookie, **own},
        {"Cookie": cookie, **own, "Sec-Fetch-Site": "same-origin"},
        {**good, "X-XSRFToken": "2|guessed", **own},
        good,
        {**good, "Origin": "null"},
        {**good, "Origin": elsewhere[0]},
        {**good, **own, "Sec-Fetch-Site": "cross-site"},
        {**good, "Sec-Fetch-Site": "same-site"},
        {**good, "Sec-Fetch-Site": "none"},
    ):
        answer = jupyter.fetch_plain(f"{API}?key=k", headers, "DELETE")
        assert answer.status in (403, 404), headers
        assert hub.registry.find("k") is not None, headers
    for method in ("POST", "PUT", "PATCH"):
        assert jupyter.fetch_plain(f"{API}?key=k", {**good, **own}, method).status == 405
    for path in (f"{BASE}wwtkdr/k/0.png", STATUS, f"{BASE}wwtkdr/%5Fapi/registrations?key=k"):
        assert jupyter.fetch_plain(path, {**good, **own}, "DELETE").status == 405
    assert hub.registry.find("k") is not None
    assert jupyter.fetch_plain(f"{API}?key=k", {**good, **own}, "DELETE").status == 200
    assert hub.registry.find("k") is None


def test_who_sends_the_token_ends_a_registration(jupyter: JupyterServer, hub: JupyterRelayHub, tiles: Path) -> None:
    hub.serve_tree(tiles, "k")
    assert jupyter.fetch(f"{API}?key=k", method="DELETE").status == 200
    assert hub.registry.find("k") is None
    assert jupyter.fetch(f"{API}?key=k", method="DELETE").status == 404


def test_without_a_login_it_is_jupyters_login(jupyter: JupyterServer) -> None:
    for path in (STATUS, f"{STATUS}?format=json"):
        answer = jupyter.fetch_plain(path, {"Accept": "text/html"})
        assert (answer.status, "/login?" in answer["Location"]) == (302, True)
        assert jupyter.fetch_plain(path).status == 403


# --- pages that have no business with it -----------------------------------------------------------------------------

#: What a page tries; it returns what it got, or why it got nothing.
ATTEMPTS = """async ([status, api]) => {
  const told = {};
  const attempt = async (name, work) => {
    try { told[name] = String(await work()); } catch (error) { told[name] = "stopped"; }
  };
  const ask = async (url, options) => {
    const answer = await fetch(url, {credentials: "include", ...options});
    return `${answer.status} ${await answer.text()}`;
  };
  const framed = (url) => {
    const frame = document.createElement("iframe");
    frame.src = url;
    document.documentElement.append(frame);
    return new Promise((good, bad) => {
      frame.onload = () => { try { good(frame.contentDocument.body.textContent); } catch (error) { bad(error); } };
    });
  };
  await attempt("page", () => ask(status));
  await attempt("facts", () => ask(`${status}?format=json`));
  await attempt("spelled", () => ask(`${status.replace("_status", "%5Fstatus")}?format=json`));
  await attempt("size", () => ask(`${status}/size?key=victim`));
  await attempt("frame", () => framed(status));
  const xsrf = (() => { try { return /_xsrf=([^;]*)/.exec(document.cookie)[1]; } catch { return ""; } })();
  await attempt("revoke", () => ask(`${api}?key=victim`, {method: "DELETE", headers: {"X-XSRFToken": xsrf}}));
  await attempt("revoke without", () => ask(`${api}?key=victim`, {method: "DELETE"}));
  return told;
}"""


def attempts_of(page: Page, origin: str) -> dict[str, str]:
    return dict(page.evaluate(ATTEMPTS, [f"{origin}{STATUS}", f"{origin}{API}"]))


@pytest.mark.parametrize("who", ["sandboxed", "elsewhere", "trusted"])
def test_what_a_page_gets_that_the_owner_looks_at(
    jupyter: JupyterServer,
    hub: JupyterRelayHub,
    browser: Browser,
    tiles: Path,
    elsewhere: tuple[str, Path],
    who: str,
) -> None:
    """That a trusted one gets it all shows that there is something to get."""
    hub.serve_tree(tiles, "victim")
    (tiles / "page.html").write_text("<!doctype html><title>hostile</title>")
    url = hub.serve_tree(tiles, "hostile", trusted=who == "trusted")
    with logged_in(browser, jupyter) as page:
        page.goto(f"{jupyter.origin}{STATUS}")  # Jupyter's token against forgery is there.
        page.goto(f"{elsewhere[0]}/page.html" if who == "elsewhere" else f"{jupyter.origin}{url}page.html")
        told = attempts_of(page, jupyter.origin)
        is_read = page.evaluate(
            "url => fetch(url, {credentials: 'include'}).then((answer) => answer.ok, () => false)",
            f"{jupyter.origin}{BASE}wwtkdr/victim/0.png",
        )
    if who == "trusted":
        assert told["page"].startswith("200 ")
        assert json.loads(told["facts"].removeprefix("200 "))["may_revoke"] is True
        assert told["size"].startswith("200 ")
        assert "Published files" in told["frame"]
        assert told["revoke"].startswith("200 ")
        assert hub.registry.find("victim") is None
        return
    # An origin that is allowed reads files, and no more.
    assert is_read is (who == "elsewhere")
    for name, got in told.items():
        assert got == "stopped" or got.startswith(("403 ", "404 ")), name
    assert "victim" not in json.dumps(told)
    assert hub.registry.find("victim") is not None


def test_a_page_elsewhere_gets_nothing_of_kdr_serve_as_owner(
    browser: Browser, start_server: Callable[..., LiveServer], tiles: Path, elsewhere: tuple[str, Path]
) -> None:
    """Its answers are for every origin to read, but keys and paths are not told to any."""
    server = start_server(worker_class="gunicorn", environment={"KDR_AS_OWNER": "1"})
    server.hub.serve_tree(tiles, "victim")
    origin = f"http://127.0.0.1:{server.address[1]}"
    context = browser.new_context()
    try:
        page = context.new_page()
        page.goto(f"{origin}/wwtkdr/_status")
        expect(page.locator("tr[data-key]")).to_have_count(1, timeout=SECONDS)
        expect(page.get_by_role("button", name="Revoke")).to_have_count(0)
        page.goto(f"{elsewhere[0]}/page.html")
        told = dict(page.evaluate(ATTEMPTS, [f"{origin}/wwtkdr/_status", f"{origin}/wwtkdr/_api/registrations"]))
    finally:
        context.close()
    for name, got in told.items():
        assert got == "stopped" or got.startswith("404 "), name
    assert server.hub.registry.find("victim") is not None
