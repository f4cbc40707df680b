"""Through a real JupyterHub and its proxy: a user's files, for the user and whoever shares the server."""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

import pytest

from kdr_wsgi.jupyter.logins import REMEMBER_SECONDS
from tests.conftest import free_port, need
from tests.jupyter import ENABLED, TOKEN, WITH_TOKEN, JupyterServer, Kernel, wait_until
from tests.jupyterhub import Browser, find_proxy, hub_process
from tests.raw_http import Answer

#: A name with a blank, which has to be quoted in every URL.
OWNER = "ada lovelace"
PREFIX = f"/user/{quote(OWNER)}/"

#: Has an account on the hub, and no part in the owner's server.
STRANGER, STRANGERS_TOKEN = "eve", "the-token-of-eve"

#: Shares the owner's server.
GUEST, GUESTS_TOKEN = "bob", "the-token-of-bob"

#: How long a user's server believes what the hub has told of a login. JupyterHub's default is 300.
CACHE_SECONDS = 1

DATA = bytes(range(256)) * 40

VISIBILITIES = ("private", "users", "public")

#: What a browser tells of an image with ``crossorigin``, or a `fetch`, on a page of the hub.
OWN_FETCH = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
#: The same of an image on another site's page, and of a `fetch` there.
FOREIGN_IMAGE = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
FOREIGN_FETCH = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors", "Origin": "https://elsewhere.example"}

CONFIGURATION = """
c = get_config()
c.JupyterHub.bind_url = {public!r}
c.JupyterHub.hub_port = {hub_port}
c.ConfigurableHTTPProxy.command = {proxy!r}
c.ConfigurableHTTPProxy.api_url = {proxy_api!r}
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allowed_users = set({users!r})
c.JupyterHub.api_tokens = {tokens!r}
c.JupyterHub.load_roles = [{{"name": "guest", "scopes": [{access!r}], "users": [{guest!r}]}}]
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = {homes!r}
c.Spawner.cmd = {command!r}
c.Spawner.args = ["--allow-root", "--HubOAuth.cache_max_age={cache_seconds}"]
c.Spawner.environment = {environment!r}
"""


@pytest.fixture(scope="module")
def jupyterhub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    with running_hub(tmp_path_factory.mktemp("jupyterhub")) as running:
        yield running


@pytest.fixture(scope="module")
def kernel(jupyterhub: JupyterServer) -> Iterator[Kernel]:
    with jupyterhub.kernel() as running:
        yield running


@pytest.fixture
def tiles(tree: Path) -> Path:
    (tree / "0.png").write_bytes(DATA)
    return tree


@pytest.fixture
def address(kernel: Kernel, tiles: Path) -> str:
    """The address of a private file."""
    return f"{kernel.publish(tiles)}0.png"


@pytest.fixture
def addresses(kernel: Kernel, tiles: Path) -> dict[str, str]:
    """The addresses of a file, by who may read it there."""
    return {name: f"{kernel.publish(tiles, key=name, visibility=name)}0.png" for name in VISIBILITIES}


@pytest.fixture
def browser(jupyterhub: JupyterServer) -> Browser:
    """A browser that nobody has logged in with."""
    return Browser(jupyterhub.origin)


@contextmanager
def running_hub(folder: Path) -> Iterator[JupyterServer]:
    """Run a hub as an administrator does; yield its owner's server, as it is reached through the proxy.

    The hub ends with all that it has started.
    """
    proxy = find_proxy()
    command = Path(sys.executable).with_name("jupyterhub-singleuser")
    need("jupyterhub", is_there=bool(find_spec("jupyterhub")) and command.exists(), remedy="pip install jupyterhub")
    need(
        "jupyter",
        is_there=ENABLED.exists(),
        remedy="pip install '.[jupyter]' (an editable install enables no extension)",
    )
    homes, temporary = folder / "homes", folder / "tmp"
    for made in (homes, temporary):
        made.mkdir()
    port = free_port()
    given = {"TMPDIR": str(temporary), "PYTHONWARNINGS": "ignore"}
    (folder / "jupyterhub_config.py").write_text(
        CONFIGURATION.format(
            public=f"http://127.0.0.1:{port}",
            hub_port=free_port(),
            proxy=[proxy],
            proxy_api=f"http://127.0.0.1:{free_port()}",
            users=[OWNER, STRANGER, GUEST],
            tokens={TOKEN: OWNER, STRANGERS_TOKEN: STRANGER, GUESTS_TOKEN: GUEST},
            access=f"access:servers!server={OWNER}/",
            guest=GUEST,
            homes=f"{homes}/{{username}}",
            command=[str(command)],
            cache_seconds=CACHE_SECONDS,
            environment=given,
        )
    )
    with hub_process(folder) as (process, environment, log):
        server = JupyterServer(process, port, PREFIX, homes / OWNER, environment, log)
        wait_until(lambda: ask_hub(server, "GET", "user") == 200, f"the hub does not start; see {log}", 60)
        assert ask_hub(server, "POST", f"users/{quote(OWNER)}/server") in (201, 202)
        wait_until(lambda: server.fetch(f"{PREFIX}api").status == 200, f"the server does not start; see {log}", 60)
        yield server
    assert not [*temporary.glob("kdr-*")], "a socket is left"


