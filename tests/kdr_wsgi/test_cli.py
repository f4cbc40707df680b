from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from blake3 import blake3

from hub.content import cleaning
from hub.registration import Registration
from hub.registry import Registry
from hub.servers import announced
from hub.version import VERSION
from kdr_wsgi import servers
from kdr_wsgi.cli import main
from kdr_wsgi.servers import SERVERS
from kdr_wsgi.settings import SETTINGS
from tests.archives import STORED, write_zip
from tests.raw_http import fetch

Kdr = Callable[..., tuple[int, str, str]]

COMMANDS = ["serve", "publish", "list", "revoke", "gc", "verify", "doctor", "demo"]


@pytest.fixture
def kdr(registry_path: Path, capsys: pytest.CaptureFixture[str]) -> Kdr:
    """Run a command in this process; return its exit code and what it printed."""

    def run(command: str, *arguments: str | os.PathLike[str]) -> tuple[int, str, str]:
        code = main([command, "--registry", str(registry_path), *map(str, arguments)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def test_publish_prints_the_partial_url_alone(kdr: Kdr, tree: Path) -> None:
    code, out, err = kdr("publish", tree, "--key", "tiles/1")
    assert (code, out, err) == (0, "/wwtkdr/tiles%2F1/\n", "")
    (tree / "a b").touch()
    code, out, err = kdr("publish", tree / "a b", "--extension", ".fits", "--visibility", "users", "--ttl", "60")
    assert (code, err) == (0, "")
    assert out.endswith("/a%20b.fits\n")


def test_publish_by_content_prints_the_hash(kdr: Kdr, tree: Path, tmp_path: Path) -> None:
    (tree / "a.fits").write_bytes(b"1")
    digest = blake3(b"1").hexdigest()
    assert kdr("publish", "--content", tree / "a.fits") == (0, f"/wwtkdr/{digest}/a.fits\n", "")
    code, out, err = kdr("publish", "--content", tree, "--snapshot", tmp_path / "kept")
    assert (code, err) == (0, "")
    listed = {entry["partial_url"]: entry for entry in json.loads(kdr("list", "--json")[1])}
    assert listed[f"/wwtkdr/{digest}/a.fits"]["content"] == digest
    assert (listed[out.strip()]["is_snapshot"], listed[out.strip()]["path"]) == (True, str(tmp_path / "kept"))
    assert "private snapshot" in kdr("list")[1]


def test_an_archive_is_published_by_its_members_with_tree(kdr: Kdr, tree: Path) -> None:
    archive = write_zip(tree / "a.zip", ("member", b"", STORED))
    as_file, as_tree = kdr("publish", archive), kdr("publish", "--tree", archive, "--key", "tiles")
    assert (as_file[0], as_file[1].endswith("/a.zip\n")) == (0, True)
    assert as_tree == (0, "/wwtkdr/tiles/\n", "")
    assert {entry["kind"] for entry in json.loads(kdr("list", "--json")[1])} == {"file", "archive"}
    assert f"archive 'tiles' at {str(archive)!r}: readable on disk" in kdr("doctor")[1]
    archive.write_bytes(archive.read_bytes()[:-1])
    code, out, _ = kdr("doctor")
    assert (code, "is no zip archive, or was cut off; write it again, or revoke it" in out) == (1, True)
    code, _, err = kdr("publish", "--tree", archive, "--extension", ".fits")
    assert (code, "is published by its members (--tree)" in err) == (1, True)
    code, _, err = kdr("publish", "--tree", archive, "--content")
    assert (code, "no content key can be made of an archive's members" in err) == (1, True)


def test_publish_refuses_what_contradicts_a_content_key(kdr: Kdr, tree: Path) -> None:
    code, out, err = kdr("publish", "--content", tree, "--key", "k")
    assert (code, out) == (1, "")
    assert "a content key is the hash of what is published; leave one of the two out" in err
    assert kdr("publish", tree, "--snapshot", tree)[2].startswith("kdr: snapshot=")


def test_verify_tells_each_difference(kdr: Kdr, tree: Path) -> None:
    (tree / "a\n").write_bytes(b"12")
    (tree / "b").write_bytes(b"345")
    key = kdr("publish", "--content", tree)[1].split("/")[2]
    assert kdr("verify", key) == (0, f"{tree}: 2 files, 5 bytes: as the key promises\n", "")
    (tree / "a\n").unlink()
    (tree / "b").write_bytes(b"3456")
    code, out, err = kdr("verify", key)
    told = f"missing  a\\n\nchanged  b\n{tree}: 2 files, 4 bytes: 2 files are not what the key promises\n"
    assert (code, out) == (1, told)
    assert err == ("kdr: 1 of 1 places have not what the key promises; publish again for a key of what is there now\n")


def test_of_equal_data_each_place_counts(kdr: Kdr, tree: Path, tmp_path: Path) -> None:
    keys = set()
    for place in (tree, tmp_path / "copy"):
        place.mkdir(exist_ok=True)
        (place / "a").write_bytes(b"1")
        keys.add(kdr("publish", "--content", place)[1].split("/")[2])
    (key,) = keys
    assert kdr("verify", key)[1].count("1 files, 1 bytes: as the key promises") == 2
    (tmp_path / "copy" / "a").unlink()
    (tmp_path / "copy").rmdir()
    assert "1 of 2 places" in kdr("verify", key)[2]
    assert f"missing  {tmp_path / 'copy'}\n" in kdr("verify", key)[1]
    assert f"ok    tree '{key}' at '{tree}': readable on disk" in kdr("doctor")[1]
    assert kdr("gc", "--missing")[1].startswith("0 removed")
    (tree / "a").unlink()
    tree.rmdir()
    assert f"bad   tree '{key}'" in kdr("doctor")[1]
    assert "1 removed" in kdr("gc", "--missing")[1]


def test_verify_needs_a_content_key(kdr: Kdr, tree: Path) -> None:
    kdr("publish", tree, "--key", "k")
    assert kdr("verify", "k")[::2] == (
        1,
        "kdr: 'k' is no content key, and promises nothing; publish with --content for one\n",
    )
    assert kdr("verify", "none")[::2] == (1, "kdr: the key 'none' is not registered; kdr list shows what is\n")


def test_gc_removes_the_manifests_that_nothing_needs(
    kdr: Kdr, tree: Path, registry_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "a").write_bytes(b"1")
    old = kdr("publish", "--content", tree)[1].split("/")[2]
    (tree / "a").write_bytes(b"2")
    new = kdr("publish", "--content", tree)[1].split("/")[2]
    kdr("revoke", old)
    folder = registry_path.with_name("registry.sqlite.manifests")
    assert kdr("gc") == (0, "0 removed\n", "")
    assert len(list(folder.glob("*.manifest"))) == 2
    monkeypatch.setattr(cleaning, "_GRACE_SECONDS", -1.0)
    code, out, _ = kdr("gc")
    assert (code, out.splitlines()[1].partition(",")[0]) == (0, "manifests: 2 files removed")
    assert [path.stem for path in folder.glob("*.manifest")] == [new]
    assert kdr("verify", new)[0] == 0


def test_gc_removes_the_snapshots_that_nothing_needs(kdr: Kdr, tree: Path, tmp_path: Path) -> None:
    (tree / "a").write_bytes(b"12345")
    key = kdr("publish", "--content", tree / "a", "--snapshot", tmp_path / "kept")[1].split("/")[2]
    assert kdr("gc", "--snapshots", tmp_path / "kept")[1].endswith("kept: 0 files removed, 0 bytes\n")
    kdr("revoke", key)
    kdr("publish", tree, "--key", "k", "--ttl", "0.01")
    time.sleep(0.02)
    code, out, err = kdr("gc", "--snapshots", tmp_path / "kept", "--snapshots", tree)
    assert (code, out) == (1, "")
    assert "nothing has been kept there" in err
    assert kdr("gc", "--snapshots", tmp_path / "kept")[1].endswith("kept: 1 files removed, 5 bytes\n")


def test_the_doctor_sees_a_lost_manifest(kdr: Kdr, tree: Path, registry_path: Path, tmp_path: Path) -> None:
    (tree / "a").write_bytes(b"1")
    kdr("publish", "--content", tree)
    kdr("publish", "--content", tree / "a", "--snapshot", tmp_path / "kept")
    _, out, _ = kdr("doctor")
    assert out.count(": readable on disk, private") == 2
    assert "snapshot of a file" in out
    for path in registry_path.with_name("registry.sqlite.manifests").glob("*.manifest"):
        path.unlink()
    code, out, _ = kdr("doctor")
    assert code == 1
    assert "No such file or directory; publish it again, with content=True" in out


def test_list_shows_what_is_registered(kdr: Kdr, tree: Path) -> None:
    assert kdr("list") == (0, "", "nothing is registered; publish something with: kdr publish PATH\n")
    kdr("publish", tree, "--key", "one")
    kdr("publish", tree, "--key", "two", "--visibility", "public", "--ttl", "100")
    code, out, _ = kdr("list")
    one, two = out.splitlines()
    assert (code, one) == (0, f"one  tree  private  for ever  {tree}")
    assert two.startswith("two  tree  public  ")
    code, out, _ = kdr("list", "--json")
    listed = json.loads(out)
    assert [entry["key"] for entry in listed] == ["one", "two"]
    assert listed[0]["partial_url"] == "/wwtkdr/one/"
    assert listed[0]["path"] == str(tree)


def test_a_terminal_gets_no_control_characters(kdr: Kdr, tmp_path: Path) -> None:
    evil = os.fsencode(tmp_path) + b"/\x1b[31m\xff\n"
    os.mkdir(evil)
    kdr("publish", os.fsdecode(evil), "--key", "\x1b]0;x\x07")
    for command in (("list",), ("doctor",), ("gc", "--missing")):
        out = kdr(*command)[1]
        assert all(line.isprintable() for line in out.splitlines())
    assert json.loads(kdr("list", "--json")[1])[0]["path"] == os.fsdecode(evil)


def test_revoke_ends_one_registration(kdr: Kdr, tree: Path) -> None:
    kdr("publish", tree, "--key", "one")
    assert kdr("revoke", "one") == (0, "", "")
    assert kdr("revoke", "one") == (1, "", "kdr: the key 'one' is not registered; kdr list shows what is\n")


def test_gc_removes_what_has_expired_and_on_demand_what_is_missing(kdr: Kdr, tree: Path) -> None:
    kdr("publish", tree, "--key", "expires", "--ttl", "0.01")
    kdr("publish", tree, "--key", "missing")
    time.sleep(0.05)
    tree.rmdir()
    assert kdr("gc") == (0, f"removed expires  {tree}\n1 removed\n", "")
    assert kdr("gc", "--missing") == (0, f"removed missing  {tree}\n1 removed\n", "")
    assert kdr("gc") == (0, "0 removed\n", "")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("publish /nothing", "cannot serve '/nothing': no such file or directory"),
        ("publish /dev/null", "cannot serve '/dev/null' as a file: it is not a regular file"),
        ("publish / --key _x", "the key '_x' cannot be used: keys that begin with '_' are reserved for the server"),
        ("publish / --extension .x", "--extension is for files, and '/' is a directory"),
        ("publish / --ttl -1", "ttl=-1.0 cannot be used: give a positive number of seconds, or None for no end"),
        ("serve --bind nowhere", "cannot listen on nowhere: write HOST:PORT (port 0: a free one) or unix:PATH"),
        ("serve --bind :1:99999", "cannot listen on :1:99999: write HOST:PORT (port 0: a free one) or unix:PATH"),
        ("serve --bind unix:", "cannot listen on unix:: name the socket's path behind the colon"),
        (f"serve --bind unix:/{'x' * 200}", f"cannot listen on unix:/{'x' * 200}: AF_UNIX path too long"),
        ("demo --bind unix:/x", "a browser opens no unix socket; give --bind HOST:PORT"),
        ("serve --publish /nothing", "cannot serve '/nothing': no such file or directory"),
    ],
)
def test_a_failure_is_one_sentence_and_exit_code_1(kdr: Kdr, arguments: str, sentence: str) -> None:
    assert kdr(*arguments.split()) == (1, "", f"kdr: {sentence}\n")


