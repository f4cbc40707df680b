"""Through a real Jupyter server: what a kernel has published, to who is logged in."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest
from blake3 import blake3

from kdr_wsgi.servers import SERVERS
from tests.conftest import make_settled
from tests.jupyter import TOKEN, WITH_TOKEN, JupyterServer, Kernel, jupyter_server, wait_until
from tests.raw_http import Connection

GIB = 1 << 30


@pytest.fixture(scope="module", params=SERVERS)
def jupyter(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    chosen = f"--KernelDataRelay.server={request.param}"
    # A base URL as JupyterHub gives it to a user whose name has a blank.
    with jupyter_server(tmp_path_factory.mktemp("jupyter"), chosen, base_url="/user/a%20b/") as running:
        yield running


@pytest.fixture(scope="module")
def kernel(jupyter: JupyterServer) -> Iterator[Kernel]:
    with jupyter.kernel() as running:
        yield running


@pytest.fixture
def tiles(tree: Path) -> Path:
    for number in range(200):
        (tree / f"{number}.png").write_bytes(number.to_bytes(2, "big") * 10_000)
    return tree


@pytest.fixture
def big(tree: Path) -> Path:
    """A file of 1 GiB that takes no room."""
    with open(tree / "big.bin", "wb") as file:
        file.truncate(GIB)
    return tree


def expected(number: int) -> bytes:
    return number.to_bytes(2, "big") * 10_000


def with_host(server: JupyterServer, headers: dict[str, str]) -> dict[str, str]:
    return {"Host": f"127.0.0.1:{server.port}", **headers}


def test_what_a_kernel_publishes_is_read_with_the_login_and_nothing_is_configured(
    jupyter: JupyterServer, kernel: Kernel, tiles: Path
) -> None:
    url = kernel.publish(tiles)
    assert url.startswith("/user/a%20b/wwtkdr/")
    for cookies in ({"Cookie": jupyter.log_in()}, WITH_TOKEN):
        answer = jupyter.fetch_plain(f"{url}7.png", cookies)
        assert (answer.status, answer.body) == (200, expected(7))
    by_url = jupyter.fetch_plain(f"{url}7.png?token={TOKEN}")
    assert (by_url.status, by_url.body) == (200, expected(7))


@pytest.mark.parametrize("token", ["", "?token=wrong", "?%74oken=wrong", f"?nottoken={TOKEN}"])
def test_without_a_login_there_is_no_data(jupyter: JupyterServer, kernel: Kernel, tiles: Path, token: str) -> None:
    for visibility in ("private", "users", "public"):
        url = kernel.publish(tiles, visibility=visibility)
        assert jupyter.fetch(f"{url}7.png").status == 200
        answer = jupyter.fetch_plain(f"{url}7.png{token}")
        assert (answer.status, answer["Content-Type"]) == (403, "text/plain; charset=utf-8")
        assert b"Log in" in answer.body
        assert answer["Access-Control-Allow-Origin"] == "*"
        page = jupyter.fetch_plain(f"{url}7.png{token}", {"Accept": "text/html,*/*"})
        assert page.status == 302
        assert page["Location"].startswith("/user/a%20b/login?next=")


def test_a_token_in_the_url_lets_nobody_else_in(jupyter: JupyterServer, kernel: Kernel, tiles: Path) -> None:
    url = kernel.publish(tiles)
    for spelling in ("token", "%74oken", "t%6Fken"):
        assert jupyter.fetch_plain(f"{url}7.png?{spelling}={TOKEN}").status == 200
        assert jupyter.fetch_plain(f"{url}7.png").status == 403
        assert jupyter.fetch_plain(f"{url}7.png?{spelling}={TOKEN}x").status == 403


def test_a_login_counts_for_its_own_cookie(jupyter: JupyterServer, kernel: Kernel, tiles: Path) -> None:
    url = kernel.publish(tiles)
    cookie = jupyter.log_in()
    assert jupyter.fetch_plain(f"{url}7.png", {"Cookie": cookie}).status == 200
    # The same request with the cookie gone, as after a logout in the browser, is refused at once.
    assert jupyter.fetch_plain(f"{url}7.png", {}).status == 403
    assert jupyter.fetch_plain(f"{url}7.png", {"Cookie": cookie[:-3]}).status == 403


def test_ranges_validators_and_head_pass_untouched(jupyter: JupyterServer, kernel: Kernel, tiles: Path) -> None:
    url = kernel.publish(tiles)
    for number in range(200):
        make_settled(tiles / f"{number}.png")
    whole = jupyter.fetch(f"{url}7.png")
    etag = whole["ETag"]
    assert whole["Content-Length"] == "20000"
    assert whole["Accept-Ranges"] == "bytes"
    part = jupyter.fetch(f"{url}7.png", {"Range": "bytes=10-19"})
    assert (part.status, part.body, part["Content-Range"]) == (206, expected(7)[10:20], "bytes 10-19/20000")
    head = jupyter.fetch(f"{url}7.png", method="HEAD")
    assert (head.status, head["Content-Length"], head["ETag"], head.body) == (200, "20000", etag, b"")
    unchanged = jupyter.fetch(f"{url}7.png", {"If-None-Match": etag})
    assert (unchanged.status, unchanged["ETag"], unchanged.body) == (304, etag, b"")
    assert jupyter.fetch(f"{url}7.png", {"If-Modified-Since": whole["Last-Modified"]}).status == 304
    assert jupyter.fetch(f"{url}7.png", {"If-Match": '"other"'}).status == 412
    assert jupyter.fetch(f"{url}7.png", {"Range": "bytes=10-19", "If-Range": etag}).status == 206
    assert jupyter.fetch(f"{url}7.png", {"Range": "bytes=10-19", "If-Range": '"other"'}).status == 200
    outside = jupyter.fetch(f"{url}7.png", {"Range": "bytes=20000-"})
    assert (outside.status, outside["Content-Range"]) == (416, "bytes */20000")
    several = jupyter.fetch(f"{url}7.png", {"Range": "bytes=0-1,10000-10001"})
    assert several.status == 206
    assert several["Content-Type"].startswith("multipart/byteranges")
    assert jupyter.fetch(f"{url}missing.png").status == 404
    for method in ("DELETE", "POST", "get"):
        refused = jupyter.fetch(f"{url}7.png", method=method)
        assert (refused.status, refused["Allow"]) == (405, "GET, HEAD, OPTIONS")
        assert refused["Access-Control-Allow-Origin"] == "*"
    assert jupyter.fetch_plain(f"{url}7.png", method="OPTIONS").status == 204


def test_one_connection_serves_one_request_after_another(jupyter: JupyterServer, kernel: Kernel, tiles: Path) -> None:
    url = kernel.publish(tiles)
    headers = with_host(jupyter, WITH_TOKEN)
    with Connection(jupyter.address) as connection:
        for number in range(50):
            method = ("GET", "HEAD")[number % 2]
            answer = connection.request(method, f"{url}{number}.png", headers)
            assert (answer.status, answer.body) == (200, expected(number) if method == "GET" else b"")
        assert connection.request("GET", f"{url}missing", headers).status == 404
        assert connection.request("GET", f"{url}7.png", headers).body == expected(7)


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        (b"a#b.txt", "a%23b.txt"),
        (b"a?b.txt", "a%3Fb.txt"),
        (b"100%.txt", "100%25.txt"),
        (b"a%2fb.txt", "a%252fb.txt"),
        (b"blank here.txt", "blank%20here.txt"),
        (b"+&=;,.txt", "+&=;,.txt"),
        ("übergröße.txt".encode(), "%C3%BCbergr%C3%B6%C3%9Fe.txt"),
        (b"not-utf8-\xff\xfe.txt", "not-utf8-%FF%FE.txt"),
        (b"a\\b.txt", "a%5Cb.txt"),
        (b"line\nbreak.txt", "line%0Abreak.txt"),
        (b"token=x", "token=x"),
    ],
)
def test_every_name_arrives_as_it_was_sent(
    jupyter: JupyterServer, kernel: Kernel, tree: Path, name: bytes, quoted: str
) -> None:
    with open(os.path.join(os.fsencode(tree), name), "wb") as file:
        file.write(name)
    url = kernel.publish(tree)
    assert jupyter.fetch(url + quoted).body == name
    assert jupyter.fetch(f"{url}{quoted}?token={TOKEN}&x=#").body == name


def test_long_names_and_raw_bytes_in_a_target_arrive(jupyter: JupyterServer, kernel: Kernel, tree: Path) -> None:
    folder = tree.joinpath(*["é" * 120] * 8)
    folder.mkdir(parents=True)
    (folder / "ü.txt").write_text("deep")
    entry = f"{'/'.join(['é' * 120] * 8)}/ü.txt"
    url = kernel.publish(tree)
    assert jupyter.fetch(url + quote(entry)).body == b"deep"
    # As curl sends it.
    assert jupyter.fetch((url + entry).encode().decode("latin-1")).body == b"deep"


def test_a_content_key_is_immutable_through_jupyter_too(jupyter: JupyterServer, kernel: Kernel, tiles: Path) -> None:
    printed = kernel.run(
        f"import hub; relay = hub.get_relay_hub(); print(relay.serve_tree({os.fspath(tiles)!r}, content=True), end='')"
    )
    etag = f'"{blake3(expected(7)).hexdigest()}"'
    answer = jupyter.fetch(f"{printed}7.png")
    assert (answer.status, answer.body, answer["ETag"]) == (200, expected(7), etag)
    assert answer["Cache-Control"] == "private, max-age=31536000, immutable"
    assert jupyter.fetch(f"{printed}7.png", {"If-None-Match": etag}).status == 304
    (tiles / "7.png").write_bytes(expected(8))
    assert jupyter.fetch(f"{printed}7.png").status == 410


def test_a_directory_without_its_slash_redirects_to_itself(jupyter: JupyterServer, kernel: Kernel, tree: Path) -> None:
    (tree / "sub").mkdir()
    answer = jupyter.fetch(f"{kernel.publish(tree)}sub?token={TOKEN}&a=1")
    assert (answer.status, answer["Location"]) == (308, "./sub/?a=1")


def test_paths_cannot_leave_the_route(jupyter: JupyterServer, kernel: Kernel, tiles: Path) -> None:
    url = kernel.publish(tiles)
    for escape in ("../../../api/status", "..%2f..%2f..%2fetc/passwd", "%2e%2e/%2e%2e/_health", "/etc/passwd"):
        answer = jupyter.fetch(f"{url}{escape}")
        assert answer.status in (400, 404), escape
        assert b"root:" not in answer.body


def test_no_word_of_the_browser_on_who_asks_is_believed(jupyter: JupyterServer, kernel: Kernel, tiles: Path) -> None:
    url = kernel.publish(tiles)
    cookie = jupyter.log_in()
    for claimed in ("owner", "user"):
        answer = jupyter.fetch_plain(
            f"{url}7.png",
            {"Cookie": cookie, "KDR-Viewer": claimed, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        )
        assert answer.status == 404


FOREIGN = [
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
    {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
    {"Referer": "https://evil.example/page"},
]


@pytest.mark.parametrize("page", FOREIGN)
def test_a_foreign_page_gets_only_what_is_public(
    jupyter: JupyterServer, kernel: Kernel, tiles: Path, page: dict[str, str]
) -> None:
    headers = {"Cookie": jupyter.log_in(), **page}
    url = kernel.publish(tiles)
    assert jupyter.fetch_plain(f"{url}7.png", headers).status == 404
    users = kernel.publish(tiles, visibility="users")
    assert jupyter.fetch_plain(f"{users}7.png", headers).status == 404
    public = kernel.publish(tiles, visibility="public")
    answer = jupyter.fetch_plain(f"{public}7.png", headers)
    assert (answer.status, answer["Access-Control-Allow-Origin"]) == (200, "*")
    assert "Access-Control-Allow-Credentials" not in answer
    # Who knows the token may read from anywhere: no page can make a browser send it.
    kernel.publish(tiles)
    assert jupyter.fetch(f"{url}7.png", page).status == 200


@pytest.mark.parametrize(
    "page",
    [
        {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"},
        {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
        {"Origin": "{origin}"},
        {"Referer": "{origin}/lab"},
        {},
    ],
)
def test_a_page_of_the_same_origin_reads_with_the_login(
    jupyter: JupyterServer, kernel: Kernel, tiles: Path, page: dict[str, str]
) -> None:
    headers = {name: value.format(origin=jupyter.origin) for name, value in page.items()}
    answer = jupyter.fetch_plain(f"{kernel.publish(tiles)}7.png", {"Cookie": jupyter.log_in(), **headers})
    assert answer.status == 200
    assert answer["Cross-Origin-Resource-Policy"] == "same-origin"


def test_tiles_load_while_the_kernel_computes(jupyter: JupyterServer, kernel: Kernel, tiles: Path) -> None:
    url = kernel.publish(tiles)
    busy = kernel.start("import time\nend = time.time() + 4\nwhile time.time() < end: pass\nprint('computed')")
    started = time.monotonic()
    with ThreadPoolExecutor(6) as browser:
        answers = list(browser.map(lambda number: jupyter.fetch(f"{url}{number}.png"), range(200)))
    assert time.monotonic() - started < 4, "the kernel was not busy any more"
    assert [answer.body for answer in answers] == [expected(number) for number in range(200)]
    assert kernel.wait(busy) == "computed\n"


def test_a_url_outlives_the_kernel(jupyter: JupyterServer, tiles: Path) -> None:
    with jupyter.kernel() as kernel:
        url = kernel.publish(tiles)
        kernel.restart()
        assert jupyter.fetch(f"{url}7.png").body == expected(7)
        assert kernel.publish(tiles) == url
        os.kill(kernel.process(), signal.SIGKILL)
        assert jupyter.fetch(f"{url}8.png").body == expected(8)
    assert jupyter.fetch(f"{url}9.png").body == expected(9)


def test_three_hundred_readers_at_once(jupyter: JupyterServer, kernel: Kernel, tiles: Path) -> None:
    url = kernel.publish(tiles)
    headers = with_host(jupyter, WITH_TOKEN)
    connections = [Connection(jupyter.address) for _ in range(300)]
    for number, connection in enumerate(connections):
        connection.send("GET", f"{url}{number % 200}.png", headers)
    for number, connection in enumerate(connections):
        answer = connection.receive()
        assert (answer.status, answer.body) == (200, expected(number % 200))
        connection.socket.close()


def peak_growth(process: int) -> Iterator[int]:
    """Yield once; then how many bytes the peak of a process's memory lies above what it had."""
    status = Path(f"/proc/{process}/status")

    def read(name: str) -> int:
        (line,) = (line for line in status.read_text().splitlines() if line.startswith(name))
        return int(line.split()[1]) * 1024

    Path(f"/proc/{process}/clear_refs").write_text("5")
    before = read("VmRSS")
    yield 0
    yield read("VmHWM") - before


