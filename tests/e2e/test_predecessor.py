"""Beside the relay that this one takes the place of, installed in the same Jupyter server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from xml.etree import ElementTree

import pytest

from kdr_wsgi.predecessor import PREDECESSOR, explain_route
from tests.jupyter import JupyterServer, Kernel, jupyter_server
from tests.packages import install

CONFLICT = "wwt_kernel_data_relay is enabled too, and both relays answer at wwtkdr/."

BY_PYWWTS_OWN_HUB = "import pywwt.jupyter_relay as relay; print(relay.get_relay_hub().serve_tree({path!r}))"


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., JupyterServer]]:
    """Start a Jupyter server that has both relays."""
    packages = install(tmp_path_factory.mktemp("packages"), "wwt_kernel_data_relay==0.3.0")
    both = f"--ServerApp.jpserver_extensions={PREDECESSOR}=True"
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(packages))
        yield lambda *arguments: stack.enter_context(
            jupyter_server(tmp_path_factory.mktemp("jupyter"), both, *arguments, base_url="/user/ada/")
        )


@pytest.fixture
def tiles(tree: Path) -> Path:
    (tree / "0.png").write_bytes(b"tile")
    (tree / "index_rel.wtml").write_text('<Folder Url="0.png"/>')
    return tree


def read_as_the_page(server: JupyterServer, url: str) -> bytes:
    answer = server.fetch(url)
    assert answer.status == 200, answer.body
    return answer.body


def test_on_one_route_this_relay_comes_first_and_the_log_says_what_to_do(
    start: Callable[..., JupyterServer], tiles: Path
) -> None:
    server = start()
    assert CONFLICT in server.log.read_text()
    assert "c.KernelDataRelay.route = 'kdr'" in server.log.read_text()
    with server.kernel() as kernel:
        url = kernel.publish(tiles)
        assert url.startswith("/user/ada/wwtkdr/")
        assert read_as_the_page(server, url + "0.png") == b"tile"
        others = kernel.run(BY_PYWWTS_OWN_HUB.format(path=str(tiles))).strip()
        answer = server.fetch(others + "0.png")
        assert (answer.status, answer.body) == (404, b"Nothing is published under this key.\n")


def test_on_two_routes_both_work(start: Callable[..., JupyterServer], tiles: Path) -> None:
    server = start("--KernelDataRelay.route=kdr")
    assert CONFLICT not in server.log.read_text()
    with server.kernel() as kernel:
        others = kernel.run(BY_PYWWTS_OWN_HUB.format(path=str(tiles))).strip()
        assert others.startswith("/user/ada/wwtkdr/pywwt_")
        assert read_as_the_page(server, others + "0.png") == b"tile"
        url = publish_by_pywwt(kernel, tiles)
        assert url.startswith("/user/ada/kdr/")
        assert read_as_the_page(server, url + "0.png") == b"tile"
        wtml = ElementTree.fromstring(read_as_the_page(server, url + "index.wtml"))
        assert wtml.attrib["Url"] == f"{server.origin}{url}0.png"
        assert f'"partial_url": "{url}"' in run_kdr(kernel, "list", "--json")
        doctor = run_kdr(kernel, "doctor")
        assert ": answers" in doctor
        assert CONFLICT not in doctor
    for route, status in (("kdr", b'"server":"kdr-wsgi"'), ("wwtkdr", b'{"status": "ok"}')):
        assert status in read_as_the_page(server, f"/user/ada/{route}/_probe").replace(b'server": "', b'server":"')


def run_kdr(kernel: Kernel, *arguments: str) -> str:
    """Run the command as in a terminal of the Jupyter server, and return what it prints."""
    command = f"[sys.executable, '-m', 'kdr_wsgi', *{arguments!r}]"
    return kernel.run(
        f"import subprocess, sys; print(subprocess.run({command}, capture_output=True, text=True).stdout)"
    )


def publish_by_pywwt(kernel: Kernel, path: Path) -> str:
    kernel.run("import hub; hub.pywwt.enable()")
    return kernel.run(BY_PYWWTS_OWN_HUB.format(path=str(path))).strip()


@pytest.mark.parametrize(
    ("enabled", "route", "words"),
    [
        ({PREDECESSOR}, "wwtkdr", "both relays answer at wwtkdr/"),
        ({PREDECESSOR}, "kdr", None),
        ({"jupyterlab"}, "wwtkdr", None),
        ({"jupyterlab"}, "kdr", "none at wwtkdr/, where the application WorldWide Telescope in JupyterLab looks"),
    ],
)
def test_one_relay_answers_where_pages_look_for_it(enabled: set[str], route: str, words: str | None) -> None:
    advice = explain_route(enabled, route)
    assert (advice is None) if words is None else (advice is not None and words in advice)
