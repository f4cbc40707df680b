"""What attackers try, with real servers: alone, and behind a Jupyter server.

Some of it is tried for longer with ``KDR_TEST_ATTACKS``, a factor.
"""

from __future__ import annotations

import ast
import os
import random
import re
import secrets
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain, cycle
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import pytest
from blake3 import blake3
from werkzeug.test import EnvironBuilder, run_wsgi_app

import kdr_wsgi
from hub import HubError, JupyterRelayHub
from hub.errors import InvalidOption
from kdr_wsgi.app import create_app
from kdr_wsgi.jupyter.messages import format_request
from kdr_wsgi.locations import Location
from kdr_wsgi.servers import SERVERS
from tests.attacks import FOREIGN_URLS, SWAP, hostile_wtml, smuggling, traversals
from tests.conftest import live_server, need
from tests.jupyter import TOKEN, WITH_TOKEN, jupyter_server
from tests.raw_http import Answer, Connection, fetch

FACTOR = int(os.environ.get("KDR_TEST_ATTACKS", "1"))


@dataclass(frozen=True)
class Front:
    """Where requests go, and what they need there."""

    address: tuple[str, int]
    hub: JupyterRelayHub
    login: dict[str, str]
    is_jupyter: bool
    find_workers: Callable[[], list[int]]

    @property
    def headers(self) -> dict[str, str]:
        """Those of each request."""
        return {"Host": f"127.0.0.1:{self.address[1]}", **self.login}

    def ask(self, target: str, headers: dict[str, str] | None = None, method: str = "GET") -> Answer:
        """Ask once."""
        return fetch(self.address, target, {**self.headers, **(headers or {})}, method)

    def ask_raw(self, request: bytes) -> bytes:
        """Send bytes, and return all that comes until the server ends the connection."""
        with Connection(self.address) as connection:
            received = b""
            # The server may have had enough.
            with suppress(ConnectionResetError, BrokenPipeError):
                connection.socket.sendall(request)
            with suppress(ConnectionResetError):
                while chunk := connection.socket.recv(1 << 20):
                    received += chunk
            return received