def test_a_gibibyte_goes_through_in_little_memory(jupyter: JupyterServer, kernel: Kernel, big: Path) -> None:
    url = kernel.publish(big)
    jupyter.fetch(f"{url}big.bin", {"Range": "bytes=0-0"})
    growth = peak_growth(jupyter.process.pid)
    next(growth)
    with Connection(jupyter.address) as connection:
        connection.send("GET", f"{url}big.bin", with_host(jupyter, WITH_TOKEN))
        received = drain(connection.socket)
    assert received > GIB
    assert next(growth) < 32 << 20


def drain(reader: socket.socket) -> int:
    """Read until a pause, and return how many bytes came."""
    reader.settimeout(3)
    total = 0
    buffer = bytearray(1 << 20)
    try:
        while count := reader.recv_into(buffer):
            total += count
    except TimeoutError:
        pass
    return total


def test_a_reader_that_stalls_costs_no_memory_and_stops_nobody(
    jupyter: JupyterServer, kernel: Kernel, big: Path
) -> None:
    url = kernel.publish(big)
    (big / "small").write_bytes(b"small")
    jupyter.fetch(f"{url}small")
    growth = peak_growth(jupyter.process.pid)
    next(growth)
    stalled = [Connection(jupyter.address) for _ in range(20)]
    for connection in stalled:
        connection.send("GET", f"{url}big.bin", with_host(jupyter, WITH_TOKEN))
        connection.socket.recv(1000)
    time.sleep(0.5)
    for _ in range(50):
        assert jupyter.fetch(f"{url}small").body == b"small"
    assert next(growth) < 32 << 20
    for connection in stalled:
        connection.socket.close()


