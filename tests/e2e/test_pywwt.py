"""The real pywwt, in real kernels under real Jupyter servers, on this relay; and its research app in a browser."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

from tests.conftest import need
from tests.jupyter import QUIET_LAB, TOKEN, WITH_TOKEN, JupyterServer, Kernel, jupyter_server, wait_until
from tests.nginx import Nginx, nginx
from tests.packages import install

PACKAGE = Path(str(getattr(find_spec("pywwt"), "origin", ""))).parent

#: An image that pywwt ships, of a galaxy.
IMAGE = PACKAGE / "tests" / "data" / "m101_swiftx.fits"

#: What pywwt asks of a site on the internet when a viewer is made: which surveys and instruments there are.
WITHOUT_INTERNET = """
import requests
def get(url, **options):
    assert url.startswith("https://worldwidetelescope.github.io/pywwt/"), url
    answer = requests.Response()
    answer.status_code = 200
    answer._content = b"{}" if url.endswith(".json") else b'<Folder><ImageSet Name="A survey"/></Folder>'
    return answer
requests.get = get
"""

#: What a browser tells of a request by the page of an application.
BY_THE_PAGE = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}


def prepare(home: Path) -> None:
    """Write the one line of configuration by which every kernel's pywwt publishes through this relay."""
    profile = home / ".ipython" / "profile_default"
    (profile / "startup").mkdir(parents=True)
    (profile / "ipython_kernel_config.py").write_text('c.InteractiveShellApp.extensions.append("hub.pywwt")\n')
    (profile / "startup" / "internet.py").write_text(WITHOUT_INTERNET)


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    folder = tmp_path_factory.mktemp("jupyter")
    prepare(folder / "home")
    with jupyter_server(folder, "--ServerApp.trust_xheaders=True", base_url="/user/ada/") as running:
        yield running


@pytest.fixture(scope="module")
def kernel(jupyter: JupyterServer) -> Iterator[Kernel]:
    with jupyter.kernel() as running:
        assert running.run("import sys; print('pywwt' in sys.modules)") == "False\n"
        yield running