@pytest.fixture(scope="module", params=[*SERVERS, *(f"jupyter, {server}" for server in SERVERS)])
def front(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("front")
    server = request.param.removeprefix("jupyter, ")
    if server == request.param:
        with live_server(folder, server) as running:
            yield Front(running.address, running.hub, {}, is_jupyter=False, find_workers=lambda: running.workers)
        return
    with jupyter_server(folder, f"--KernelDataRelay.server={server}", base_url="/user/a/") as jupyter:
        hub = JupyterRelayHub(registry=jupyter.registry, base_url=jupyter.base_url, key_prefix="")
        yield Front(jupyter.address, hub, WITH_TOKEN, is_jupyter=True, find_workers=jupyter.relay_processes)
        hub.registry.close()


class Visitor:
    """Asks over one connection for as long as the server keeps it."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._connection: Connection | None = None

    def ask(self, target: bytes, headers: dict[str, str] | None = None) -> Answer | None:
        """Return the answer; None: the server has closed a new connection without one."""
        for _ in range(2):
            is_new = self._connection is None
            connection = self._connection = self._connection or Connection(self._front.address)
            try:
                answer = connection.request("GET", target, {**self._front.headers, **(headers or {})})
            except ConnectionError:
                self.close()
                if is_new:
                    return None
                continue
            if "Connection" in answer and answer["Connection"].lower() == "close":
                self.close()
            return answer
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.socket.close()
            self._connection = None


def test_no_spelling_of_a_path_reaches_what_lies_outside(front: Front, tmp_path: Path, tree: Path) -> None:
    secret = secrets.token_hex(16).encode()
    (tmp_path / "secret").write_bytes(secret)
    (tree / "sub").mkdir()
    (tree / "inside").symlink_to("sub")
    (tree / "file").write_bytes(b"of this name")
    # Files that are called like an attack are files.
    for name in ("%2e%2e", "..;", "...", "..\\secret", "..%2fsecret", "C:"):
        path = tree / name
        if not name.endswith("secret"):
            path.mkdir()
            path /= "secret"
        path.write_bytes(b"of this name")
    url = front.hub.serve_tree(tree, visibility="public")
    route = url.removesuffix(f"{url.key}/")
    # Below the key, and in place of one.
    below = [start + entry for entry in traversals(str(tmp_path / "secret")) for start in (url, route)]
    targets = random.Random(0).sample(below, min(len(below), (3000 if front.is_jupyter else 6000) * FACTOR))
    visitor = Visitor(front)
    statuses: Counter[str] = Counter()
    with closing(visitor):
        for target in targets:
            answer = visitor.ask(target.encode("latin-1"))
            if answer is None:
                statuses["closed"] += 1
                continue
            statuses[str(answer.status)] += 1
            assert secret not in answer.body, target
            # Gunicorn repeats what it cannot understand.
            assert os.fsencode(tmp_path) not in answer.body or str(tmp_path) in target, target
            assert answer.status in (400, 404, 414) or answer.body == b"of this name", (target, answer)
    print(f"{len(targets)} targets: {dict(sorted(statuses.items()))}")
    assert statuses["200"] > 0
    assert statuses["closed"] == 0


# --- links that are swapped in ---------------------------------------------------------------------------------------

LARGE_BYTES = 100_000


@dataclass(frozen=True)
class Layout:
    """A folder of which parts can be exchanged with links to what lies outside."""

    folder: Path
    secret: bytes

    def publish(self, hub: JupyterRelayHub) -> Iterator[str]:
        """Yield URLs again and again, each of which leads past a place where a link may be."""
        tree, becoming = (hub.serve_tree(self.folder / name, visibility="public") for name in ("tree", "becoming"))
        file = hub.serve_file(self.folder / "file", visibility="public")
        entries = ("folder/", "folder/small", "folder/large", "above/folder/large", "above/folder/", "above/folder")
        below_links = [*(tree + entry for entry in entries), becoming, f"{becoming}large", f"{becoming}small"]
        # A file that is renamed has changed a moment ago, and a server waits a little before it reads one.
        return cycle([*below_links * 20, f"{tree}small", f"{tree}large", file])

    @contextmanager
    def exchanging(self, *names: str, longest_pause: float = 0.0002) -> Iterator[None]:
        """Exchange what is at `names` as fast as it goes; without any pause readers wait for the kernel's locks."""
        places = [(self.folder / name, self.folder / f"link-{EXCHANGED.index(name)}") for name in names or EXCHANGED]
        command = [sys.executable, "-c", SWAP, str(longest_pause), *map(str, chain(*places))]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            yield
            counted, _ = process.communicate()
        assert process.returncode == 0, counted
        print(f"{int(counted)} exchanges")

    def has_leaked(self, body: bytes) -> bool:
        """Whether there is a byte of what lies outside, or a name."""
        return self.secret in body or b"OUTSIDE" in body


EXCHANGED = ("tree/small", "tree/large", "tree/folder", "tree/above", "becoming", "file")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    secret = secrets.token_hex(16).encode()
    for top, content in ((tmp_path, b"inside"), (tmp_path / "outside", secret)):
        for folder in ("tree/above/folder", "tree/folder", "becoming"):
            (top / folder).mkdir(parents=True)
        for folder in ("tree", "tree/folder", "tree/above/folder", "becoming"):
            (top / folder / "small").write_bytes(content)
            (top / folder / "large").write_bytes((content * LARGE_BYTES)[:LARGE_BYTES])
            if content == secret:
                (top / folder / "OUTSIDE").touch()
        (top / "file").write_bytes(content)
    for number, name in enumerate(EXCHANGED):
        (tmp_path / f"link-{number}").symlink_to(tmp_path / "outside" / name)
    return Layout(tmp_path, secret)


def check_reads(layout: Layout, statuses: Counter[int]) -> None:
    """Both must have been seen: what lies inside, and that there is a link."""
    print(f"{statuses.total()} reads: {dict(sorted(statuses.items()))}")
    assert {*statuses} <= {200, 206, 308, 404, 503}
    assert min(statuses[200], statuses[404]) > statuses.total() / 100


@pytest.mark.timeout(FACTOR * 30 + 60)
def test_a_link_that_is_swapped_in_opens_nothing_through_any_front(front: Front, layout: Layout) -> None:
    urls = layout.publish(front.hub)
    visitor = Visitor(front)
    statuses: Counter[int] = Counter()
    with layout.exchanging(), closing(visitor):
        for number in range(2500 * FACTOR):
            url = next(urls)
            answer = visitor.ask(url.encode(), {"Range": "bytes=0-99"} if number % 4 == 0 else {})
            assert answer is not None
            statuses[answer.status] += 1
            assert not layout.has_leaked(answer.body), url
    check_reads(layout, statuses)


@pytest.mark.timeout(FACTOR * 30 + 60)
def test_a_link_that_is_swapped_in_opens_nothing(layout: Layout, hub: JupyterRelayHub, registry_path: Path) -> None:
    """In this process, where there are more reads in the same time."""
    urls = layout.publish(hub)
    app = create_app({"KDR_REGISTRY": str(registry_path)})
    environs: dict[str, dict[str, Any]] = {}
    statuses: Counter[int] = Counter()
    with layout.exchanging():
        for number in range(10_000 * FACTOR):
            url = next(urls)
            environ = environs.setdefault(url, EnvironBuilder(path=url).get_environ())
            asked = {"HTTP_RANGE": "bytes=0-99"} if number % 4 == 0 else {}
            body, status, _ = run_wsgi_app(app, {**environ, **asked})
            read = b"".join(body)
            statuses[int(status[:3])] += 1
            assert not layout.has_leaked(read), url
            close = getattr(body, "close", None)
            if close is not None:
                close()
    check_reads(layout, statuses)


@pytest.mark.timeout(FACTOR * 30 + 60)
@pytest.mark.parametrize("is_kept", [False, True], ids=["hashed", "copied"])
def test_a_link_that_is_swapped_in_while_a_tree_is_hashed_or_copied_promises_nothing(
    layout: Layout, hub: JupyterRelayHub, registry_path: Path, is_kept: bool
) -> None:
    kept = layout.folder / "kept"
    app = create_app({"KDR_REGISTRY": str(registry_path)})
    hashed, refused = 0, 0
    with layout.exchanging("tree/folder", longest_pause=0.02):
        for _ in range(40 * FACTOR):
            try:
                snapshot = kept if is_kept else None
                url = hub.serve_tree(layout.folder / "tree", content=True, snapshot=snapshot, visibility="public")
            except HubError:
                refused += 1
                continue
            hashed += 1
            for entry in ("", "small", "large", "folder/small", "above/folder/large"):
                body, status, _ = run_wsgi_app(app, EnvironBuilder(path=url + entry).get_environ())
                assert not layout.has_leaked(b"".join(body)), (status, entry)
    print(f"{hashed} trees hashed, {refused} refused")
    assert hashed > 0
    outside = {blake3((layout.folder / "outside" / "tree" / name).read_bytes()) for name in ("small", "large")}
    for path in chain(registry_path.parent.rglob("*"), kept.rglob("*")):
        if path.is_file():
            held = path.read_bytes()
            assert not layout.has_leaked(held), path
            for digest in outside:
                assert digest.digest() not in held, path
                assert digest.hexdigest().encode() not in held, path


# --- hard links ------------------------------------------------------------------------------------------------------


def test_a_hard_link_is_the_file(front: Front, tmp_path: Path, tree: Path) -> None:
    """Nothing tells it from any other name of the file, and whoever may make one may write to the file."""
    (tmp_path / "elsewhere").write_bytes(b"has two names")
    os.link(tmp_path / "elsewhere", tree / "a")
    assert front.ask(f"{front.hub.serve_tree(tree, visibility='public')}a").body == b"has two names"
    assert front.ask(front.hub.serve_file(tree / "a", visibility="public")).body == b"has two names"


def test_linux_lets_nobody_link_to_what_they_may_not_write() -> None:
    setting = Path("/proc/sys/fs/protected_hardlinks")
    need(
        "protected_hardlinks", is_there=setting.exists() and setting.read_text() == "1\n", remedy=f"set {setting} to 1"
    )
    need("root", is_there=os.geteuid() == 0, remedy="another user is needed")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)  # that of another user
        Path(folder, "secret").touch(0o644)
        command = ["ln", f"{folder}/secret", f"{folder}/link"]
        environment = {**os.environ, "LC_ALL": "C"}
        done = subprocess.run(
            command, user=65534, group=65534, extra_groups=[], env=environment, stderr=subprocess.PIPE, check=False
        )
        assert b"Operation not permitted" in done.stderr
        assert not Path(folder, "link").exists()