def open_files(jupyter: JupyterServer, name: str) -> int:
    """Return how many descriptors of the relay server are open on a file of that name."""
    count = 0
    for process in jupyter.relay_processes():
        for link in Path(f"/proc/{process}/fd").iterdir():
            try:
                count += os.readlink(link).endswith(name)
            except FileNotFoundError:
                continue
    return count


def test_a_reader_that_goes_away_ends_the_work(jupyter: JupyterServer, kernel: Kernel, big: Path) -> None:
    url = kernel.publish(big)
    for headers in (WITH_TOKEN, {"Cookie": jupyter.log_in()}):
        with Connection(jupyter.address) as connection:
            connection.send("GET", f"{url}big.bin", with_host(jupyter, headers))
            connection.socket.recv(1000)
            wait_until(lambda: open_files(jupyter, "big.bin") == 1, "the file is not even opened")
        wait_until(lambda: open_files(jupyter, "big.bin") == 0, "the file is still open", 10)


def test_a_file_cut_short_while_it_is_sent_ends_the_connection(
    jupyter: JupyterServer, kernel: Kernel, big: Path
) -> None:
    url = kernel.publish(big)
    with Connection(jupyter.address) as connection:
        connection.send("GET", f"{url}big.bin", with_host(jupyter, WITH_TOKEN))
        connection.socket.recv(1000)
        os.truncate(big / "big.bin", 1000)
        received = drain(connection.socket)
        assert received < GIB
        assert connection.socket.recv(1) == b""