@pytest.fixture(scope="module")
def pyramid(kernel: Kernel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What toasty makes of the image, cut to have several levels of tiles."""
    folder = tmp_path_factory.mktemp("pyramid")
    kernel.run(f"""
import numpy, toasty
from astropy.io import fits
with fits.open({str(IMAGE)!r}) as hdus:
    hdus[0].data = numpy.kron(hdus[0].data, numpy.ones((8, 8))).astype("float32")
    for name in ("CDELT1", "CDELT2", "CRPIX1", "CRPIX2"):
        hdus[0].header[name] *= 8 if name.startswith("CRPIX") else 1 / 8
    hdus.writeto({str(folder / "large.fits")!r})
out, builder = toasty.tile_fits({str(folder / "large.fits")!r}, out_dir={str(folder / "tiles")!r}, cli_progress=False)
""")
    return folder / "tiles"


STATIC_URL = "from pywwt.jupyter_relay import get_relay_hub; print(get_relay_hub().get_static_files_url())"


def publish(kernel: Kernel, path: Path) -> str:
    return kernel.run(
        f"from pywwt.jupyter_relay import get_relay_hub; print(get_relay_hub().serve_tree({str(path)!r}))"
    ).strip()


def fill(template: str, level: int, x: int, y: int) -> str:
    return template.replace("{1}", str(level)).replace("{2}", str(x)).replace("{3}", str(y))


def tiles_named_by(wtml: bytes, folder: Path) -> dict[str, Path]:
    """Return the URL of each tile that a WTML names, with its file; fail if there are others."""
    named = {}
    (imageset,) = ElementTree.fromstring(wtml).iter("ImageSet")
    relative = ElementTree.parse(folder / "index_rel.wtml")
    template, relative_template = imageset.attrib["Url"], next(relative.iter("ImageSet")).attrib["Url"]
    for level in range(int(imageset.attrib["TileLevels"]) + 1):
        for y in range(2**level):
            for x in range(2**level):
                url, path = (fill(text, level, x, y) for text in (template, relative_template))
                if (folder / path).exists():
                    named[url] = folder / path
    assert sorted(named.values()) == sorted(folder.glob("[0-9]*/*/*.fits"))
    assert len(named) > 20
    return named


def test_an_image_layer_is_read_as_the_page_does(jupyter: JupyterServer, kernel: Kernel) -> None:
    printed = kernel.run(f"""
from pywwt.jupyter import WWTJupyterWidget
widget = WWTJupyterWidget()
layer = widget.layers.add_image_layer({str(IMAGE)!r})
print(layer._image_url, layer._sanitized_image, widget._appUrl)
""")
    url, path, app = printed.splitlines()[-1].split()
    assert url.startswith("/user/ada/wwtkdr/")
    assert url.endswith(f"/{Path(path).name}.fits")
    content = Path(path).read_bytes()
    cookies = {"Cookie": jupyter.log_in(), **BY_THE_PAGE}
    answer = jupyter.fetch_plain(url, cookies)
    assert (answer.status, answer.body == content, answer["Content-Type"]) == (200, True, "image/fits")
    header = jupyter.fetch_plain(url, {**cookies, "Range": "bytes=0-79"})
    assert (header.status, header.body[:30]) == (206, b"SIMPLE  =                    T")
    assert jupyter.fetch_plain(url, cookies, "HEAD")["Content-Length"] == str(len(content))
    page = jupyter.fetch_plain(app, cookies)
    assert page.body == (PACKAGE / "web_static" / "research" / "index.html").read_bytes()
    assert "Content-Security-Policy" not in page, "the app is trusted"


def test_the_static_files_are_pywwts_own(jupyter: JupyterServer, kernel: Kernel) -> None:
    url = kernel.run(STATIC_URL).strip()
    version = kernel.run("import pywwt; print('.'.join(map(str, pywwt.version_info)))").strip()
    assert url == f"/user/ada/wwtkdr/pywwt_static{version}/"
    files = [path for path in (PACKAGE / "web_static").rglob("*") if path.is_file()]
    assert len(files) > 5
    for path in files:
        assert jupyter.fetch(url + str(path.relative_to(PACKAGE / "web_static"))).body == path.read_bytes()


def test_every_tile_that_a_wtml_names_is_read(jupyter: JupyterServer, kernel: Kernel, pyramid: Path) -> None:
    url = publish(kernel, pyramid)
    answer = jupyter.fetch(url + "index.wtml")
    assert (answer.status, answer["Content-Type"]) == (200, "application/x-wtml")
    for tile, path in tiles_named_by(answer.body, pyramid).items():
        assert tile.startswith(jupyter.origin + url)
        got = jupyter.fetch(tile.removeprefix(jupyter.origin))
        assert (got.status, got.body == path.read_bytes(), got["Content-Type"]) == (200, True, "image/fits")
    assert jupyter.fetch(url + "index.wtml", {"If-None-Match": answer["ETag"]}).status == 304


@pytest.fixture
def proxy(jupyter: JupyterServer, tmp_path: Path) -> Iterator[Nginx]:
    with nginx(tmp_path, jupyter.port, "/outer") as running:
        yield running


def test_behind_a_proxy_with_tls_and_a_prefix_too(kernel: Kernel, pyramid: Path, proxy: Nginx) -> None:
    url = publish(kernel, pyramid)
    wtml = proxy.fetch(f"{proxy.origin}{proxy.prefix}{url}index.wtml", WITH_TOKEN)
    for tile, path in tiles_named_by(wtml, pyramid).items():
        assert tile.startswith(f"{proxy.origin}{proxy.prefix}{url}")
        assert proxy.fetch(tile, WITH_TOKEN) == path.read_bytes()


def test_the_scheme_of_the_hubs_own_proxy_is_not_that_of_the_browser(
    jupyter: JupyterServer, kernel: Kernel, tree: Path
) -> None:
    (tree / "index_rel.wtml").write_text('<Folder Url="a.wtml"/>')
    url = kernel.publish(tree)
    # What nginx tells by JupyterHub's documentation, and what its proxy adds to that.
    wtml = jupyter.fetch(url + "index.wtml", {"X-Scheme": "https", "X-Forwarded-Proto": "http"}).body
    assert ElementTree.fromstring(wtml).attrib["Url"] == f"https://127.0.0.1:{jupyter.port}{url}a.wtml"
    long = {"X-Forwarded-Prefix": "/long" * 4000}
    assert jupyter.fetch(url + "index_rel.wtml", long).status == 200
    assert jupyter.fetch(url + "index.wtml", long).status == 400


def test_without_trust_nobody_changes_the_urls(tmp_path: Path, tree: Path) -> None:
    (tree / "index_rel.wtml").write_text('<Folder Url="a.wtml"/>')
    forwarded = {
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "elsewhere.example",
        "X-Forwarded-Prefix": "/outer",
        "KDR-Viewer": "owner",
    }
    with jupyter_server(tmp_path) as server, server.kernel() as kernel:
        url = kernel.publish(tree)
        wtml = server.fetch(url + "index.wtml", forwarded).body
        assert ElementTree.fromstring(wtml).attrib["Url"] == f"{server.origin}{url}a.wtml"


def test_keys_are_the_same_after_a_restart(jupyter: JupyterServer, pyramid: Path) -> None:
    with jupyter.kernel() as kernel:
        url = publish(kernel, pyramid)
        kernel.restart()
        assert jupyter.fetch(url + "index.wtml").status == 200, "nobody has published it since"
        assert publish(kernel, pyramid) == url


def test_what_pages_for_the_kernel_data_relay_lean_on(jupyter: JupyterServer, kernel: Kernel, tree: Path) -> None:
    probe = jupyter.fetch("/user/ada/wwtkdr/_probe")
    assert (probe.status, json.loads(probe.body)["status"]) == (200, "ok")
    assert probe["Content-Type"] == "application/json"
    (tree / "sub").mkdir()
    (tree / "sub" / "index.html").write_text("hello")
    url = publish(kernel, tree)
    assert jupyter.fetch(url + "sub/").body == b"hello"
    assert jupyter.fetch(url + "sub")["Location"] == "./sub/"
    for target in (url + "missing", "/user/ada/wwtkdr/no-such-key/a", url + "sub"):
        assert jupyter.fetch(target, BY_THE_PAGE)["Access-Control-Allow-Origin"] == "*"
    assert jupyter.fetch_plain(url + "sub/")["Access-Control-Allow-Origin"] == "*", "without a login"


def test_the_last_of_two_kernels_that_claim_a_key_wins(jupyter: JupyterServer, kernel: Kernel, tree: Path) -> None:
    claim = "from pywwt.jupyter_relay import get_relay_hub; print(get_relay_hub().serve_tree({path!r}, key='shared'))"
    for name in ("first", "second"):
        (tree / name).mkdir()
        (tree / name / "a").write_text(name)
    with jupyter.kernel() as other:
        for claimant, name in ((kernel, "first"), (other, "second"), (kernel, "first")):
            url = claimant.run(claim.format(path=str(tree / name))).strip()
            assert url == "/user/ada/wwtkdr/pywwt_shared/"
            assert jupyter.fetch(url + "a").body == name.encode()


def test_pywwts_own_hub_comes_back(kernel: Kernel) -> None:
    code = """
import hub, pywwt.jupyter_relay as relay
hub.pywwt.disable()
print(relay._global_relay_hub)
hub.pywwt.enable()
print(type(relay.get_relay_hub()).__mro__[1] is hub.JupyterRelayHub)
"""
    assert kernel.run(code) == "None\nTrue\n"


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page for which the internet is there, with nothing in it."""
    page = browser.new_page(viewport={"width": 1000, "height": 1100})
    nothing = {"status": 200, "body": "", "headers": {"Access-Control-Allow-Origin": "*"}}
    page.route(lambda url: not is_ours(url), lambda route: route.fulfill(**nothing))
    yield page
    page.close()


def is_ours(url: str) -> bool:
    return url.startswith("http://127.0.0.1:")


def failures_of(page: Page) -> list[str]:
    """Return a list that grows with each request to the relay that fails."""
    failed: list[str] = []

    def look(status: object, url: str) -> None:
        if "/wwtkdr/" in url:
            failed.append(f"{status} {url}")

    page.on("requestfailed", lambda request: look(request.failure, request.url))
    page.on("response", lambda response: look(response.status, response.url) if response.status >= 400 else None)
    return failed


#: A page that holds the app as JupyterLab does, and keeps what it says.
HOLDER = """<!doctype html><title>holder</title><iframe width=800 height=600></iframe><script>
var said = [];
addEventListener("message", event => said.push(event.data));
var app = document.querySelector("iframe");
function tell(message) { app.contentWindow.postMessage(message, location.origin); }
function start(url) { app.src = url + "?origin=" + encodeURIComponent(location.origin); }
setInterval(() => tell({type: "wwt_ping_pong", threadId: "1", sessionId: "test"}), 250);
</script>"""


def test_the_research_app_starts_and_shows_tiles(
    jupyter: JupyterServer, kernel: Kernel, pyramid: Path, page: Page, tree: Path
) -> None:
    (tree / "holder.html").write_text(HOLDER)
    holder = kernel.publish(tree, trusted=True)
    static = kernel.run(STATIC_URL)
    failed = failures_of(page)
    page.goto(f"{jupyter.origin}{holder}holder.html?token={TOKEN}")
    page.evaluate("start", static.strip() + "research/")
    for kind in ("wwt_ping_pong", "wwt_view_state"):
        page.wait_for_function("kind => said.some(message => message.type == kind)", arg=kind, timeout=60_000)

    url = jupyter.origin + publish(kernel, pyramid)
    with page.expect_response(url + "index.wtml") as wtml:
        page.evaluate("tell", {"event": "load_image_collection", "url": url + "index.wtml", "threadId": "2"})
    page.wait_for_function("said.some(message => message.event == 'load_image_collection_completed')")
    (imageset,) = ElementTree.fromstring(wtml.value.body()).iter("ImageSet")
    center = {"ra": float(imageset.attrib["CenterX"]), "dec": float(imageset.attrib["CenterY"])}
    page.evaluate("tell", {"event": "center_on_coordinates", **center, "fov": 1.0, "instant": True})
    layer = {"event": "image_layer_create", "id": "3", "mode": "preloaded", "url": imageset.attrib["Url"], "name": "a"}
    with page.expect_response(url + "0/0/0_0.fits") as tile:
        page.evaluate("tell", layer)
    assert tile.value.body() == (pyramid / "0" / "0" / "0_0.fits").read_bytes()

    wait_until(lambda: coloured_pixels(page) > 20_000, "the app shows no image")
    assert failed == []


def coloured_pixels(page: Page) -> int:
    """Return how many pixels of the app have the violet of the image; its own buttons are grey."""
    shown = Image.open(io.BytesIO(page.locator("iframe").screenshot())).convert("RGB")
    red, _, blue = (band.tobytes() for band in shown.split())
    return sum(b - r > 10 for r, b in zip(red, blue, strict=True))


def write_notebook(path: Path, *cells: str) -> None:
    head: dict[str, object] = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    python = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = {"cells": [{**head, "source": cell} for cell in cells], "metadata": python}
    path.write_text(json.dumps({**notebook, "nbformat": 4, "nbformat_minor": 4}))


def test_the_widget_in_a_classic_notebook_shows_an_image(jupyter: JupyterServer, page: Page) -> None:
    need("nbclassic", is_there=find_spec("nbclassic") is not None, remedy="pip install nbclassic")
    write_notebook(
        jupyter.folder / "home" / "pywwt.ipynb",
        "from pywwt.jupyter import WWTJupyterWidget\nwwt = WWTJupyterWidget()\nwwt",
        f"layer = wwt.layers.add_image_layer({str(IMAGE)!r})",
    )
    failed = failures_of(page)
    page.goto(f"{jupyter.origin}{jupyter.base_url}nbclassic/notebooks/pywwt.ipynb?token={TOKEN}")
    page.wait_for_function("window.Jupyter?.notebook?.kernel?.is_connected() && Jupyter.notebook._fully_loaded")
    page.evaluate("Jupyter.notebook.execute_cells([0])")
    app = page.frame_locator("iframe[src*=research]")
    app.locator("#app canvas").first.wait_for(timeout=60_000)
    with page.expect_response(lambda response: response.url.endswith(".fits")) as image:
        page.evaluate("Jupyter.notebook.execute_cells([1])")
    assert image.value.body().startswith(b"SIMPLE  =")
    assert failed == []


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JupyterServer]:
    """JupyterLab with the application WorldWide Telescope, which is to load the research app from this relay."""
    packages = install(
        tmp_path / "packages",
        "wwt_jupyterlab_extension>=2",
        # In a later ipykernel pywwt 0.26 hears nothing while a cell runs, whatever relay there is.
        "ipykernel<7",
    )
    monkeypatch.setenv("PYTHONPATH", str(packages))
    home = tmp_path / "home"
    prepare(home)
    shutil.copy(IMAGE, home)
    write_notebook(
        home / "pywwt.ipynb",
        "from pywwt.jupyter import connect_to_app\nwwt = await connect_to_app().becomes_ready()",
        "from toasty import TilingMethod\n"
        f"layer = wwt.layers.add_image_layer({IMAGE.name!r}, tiling_method=TilingMethod.TAN, verbose=False)",
        "from astropy import units\nfrom astropy.coordinates import SkyCoord\n"
        "wwt.center_on_coordinates(SkyCoord(210.774, 54.274, unit=units.deg), fov=0.4 * units.deg)",
    )
    arguments = (
        *QUIET_LAB,
        "--LabApp.expose_app_in_browser=True",
        f"--LabApp.user_settings_dir={tmp_path / 'settings'}",
        f"--LabApp.extra_labextensions_path={packages / 'share' / 'jupyter' / 'labextensions'}",
    )
    with jupyter_server(tmp_path, *arguments, application="lab", base_url="/user/ada/") as running:
        with running.kernel() as kernel:
            app = kernel.run(STATIC_URL).strip() + "research/"
        for plugin, setting in (
            ("@wwtelescope/jupyterlab/research", {"appUrl": app}),
            ("@jupyterlab/apputils-extension/notification", {"fetchNews": "false"}),
        ):
            path = tmp_path / "settings" / f"{plugin}.jupyterlab-settings"
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps(setting))
        yield running