# --- what a name puts into an answer ---------------------------------------------------------------------------------

INJECTING = [
    b"a\r\nX-Injected: 1\r\n\r\n<script>",
    b"a\nX-Injected: 1",
    b"a\rX-Injected: 1",
    b'a"; filename="b',
    b"'><script>alert(1)<",
    b"\"onload=alert(1) '",
    b"a\x0b\x0c\x1c\x1d\x1e\xc2\x85\xe2\x80\xa8X-Injected: 1",
    b"\x1b[2J\x07\x08\x7f",
    "銀河\U0001f30c".encode(),
    b"\xff\xfe\r\nX-Injected: 1",
    b"%0d%0aX-Injected:%201",
    b"{{7*7}}${7*7}",
    b"javascript:alert(1)",
]

#: All headers that an answer may have.
KNOWN = frozenset(
    "accept-ranges access-control-allow-headers access-control-allow-methods access-control-allow-origin "
    "access-control-expose-headers cache-control content-length content-range content-security-policy content-type "
    "cross-origin-resource-policy date etag last-modified location server set-cookie vary "
    "x-content-type-options".split()
)


def check_headers(answer: Answer) -> None:
    """Nothing must have been added, and each value be one that a header may have."""
    assert answer.names <= KNOWN
    for _, value in answer.headers:
        assert value.isascii(), value
        assert value.isprintable(), value