def are_gone(jupyter: JupyterServer, processes: list[int]) -> bool:
    return not {*processes} & {*jupyter.relay_processes()}


def test_a_killed_relay_server_is_replaced_before_the_next_answer(
    jupyter: JupyterServer, kernel: Kernel, tiles: Path
) -> None:
    url = kernel.publish(tiles)
    assert jupyter.fetch(f"{url}7.png").status == 200
    for kill, every in ((signal.SIGKILL, False), (signal.SIGKILL, True), (signal.SIGTERM, False)):
        processes = jupyter.relay_processes()
        for process in processes if every else processes[:1]:
            os.kill(process, kill)
        for number in range(20):
            answer = jupyter.fetch(f"{url}{number}.png")
            assert (answer.status, answer.body) == (200, expected(number))
        wait_until(partial(are_gone, jupyter, processes), "a killed process is still there")
        assert jupyter.fetch(f"{url}7.png").status == 200


def test_a_killed_worker_is_replaced(jupyter: JupyterServer, kernel: Kernel, tiles: Path) -> None:
    url = kernel.publish(tiles)
    jupyter.fetch(f"{url}7.png")
    os.kill(jupyter.relay_processes()[-1], signal.SIGKILL)
    for number in range(20):
        assert jupyter.fetch(f"{url}{number}.png").body == expected(number)


