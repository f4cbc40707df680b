"""The demonstration in JupyterLab: a notebook that publishes the pyramid and shows it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hub.locations import Location, setting_of
from hub.registries import registry_at
from kdr_wsgi.demo.pyramid import DemoError, check_page, check_tiles
from kdr_wsgi.sockets import BindError, listen

if TYPE_CHECKING:
    from jupyter_client.blocking.client import BlockingKernelClient

NOTEBOOK = Path(__file__).with_name("pyramid.ipynb")

_START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class _Jupyter:
    process: subprocess.Popen[bytes]
    url: str
    token: str
    runtime: Path

    @property
    def login(self) -> dict[str, str]:
        return {"Authorization": f"token {self.token}"}


def show(folder: Path, registry: Location, bind: str, *, check: bool) -> None:
    """Start JupyterLab with the notebook, until interrupted; with `check`, run the notebook and read what it published.

    Parameters
    ----------
    folder : Path
        The pyramid; the notebook is put beside it.
    registry : Path
    bind : str
        ``HOST:PORT``.
    check : bool

    Raises
    ------
    DemoError
    """
    with ExitStack() as stack:
        shutil.copy(NOTEBOOK, folder.parent)
        stack.callback(_revoke_below, registry, folder)
        jupyter = stack.enter_context(
            _serving(folder.parent, registry, bind, "jupyter_server" if check else "jupyterlab")
        )
        if check:
            _check(jupyter, folder)
        else:
            page = f"{jupyter.url}lab/tree/{NOTEBOOK.name}?token={jupyter.token}"
            print(f"open {page}\nand run its cells; Ctrl-C ends the demonstration", flush=True)
            jupyter.process.wait()
            raise DemoError("JupyterLab has ended; it says why above")


def _check(jupyter: _Jupyter, folder: Path) -> None:
    """Run the notebook in a kernel of the server, and read through the server what it has published."""
    with _kernel(jupyter) as run:
        cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
        for cell in cells:
            if cell["cell_type"] == "code":
                run("".join(cell["source"]))
        tiles, page = run("print(tiles); print(page)").split()
        print(f"ok    the notebook ran and published {tiles}")
        parts = urlsplit(jupyter.url)
        server = f"{parts.scheme}://{parts.netloc}"
        check_tiles(server, tiles, folder, jupyter.login)
        check_page(server, page, jupyter.login)


@contextmanager
def _serving(folder: Path, registry: Location, bind: str, module: str) -> Iterator[_Jupyter]:
    """Run a Jupyter server in `folder`, and yield it once it answers."""
    try:
        with listen(bind) as free:
            host, port = free.getsockname()[:2]
    except BindError as error:
        raise DemoError(str(error)) from error
    runtime = folder / "runtime"
    command = [
        *(sys.executable, "-m", module, "--no-browser", f"--ServerApp.ip={host}", f"--ServerApp.port={port}"),
        *("--ServerApp.port_retries=0", f"--ServerApp.root_dir={folder}", "--log-level=WARN"),
        # No question about news in front of the notebook.
        "--LabApp.news_url=None",
        *(["--allow-root"] if os.geteuid() == 0 else []),
    ]
    own = {"KDR_REGISTRY": setting_of(registry), "KDR_SERVICE_URL": "", "JUPYTER_RUNTIME_DIR": str(runtime)}
    environment = {**os.environ, **own}
    log = folder / "jupyter.log"
    with (
        open(log, "wb") as output,
        subprocess.Popen(command, env=environment, cwd=folder, stdout=output, stderr=output) as process,
    ):
        try:
            yield _wait_for(process, runtime)
        except DemoError:
            print(log.read_text("utf-8", "replace"), file=sys.stderr)
            raise
        finally:
            process.terminate()


def _wait_for(process: subprocess.Popen[bytes], runtime: Path) -> _Jupyter:
    info = runtime / f"jpserver-{process.pid}.json"
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            told = json.loads(info.read_text("utf-8"))
            return _Jupyter(process, told["url"], told["token"], runtime)
        except (FileNotFoundError, ValueError):
            time.sleep(0.1)  # It is not there yet, or just being written.
    raise DemoError("Jupyter does not start; it says why above")


@contextmanager
def _kernel(jupyter: _Jupyter) -> Iterator[Callable[[str], str]]:
    """Start a kernel of the server, and yield a function that executes code in it and returns what that prints."""
    from jupyter_client.blocking.client import BlockingKernelClient

    request = urllib.request.Request(f"{jupyter.url}api/kernels", data=b"{}", headers=jupyter.login)
    with urllib.request.urlopen(request, timeout=_START_SECONDS) as answer:
        name = json.load(answer)["id"]
    client = BlockingKernelClient(connection_file=str(jupyter.runtime / f"kernel-{name}.json"))
    client.load_connection_file()
    client.start_channels()
    try:
        _wait_for_kernel(client)
        yield lambda code: _execute(client, code)
    finally:
        client.stop_channels()


def _wait_for_kernel(client: BlockingKernelClient) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while (left := deadline - time.monotonic()) > 0:
        try:
            client.wait_for_ready(timeout=left)
            return
        except RuntimeError:  # A kernel that is busy importing misses a heartbeat, and is called dead.
            time.sleep(0.1)
    raise DemoError("the notebook's kernel does not start; run the command again when the machine is less busy")


def _execute(client: BlockingKernelClient, code: str) -> str:
    printed: list[str] = []
    errors: list[str] = []

    def take(message: dict[str, Any]) -> None:
        content = message["content"]
        if message["msg_type"] == "stream" and content["name"] == "stdout":
            printed.append(content["text"])
        elif message["msg_type"] == "stream":
            errors.append(content["text"])

    reply = client.execute_interactive(code, output_hook=take, timeout=_START_SECONDS)
    if reply["content"]["status"] != "ok":
        raise DemoError(f"the notebook fails: {reply['content']['ename']}: {reply['content']['evalue']}")
    if errors:
        raise DemoError(f"the notebook complains: {''.join(errors)}")
    return "".join(printed)


def _revoke_below(registry: Location, folder: Path) -> None:
    """End what the notebook has registered: its files go with the demonstration."""
    with closing(registry_at(registry)) as opened:
        for registration in opened.registrations():
            if Path(os.fsdecode(registration.root)).is_relative_to(folder.resolve()):
                opened.revoke(registration.key)
