"""``kdr demo``."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from kdr_wsgi.commands import completing
from kdr_wsgi.commands.common import Command, CommandError, registry_location


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    bind = parser.add_argument(
        "--bind", metavar="HOST:PORT", default="127.0.0.1:0", help="default: a free port of this machine"
    )
    completing.set_completer(bind, completing.one_of("127.0.0.1:"))
    parser.add_argument("--plain", action="store_true", help="without Jupyter: kdr serve, and a page")
    parser.add_argument(
        "--check",
        action="store_true",
        help="run the notebook and read some tiles through the server instead of waiting",
    )


def _run(options: argparse.Namespace) -> int:
    from kdr_wsgi.demo.pyramid import DemoError, make_pyramid

    packages = ("toasty",) if options.plain else ("toasty", "httptools", "jupyterlab", "ipykernel")
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise CommandError(f"the demonstration needs {', '.join(missing)}; run: pip install 'kdr-wsgi[demo]'")
    if options.bind.startswith("unix:"):
        raise CommandError("a browser opens no unix socket; give --bind HOST:PORT")
    if options.plain:
        from kdr_wsgi.demo.plain import show
    else:
        from kdr_wsgi.demo.lab import show
    # `kill` ends the blocks below as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix="kdr-demo-") as folder:
        pyramid = Path(folder) / "pyramid"
        print("tiling an image of a galaxy ...", flush=True)
        make_pyramid(pyramid)
        try:
            show(pyramid, registry_location(options), options.bind, check=options.check)
        except DemoError as error:
            raise CommandError(str(error)) from error
    return 0


COMMAND = Command(
    description="Tile an image of a galaxy, publish it from a notebook, and show it in JupyterLab.",
    examples=(
        ("kdr demo", "Ctrl-C ends it"),
        ("kdr demo --check", "says ok, or what failed"),
    ),
    add_arguments=_add_arguments,
    run=_run,
)
