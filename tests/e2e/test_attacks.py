"""What attackers try, with real servers: alone, and behind a Jupyter server.

Some of it is tried for longer with ``KDR_TEST_ATTACKS``, a factor.
"""

from __future__ import annotations

import os
import random
import secrets
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hub import JupyterRelayHub
from kdr_wsgi.servers import SERVERS
from tests.attacks import traversals
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

    def ask(self, target: bytes) -> Answer | None:
        """Return the answer; None: the server has closed a new connection without one."""
        for _ in range(2):
            is_new = self._connection is None
            connection = self._connection = self._connection or Connection(self._front.address)
            try:
                answer = connection.request("GET", target, self._front.headers)
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
    try:
        for target in targets:
            answer = visitor.ask(target.encode("latin-1"))
            if answer is None:
                statuses["closed"] += 1
                continue
            statuses[str(answer.status)] += 1
            assert secret not in answer.body, target
            assert os.fsencode(tmp_path) not in answer.body, target
            assert answer.status in (400, 404, 414) or answer.body == b"of this name", (target, answer)
    finally:
        visitor.close()
    print(f"{len(targets)} targets: {dict(sorted(statuses.items()))}")
    assert statuses["200"] > 0
    assert statuses["closed"] == 0
