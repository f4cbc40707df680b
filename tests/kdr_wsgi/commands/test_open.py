from __future__ import annotations

import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from hub.servers import announced
from kdr_wsgi.commands import addresses
from kdr_wsgi.commands.addresses import find_address_on_hub
from kdr_wsgi.commands.common import CommandError
from tests.jupyter import TOKEN, jupyter_server
from tests.kdr_wsgi.commands.conftest import KDR, Kdr, Serving

Serve = Callable[..., Serving]


@pytest.fixture(autouse=True)
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A browser that writes down what it is to open, and where."""
    script = tmp_path / "browser"
    script.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/opened\n')
    script.chmod(0o755)
    monkeypatch.setenv("BROWSER", f"{script} %s")
    return tmp_path / "opened"


def run_open(registry_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it as a process: what webbrowser knows of browsers it finds out once."""
    command = [*KDR, "open", "--registry", str(registry_path), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_it_opens_what_kdr_serve_serves(serve: Serve, kdr: Kdr, tree: Path, registry_path: Path, opened: Path) -> None:
    (tree / "a #1").write_text("x")
    kdr("publish", tree, "--key", "cube", "--visibility", "public")
    where = serve("--bind", "127.0.0.1:0").lines[0].removeprefix("listening on ")
    run = run_open(registry_path, "cu")
    assert (run.returncode, run.stdout, run.stderr) == (0, f"{where}/wwtkdr/cube/\n", "")
    assert opened.read_text() == run.stdout
    run = run_open(registry_path, "cube", "a #1", "--print")
    assert run.stdout == f"{where}/wwtkdr/cube/a%20%231\n"
    with urllib.request.urlopen(run.stdout.strip()) as answer:
        assert answer.read() == b"x"
    assert opened.read_text().count("\n") == 1
    run = run_open(registry_path, "cube", "b")
    assert (run.returncode, run.stdout, run.stderr) == (1, "", "kdr: there is no 'b' in 'cube'\n")


def test_without_a_browser_it_says_so_and_prints_the_url(
    serve: Serve, kdr: Kdr, tree: Path, registry_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kdr("publish", tree, "--key", "cube", "--visibility", "public")
    serve("--bind", "127.0.0.1:0")
    monkeypatch.setenv("BROWSER", "/nothing %s")
    monkeypatch.setenv("PATH", "")
    run = run_open(registry_path, "cube")
    assert (run.returncode, run.stdout.endswith("/wwtkdr/cube/\n")) == (0, True)
    assert run.stderr == "kdr: no browser is known here (BROWSER names one); open the URL in yours\n"


def test_what_nothing_serves_is_told_with_what_to_start(kdr: Kdr, tree: Path, registry_path: Path) -> None:
    kdr("publish", tree, "--key", "mine")
    kdr("publish", tree, "--key", "all", "--visibility", "public")
    told = "kdr: no server runs for this registry; start JupyterLab, or in another terminal: kdr serve"
    assert kdr("open", "mine") == (1, "", f"{told} --as-owner\n")
    assert kdr("open", "all") == (1, "", f"{told}\n")
    assert kdr("open", "none")[2] == "kdr: the key 'none' is not registered; kdr list shows what is\n"


def test_what_is_private_is_opened_where_its_owner_may_read_it(
    serve: Serve, kdr: Kdr, tree: Path, registry_path: Path
) -> None:
    kdr("publish", tree, "--key", "mine")
    serve("--bind", "127.0.0.1:0")
    code, _, err = kdr("open", "mine")
    assert (code, "serves only what is public; start kdr serve --as-owner, or publish with" in err) == (1, True)
    as_owner = serve("--bind", "127.0.0.1:0", "--as-owner").lines[0].removeprefix("listening on ")
    assert kdr("open", "mine", "--print") == (0, f"{as_owner}/wwtkdr/mine/\n", "")


def test_a_socket_is_told_as_what_browsers_do_not_open(serve: Serve, kdr: Kdr, tree: Path, tmp_path: Path) -> None:
    kdr("publish", tree, "--key", "mine")
    serve("--bind", f"unix:{tmp_path / 's'}", "--as-owner")
    code, _, err = kdr("open", "mine")
    assert (code, "is a socket, which browsers do not open; start kdr serve with --bind HOST:PORT" in err) == (1, True)


def test_a_file_has_no_entries_and_what_has_expired_is_not_opened(kdr: Kdr, tree: Path) -> None:
    (tree / "a").touch()
    kdr("publish", tree / "a", "--key", "file")
    assert kdr("open", "file", "x")[2] == "kdr: 'file' is a file, and has no 'x'; leave ENTRY out\n"
    kdr("publish", tree, "--key", "brief", "--ttl", "0.001")
    assert kdr("open", "brief")[2] == "kdr: the registration 'brief' has expired; publish it again\n"


def test_a_server_that_does_not_answer_is_told(kdr: Kdr, tree: Path, registry_path: Path) -> None:
    kdr("publish", tree, "--key", "all", "--visibility", "public")
    with announced(registry_path, "kdr serve", "http://127.0.0.1:1", "wwtkdr"):
        code, _, err = kdr("open", "all")
    assert (code, "the server at http://127.0.0.1:1 does not answer (" in err) == (1, True)


@pytest.mark.parametrize("base_url", ["/", "/user/a%20b/"])
def test_through_jupyter_the_url_has_no_token_and_the_browser_is_asked_for_a_login(
    tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch, base_url: str, opened: Path
) -> None:
    (tree / "a").write_text("x")
    with jupyter_server(tmp_path, base_url=base_url) as jupyter:
        monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
        subprocess.run([*KDR, "publish", str(tree), "--key", "mine"], check=True, capture_output=True)
        run = subprocess.run([*KDR, "open", "mine", "a"], capture_output=True, text=True, check=False, timeout=60)
        assert (run.returncode, run.stderr) == (0, "")
        origin, path = run.stdout.strip()[: len(jupyter.origin)], run.stdout.strip()[len(jupyter.origin) :]
        assert (origin.replace("localhost", "127.0.0.1"), path) == (jupyter.origin, f"{base_url}wwtkdr/mine/a")
        assert opened.read_text() == run.stdout
        assert TOKEN not in run.stdout
        assert jupyter.fetch(path).body == b"x"
        assert jupyter.fetch_plain(path).status in (302, 403)
        run = subprocess.run([*KDR, "open", "mine", "b"], capture_output=True, text=True, check=False, timeout=60)
        assert run.stderr == "kdr: there is no 'b' in 'mine'\n"


def test_of_all_addresses_the_machines_own_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    see = addresses._as_browsers_see
    assert see("http://0.0.0.0:8000") == "http://127.0.0.1:8000"
    assert see("http://[::]:8000") == "http://[::1]:8000"
    assert see("http://127.0.0.1:8888/user/ada") == "http://127.0.0.1:8888/user/ada"
    monkeypatch.setenv("JUPYTERHUB_PUBLIC_URL", "https://hub.example/user/ada/")
    assert see("http://127.0.0.1:8888/user/ada") == "https://hub.example/user/ada"
    assert see("http://127.0.0.1:8000") == "http://127.0.0.1:8000"


def test_what_a_hubs_shared_server_serves_is_opened_at_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_address_on_hub("https://files.example/wwtkdr/k/") == "https://files.example/wwtkdr/k/"
    with pytest.raises(CommandError, match=r"the hub's address is not known here .*; open there: /services/kdr/"):
        find_address_on_hub("/services/kdr/wwtkdr/k/")
    monkeypatch.setenv("JUPYTERHUB_PUBLIC_URL", "https://hub.example/user/ada/")
    assert find_address_on_hub("/services/kdr/wwtkdr/k/") == "https://hub.example/services/kdr/wwtkdr/k/"