def test_the_socket_is_for_the_user_alone(jupyter: JupyterServer, kernel: Kernel, tiles: Path) -> None:
    jupyter.fetch(kernel.publish(tiles))
    (path,) = jupyter.temporary.glob("kdr-*/relay.sock")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_the_jupyter_server_ends(
    tmp_path: Path, tiles: Path, end: signal.Signals, server: str
) -> None:
    with jupyter_server(tmp_path, f"--KernelDataRelay.server={server}") as jupyter:
        with jupyter.kernel() as kernel:
            url = kernel.publish(tiles)
            assert jupyter.fetch(f"{url}7.png").status == 200
            processes = jupyter.relay_processes()
            assert len(processes) == 2
            assert [*jupyter.temporary.glob("kdr-*")] != []
            kernel_process = kernel.process()
            jupyter.process.send_signal(end)
            jupyter.process.wait(30)
        wait_until(lambda: jupyter.relay_processes() == [], "a process of the relay server is left")
        assert [*jupyter.temporary.glob("kdr-*")] == []
        if end == signal.SIGTERM:
            assert [*jupyter.registry.with_name("registry.sqlite.servers").iterdir()] == []
        wait_until(lambda: not Path(f"/proc/{kernel_process}").exists(), "the kernel is left")


@pytest.mark.parametrize("server", SERVERS)
def test_a_reader_still_reading_does_not_keep_the_server_alive(tmp_path: Path, big: Path, server: str) -> None:
    with jupyter_server(tmp_path, f"--KernelDataRelay.server={server}") as jupyter, jupyter.kernel() as kernel:
        url = kernel.publish(big)
        with Connection(jupyter.address) as connection:
            connection.send("GET", f"{url}big.bin", with_host(jupyter, WITH_TOKEN))
            connection.socket.recv(1000)
            jupyter.process.send_signal(signal.SIGTERM)
            jupyter.process.wait(20)
            wait_until(lambda: jupyter.relay_processes() == [], "a process of the relay server is left")