@pytest.mark.parametrize("name", INJECTING)
def test_no_name_gets_into_headers_or_pages(front: Front, tree: Path, name: bytes) -> None:
    folder = os.fsencode(tree) + b"/" + name
    os.mkdir(folder)
    for path, content in (
        (folder + b"/" + name, b"content"),
        (folder + b"/page.html", b""),
        (folder + b"/a_rel.wtml", b'<Folder Name="a" Url="b.png"/>'),
    ):
        with open(path, "wb") as file:
            file.write(content)
    quoted = quote(name, safe="")
    url = front.hub.serve_tree(tree, visibility="public")
    whole = front.ask(f"{url}{quoted}/{quoted}")
    assert whole.body == b"content"
    redirect = front.ask(f"{url}{quoted}?a=%0d%0aX-Injected:%201")
    assert (redirect.status, redirect["Location"]) == (308, f"./{quoted}/?a=%0d%0aX-Injected:%201")
    listing = front.ask(f"{url}{quoted}/")
    assert f'href="./{quoted}"' in listing.body.decode()
    assert listing.body.count(b"<script") == listing.body.count(b'<script type="module">') == 1
    assert b'"onload' not in listing.body
    made = front.ask(f"{url}{quoted}/a.wtml")
    address = ElementTree.fromstring(made.body).attrib["Url"]
    assert address == f"http://127.0.0.1:{front.address[1]}{url}{quote(name)}/b.png"
    several = front.ask(f"{url}{quoted}/{quoted}", {"Range": "bytes=0-0,6-6"})
    alone = front.ask(front.hub.serve_file(folder + b"/" + name, visibility="public"))
    missing = front.ask(f"{url}{quoted}/{quoted}/{quoted}")
    assert missing.status == 404
    refused = front.ask(f"{url}{quoted}/{quoted}", {"If-Match": '"other"'})
    for answer in (whole, redirect, listing, made, several, alone, missing, refused):
        check_headers(answer)


