from __future__ import annotations

import json
import os
import signal
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from hub.servers import announced
from kdr_wsgi import servers
from kdr_wsgi.servers import SERVERS
from tests.kdr_wsgi.commands.conftest import Kdr, Serving
from tests.raw_http import fetch


@pytest.mark.parametrize("name", SERVERS)
def test_serve_prints_where_and_what(serve: Callable[..., Serving], kdr: Kdr, tree: Path, name: str) -> None:
    (tree / "a").write_text("x")
    server = serve("--server", name, "--bind", "127.0.0.1:0", "--publish", tree, tree / "a", lines=3)
    where = server.lines[0].removeprefix("listening on ")
    first, second = (line.removeprefix(where) for line in server.lines[1:])
    assert fetch(server.address, first + "a").body == b"x"
    assert fetch(server.address, second).body == b"x"
    kdr("publish", tree, "--key", "mine")
    assert fetch(server.address, "/wwtkdr/mine/a").status == 404
    assert f"(process {server.process.pid}): answers\n" in kdr("doctor")[1]
    assert server.stop() == (0, "")
    assert "nothing runs for this registry" in kdr("doctor")[1]


def test_another_route_is_served_and_printed(
    serve: Callable[..., Serving], kdr: Kdr, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "a").write_text("x")
    monkeypatch.setenv("KDR_ROUTE", "kdr")
    server = serve("--bind", "127.0.0.1:0", "--publish", tree, lines=2)
    _, _, path = server.lines[1].removeprefix("http://").partition("/")
    assert path.startswith("kdr/")
    assert fetch(server.address, f"/{path}a").body == b"x"
    assert fetch(server.address, f"/%6Bdr{path.removeprefix('kdr')}%61").body == b"x"
    assert fetch(server.address, "/kdr/_probe").status == 200
    assert fetch(server.address, f"/wwtkdr{path.removeprefix('kdr')}a").status == 404
    assert kdr("publish", tree, "--key", "mine")[1] == "/kdr/mine/\n"
    assert f"(process {server.process.pid}): answers\n" in kdr("doctor")[1]


def test_serve_prints_its_own_route_beside_a_jupyter_server_with_another(
    serve: Callable[..., Serving], registry_path: Path, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "a").write_text("x")
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    (tmp_path / f"jpserver-{os.getpid()}.json").write_text(json.dumps({"pid": os.getpid(), "base_url": "/"}))
    with announced(registry_path, "jupyter", "/", "kdr"):
        server = serve("--bind", "127.0.0.1:0", "--publish", tree, lines=2)
        path = server.lines[1].removeprefix(server.lines[0].removeprefix("listening on "))
        assert fetch(server.address, path + "a").body == b"x"


def test_serve_as_owner_reads_all_and_warns_on_tcp(serve: Callable[..., Serving], kdr: Kdr, tree: Path) -> None:
    (tree / "a").write_text("x")
    kdr("publish", tree, "--key", "mine")
    server = serve("--bind", "127.0.0.1:0", "--as-owner")
    assert fetch(server.address, "/wwtkdr/mine/a").body == b"x"
    code, err = server.stop()
    assert (code, "every user of this machine can read your private registrations" in err) == (0, True)