def test_a_server_that_cannot_start_is_explained(tmp_path: Path, tiles: Path) -> None:
    with jupyter_server(tmp_path) as jupyter:
        jupyter.registry.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        program = f"import sqlite3; c = sqlite3.connect({str(jupyter.registry)!r}); c.execute('PRAGMA user_version=99')"
        subprocess.run([sys.executable, "-c", program], check=True)
        jupyter.registry.chmod(0o600)
        answer = jupyter.fetch("/wwtkdr/k/7.png")
        assert (answer.status, answer["Retry-After"]) == (503, "5")
        assert b"log of the Jupyter server says why" in answer.body
        assert "its schema is version 99" in jupyter.log.read_text()
        # Mended, it is served without a restart of Jupyter.
        jupyter.registry.unlink()
        with jupyter.kernel() as kernel:
            url = kernel.publish(tiles)
            wait_until(lambda: jupyter.fetch(f"{url}7.png").status == 200, "it is not tried again")


SLOW_LOGIN = """
import asyncio, gc
from jupyter_server.auth import Authorizer
from jupyter_server.base.handlers import JupyterHandler
from tornado import web

class Slow(Authorizer):
    async def is_authorized(self, handler, user, action, resource):
        if handler.request.headers.get("X-Slow"):
            await asyncio.sleep(0.5)
        return True

c.ServerApp.authorizer_class = Slow
c.ServerApp.tornado_settings = {"compress_response": True}
"""

COUNT_TASKS = """
import asyncio
from jupyter_server.base.handlers import JupyterHandler
from tornado import web

class Tasks(JupyterHandler):
    @web.authenticated
    def get(self):
        self.finish(str(sum("_execute" in repr(task) for task in asyncio.all_tasks())))

def _load_jupyter_server_extension(app):
    app.web_app.add_handlers(".*$", [("/tasks", Tasks)])

def _jupyter_server_extension_points():
    return [{"module": "count_tasks"}]
"""