def ask_hub(server: JupyterServer, method: str, path: str) -> int:
    """Return the status of what the hub's API answers the owner; 0 as long as there is no hub."""
    assert server.process.poll() is None, server.log.read_text()
    request = urllib.request.Request(f"{server.origin}/hub/api/{path}", headers=WITH_TOKEN, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return 0


def is_read(answer: Answer) -> bool:
    return (answer.status, answer.body) == (200, DATA)


def is_refused(answer: Answer) -> bool:
    return answer.status in (302, 403) and DATA[:32] not in answer.body


def test_what_a_kernel_publishes_is_read_with_the_users_token_and_nothing_is_configured(
    jupyterhub: JupyterServer, kernel: Kernel, tiles: Path
) -> None:
    url = kernel.publish(tiles)
    assert url.startswith("/user/ada%20lovelace/wwtkdr/")
    assert is_read(jupyterhub.fetch(f"{url}0.png"))
    part = jupyterhub.fetch(f"{url}0.png", {"Range": "bytes=-10"})
    assert (part.status, part.body, part["Content-Range"]) == (206, DATA[-10:], "bytes 10230-10239/10240")


#: What a proxy with TLS in front of the hub's own tells, as the hub's documentation wants it.
BEHIND_TLS = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "hub.example:8443", "X-Forwarded-Prefix": "/lab"}


@pytest.mark.parametrize(
    ("told", "base"),
    [
        ({}, "http://{host}"),
        ({"X-Forwarded-Proto": "https"}, "https://{host}"),
        (BEHIND_TLS, "https://hub.example:8443/lab"),
    ],
)
def test_a_wtml_has_the_urls_that_the_browser_sees(
    jupyterhub: JupyterServer, kernel: Kernel, tiles: Path, told: dict[str, str], base: str
) -> None:
    (tiles / "index_rel.wtml").write_text('<Folder Url="0.png"/>')
    url = kernel.publish(tiles)
    wtml = ElementTree.fromstring(jupyterhub.fetch(f"{url}index.wtml", told).body)
    assert wtml.attrib["Url"] == f"{base.format(host=f'127.0.0.1:{jupyterhub.port}')}{url}0.png"


@pytest.mark.parametrize("visibility", VISIBILITIES)
def test_without_a_login_there_is_no_data(
    jupyterhub: JupyterServer, addresses: dict[str, str], visibility: str
) -> None:
    address = addresses[visibility]
    assert is_read(jupyterhub.fetch(address))
    nobody: list[dict[str, str]] = [
        {},
        {"Authorization": "token wrong"},
        {"Cookie": f"jupyterhub-user-{quote(OWNER)}=wrong"},
    ]
    for credentials in nobody:
        assert jupyterhub.fetch_plain(address, credentials).status == 403
        page = jupyterhub.fetch_plain(address, {"Accept": "text/html,*/*;q=0.8", **credentials})
        assert page.status == 302
        assert page["Location"].startswith("/hub/api/oauth2/authorize?")
    # JupyterHub takes no token from a URL unless it is told to; Jupyter alone does.
    assert jupyterhub.fetch_plain(f"{address}?token={TOKEN}").status == 403