def test_an_unusable_registry_is_one_sentence(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / "file").touch()
    for command in (["list"], ["publish", str(tree)], ["gc"], ["revoke", "x"], ["serve", "--bind", "127.0.0.1:0"]):
        assert main([*command, "--registry", str(tree / "file" / "registry")]) == 1
        assert capsys.readouterr().err.startswith("kdr: the registry ")


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["publish"], ["serve", "--workers", "0"], ["list", "x"]])
def test_wrong_usage_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: kdr" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_helps_and_takes_a_registry(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert "--registry PATH" in told
    assert command != "serve" or all(setting.help in told for setting in SETTINGS)


def test_a_reader_that_stops_reading_is_no_error(registry_path: Path, tree: Path) -> None:
    registry = Registry(registry_path)
    registry.registrations()
    registry.close()
    command = f"{sys.executable} -m kdr_wsgi list --json --registry {registry_path} | true"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert ended.stderr == ""


def test_doctor_says_what_is_wrong_and_what_to_do(kdr: Kdr, registry_path: Path, tree: Path) -> None:
    code, out, _ = kdr("doctor")
    assert (code, f"note  registry {registry_path}: not there yet" in out) == (0, True)
    kdr("publish", tree, "--key", "good")
    code, out, _ = kdr("doctor")
    assert code == 0
    assert "note  server: nothing runs for this registry; start JupyterLab, or kdr serve" in out
    assert f"ok    tree 'good' at '{tree}': readable on disk, private; only kdr serve --as-owner serves it\n" in out
    (tree / "file").touch()
    kdr("publish", tree / "file", "--key", "gone")
    (tree / "file").unlink()
    registry_path.parent.chmod(0o755)
    code, out, _ = kdr("doctor")
    assert code == 1
    assert "bad   file 'gone' at" in out
    assert "No such file or directory; publish it again, or run: kdr revoke 'gone'\n" in out
    assert f"others have some (755); run: chmod 700 {registry_path.parent}\n" in out
    registry_path.write_bytes(b"garbage" * 100)
    code, out, _ = kdr("doctor")
    assert code == 1
    assert "\nbad   the registry " in out