@pytest.mark.parametrize("key", [name.decode() for name in INJECTING if b"\xff" not in name])
def test_no_key_gets_into_headers(front: Front, tree: Path, key: str) -> None:
    (tree / "a").write_bytes(b"content")
    url = front.hub.serve_tree(tree, key, visibility="public")
    redirect = front.ask(url[:-1])
    assert (redirect.status, redirect["Location"]) == (308, f"./{quote(key, safe='')}/")
    for answer in (redirect, front.ask(url), front.ask(f"{url}a"), front.ask(f"{url}missing")):
        check_headers(answer)


@pytest.mark.parametrize(
    "headers",
    [
        {"X-A": "a\r\nX-Injected: 1"},
        {"X-A": "a\nX-Injected: 1"},
        {"X-A": "a\rX-Injected: 1"},
        {"X-A": "a\0"},
        {"X-A": "a\u2028X-Injected: 1"},
        {"X-A\r\nX-Injected": "1"},
        {"X-A:": "1"},
        {"X A": "1"},
        {"": "1"},
    ],
)
def test_no_header_is_taken_that_holds_another(hub: JupyterRelayHub, tree: Path, headers: dict[str, str]) -> None:
    with pytest.raises(InvalidOption):
        hub.serve_tree(tree, headers=headers)


# --- requests that cost --------------------------------------------------------------------------------------------

AMPLIFYING = {
    "all of it, 2,000 times": "0-," * 2000,
    "the first byte, 2,000 times": "0-0," * 2000,
    "the last byte, 2,000 times": "-1," * 2000,
    "each second byte": ",".join(f"{2 * number}-{2 * number}" for number in range(800)),
    "each second byte, backwards": ",".join(f"{2 * number}-{2 * number}" for number in reversed(range(800))),
    "each begins one later": ",".join(f"{number}-" for number in range(1200)),
    "far apart": ",".join(f"{number * 1000}-{number * 1000 + 900}" for number in range(100)),
    "behind the end": ",".join(f"{number}-" for number in range(10**9, 10**9 + 600)),
    "huge numbers": ",".join("9" * 400 + "-" for _ in range(15)),
    "commas": "0-1" + "," * 7000 + "5-6",
}


def cpu_seconds(processes: list[int]) -> float:
    """Return how long processes have computed up to now."""
    ticks = 0
    for number in processes:
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("size_bytes", [20_000, LARGE_BYTES])
def test_no_ranges_cost_more_than_the_file(front: Front, tree: Path, size_bytes: int) -> None:
    (tree / "a").write_bytes(os.urandom(size_bytes))
    url = f"{front.hub.serve_tree(tree, visibility='public')}a"
    plain = len(front.ask_raw(request_of(front, url)))
    before = cpu_seconds(front.find_workers())
    for ranges in AMPLIFYING.values():
        for lines in (
            [f"Range: bytes={ranges}"],
            [f"Range: bytes={ranges}"] * 5,
            [f"Range: bytes={ranges[:300]}"] * 90,
        ):
            received = front.ask_raw(request_of(front, url, *lines))
            assert int(received[9:12]) in (200, 206, 400, 416, 431)
            assert len(received) < plain + 1000
    assert cpu_seconds(front.find_workers()) - before < 3


def test_a_hundred_thousand_entity_tags_cost_nothing(front: Front, tree: Path) -> None:
    (tree / "a").write_bytes(b"content")
    url = f"{front.hub.serve_tree(tree, visibility='public')}a"
    before = cpu_seconds(front.find_workers())
    for name in ("If-None-Match", "If-Match"):
        for tags in ('"a",' * 1250, 'W/"",' * 1100, '"' * 7000, '"a' * 2500, "," * 7000, "a b " * 1500):
            # A hundred lines are the most that gunicorn takes.
            for lines in (1, 80):
                received = front.ask_raw(request_of(front, url, *[f"{name}: {tags}"] * lines))
                # Tornado ends the connection.
                assert received[9:12] in ((b"200", b"412", b"400", b"431", b"") if lines > 1 else (b"200", b"412"))
    assert cpu_seconds(front.find_workers()) - before < 3


