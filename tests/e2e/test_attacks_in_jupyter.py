"""What a hostile file gets of whoever looks at it in Jupyter, and what whoever reads the logs gets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape

import pytest
from playwright.sync_api import Browser, Request

from hub import JupyterRelayHub
from tests.e2e.pages import WatchedPage, logged_in
from tests.jupyter import TOKEN, JupyterServer, jupyter_server
from tests.raw_http import Connection

BASE = "/user/ada/"


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    with jupyter_server(tmp_path_factory.mktemp("jupyter"), base_url=BASE) as running:
        yield running


@pytest.fixture(scope="module")
def hub(jupyter: JupyterServer) -> Iterator[JupyterRelayHub]:
    made = JupyterRelayHub(registry=jupyter.registry, base_url=BASE, key_prefix="")
    yield made
    made.registry.close()


#: What a hostile file tries; it writes down what it got, or why it got nothing.
PROGRAM = """
const told = {};
const attempt = async (name, work) => {
  try { told[name] = String(await work()); } catch (error) { told[name] = "stopped"; }
};
const read = async (url, options) => {
  const answer = await fetch(url, {credentials: "include", ...options});
  return `${answer.status} ${await answer.text()}`;
};
const submit = (method) => {
  const form = document.createElementNS("http://www.w3.org/1999/xhtml", "form");
  const frame = document.createElementNS("http://www.w3.org/1999/xhtml", "iframe");
  frame.name = "frame";
  Object.assign(form, {method, action: "%(base)sapi/contents?by=form", target: "frame"});
  document.documentElement.append(frame, form);
  form.submit();
};
(async () => {
  await attempt("contents", () => read("%(base)sapi/contents"));
  await attempt("file", () => read("%(file)s"));
  await attempt("new kernel", () => read("%(base)sapi/kernels", {method: "POST", body: "{}"}));
  await attempt("cookie", () => document.cookie);
  await attempt("local storage", () => localStorage.setItem("a", "b"));
  await attempt("session storage", () => sessionStorage.setItem("a", "b"));
  await attempt("database", () => new Promise((good, bad) => {
    const opening = indexedDB.open("a");
    opening.onsuccess = good;
    opening.onerror = bad;
  }));
  await attempt("caches", () => caches.open("a"));
  await attempt("service worker", () => navigator.serviceWorker.register("worker.js"));
  await attempt("parent", () => parent === self ? Promise.reject() : parent.document.title);
  await attempt("top", () => top === self ? Promise.reject() : top.location.href);
  await attempt("popup", () => open("%(base)sapi/status").closed);
  await attempt("frame", () => {
    const frame = document.createElementNS("http://www.w3.org/1999/xhtml", "iframe");
    frame.src = "%(base)sapi/status";
    document.documentElement.append(frame);
    return new Promise((good, bad) => {
      frame.onload = () => { try { good(frame.contentDocument.body.textContent); } catch (error) { bad(error); } };
    });
  });
  await attempt("form", () => submit("post"));
  told.origin = self.origin;
  parent.postMessage(JSON.stringify(told), "*");
})();
"""

XHTML = "http://www.w3.org/1999/xhtml"
#: How a program gets into a file; @ stands for it.
FILES = {
    "page.html": "<!doctype html><title>hostile</title><script>@</script>",
    "page.xhtml": f'<html xmlns="{XHTML}"><head><title>hostile</title><script>@</script></head><body/></html>',
    "picture.svg": '<svg xmlns="http://www.w3.org/2000/svg"><script>@</script></svg>',
    "data.xml": f'<data><script xmlns="{XHTML}">@</script></data>',
    "catalogue.xsl": f'<html xmlns="{XHTML}"><body><script>@</script></body></html>',
}
#: A page of Jupyter's own origin that shows the file, as a notebook does.
FRAME = """<!doctype html><title>notebook</title><script>
addEventListener("message", (event) => { window.told = event.data; });
</script><iframe src="%s"></iframe>"""

STOPPED = (
    *("contents", "file", "new kernel", "cookie", "local storage", "session storage", "database", "caches"),
    *("service worker", "parent", "top", "popup", "frame"),
)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("trusted", [False, True], ids=["untrusted", "trusted"])
def test_a_hostile_file_gets_nothing_with_the_login_of_who_looks_at_it(
    jupyter: JupyterServer, hub: JupyterRelayHub, browser: Browser, tmp_path: Path, name: str, trusted: bool
) -> None:
    """That a trusted one gets it all shows that there is something to get."""
    for folder in ("secret", "hostile", "notebook"):
        (tmp_path / folder).mkdir()
    (tmp_path / "secret" / "a").write_text("SECRET")
    secret = f"{hub.serve_tree(tmp_path / 'secret')}a"
    program = PROGRAM % {"base": BASE, "file": secret}
    text = FILES[name].replace("@", program if name.endswith(".html") else escape(program))
    (tmp_path / "hostile" / name).write_text(text)
    (tmp_path / "hostile" / "worker.js").write_text("")
    hostile = hub.serve_tree(tmp_path / "hostile", trusted=trusted)
    (tmp_path / "notebook" / "index.html").write_text(FRAME % f"{hostile}{name}")
    notebook = hub.serve_tree(tmp_path / "notebook", trusted=True)

    posted: list[str] = []

    def note(request: Request) -> None:
        if request.method == "POST" and request.url.endswith("by=form"):
            posted.append(request.url)

    with logged_in(browser, jupyter) as page:
        page.context.on("request", note)
        page.context.add_cookies([{"name": "readable", "value": "SECRET", "url": f"{jupyter.origin}{BASE}"}])
        page.goto(f"{jupyter.origin}{notebook}")
        page.wait_for_function("window.told")
        told: dict[str, str] = json.loads(page.evaluate("window.told"))
        page.wait_for_timeout(200)  # What is to be stopped does not tell when.
    if trusted:
        assert told["origin"] == jupyter.origin
        assert told["contents"].startswith("200 ")
        assert told["file"] == "200 SECRET"
        assert "readable=SECRET" in told["cookie"]
        assert told["parent"] == "notebook"
        assert "started" in told["frame"]
        assert [what for what in STOPPED if told[what] == "stopped"] == []
        assert posted != []
    else:
        assert told["origin"] == "null"
        assert {what: told[what] for what in STOPPED if told[what] != "stopped"} == {}
        assert posted == []


#: What somebody may call a file, so that whoever looks at the folder does something for them.
NAMES = (
    "<script>window.told = 1<!-- <script>",
    "<img src=x onerror='window.told = 1'>",
    '" onmouseover="window.told = 1" autofocus onfocus="window.told = 1" x="',
    "javascript:window.told = 1",
    "data:text&sol;html,<script>window.told = 1",
    "<style>*{background:url(..)}",
    "{{ 7 * 7 }}",
    "${window.told = 1}",
    "#.fits",
    "?format=json",
    "%2e%2e%2f",
    "\N{RIGHT-TO-LEFT OVERRIDE}gnp.exe",
    "zq\nb\r.csv",
    "\udcff.png",
)


@pytest.mark.parametrize("count", [0, 1500], ids=["the server's rows", "the script's rows"])
def test_a_hostile_name_does_nothing_to_who_lists_the_folder(
    jupyter: JupyterServer, hub: JupyterRelayHub, browser: Browser, tree: Path, count: int
) -> None:
    """The page of a listing runs with the login of whoever looks at it."""
    folder = tree / "<script>window.told = 1<!-- '\""
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_text("harmless")
    (folder / "picture.svg").write_text(FILES["picture.svg"].replace("@", "window.told = 1; parent.told = 1"))
    for number in range(count):
        (folder / f"{number}").touch()
    url = hub.serve_tree(tree)
    address = f"{jupyter.origin}{url}{quote(folder.name)}/"
    with logged_in(browser, jupyter) as page:
        watched = WatchedPage(page, address)
        page.on("dialog", lambda dialog: watched.problems.append(dialog.message))
        page.goto(address)
        page.locator("html[data-state=ready]").wait_for()
        rows = page.locator("tbody tr:not(.space)")
        for position, name in enumerate(NAMES):
            page.get_by_role("searchbox").fill(name.partition("\n")[0].replace("\udcff", "\ufffd").strip())
            link = rows.locator("a.text").first
            link.hover()
            link.focus()
            target = link.evaluate("link => link.href")
            # Each link leads to a file of this folder.
            body = page.evaluate("async (url) => (await fetch(url)).text()", target)
            assert (position, target.startswith(address), body) == (position, True, "harmless")
        page.get_by_role("searchbox").fill("picture.svg")
        picture = rows.locator("img")
        picture.evaluate("image => image.decode()")
        page.wait_for_timeout(200)  # What is to be stopped does not tell when.
        assert page.evaluate("window.told") is None
        assert page.locator("script").count() == 1
        assert watched.problems == []
        assert [asked.url for asked in watched.requests if not asked.url.startswith(address)] == []


# --- logs ------------------------------------------------------------------------------------------------------------

#: A kernel that logs all that there is to log while it publishes.
PUBLISH = """
import logging, hub
logging.basicConfig(level=logging.DEBUG, force=True)
logging.getLogger().debug("the kernel logs")
relay = hub.get_relay_hub()
print(relay.serve_tree({tree!r}), relay.serve_tree({tree!r}, content=True), sep="\\n")
"""


def test_no_log_holds_what_lets_somebody_in(tmp_path: Path, tree: Path) -> None:
    (tree / "a").write_bytes(b"content")
    with jupyter_server(tmp_path, "--debug", base_url=BASE) as jupyter:
        with jupyter.kernel() as kernel:
            printed = kernel.run(PUBLISH.format(tree=str(tree)))
        private, content = (line for line in printed.splitlines() if line.startswith(BASE))
        assert "the kernel logs" in printed
        # Before, Jupyter logs with what arguments it was started, and where it can be reached.
        begun = len(jupyter.log.read_text())
        cookie = jupyter.log_in()
        secrets = [value.partition("=")[2] for value in cookie.split("; ")] + [TOKEN]
        guessed = "a-token-that-is-wrong"
        for url in (private, content):
            for token in (TOKEN, guessed):
                for entry in ("a", "", "missing", "%zz", "..", "a\xff", "a\x0b"):
                    # Spelled otherwise (%74oken), a token that is refused is in Jupyter's own access log.
                    for query in (f"?token={token}", f"?a=b&token={token}", f"?token={token}\xff"):
                        ask_all(jupyter, f"{url}{entry}{query}", cookie, token)
        key = private.split("/")[-2]
        secret = jupyter.registry.with_name(f"{jupyter.registry.name}.secret").read_bytes()
    told = [*printed.replace(private, "").splitlines(), *jupyter.log.read_text()[begun:].splitlines()]
    assert any("[D " in line for line in told)
    for line in told:
        for known in (*secrets, guessed):
            assert known not in line
        assert secret.hex() not in line
        assert repr(secret) not in line
    print(f"{len(told)} lines; with the private key: {sum(key in line for line in told)}")


def ask_all(jupyter: JupyterServer, target: str, cookie: str, token: str) -> None:
    """Ask in all ways to log in, and in some that are none."""
    login: list[dict[str, Any]] = [{}, {"Cookie": cookie}, {"Authorization": f"token {token}"}]
    login += [{"Authorization": f"Bearer {token}", "Cookie": cookie, "Referer": f"{jupyter.origin}/?token={token}"}]
    for headers in login:
        with Connection(jupyter.address) as connection:
            connection.send("GET", target, {"Host": f"127.0.0.1:{jupyter.port}", "Connection": "close", **headers})
            while connection.socket.recv(65536):
                continue
