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

from tests.jupyter import TOKEN, WITH_TOKEN, JupyterServer, Kernel, jupyter_server, wait_until
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


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    folder = tmp_path_factory.mktemp("jupyter")
    # The one line of configuration, for every kernel.
    configuration = folder / "home" / ".ipython" / "profile_default" / "ipython_kernel_config.py"
    configuration.parent.mkdir(parents=True)
    configuration.write_text('c.InteractiveShellApp.extensions = ["hub.pywwt"]\n')
    with jupyter_server(folder, "--ServerApp.trust_xheaders=True", base_url="/user/ada/") as running:
        yield running


@pytest.fixture(scope="module")
def kernel(jupyter: JupyterServer) -> Iterator[Kernel]:
    with jupyter.kernel() as running:
        assert running.run("import sys; print('pywwt' in sys.modules)") == "False\n"
        running.run(WITHOUT_INTERNET)
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
    code = "import pywwt; from pywwt.jupyter_relay import get_relay_hub; print(get_relay_hub().get_static_files_url())"
    url = kernel.run(code).strip()
    version = kernel.run("print('.'.join(map(str, pywwt.version_info)))").strip()
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


def test_pywwts_own_hub_comes_back(kernel: Kernel) -> None:
    code = """
import hub, pywwt.jupyter_relay as relay
hub.pywwt.disable()
print(relay._global_relay_hub)
hub.pywwt.enable()
print(type(relay.get_relay_hub()).__mro__[1] is hub.JupyterRelayHub)
"""
    assert kernel.run(code) == "None\nTrue\n"


class Application:
    """The research app in JupyterLab, as the kernel sees it: the far end of a comm."""

    def __init__(self, server: JupyterServer, kernel: Kernel) -> None:
        self._server = server
        self._kernel = kernel
        self._comm = next(told["comm_id"] for told in kernel.told if "@wwtelescope" in told.get("target_name", ""))
        probe = server.fetch(f"{server.base_url}wwtkdr/_probe")
        is_there = probe.status == 200 and json.loads(probe.body)["status"] == "ok"
        kernel.tell(self._comm, {"type": "wwt_jupyter_startup_info", "dataRelayConfirmedAvailable": is_there})
        kernel.tell(self._comm, {"type": "wwt_jupyter_viewer_status", "alive": True})
        self.read: dict[str, bytes] = {}
        kernel.when_told = self._act

    def _act(self, data: dict[str, object]) -> None:
        if data.get("event") == "load_image_collection":
            url = str(data["url"])
            # The kernel is busy meanwhile: its cell waits for this.
            self.read[url] = self._server.fetch(url).body
            done = {"event": "load_image_collection_completed", "threadId": data["threadId"], "url": url}
            self._kernel.send(
                "comm_msg", {"comm_id": self._comm, "data": {**done, "content": {"_pywwtExpedite": True}}}
            )


def test_a_tiled_layer_is_shown_by_the_application(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    # pywwt 0.26 gets no message while a cell runs in a later ipykernel, whatever relay there is.
    monkeypatch.setenv("PYTHONPATH", str(install(tmp_path_factory.mktemp("packages"), "ipykernel<7")))
    with jupyter_server(tmp_path_factory.mktemp("jupyter"), base_url="/user/ada/") as server, server.kernel() as kernel:
        kernel.run(WITHOUT_INTERNET + "import hub; hub.pywwt.enable()")
        kernel.run("from pywwt.jupyter import connect_to_app; app = connect_to_app()")
        application = Application(server, kernel)
        image = shutil.copy(IMAGE, server.folder / "home")
        kernel.run(f"""
from toasty import TilingMethod
layer = app.layers.add_image_layer({str(image)!r}, tiling_method=TilingMethod.TAN, verbose=False)
""")
        ((url, wtml),) = application.read.items()
        assert url.startswith("/user/ada/wwtkdr/")
        (imageset,) = ElementTree.fromstring(wtml).iter("ImageSet")
        # The engine finds a layer's image set by this URL, letter by letter.
        (layer,) = (told["data"]["url"] for told in kernel.told if told["data"].get("event") == "image_layer_create")
        assert imageset.attrib["Url"] == server.origin + layer
        tile = server.fetch(fill(layer, 0, 0, 0))
        assert tile.body == (server.folder / "home" / "m101_swiftx_tiled" / "0" / "0" / "0_0.fits").read_bytes()


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
    static = kernel.run("from pywwt.jupyter_relay import get_relay_hub; print(get_relay_hub().get_static_files_url())")
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

    def coloured_pixels() -> int:
        shown = Image.open(io.BytesIO(page.locator("iframe").screenshot())).convert("RGB")
        red, _, blue = (band.tobytes() for band in shown.split())
        return sum(b - r > 10 for r, b in zip(red, blue, strict=True))

    # The image is violet, and the app's own buttons are grey.
    wait_until(lambda: coloured_pixels() > 20_000, "the app shows no image")
    assert failed == []
    # The picture in docs/ is made here: KDR_TEST_PYWWT_SCREENSHOT=docs/pywwt.jpg pytest tests/e2e/test_pywwt.py
    if kept := os.environ.get("KDR_TEST_PYWWT_SCREENSHOT"):
        Image.open(io.BytesIO(page.locator("iframe").screenshot())).convert("RGB").save(kept, quality=85)


CELLS = (
    WITHOUT_INTERNET,
    "from pywwt.jupyter import WWTJupyterWidget\nwwt = WWTJupyterWidget()\nwwt",
    f"layer = wwt.layers.add_image_layer({str(IMAGE)!r})",
)


def test_the_widget_in_a_classic_notebook_shows_an_image(jupyter: JupyterServer, page: Page) -> None:
    head: dict[str, object] = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    cells = [{**head, "source": cell} for cell in CELLS]
    python = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = {"cells": cells, "metadata": python, "nbformat": 4, "nbformat_minor": 4}
    (jupyter.folder / "home" / "pywwt.ipynb").write_text(json.dumps(notebook))
    failed = failures_of(page)
    page.goto(f"{jupyter.origin}{jupyter.base_url}nbclassic/notebooks/pywwt.ipynb?token={TOKEN}")
    page.wait_for_function("window.Jupyter?.notebook?.kernel?.is_connected() && Jupyter.notebook._fully_loaded")
    page.evaluate("Jupyter.notebook.execute_cells([0, 1])")
    app = page.frame_locator("iframe[src*=research]")
    app.locator("#app canvas").first.wait_for(timeout=60_000)
    with page.expect_response(lambda response: response.url.endswith(".fits")) as image:
        page.evaluate("Jupyter.notebook.execute_cells([2])")
    assert image.value.body().startswith(b"SIMPLE  =")
    assert failed == []