def request_of(front: Front, target: str, *lines: str, method: str = "GET") -> bytes:
    """Return a request, of an own connection."""
    told = [f"{name}: {value}" for name, value in {**front.headers, "Connection": "close"}.items()]
    return "\r\n".join((f"{method} {target} HTTP/1.1", *told, *lines, "", "")).encode("latin-1")


@pytest.mark.parametrize(
    ("target", "lines"),
    [
        ("a" * (1 << 20), []),
        ("a/" * (1 << 15), []),
        ("%61" * (1 << 15), []),
        ("?" + "a" * (1 << 20), []),
        ("", ["X-A: " + "a" * (1 << 16)]),
        ("", ["X-A: " + "a" * (1 << 20)]),
        ("", ["a" * (1 << 17) + ": a"]),
        ("", [f"X-{number}: a" for number in range(20_000)]),
        ("", ["Cookie: a=" + "b" * 8000] * 200),
    ],
    ids=["path", "folders", "escapes", "query", "header", "large header", "name", "headers", "cookies"],
)
def test_what_is_too_long_is_refused(front: Front, tree: Path, target: str, lines: list[str]) -> None:
    (tree / "a").write_bytes(b"content")
    url = front.hub.serve_tree(tree, visibility="public")
    received = front.ask_raw(request_of(front, url + target, *lines))
    # Tornado, and whoever has not read all, may end the connection instead; granian takes some 400 kB.
    allowed = (400, 404, 414, 431) if sum(map(len, lines)) != 65541 else (200, 400, 431)
    assert received == b"" or int(received[9:12]) in allowed
    assert front.ask(f"{url}a").body == b"content"


# --- requests within requests ----------------------------------------------------------------------------------------


def read_answers(received: bytes) -> list[tuple[int, bytes]]:
    """Return the status and the body of each answer; of one that answers HEAD, or is no whole one, what there is."""
    answers = []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1."), received
        status = int(head[9:12])
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        # The next head, where this is the answer to HEAD.
        size = 0 if rest.startswith(b"HTTP/1.") or length is None else int(length[1])
        if status >= 200:
            answers.append((status, rest[:size]))
        received = rest[size:]
    return answers


def test_a_request_within_another_is_not_answered(front: Front, tree: Path) -> None:
    """What comes behind it is answered in its place, or nothing is: the connection ends."""
    for name in ("asked", "hidden", "behind"):
        (tree / name).write_text(name.upper())
    url = front.hub.serve_tree(tree, visibility="public")
    headers = "".join(f"{name}: {value}\r\n" for name, value in front.headers.items())
    hidden = f"GET {url}hidden HTTP/1.1\r\n{headers}\r\n".encode()
    behind = f"GET {url}behind HTTP/1.1\r\n{headers}Connection: close\r\n\r\n".encode()
    others = Visitor(front)
    statuses: Counter[tuple[int, ...]] = Counter()
    with closing(others):
        for what, request in smuggling(f"{url}asked", headers, hidden).items():
            answers = read_answers(front.ask_raw(request + behind))
            statuses[tuple(status for status, _ in answers)] += 1
            assert b"HIDDEN" not in b"".join(body for _, body in answers), what
            assert len(answers) <= 2, what
            if len(answers) == 2:
                # Gunicorn answers before it finds that a body is none.
                assert answers[1] == (200, b"BEHIND") or answers[1][0] == 400, what
            elif answers and answers[0][0] == 200:
                assert answers[0][1] == (b"" if request.startswith(b"HEAD ") else b"ASKED"), what
            # Whoever asks through the same relay gets what they have asked for.
            answer = others.ask(f"{url}asked".encode())
            assert answer is not None
            assert answer.body == b"ASKED", what
    print(f"{statuses.total()} requests: {dict(sorted(statuses.items()))}")
    assert statuses[200, 200] > 0