class Serving:
    """`kdr serve` as a process, and the lines that it has printed."""

    def __init__(self, stack: ExitStack, registry_path: Path, *arguments: str, lines: int = 1) -> None:
        self.process = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", "kdr_wsgi", "serve", "--registry", str(registry_path), *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        stack.callback(self.process.kill)
        assert self.process.stdout is not None
        self.lines = [self.process.stdout.readline().strip() for _ in range(lines)]

    @property
    def address(self) -> tuple[str, int] | str:
        where = self.lines[0].removeprefix("listening on ")
        if where.startswith("unix:"):
            return where.removeprefix("unix:")
        host, _, port = where.removeprefix("http://").rpartition(":")
        return host, int(port)

    def stop(self) -> tuple[int, str]:
        """End it as a service manager does; return its exit code and what it said on stderr."""
        self.process.send_signal(signal.SIGTERM)
        _, err = self.process.communicate(timeout=30)
        return self.process.returncode, err


@pytest.fixture
def serve(registry_path: Path) -> Iterator[Callable[..., Serving]]:
    with ExitStack() as stack:
        yield lambda *arguments, **options: Serving(stack, registry_path, *map(str, arguments), **options)


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


def test_doctor_tells_of_a_link_that_was_put_on_the_way(kdr: Kdr, tmp_path: Path) -> None:
    folder = tmp_path / "above" / "tiles"
    folder.mkdir(parents=True)
    kdr("publish", folder, "--key", "moved")
    (tmp_path / "above").rename(tmp_path / "elsewhere")
    (tmp_path / "above").symlink_to(tmp_path / "elsewhere")
    code, out, _ = kdr("doctor")
    assert (code, f"bad   tree 'moved' at '{folder}': a link leads there now" in out) == (1, True)


