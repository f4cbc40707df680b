"""Two nodes with a network between them and no disk in common: the service on one of them, the kernel on the other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import free_port, need
from tests.fake_hub import PREFIX, fake_hub
from tests.jupyter import wait_until
from tests.stores import write_rules
from tests.swift import running_swift

#: Of documentation and benchmarks (RFC 2544), which nobody routes.
_OF_SERVICE, _OF_KERNEL = "198.18.77.1", "198.18.77.2"

_NODE, _HERE, _THERE = "kdr-test", "kdr-t0", "kdr-t1"

#: What a kernel of ada's does.
_KERNEL = """\
import json, sys
from hub import JupyterRelayHub, NotSeenThere

told = {}
hub = JupyterRelayHub(service=sys.argv[1])
try:
    hub.serve_tree(sys.argv[2])
except NotSeenThere as error:
    told["refused"] = str(error)
told["url"] = hub.serve_tree(sys.argv[2], upload=True)
print(json.dumps(told))
"""


def _ip(*arguments: str, check: bool = True) -> int:
    return subprocess.run(["ip", *arguments], check=check, stderr=subprocess.DEVNULL).returncode


@contextmanager
def other_node() -> Iterator[list[str]]:
    """Make a node that a cable leads to; yield a command that runs the command behind it there, with own mounts."""
    has_programs = all(map(shutil.which, ("ip", "nsenter", "unshare")))
    can = has_programs and os.geteuid() == 0 and _ip("netns", "add", _NODE, check=False) == 0
    need("netns", is_there=can, remedy="apt-get install iproute2 util-linux, as root, where namespaces may be made")
    try:
        is_linked = _ip("link", "add", _HERE, "type", "veth", "peer", "name", _THERE, "netns", _NODE, check=False) == 0
        need("netns", is_there=is_linked, remedy="a kernel with veth")
        _ip("addr", "add", f"{_OF_SERVICE}/30", "dev", _HERE)
        _ip("link", "set", _HERE, "up")
        _ip("-n", _NODE, "addr", "add", f"{_OF_KERNEL}/30", "dev", _THERE)
        _ip("-n", _NODE, "link", "set", _THERE, "up")
        yield ["ip", "netns", "exec", _NODE, "unshare", "-m"]
    finally:
        _ip("link", "del", _HERE, check=False)
        _ip("netns", "del", _NODE, check=False)


def test_a_kernel_on_another_node_is_told_and_uploads(tmp_path: Path) -> None:
    with other_node() as on_the_other_node, running_swift(tmp_path / "swift") as swift, fake_hub(tmp_path) as hub:
        swift.make_bucket("kept")
        rules = write_rules(tmp_path / "stores.json", {"prefix": "s3://kept/uploads/", "options": swift.options})
        home, data, port = tmp_path / "homes/ada", tmp_path / "of-the-other-node", free_port()
        home.mkdir(parents=True)
        data.mkdir()
        (data / "tree").mkdir()
        (data / "tree/0.png").write_bytes(bytes(range(256)) * 1000)
        given = {**os.environ, **hub, "KDR_STORES": str(rules), "KDR_UPLOADS": "s3://kept/uploads/"}
        command = [sys.executable, "-m", "gunicorn", "-c", "python:kdr_wsgi.gunicorn_conf", "-w", "1"]
        service = subprocess.Popen(
            [*command, "-b", f"{_OF_SERVICE}:{port}", "kdr_wsgi:create_app()"],
            env=given,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until(lambda: _answers(port), "the service does not answer")
            # What is mounted over ada's home is there for the kernel alone.
            script = f'mount --bind {data} {home} && exec "$@"'
            asked = subprocess.run(
                [
                    *(*on_the_other_node, "sh", "-c", script, "sh", sys.executable, "-c", _KERNEL),
                    *(f"http://{_OF_SERVICE}:{port}{PREFIX}", str(home / "tree")),
                ],
                env={
                    **os.environ,
                    "JUPYTERHUB_API_TOKEN": "token-of-ada",
                    "KDR_REGISTRY": str(tmp_path / "own" / "registry.sqlite"),
                },
                check=True,
                stdout=subprocess.PIPE,
            )
            told: dict[str, Any] = json.loads(asked.stdout)
            assert "there is no such folder where it runs" in told["refused"]
            assert "publish with upload=True" in told["refused"]
            assert not (home / "tree").exists()
            shutil.rmtree(data)
            address = f"http://{_OF_SERVICE}:{port}{told['url']}0.png"
            with _fetch(address, {"Authorization": "token token-of-ada", "Range": "bytes=100-102"}) as answer:
                assert (answer.status, answer.read()) == (206, b"def")
        finally:
            service.terminate()
            service.wait(30)


def _answers(port: int) -> bool:
    try:
        with _fetch(f"http://{_OF_SERVICE}:{port}{PREFIX}wwtkdr/_health", {}) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _fetch(address: str, headers: dict[str, str]) -> Any:
    return urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=20)