@pytest.mark.parametrize(
    "name", ["Content-Length", "Transfer-Encoding", "Connection", "Expect", "Upgrade", "Kdr-Viewer"]
)
def test_jupyter_passes_on_nothing_that_speaks_of_a_body_or_a_viewer(name: str) -> None:
    location = Location("http", "a.example", "")
    request = format_request("GET", "/wwtkdr/k/a", [(name, "5"), ("Range", "bytes=0-0")], "anyone", location)
    lines = request.decode().split("\r\n")
    assert "Range: bytes=0-0" in lines
    assert [line for line in lines if line.lower().startswith(f"{name.lower()}:")] == (
        ["KDR-Viewer: anyone"] if name == "Kdr-Viewer" else []
    )


# --- hostile files ---------------------------------------------------------------------------------------------------


def test_no_wtml_reads_fetches_or_grows(front: Front, tmp_path: Path, tree: Path) -> None:
    (tmp_path / "secret").write_text("SECRET")
    url = front.hub.serve_tree(tree, visibility="public")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        files = hostile_wtml(str(tmp_path / "secret"), listener.getsockname()[1])
        for what, text in files.items():
            (tree / f"{what}_rel.wtml").write_bytes(text)
        front.ask(url)
        before = cpu_seconds(front.find_workers())
        statuses = {}
        for what in files:
            answer = front.ask(f"{url}{quote(what)}.wtml")
            assert b"SECRET" not in answer.body, what
            assert len(answer.body) < 16 << 20
            assert answer.status == 200 or b"cannot be used: " in answer.body, what
            statuses[what] = answer.status
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    # What is ignored, as it says nothing of a folder, does no harm.
    harmless = {"a schema", "a style sheet", "an inclusion", "attributes", "a long attribute", "a long comment"}
    assert {what for what, status in statuses.items() if status == 200} <= harmless
    assert {*statuses.values()} == {200, 422}
    assert cpu_seconds(front.find_workers()) - before < 20
    for process in front.find_workers():
        assert peak_bytes(process) < 400 << 20


def peak_bytes(process: int) -> int:
    """Return the most that a process has had in memory."""
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+)", status)
    assert found is not None
    return int(found[1]) * 1024


@pytest.mark.parametrize("foreign", FOREIGN_URLS)
def test_a_wtmls_foreign_addresses_stay_what_they_are(front: Front, tree: Path, foreign: str) -> None:
    folder = ElementTree.Element("Folder", Url=foreign)
    (tree / "a_rel.wtml").write_bytes(ElementTree.tostring(folder))
    answer = front.ask(f"{front.hub.serve_tree(tree, visibility='public')}a.wtml")
    assert ElementTree.fromstring(answer.body).attrib["Url"] == foreign
    assert (answer["Content-Type"], answer["X-Content-Type-Options"]) == ("application/x-wtml", "nosniff")


# --- keys and secrets ------------------------------------------------------------------------------------------------


def test_keys_cannot_be_computed_without_the_users_secret(tmp_path: Path, tree: Path) -> None:
    keys = set()
    for user in ("ada", "bob", "eve"):
        hub = JupyterRelayHub(registry=tmp_path / user / "registry.sqlite", base_url="/", key_prefix="")
        key = hub.serve_tree(tree).key
        assert key == hub.serve_tree(tree).key
        hub.registry.close()
        keys.add(key)
        secret = (tmp_path / user / "registry.sqlite.secret").read_bytes()
        assert len(secret) * 8 >= 128
        assert key == blake3(os.fsencode(tree), key=secret).hexdigest()
    assert len(keys) == 3
    # Hexadecimal: 256 bits.
    assert {len(key) for key in keys} == {64}
    assert blake3(os.fsencode(tree)).hexdigest() not in keys


def test_a_key_is_looked_up_by_its_index(hub: JupyterRelayHub, tree: Path, registry_path: Path) -> None:
    """No key is compared with all that are there, whose time would tell how much of a key is right."""
    hub.serve_tree(tree)
    with closing(sqlite3.connect(registry_path)) as connection:
        plan = connection.execute("EXPLAIN QUERY PLAN SELECT * FROM registration WHERE key = ?", ("k",)).fetchall()
    assert ["SEARCH" in str(step) and "(key=?)" in str(step) for step in plan] == [True]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST"])