#: Opens the application beside the notebook.
OPEN_BESIDE = """async () => {
    const {commands, shell} = window.jupyterapp;
    await commands.execute("wwtelescope:open");
    const application = [...shell.widgets("main")].find(widget => widget.id.startsWith("@wwtelescope"));
    shell.add(application, "main", {mode: "split-right"});
    await commands.execute("docmanager:open", {path: "pywwt.ipynb"});
}"""


def test_the_application_in_jupyterlab_shows_a_tiled_layer(lab: JupyterServer, page: Page) -> None:
    failed = failures_of(page)
    page.set_viewport_size({"width": 1400, "height": 800})
    page.goto(f"{lab.origin}{lab.base_url}lab/tree/pywwt.ipynb?token={TOKEN}&reset")
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
    page.evaluate(OPEN_BESIDE)
    # Without a kernel, JupyterLab would ask for one.
    kernel = "window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel"
    page.wait_for_function(f"{kernel}?.status == 'idle'", timeout=60_000)
    with page.expect_response(lambda response: response.url.endswith("/0/0/0_0.fits"), timeout=60_000) as tile:
        page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
    made = lab.folder / "home" / "m101_swiftx_tiled"
    assert tile.value.body() == (made / "0" / "0" / "0_0.fits").read_bytes()
    page.frame_locator("iframe[src*=research]").get_by_text("m101_swiftx").first.wait_for()
    assert failed == []
    # The picture in docs/ is made here: KDR_TEST_PYWWT_SCREENSHOT=docs/pywwt.jpg pytest tests/e2e/test_pywwt.py
    if kept := os.environ.get("KDR_TEST_PYWWT_SCREENSHOT"):
        wait_until(lambda: coloured_pixels(page) > 5_000, "the app shows no image")
        Image.open(io.BytesIO(page.screenshot())).convert("RGB").save(kept, quality=85)


def test_the_old_openness_can_be_had(tmp_path: Path, tree: Path) -> None:
    (tree / "0.png").write_bytes(b"tile")
    page_elsewhere = {
        "Origin": "https://web.wwtassets.org",
        "Sec-Fetch-Site": "cross-site",
        "Sec-Fetch-Mode": "cors",
    }
    prepare(tmp_path / "home")
    with jupyter_server(tmp_path, "--KernelDataRelay.public_without_login=True") as server, server.kernel() as kernel:
        private = publish(kernel, tree)
        refused = server.fetch_plain(private + "0.png", page_elsewhere)
        assert (refused.status, refused["Access-Control-Allow-Origin"]) == (404, "*")
        kernel.run("import hub; hub.pywwt.enable(visibility='public')")
        public = publish(kernel, tree)
        assert public == private
        answer = server.fetch_plain(public + "0.png", page_elsewhere)
        assert (answer.status, answer.body, answer["Access-Control-Allow-Origin"]) == (200, b"tile", "*")