@pytest.mark.parametrize("name", SERVERS)
def test_a_unix_socket_is_for_the_user_alone_and_goes_with_the_server(
    serve: Callable[..., Serving], kdr: Kdr, tree: Path, tmp_path: Path, name: str
) -> None:
    (tree / "a").write_text("x")
    kdr("publish", tree, "--key", "mine")
    path = tmp_path / "s"
    umask = os.umask(0)
    try:
        server = serve("--server", name, "--bind", f"unix:{path}", "--as-owner")
    finally:
        os.umask(umask)
    assert server.lines == [f"listening on unix:{path}"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert fetch(str(path), "/wwtkdr/mine/a").body == b"x"
    assert "answers" in kdr("doctor")[1]
    code, _, err = kdr("serve", "--bind", f"unix:{path}")
    assert (code, err) == (1, f"kdr: cannot listen on unix:{path}: another server listens there\n")
    assert server.stop() == (0, "")
    assert not path.exists()


@pytest.mark.parametrize("name", SERVERS)
def test_what_a_killed_server_left_is_replaced(
    serve: Callable[..., Serving], kdr: Kdr, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "s"
    killed = serve("--server", name, "--bind", f"unix:{path}", "--workers", "1")
    assert fetch(str(path), "/wwtkdr/_probe").status == 200
    (worker,) = Path(f"/proc/{killed.process.pid}/task/{killed.process.pid}/children").read_text().split()
    killed.process.kill()
    killed.process.wait()
    os.kill(int(worker), signal.SIGKILL)
    assert "nothing runs for this registry" in kdr("doctor")[1]
    server = serve("--server", name, "--bind", f"unix:{path}")
    assert fetch(str(path), "/wwtkdr/_probe").status == 200
    assert server.stop() == (0, "")
    (tmp_path / "file").touch()
    assert "something else than a socket is there" in kdr("serve", "--bind", f"unix:{tmp_path / 'file'}")[2]


def test_the_environment_too_warns_that_all_is_readable(
    serve: Callable[..., Serving], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KDR_AS_OWNER", "1")
    assert "can read your private registrations" in serve("--bind", "127.0.0.1:0").stop()[1]


def test_a_relative_socket_is_found_from_elsewhere(
    serve: Callable[..., Serving], kdr: Kdr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    server = serve("--bind", "unix:s")
    assert server.lines == [f"listening on unix:{tmp_path / 's'}"]
    monkeypatch.chdir("/")
    assert ": answers\n" in kdr("doctor")[1]


def test_what_cannot_be_served_is_not_published(kdr: Kdr, tree: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        kdr("serve", "--bind", f"127.0.0.1:{other.getsockname()[1]}", "--publish", tree)
    assert kdr("list", "--json")[1] == "[]\n"


def test_a_server_that_is_not_installed_is_told_before_anything_is_published(
    kdr: Kdr, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "find_spec", lambda _name: None)
    code, _, err = kdr("serve", "--server", "granian", "--publish", tree)
    assert code == 1
    assert err == "kdr: granian cannot be used: it is not installed; run: pip install 'kdr-wsgi[granian]'\n"
    assert kdr("list")[1] == ""


def test_a_busy_port_is_told_at_once(kdr: Kdr) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        bind = f"127.0.0.1:{other.getsockname()[1]}"
        code, _, err = kdr("serve", "--bind", bind)
    assert code == 1
    assert err == f"kdr: cannot listen on {bind}: Address already in use; name another port, or 0 for a free one\n"


def test_a_client_of_this_machine_cannot_claim_headers_of_a_proxy(serve: Callable[..., Serving], tree: Path) -> None:
    (tree / "a").write_text("x")
    server = serve("--bind", "127.0.0.1:0", "--publish", tree, lines=2)
    path = "/wwtkdr/" + server.lines[1].partition("/wwtkdr/")[2]
    # Believed, it would cut the route off, and nothing be found.
    assert fetch(server.address, path + "a", {"SCRIPT_NAME": "/wwtkdr"}).status in (200, 400)


def test_an_unknown_host_is_told(kdr: Kdr) -> None:
    code, _, err = kdr("serve", "--bind", "no.such.host.invalid:0")
    assert (code, err.startswith("kdr: cannot listen on no.such.host.invalid:0: the host is not known")) == (1, True)


def test_a_socket_that_is_not_a_dead_servers_is_not_removed(kdr: Kdr, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        assert kdr("serve", "--bind", f"unix:{path}")[0] == 1
    assert path.exists()
    (tmp_path / "dangling").symlink_to("nothing")
    assert "something else than a socket" in kdr("serve", "--bind", f"unix:{tmp_path / 'dangling'}")[2]


def test_publish_may_be_given_several_times(serve: Callable[..., Serving], tree: Path, tmp_path: Path) -> None:
    server = serve("--bind", "127.0.0.1:0", "--publish", tree, "--publish", tmp_path, lines=3)
    assert len(set(server.lines)) == 3


def test_serve_warns_where_more_may_read_than_before(serve: Callable[..., Serving], kdr: Kdr, tree: Path) -> None:
    (tree / "a").touch()
    kdr("publish", tree)
    kdr("publish", tree / "a", "--visibility", "public")
    server = serve("--bind", "127.0.0.1:0", "--publish", tree, tree / "a", lines=3)
    code, warned = server.stop()
    assert (code, warned.count("warning")) == (0, 1)
    assert f"{tree} was registered already (private), and is public from now on" in warned
    assert f"kdr publish {tree}\n" in warned