def test_a_key_that_is_forbidden_is_answered_like_one_that_is_unknown(front: Front, tree: Path, method: str) -> None:
    for name in ("a", "a_rel.wtml"):
        (tree / name).write_bytes(b"<Folder/>")
    (tree / "sub").mkdir()
    # To Jupyter this is a page of somebody else's.
    stranger = {"Origin": "https://evil.example"}
    if front.is_jupyter:
        stranger["Cookie"] = front.ask(f"{front.hub.base_url}api/status?token={TOKEN}")["Set-Cookie"].partition(";")[0]
    front = replace(front, login={})
    url = front.hub.serve_tree(tree)
    unknown = url.replace(url.key, "0" * len(url.key))
    for entry in ("", "a", "a.wtml", "sub", "sub/", "missing", "../a", "%zz"):
        for headers in ({}, {"Accept": "application/json"}, {"Range": "bytes=0-0"}, {"If-None-Match": "*"}):
            answers = [front.ask(start + entry, {**stranger, **headers}, method) for start in (url, unknown)]
            told, other = (
                (answer.status, [pair for pair in answer.headers if pair[0].lower() != "date"], answer.body)
                for answer in answers
            )
            assert told == other, entry
            assert told[0] != 200


def test_no_secret_is_compared_by_its_first_letters() -> None:
    """What a client sends is compared with a secret by `compare_digest`, or looked up by its hash."""
    secret = re.compile(r"(?i)token|secret|digest|password|verifier|cookie")
    found = []
    for package in ("jupyter", "jupyterhub"):
        for path in Path(kdr_wsgi.__file__).parent.joinpath(package).glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.Eq, ast.NotEq)):
                    named = [side for side in (node.left, *node.comparators) if not isinstance(side, ast.Constant)]
                    if len(named) == 2 and any(secret.search(ast.unparse(side)) for side in named):
                        found.append(f"{path.name}: {ast.unparse(node)}")
    assert found == []


# --- clients that take their time ------------------------------------------------------------------------------------

#: A server that is as impatient in seconds as those of users are in half minutes.
IMPATIENT = """
import sys
import kdr_wsgi.granian_serving as granian
import kdr_wsgi.serving as gunicorn
from kdr_wsgi.sockets import listen
gunicorn.WatchfulWorker.patience_seconds = granian.QUIET_SECONDS = 2
listener = listen("127.0.0.1:0")
print(listener.getsockname()[1], flush=True)
{"gunicorn": gunicorn, "granian": granian}[sys.argv[1]].run(listener, {"KDR_REGISTRY": sys.argv[2]}, 1)
"""


@pytest.mark.parametrize("server", SERVERS)
def test_who_never_ends_a_request_stops_nobody_and_loses_the_connection(
    hub: JupyterRelayHub, registry_path: Path, tree: Path, server: str
) -> None:
    (tree / "a").write_bytes(b"content")
    url = f"{hub.serve_tree(tree, visibility='public')}a"
    command = [sys.executable, "-c", IMPATIENT, server, str(registry_path)]
    with ExitStack() as stack:
        process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        stack.callback(process.terminate)
        assert process.stdout is not None
        address = ("127.0.0.1", int(process.stdout.readline()))
        dripping = [stack.enter_context(Connection(address)).socket for _ in range(200)]
        for connection in dripping:
            connection.sendall(f"GET {url} HTTP/1.1\r\nHost: a\r\nX-A: ".encode())
            connection.setblocking(False)
        deadline = time.monotonic() + 20
        asked = 0
        while dripping:
            assert time.monotonic() < deadline, f"{len(dripping)} connections go on for ever"
            dripping = [connection for connection in dripping if drip(connection)]
            if len(dripping) == 200 or not dripping:
                assert fetch(address, url).body == b"content"
                asked += 1
            time.sleep(0.1)
        assert asked > 1


def drip(connection: socket.socket) -> bool:
    """Send one byte more of a header; return whether the server has kept the connection."""
    try:
        connection.send(b"a")
        return connection.recv(65536) != b""
    except BlockingIOError:
        return True
    except (ConnectionResetError, BrokenPipeError):
        return False
