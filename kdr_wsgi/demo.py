"""A demonstration: tile an image, publish the pyramid, serve it, show it."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote, urljoin

from hub import JupyterRelayHub

#: An image that toasty ships for its own tests.
IMAGE = "geminiann11015a.jpg"


class DemoError(Exception):
    """The demonstration cannot go on; the sentence says why and what to do."""


def run_demo(registry: Path, bind: str, *, check: bool) -> None:
    """Make a pyramid and serve it until interrupted; with `check`, read it through the server instead.

    Raises
    ------
    DemoError
    """
    if importlib.util.find_spec("toasty") is None:
        raise DemoError("the demonstration needs toasty; run: pip install 'kdr-wsgi[demo]'")
    if bind.startswith("unix:"):
        raise DemoError("a browser opens no unix socket; give --bind HOST:PORT")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kdr-demo-"))) / "pyramid"
        print(f"tiling {IMAGE} ...", flush=True)
        make_pyramid(folder)
        hub = JupyterRelayHub(key_prefix="", registry=registry, base_url="/")
        stack.callback(hub.registry.close)
        tiles = hub.serve_tree(folder, visibility="public")
        stack.callback(tiles.revoke)
        static = hub.get_static_files_url()
        # `kill` unwinds the stack as Ctrl-C does.
        signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
        process, server = stack.enter_context(_serving(registry, bind))
        page = f"{server}{static}pyramid.html?tiles={quote(tiles, safe='/')}"
        if check:
            _check(server, tiles, page, folder)
        else:
            print(f"open {page}\nCtrl-C ends the demonstration", flush=True)
            process.wait()
            raise DemoError("the server has ended; it says why above")


def make_pyramid(folder: Path) -> None:
    """Tile the image into `folder`, as toasty does for WorldWide Telescope."""
    import toasty
    from toasty.builder import Builder
    from toasty.image import ImageLoader
    from toasty.pyramid import PyramidIO

    image = ImageLoader().load_path(str(Path(toasty.__file__).with_name("tests") / IMAGE))
    builder = Builder(PyramidIO(str(folder), default_format="png"))
    builder.tile_base_as_study(image)
    builder.make_placeholder_thumbnail()
    builder.default_tiled_study_astrometry()
    builder.set_name("NGC 7552, Gemini Observatory")
    builder.cascade()
    builder.write_index_rel_wtml()


@contextmanager
def _serving(registry: Path, bind: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `kdr serve` and yield its process and the URL on which it listens."""
    command = [sys.executable, "-m", "kdr_wsgi", "serve", "--registry", str(registry), "--bind", bind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line.startswith("listening on "):
                raise DemoError("the server did not start; it says why above")
            yield process, line.removeprefix("listening on ").strip()
        finally:
            process.terminate()


def _check(server: str, tiles: str, page: str, folder: Path) -> None:
    """Read some tiles by range, and the page with what it needs; raise DemoError at the first that is wrong."""
    paths = sorted(folder.rglob("*.png"))
    for path in (paths[0], paths[len(paths) // 2], paths[-1]):
        whole = path.read_bytes()
        first, last = len(whole) // 3, len(whole) // 2
        url = f"{server}{tiles}{quote(path.relative_to(folder).as_posix())}"
        status, body = _fetch(url, {"Range": f"bytes={first}-{last}"})
        if status != 206 or body != whole[first : last + 1]:
            raise DemoError(f"bytes {first} to {last} of {url} are wrong (status {status}); run: kdr doctor")
        print(f"ok    bytes {first}-{last} of {path.relative_to(folder).as_posix()}")
    for name in ("", "pyramid.js", "openseadragon/openseadragon.min.js"):
        url = urljoin(page, name) if name else page
        status, body = _fetch(url, {})
        if status != 200 or not body:
            raise DemoError(f"{url} is missing (status {status}); install kdr-wsgi anew")
        print(f"ok    {url.removeprefix(server)}")


def _fetch(url: str, headers: dict[str, str]) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
    except OSError as error:
        raise DemoError(f"{url} cannot be read: {error}") from error
