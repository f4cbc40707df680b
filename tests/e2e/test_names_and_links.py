"""Which file a URL reaches: every legal name, nothing outside, nothing that is no regular file."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from kdr_wsgi.cache import MAX_AGE_SECONDS
from tests.conftest import LiveServer, unprivileged
from tests.raw_http import Connection, fetch

NAMES = [
    b"with space",
    b"100%.png",
    b"%41.txt",
    b"%2e%2e",
    b"a#b",
    b"a?b",
    b"a+b&c=d;e",
    b"a:b",
    "grün.fits".encode(),
    "银河.png".encode(),
    b"m\xfcll\xff.fits",
    b"back\\slash",
    b"quote\"'`<>",
    b"new\nline\r\n",
    b"-x",
    b"...",
    b".zattrs",
    b" ",
    b"n" * 255,
]


@pytest.mark.parametrize("name", NAMES)
def test_every_legal_name_works(server: LiveServer, tree: Path, name: bytes) -> None:
    folder = os.fsencode(tree) + b"/" + name
    os.mkdir(folder)
    with open(folder + b"/" + name, "wb") as file:
        file.write(name)
    entry = f"{quote(name, safe='')}/{quote(name, safe='')}"
    assert fetch(server.address, server.hub.serve_tree(tree, visibility="public") + entry).body == name
    assert fetch(server.address, server.hub.serve_file(folder + b"/" + name, visibility="public")).body == name


@pytest.mark.parametrize(
    "entry",
    [
        "../secret",
        "../../secret",
        "sub/../../secret",
        "./../secret",
        "%2e%2e/secret",
        "%2E%2E%2Fsecret",
        "..%2fsecret",
        "..%5csecret",
        "..\\secret",
        "%252e%252e/secret",
        "..%00/secret",
        "../secret%00.png",
        "%c0%ae%c0%ae/secret",
        "..%c0%afsecret",
        "..;/secret",
        ".../secret",
        "..%20/secret",
        "//secret",
        "{outside}/secret",
        "/{outside}/secret",
        "%2F{outside}/secret",
        "file://{outside}/secret",
        "a%zz",
        "%",
        "link-to-file",
        "link-to-folder/secret",
        "link-to-folder/",
        "link-to-folder",
        "absolute-link-to-folder/secret",
        "link-to-link",
        "loop",
        "loop/secret",
        "dangling",
        "inside/../../secret",
    ],
)
def test_nothing_outside_the_root_is_reached(server: LiveServer, tmp_path: Path, tree: Path, entry: str) -> None:
    (tmp_path / "secret").write_text("SECRET")
    (tree / "sub").mkdir()
    (tree / "inside").symlink_to("sub")
    (tree / "link-to-file").symlink_to("../secret")
    (tree / "link-to-folder").symlink_to("..")
    (tree / "absolute-link-to-folder").symlink_to(tmp_path)
    (tree / "link-to-link").symlink_to("link-to-file")
    (tree / "loop").symlink_to("loop")
    (tree / "dangling").symlink_to("../nothing")
    url = server.hub.serve_tree(tree, visibility="public")
    answer = fetch(server.address, url + entry.format(outside=tmp_path))
    assert answer.status in (400, 404)
    assert b"SECRET" not in answer.body
    assert os.fsencode(tmp_path) not in answer.body


def test_links_that_stay_inside_are_followed(server: LiveServer, tree: Path) -> None:
    (tree / "real").mkdir()
    (tree / "real" / "a").write_text("x")
    (tree / "relative").symlink_to("real")
    (tree / "absolute").symlink_to(tree / "real")
    (tree / "file").symlink_to("real/a")
    (tree / "real" / "up").symlink_to("../real/a")
    (tree / "chain").symlink_to("relative/up")
    url = server.hub.serve_tree(tree, visibility="public")
    for entry in (
        "real/a",
        "relative/a",
        "absolute/a",
        "file",
        "real/up",
        "relative/up",
        "chain",
        "real//a",
        "./real/./a",
    ):
        assert fetch(server.address, url + entry).body == b"x", entry
    assert fetch(server.address, url + "relative").status == 308
    assert b"./a" in fetch(server.address, url + "relative/").body


def test_the_root_may_be_given_as_a_link_but_not_become_one(server: LiveServer, tmp_path: Path, tree: Path) -> None:
    (tree / "a").write_text("x")
    (tmp_path / "link").symlink_to(tree)
    folder = server.hub.serve_tree(tmp_path / "link", visibility="public")
    file = server.hub.serve_file(tmp_path / "link" / "a", visibility="public")
    assert fetch(server.address, folder + "a").body == b"x"
    assert fetch(server.address, file).body == b"x"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a").write_text("SECRET")
    tree.rename(tmp_path / "moved")
    tree.symlink_to(tmp_path / "elsewhere")
    assert fetch(server.address, folder + "a").status == 404
    (tmp_path / "moved").rename(tmp_path / "again")
    tree.unlink()
    (tmp_path / "again").rename(tree)
    (tree / "a").unlink()
    (tree / "a").symlink_to(tmp_path / "elsewhere" / "a")
    assert fetch(server.address, file).status == 404


def test_a_link_that_is_swapped_in_opens_nothing(server: LiveServer, tmp_path: Path, tree: Path) -> None:
    outside = tmp_path / "outside"
    for folder, content in ((tree / "sub", "INSIDE"), (outside, "SECRET")):
        folder.mkdir()
        (folder / "a").write_text(content)
    url = server.hub.serve_tree(tree, visibility="public")
    stop = threading.Event()

    def swap() -> None:
        os.symlink(outside, tree / "link")
        while not stop.is_set():
            os.rename(tree / "sub", tree / "aside")
            os.rename(tree / "link", tree / "sub")
            os.rename(tree / "sub", tree / "link")
            os.rename(tree / "aside", tree / "sub")

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        bodies = set()
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            answer = fetch(server.address, url + "sub/a")
            assert answer.status in (200, 404)
            bodies.add(answer.body if answer.status == 200 else b"404")
    finally:
        stop.set()
        swapper.join()
    assert bodies <= {b"INSIDE", b"404"}


def test_only_regular_files_are_served(server: LiveServer, tree: Path) -> None:
    os.mkfifo(tree / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(tree / "socket"))
        (tree / "device").symlink_to("/dev/zero")
        url = server.hub.serve_tree(tree, visibility="public")
        for entry in ("fifo", "socket", "device"):
            started = time.monotonic()
            assert fetch(server.address, url + entry).status == 404
            assert time.monotonic() - started < 5


def test_a_fifos_writer_does_not_notice_a_request(server: LiveServer, tree: Path) -> None:
    os.mkfifo(tree / "fifo")
    url = server.hub.serve_tree(tree, visibility="public")
    opened = threading.Event()

    def write() -> None:
        descriptor = os.open(tree / "fifo", os.O_WRONLY)  # Waits for a reader.
        opened.set()
        os.close(descriptor)

    writer = threading.Thread(target=write)
    writer.start()
    assert fetch(server.address, url + "fifo").status == 404
    assert not opened.wait(0.3)
    os.close(os.open(tree / "fifo", os.O_RDONLY | os.O_NONBLOCK))
    writer.join()


def test_what_the_server_may_not_read_is_403(
    start_server: Callable[..., LiveServer], tree: Path, tmp_path: Path
) -> None:
    server = start_server(wrapper=unprivileged())
    (tree / "file").write_text("SECRET")
    (tree / "folder").mkdir()
    (tree / "folder" / "file").write_text("SECRET")
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "file").write_text("SECRET")
    (tree / "outside").symlink_to(tmp_path / "closed")
    url = server.hub.serve_tree(tree, visibility="public")
    (tree / "file").chmod(0)
    (tree / "folder").chmod(0)
    (tmp_path / "closed").chmod(0)
    try:
        for entry in ("file", "folder/file", "folder/"):
            answer = fetch(server.address, url + entry)
            assert (answer.status, b"SECRET" in answer.body) == (403, False)
        # Of what lies outside, not even that it is closed is told.
        assert fetch(server.address, url + "outside/file").status == 404
    finally:
        (tree / "folder").chmod(0o700)
        (tmp_path / "closed").chmod(0o700)


def test_the_mount_point_may_need_quoting(start_server: Callable[..., LiveServer], tree: Path) -> None:
    (tree / "a b").write_text("x")
    mounted = start_server(environment={"SCRIPT_NAME": "/user/a%20b"})
    url = mounted.hub.serve_tree(tree, key="k/ü", visibility="public")
    assert fetch(mounted.address, "/user/a%20b" + url + "a%20b").body == b"x"
    based = start_server(environment={"KDR_BASE_URL": "/user/a%20b/"})
    url = based.hub.serve_tree(tree, key="k/ü", visibility="public")
    for path in ("/user/a%20b" + url, url):
        assert fetch(based.address, path + "a%20b").body == b"x"
    assert fetch(based.address, "/user/a%20b/wwtkdr/_probe").status == 200
    assert fetch(based.address, "/user/other" + url + "a%20b").status == 404


def test_a_prefix_that_a_client_claims_changes_nothing(server: LiveServer, tree: Path) -> None:
    (tree / "sub").mkdir()
    url = server.hub.serve_tree(tree, visibility="public")
    claimed = {"X-Forwarded-Prefix": "/evil", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"}
    with Connection(server.address) as connection:
        answer = connection.request("GET", url + "sub", claimed)
    assert (answer.status, answer["Location"]) == (308, "./sub/")


def test_what_one_registration_has_read_is_nothing_to_another(server: LiveServer, tree: Path) -> None:
    (tree / "shown").mkdir()
    (tree / "hidden").mkdir()
    (tree / "hidden" / "a").write_text("SECRET")
    shown = server.hub.serve_tree(tree / "shown", visibility="public")
    whole = server.hub.serve_tree(tree, visibility="public")
    (tree / "shown").rmdir()
    (tree / "shown").symlink_to("hidden")
    assert fetch(server.address, shown + "a").status == 404
    assert fetch(server.address, whole + "shown/a").body == b"SECRET"
    assert fetch(server.address, whole + "hidden/a").body == b"SECRET"
    assert fetch(server.address, shown + "a").status == 404


def test_a_folder_that_moves_out_is_soon_out_of_reach(server: LiveServer, tree: Path, tmp_path: Path) -> None:
    (tree / "sub").mkdir()
    (tree / "sub" / "a").write_text("x")
    url = server.hub.serve_tree(tree, visibility="public")
    assert fetch(server.address, url + "sub/a").status == 200
    (tree / "sub").rename(tmp_path / "moved")
    assert fetch(server.address, url + "sub/a").status == 404
    (tree / "sub").symlink_to(tmp_path / "moved")
    time.sleep(MAX_AGE_SECONDS)
    assert fetch(server.address, url + "sub/a").status == 404


def test_a_chain_of_a_thousand_links_is_no_fault(server: LiveServer, tree: Path) -> None:
    (tree / "0").write_text("x")
    for number in range(1, 1200):
        (tree / str(number)).symlink_to(str(number - 1))
    url = server.hub.serve_tree(tree, visibility="public")
    assert fetch(server.address, url + "20").body == b"x"
    # Up to Python 3.12, a resolution of so many ends with an error.
    assert fetch(server.address, url + "1199").status in (200, 404)


def test_a_file_that_somebody_holds_a_lease_on_is_asked_for_again(server: LiveServer, tree: Path) -> None:
    (tree / "a").write_text("x")
    url = server.hub.serve_tree(tree, visibility="public")
    descriptor = os.open(tree / "a", os.O_RDWR)
    previous = signal.signal(signal.SIGIO, signal.SIG_IGN)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        answer = fetch(server.address, url + "a")
    finally:
        os.close(descriptor)
        signal.signal(signal.SIGIO, previous)
    assert (answer.status, answer["Retry-After"]) == (503, "1")
    assert fetch(server.address, url + "a").body == b"x"


def test_a_base_url_may_hold_an_encoded_slash(start_server: Callable[..., LiveServer], tree: Path) -> None:
    (tree / "x").mkdir()
    (tree / "x" / "a").write_text("of k")
    (tree / "a").write_text("of k/x")
    server = start_server(environment={"KDR_BASE_URL": "/user/a%2Fb/"})
    server.hub.serve_tree(tree, key="k", visibility="public")
    server.hub.serve_tree(tree, key="k/x", visibility="public")
    assert fetch(server.address, "/user/a%2Fb/wwtkdr/k%2Fx/a").body == b"of k/x"
    assert fetch(server.address, "/user/a%2Fb/wwtkdr/k/x/a").body == b"of k"
