"""What attackers try, with real servers: alone, and behind a Jupyter server.

Some of it is tried for longer with ``KDR_TEST_ATTACKS``, a factor.
"""

from __future__ import annotations

import os
import random
import secrets
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain, cycle
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from werkzeug.test import EnvironBuilder, run_wsgi_app

from hub import HubError, JupyterRelayHub
from kdr_wsgi.app import create_app
from kdr_wsgi.servers import SERVERS
from tests.attacks import SWAP, traversals
from tests.conftest import live_server
from tests.jupyter import WITH_TOKEN, jupyter_server
from tests.raw_http import Answer, Connection

FACTOR = int(os.environ.get("KDR_TEST_ATTACKS", "1"))


@dataclass(frozen=True)
class Front:
    """Where requests go, and what they need there."""

    address: tuple[str, int]
    hub: JupyterRelayHub
    login: dict[str, str]
    is_jupyter: bool

    @property
    def headers(self) -> dict[str, str]:
        """Those of each request."""
        return {"Host": f"127.0.0.1:{self.address[1]}", **self.login}


@pytest.fixture(scope="module", params=[*SERVERS, *(f"jupyter, {server}" for server in SERVERS)])
def front(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("front")
    server = request.param.removeprefix("jupyter, ")
    if server == request.param:
        with live_server(folder, server) as running:
            yield Front(running.address, running.hub, {}, is_jupyter=False)
        return
    with jupyter_server(folder, f"--KernelDataRelay.server={server}", base_url="/user/a/") as jupyter:
        hub = JupyterRelayHub(registry=jupyter.registry, base_url=jupyter.base_url, key_prefix="")
        yield Front(jupyter.address, hub, WITH_TOKEN, is_jupyter=True)
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
        command = [sys.executable, "-c", SWAP, str(longest_pause), *chain(*places)]
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
