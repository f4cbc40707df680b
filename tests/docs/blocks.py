"""The code blocks of README.md and docs/: each is run, page by page, or says in a comment why not.

In front of a block that cannot be run on a test machine stands a comment, which no reader sees::

    <!-- skip: next "it needs systemd" -->
"""

from __future__ import annotations

import gc
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image
from sybil import Document, Example, Lexeme, Region, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.example import SybilFailure
from sybil.parsers.markdown import SkipParser
from sybil.parsers.markdown.lexers import FencedCodeBlockLexer
from traitlets.config import Config

import hub.client
from hub import PublishedURL
from tests.conftest import free_port, need, need_zarr, wait_for_port
from tests.raw_http import fetch

ROOT = Path(__file__).parents[2]

#: Pictures made of letters, what programs print, and the site's own directives.
NOT_CODE = re.compile(r"text|\{[a-z-]+\}.*")

#: Where a page's blocks say that a server is; each page has one of its own at a port that is free.
SERVER = "127.0.0.1:8000"

#: Where pages say that much data is.
DATA = "/data/"

#: Programs that not every machine has, and where they come from.
OPTIONAL = {"b3sum": "apt-get install b3sum", "npm": "apt-get install npm"}

#: What stands for anything in the output that a page shows.
ANYTHING = "..."


class Setting:
    """What the blocks of one page find: a folder with data, a registry, and a server that reads it as its owner."""

    def __init__(self) -> None:
        # What a test that failed before has left open is no fault of this page's.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
        self.folder = Path(tempfile.mkdtemp(prefix="kdr-docs-"))
        self.port = free_port()
        self._environment = dict(os.environ)
        self._working_directory = Path.cwd()
        self._server: subprocess.Popen[bytes] | None = None
        self._seen: set[str] = set()
        for name in [*os.environ]:
            if name.startswith(("JUPYTER", "JPY_", "XDG_", "KDR_")) and not name.startswith("KDR_TEST_"):
                del os.environ[name]
        os.environ["HOME"] = str(self.folder / "home")
        os.environ["KDR_REGISTRY"] = str(self.folder / "registry" / "registry.sqlite")
        os.environ["KDR_BASE_URL"] = "/user/ada/"
        os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        work = self.folder / "work"
        work.mkdir()
        make_data(work)
        (self.folder / "data").mkdir()
        os.chdir(work)
        hub.client._relay_hub = None

    def localised(self, block: str) -> str:
        """Return a block with the places that exist here for those that it names."""
        if SERVER in block:
            self.serve()
        return block.replace(SERVER, f"127.0.0.1:{self.port}").replace(DATA, f"{self.folder}/data/")

    def serve(self) -> None:
        """Start the server, unless it runs."""
        if self._server is None:
            command = [sys.executable, "-m", "kdr_wsgi", "serve", "--as-owner", "--workers", "1"]
            with (self.folder / "server.log").open("wb") as log:
                self._server = subprocess.Popen([*command, "--bind", f"127.0.0.1:{self.port}"], stdout=log, stderr=log)
            wait_for_port(self.port, self._server)

    def check_published(self, namespace: dict[str, Any]) -> None:
        """Read each URL that a block has got, once."""
        for name, value in [*namespace.items()]:
            if isinstance(value, PublishedURL) and value not in self._seen and is_registered(value):
                self.serve()
                self._seen.add(value)
                answer = fetch(("127.0.0.1", self.port), str(value))
                assert answer.status == 200, f"{name}, {value}, is answered {answer.status}"

    def close(self) -> None:
        """End the server, and put back what was there before."""
        hub.pywwt.disable()
        if hub.client._relay_hub is not None:
            hub.client._relay_hub.registry.close()
            hub.client._relay_hub = None
        if self._server is not None:
            self._server.send_signal(signal.SIGTERM)
            self._server.wait(30)
        os.chdir(self._working_directory)
        os.environ.clear()
        os.environ.update(self._environment)
        shutil.rmtree(self.folder)