def test_a_link_leads_over_the_login_to_the_file(browser: Browser, jupyterhub: JupyterServer, address: str) -> None:
    page = browser.log_in(OWNER, address)
    assert (page.status, page.url, page.body) == (200, f"{jupyterhub.origin}{address}", DATA)


def test_pages_of_the_hub_read_with_the_cookies_alone(
    browser: Browser, jupyterhub: JupyterServer, address: str
) -> None:
    browser.log_in(OWNER, address)
    cookies = browser.cookies(address)
    assert is_read(jupyterhub.fetch_plain(address, cookies))
    assert is_read(jupyterhub.fetch_plain(address, {**cookies, **OWN_FETCH}))
    assert is_read(jupyterhub.fetch_plain(address, {**cookies, **OWN_FETCH, "Origin": jupyterhub.origin}))
    # JupyterHub itself wants an XSRF token with a fetch, of which a viewer knows nothing.
    assert jupyterhub.fetch_plain(f"{PREFIX}api/status", cookies).status == 200
    assert jupyterhub.fetch_plain(f"{PREFIX}api/status", {**cookies, **OWN_FETCH}).status == 403


@pytest.mark.parametrize("told", [FOREIGN_IMAGE, FOREIGN_FETCH], ids=["image", "fetch"])
def test_pages_of_other_sites_read_only_what_is_public(
    browser: Browser, jupyterhub: JupyterServer, addresses: dict[str, str], told: dict[str, str]
) -> None:
    browser.log_in(OWNER, addresses["private"])
    headers = {**browser.cookies(addresses["private"]), **told}
    assert jupyterhub.fetch_plain(addresses["private"], headers).status == 404
    assert jupyterhub.fetch_plain(addresses["users"], headers).status == 404
    public = jupyterhub.fetch_plain(addresses["public"], headers)
    assert is_read(public)
    assert public["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in public


@pytest.mark.parametrize("visibility", VISIBILITIES)
def test_who_has_no_part_in_the_server_reads_nothing(
    browser: Browser, jupyterhub: JupyterServer, addresses: dict[str, str], visibility: str
) -> None:
    address = addresses[visibility]
    page = browser.log_in(STRANGER, address)
    assert page.status == 403
    assert DATA[:32] not in page.body
    for credentials in (browser.cookies(address), {"Authorization": f"token {STRANGERS_TOKEN}"}):
        for accepted in ("text/html", "image/png"):
            assert is_refused(jupyterhub.fetch_plain(address, {"Accept": accepted, **credentials}))
            assert is_refused(jupyterhub.fetch_plain(address, {"Accept": accepted, **credentials, **OWN_FETCH}))


def test_who_shares_the_server_reads_what_is_for_users(
    browser: Browser, jupyterhub: JupyterServer, addresses: dict[str, str]
) -> None:
    # The hub asks a guest first whether the server may know who he is.
    page = browser.submit(browser.log_in(GUEST, addresses["users"]))
    assert (page.status, page.body) == (200, DATA)
    cookies = browser.cookies(addresses["users"])
    for credentials in (cookies, {**cookies, **OWN_FETCH}, {"Authorization": f"token {GUESTS_TOKEN}"}):
        assert is_read(jupyterhub.fetch_plain(addresses["users"], credentials))
        assert is_read(jupyterhub.fetch_plain(addresses["public"], credentials))
        assert jupyterhub.fetch_plain(addresses["private"], credentials).status == 404
    assert jupyterhub.fetch_plain(addresses["users"], {**cookies, **FOREIGN_IMAGE}).status == 404


def test_after_a_logout_the_cookies_are_soon_worth_nothing(
    browser: Browser, jupyterhub: JupyterServer, address: str
) -> None:
    browser.log_in(OWNER, address)
    cookies = browser.cookies(address)
    assert is_read(jupyterhub.fetch_plain(address, cookies))
    browser.open("/hub/logout")
    # The browser has lost the cookie of its session, without which the server asks the hub again.
    left = browser.cookies(address)
    assert "jupyterhub-user-" in left["Cookie"]
    assert is_refused(jupyterhub.fetch_plain(address, left))
    # A copy of all cookies is good until JupyterHub forgets what it has heard of them, and the relay after it.
    wait_until(
        lambda: is_refused(jupyterhub.fetch_plain(address, cookies)),
        "the cookies are still good",
        CACHE_SECONDS + REMEMBER_SECONDS + 3,
    )
