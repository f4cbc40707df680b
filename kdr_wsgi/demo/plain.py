"""The demonstration without Jupyter: a server and a page."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote

from hub import JupyterRelayHub
from hub.locations import Location, setting_of
from kdr_wsgi.demo.pyramid import DemoError, check_page, check_tiles


def show(folder: Path, registry: Location, bind: str, *, check: bool) -> None:
    """Serve the pyramid in `folder` until interrupted; with `check`, read it through the server instead.

    Raises
    ------
    DemoError
    """
    with ExitStack() as stack:
        hub = JupyterRelayHub(key_prefix="", registry=registry, base_url="/")
        stack.callback(hub.registry.close)
        tiles = hub.serve_tree(folder, visibility="public")
        stack.callback(tiles.revoke)
        page = f"{hub.get_static_files_url()}preview/pyramid.html?url={quote(tiles, safe='/')}"
        process, server = stack.enter_context(_serving(registry, bind))
        if check:
            check_tiles(server, tiles, folder, {})
            check_page(server, page, {})
        else:
            print(f"open {server}{page}\nCtrl-C ends the demonstration", flush=True)
            process.wait()
            raise DemoError("the server has ended; it says why above")


@contextmanager
def _serving(registry: Location, bind: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `kdr serve` and yield its process and the URL on which it listens."""
    command = [sys.executable, "-m", "kdr_wsgi", "serve", "--bind", bind]
    environment = {**os.environ, "KDR_REGISTRY": setting_of(registry)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line.startswith("listening on "):
                raise DemoError("the server did not start; it says why above")
            yield process, line.removeprefix("listening on ").strip()
        finally:
            process.terminate()