def test_readers_that_leave_while_they_are_let_in_cost_nothing(
    tmp_path: Path, big: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "count_tasks.py").write_text(COUNT_TASKS)
    (tmp_path / "jupyter_server_config.py").write_text(SLOW_LOGIN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    options = [
        f"--config={tmp_path}/jupyter_server_config.py",
        '--ServerApp.jpserver_extensions={"count_tasks": True}',
    ]
    with jupyter_server(tmp_path, *options) as jupyter, jupyter.kernel() as kernel:
        url = kernel.publish(big)
        jupyter.fetch(f"{url}big.bin", {"Range": "bytes=0-0"})
        tasks = jupyter.fetch("/tasks").body
        for number in range(20):
            with Connection(jupyter.address) as connection:
                # Each with headers of its own, so that none is known from a moment ago.
                slow = {"X-Slow": "1"} if number % 2 else {"X-Number": str(number)}
                connection.send("GET", f"{url}big.bin", with_host(jupyter, {**WITH_TOKEN, **slow}))
                if not number % 2:
                    connection.socket.recv(1000)
        wait_until(lambda: open_files(jupyter, "big.bin") == 0, "the file is still open", 10)
        wait_until(lambda: jupyter.fetch("/tasks").body == tasks, "a handler waits for ever", 10)
        # What Jupyter does to its own answers leaves these as they are.
        (big / "text.txt").write_text("x" * 3000)
        for number in range(2):
            asked = {"Accept-Encoding": "gzip", "X-Number": f"text {number // 2}", "Range": "bytes=0-1999"}
            part = jupyter.fetch(f"{url}text.txt", asked)
            assert (part.status, part.body) == (206, b"x" * 2000)
            assert "Content-Encoding" not in part


def test_a_child_that_jupyter_forked_does_not_keep_the_relay_server(
    tmp_path: Path, tiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "forks.py").write_text(
        "import os, time\nfrom jupyter_server.base.handlers import JupyterHandler\nfrom tornado import web\n"
        "class Fork(JupyterHandler):\n"
        "    @web.authenticated\n"
        "    def get(self):\n"
        "        child = os.fork()\n"
        "        if child == 0:\n"
        "            time.sleep(30)\n"
        "            os._exit(0)\n"
        "        self.finish(str(child))\n"
        "def _load_jupyter_server_extension(app): app.web_app.add_handlers('.*$', [('/fork', Fork)])\n"
        "def _jupyter_server_extension_points(): return [{'module': 'forks'}]\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with jupyter_server(tmp_path, '--ServerApp.jpserver_extensions={"forks": True}') as jupyter:
        assert jupyter.fetch("/wwtkdr/_probe").status == 200
        child = int(jupyter.fetch("/fork").body)
        try:
            jupyter.process.kill()
            jupyter.process.wait(30)
            wait_until(lambda: jupyter.relay_processes() == [], "a process of the relay server is left", 15)
        finally:
            os.kill(child, signal.SIGKILL)


def test_public_data_without_a_login_where_it_is_configured(tmp_path: Path, tiles: Path) -> None:
    with jupyter_server(tmp_path, "--KernelDataRelay.public_without_login=True") as jupyter, jupyter.kernel() as kernel:
        private = kernel.publish(tiles)
        assert jupyter.fetch_plain(f"{private}7.png").status == 404
        users = kernel.publish(tiles, key="u", visibility="users")
        assert jupyter.fetch_plain(f"{users}7.png").status == 404
        public = kernel.publish(tiles, key="p", visibility="public")
        assert jupyter.fetch_plain(f"{public}7.png").body == expected(7)
        assert jupyter.fetch(f"{private}7.png").body == expected(7)


def test_pages_of_an_allowed_origin_read_with_the_login(tmp_path: Path, tiles: Path) -> None:
    allowed = "https://viewer.example"
    option = f"--KernelDataRelay.allowed_origins={allowed}"
    with jupyter_server(tmp_path, option) as jupyter, jupyter.kernel() as kernel:
        url = kernel.publish(tiles)
        cookie = jupyter.log_in()
        answer = jupyter.fetch_plain(
            f"{url}7.png", {"Cookie": cookie, "Origin": allowed, "Sec-Fetch-Site": "cross-site"}
        )
        assert answer.body == expected(7)
        assert answer["Access-Control-Allow-Origin"] == allowed
        assert answer["Access-Control-Allow-Credentials"] == "true"
        assert "Origin" in answer["Vary"]
        preflight = jupyter.fetch_plain(f"{url}7.png", {"Origin": allowed}, "OPTIONS")
        assert (preflight.status, preflight["Access-Control-Allow-Origin"]) == (204, allowed)
        assert "Authorization" in preflight["Access-Control-Allow-Headers"]
        other = jupyter.fetch_plain(f"{url}7.png", {"Cookie": cookie, "Origin": "https://viewer.example.evil.example"})
        assert (other.status, other["Access-Control-Allow-Origin"]) == (404, "*")


def test_an_origin_that_is_none_is_refused_at_start(tmp_path: Path, tiles: Path) -> None:
    with jupyter_server(tmp_path, "--KernelDataRelay.allowed_origins=*") as jupyter, jupyter.kernel() as kernel:
        assert "'*' is no origin; write https://HOST" in jupyter.log.read_text()
        headers = {"Cookie": jupyter.log_in(), "Origin": "https://evil.example"}
        assert jupyter.fetch_plain(f"{kernel.publish(tiles)}7.png", headers).status == 404


def test_it_works_behind_a_plain_jupyter_server_proxy(jupyter: JupyterServer, tiles: Path) -> None:
    registry = jupyter.folder / "behind.sqlite"
    command = [
        sys.executable,
        "-m",
        "kdr_wsgi",
        "serve",
        "--registry",
        str(registry),
        "--bind",
        "127.0.0.1:0",
        "--publish",
    ]
    with subprocess.Popen([*command, str(tiles)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = process.stdout.readline().rpartition(":")[2].strip()
        path = "/" + process.stdout.readline().split("/", 3)[3].strip()
        try:
            prefix = f"/user/a%20b/proxy/{port}"
            answer = jupyter.fetch(f"{prefix}{path}7.png", {"Range": "bytes=0-9"})
            assert (answer.status, answer.body) == (206, expected(7)[:10])
            assert jupyter.fetch(f"{prefix}{path[:-1]}").status == 308
        finally:
            process.terminate()


@pytest.mark.parametrize("application", ["server", "lab", "notebook"])
def test_each_of_jupyters_applications_has_it(tmp_path: Path, tiles: Path, application: str) -> None:
    with jupyter_server(tmp_path, application=application) as jupyter, jupyter.kernel() as kernel:
        assert jupyter.fetch(f"{kernel.publish(tiles)}7.png").body == expected(7)
        assert jupyter.fetch("/wwtkdr/_probe").body.startswith(b'{"')