def test_doctor_knows_the_registry_of_a_hubs_service(kdr: Kdr, registry_path: Path, tree: Path) -> None:
    registry = Registry(registry_path)
    registry.claim(Registration("ada~tiles", "tree", bytes(tree), owner="ada"))
    registry.close()
    code, out, _ = kdr("doctor")
    assert (code, "note  server: this is the registry of a service of a JupyterHub" in out) == (0, True)
    assert "--as-owner" not in out


def test_doctor_tells_of_versions_that_do_not_fit(
    serve: Callable[..., Serving], kdr: Kdr, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve("--bind", "127.0.0.1:0")
    monkeypatch.setattr("kdr_wsgi.doctor.VERSION", "9.9")
    code, out, _ = kdr("doctor")
    assert (code, f"answers with version {VERSION} (here 9.9, which fits)\n" in out) == (0, True)
    monkeypatch.setattr("kdr_wsgi.doctor.SCHEMA_VERSION", 99)
    code, out, _ = kdr("doctor")
    assert (code, "install the same version in both environments\n" in out) == (1, True)


def test_doctor_tells_of_a_jupyter_server_without_the_relay(
    kdr: Kdr, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    info = {"pid": os.getpid(), "base_url": "/x/", "url": "http://127.0.0.1:1/x/", "token": ""}
    (tmp_path / f"jpserver-{os.getpid()}.json").write_text(json.dumps(info))
    code, out, _ = kdr("doctor")
    told = f"bad   Jupyter server http://127.0.0.1:1/x/ (process {os.getpid()}): has no relay for this registry; in its"
    assert (code, told in out) == (1, True)


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