def make_data(folder: Path) -> None:
    """Make what the pages' blocks publish: a pyramid of a few tiles, as an archive too, and a file."""
    for tile in ("0/0/0_0", "3/1/1_2"):
        path = folder / "tiles" / f"{tile}.png"
        path.parent.mkdir(parents=True)
        Image.new("RGB", (256, 256), "navy").save(path)
    shutil.make_archive(str(folder / "tiles"), "zip", folder / "tiles")
    for name in ("cube.fits", "cube.dat"):
        (folder / name).write_bytes(b"SIMPLE  =                    T".ljust(2880))


def is_registered(url: PublishedURL) -> bool:
    """Whether nobody has revoked it."""
    return any(known.key == url.key for known, _ in hub.get_relay_hub().registrar.registrations())


def run_python(example: Example) -> None:
    """Run a block of Python in the page's namespace, and read what it has published."""
    setting: Setting = example.document.namespace["_setting"]
    block = example.parsed
    need_zarr(example.document.text)
    example.parsed = Lexeme(setting.localised(block), block.offset, block.line_offset)
    try:
        PythonEvaluator()(example)
        setting.check_published(example.document.namespace)
    except Exception as error:  # noqa: BLE001  # Whatever a page's block raises is told, without the whole page.
        calls = [call for call in traceback.extract_tb(error.__traceback__) if call.filename == example.path]
        where = f"line {calls[-1].lineno}: {calls[-1].line}\n" if calls else ""
        raise SybilFailure(example, where + "".join(traceback.format_exception_only(error))) from None


def run_shell(example: Example) -> None:
    """Run a block of shell commands; of one that shows a terminal compare what is printed, too."""
    setting: Setting = example.document.namespace["_setting"]
    source = setting.localised(example.parsed)
    for program, remedy in OPTIONAL.items():
        if re.search(rf"\b{program}\b", source):
            need(program, is_there=shutil.which(program) is not None, remedy=remedy)
    is_terminal = source.startswith("$ ")
    lines = source.splitlines(keepends=True)
    commands = "".join(line[2:] for line in lines if line.startswith("$ ")) if is_terminal else source
    # In a group of its own, so that what it starts is ended with it.
    bash = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", commands],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        printed, told = bash.communicate(timeout=90)
    except subprocess.TimeoutExpired:
        os.killpg(bash.pid, signal.SIGKILL)
        bash.communicate()
        raise SybilFailure(example, "it does not end") from None
    if bash.returncode:
        raise SybilFailure(example, f"exit code {bash.returncode}\n{printed}{told}")
    if is_terminal:
        expected = "".join(line for line in lines if not line.startswith("$ ")).strip()
        pattern = ".*".join(map(re.escape, expected.split(ANYTHING)))
        if not re.fullmatch(pattern, printed.strip(), re.DOTALL):
            raise SybilFailure(example, f"the page shows\n{expected}\nand printed is\n{printed}")


def refuse(example: Example) -> None:
    """Fail for a block that nothing runs and that does not say why."""
    language = example.region.lexemes["language"]
    raise SybilFailure(
        example,
        f'a block of {language!r} is not run here: put <!-- skip: next "the reason" --> in front of it'
        if language
        else "a block has no language; write text for what is no code",
    )


RUN = {"python": run_python, "sh": run_shell, "console": run_shell}


class BlockParser:
    """Finds all blocks of a page, whatever their language is."""

    def __init__(self) -> None:
        self._find = FencedCodeBlockLexer(r"[^\n]*")

    def __call__(self, document: Document) -> Iterable[Region]:
        for region in self._find(document):
            language = region.lexemes["language"] = region.lexemes["language"].strip()
            if not NOT_CODE.fullmatch(language):
                region.parsed = region.lexemes["source"]
                region.evaluator = RUN.get(language, refuse)
                yield region


def set_up(namespace: dict[str, Any]) -> None:
    """Prepare what the blocks of a page find."""
    namespace["_setting"] = Setting()
    # What the configuration files of Jupyter, JupyterHub and IPython call so.
    namespace["c"] = Config()


def tear_down(namespace: dict[str, Any]) -> None:
    """Put back what was there before a page."""
    namespace["_setting"].close()


pages = Sybil(
    parsers=[BlockParser(), SkipParser()],
    path=str(ROOT),
    patterns=["README.md", "docs/*.md", "docs/*/*.md"],
    setup=set_up,
    teardown=tear_down,
)
