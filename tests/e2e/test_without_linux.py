"""What has a fallback works without what only Linux has: in a process without /proc and with another system's name.

That is no macOS: file system, sockets and SQLite are Linux's still, and so is granian's
compiled part, which is not tried.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.conftest import LiveServer, need
from tests.raw_http import Connection, fetch

#: For a `sitecustomize`: what Linux, or its Python, has and macOS has not.
NOT_LINUX = """
import os, select, socket, sys, types

for module, names in (
    (os, "O_PATH O_TMPFILE copy_file_range memfd_create pidfd_open posix_fadvise sched_getaffinity sched_setaffinity "
         "setresuid splice eventfd"),
    (select, "epoll"),
    (socket, "TCP_CORK SO_PEERCRED SOCK_CLOEXEC SOCK_NONBLOCK accept4"),
):
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
sys.platform = "darwin"
sys.modules["_scproxy"] = types.SimpleNamespace(_get_proxy_settings=dict, _get_proxies=dict)  # for urllib
"""

WITHOUT_PROC = ("unshare", "-rm", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh")

PUBLISHING = """
import os, sys
import hub
from hub.filesystems import shares_memory

tree, kept, registry = map(os.path.abspath, sys.argv[1:])
assert not os.path.exists("/proc/self") and sys.platform == "darwin"
relay = hub.JupyterRelayHub(registry=registry, base_url="/", key_prefix="")
print(relay.serve_tree(tree, key="tree", visibility="public"))
print(relay.serve_tree(tree, content=True, visibility="public"))
print(relay.serve_tree(tree + "/inner", content=True, snapshot=kept, visibility="public"))
print(relay.registry.journal_mode())
"""

LISTENING = """
import os, stat, sys
from kdr_wsgi.jupyter.supervisor import PATH_BYTES
from kdr_wsgi.sockets import listen

assert PATH_BYTES == 103
path = os.path.abspath("socket")
umask = os.umask(0o022)
listener = listen(f"unix:{path}")
print(oct(stat.S_IMODE(os.stat(path).st_mode)), oct(os.umask(umask)))
"""

BIG = bytes(range(256)) * 4096


def without_linux(folder: Path) -> dict[str, str]:
    """Return variables for a process that is to find nothing that only Linux has, within `WITHOUT_PROC`."""
    can = shutil.which("unshare") and not subprocess.run(["unshare", "-rm", "true"], check=False).returncode
    need("unshare", is_there=bool(can), remedy="apt-get install util-linux, where users may have own namespaces")
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(NOT_LINUX)
    return {"PYTHONPATH": os.pathsep.join([str(folder / "site"), str(Path(__file__).parents[2])])}


def run(environment: dict[str, str], program: str, *arguments: Path, folder: Path) -> str:
    """Run a program there, in `folder`; return what it prints."""
    command = [*WITHOUT_PROC, sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(
        command, env={**os.environ, **environment}, cwd=folder, stdout=subprocess.PIPE, text=True, check=True
    ).stdout


def test_without_linux_a_unix_socket_is_for_its_owner_from_the_first_moment_on(tmp_path: Path) -> None:
    assert run(without_linux(tmp_path), LISTENING, folder=tmp_path) == "0o600 0o22\n"


def test_without_what_only_linux_has_files_are_published_and_served(
    tmp_path: Path, tree: Path, start_server: Callable[..., LiveServer]
) -> None:
    (tree / "inner").mkdir()
    (tree / "inner" / "tile").write_bytes(b"tile")
    (tree / "big").write_bytes(BIG)
    (tree / "inside").symlink_to("inner/tile")
    (tmp_path / "secret").write_bytes(b"secret")
    (tree / "outside").symlink_to(tmp_path / "secret")
    (tree / "up").symlink_to(tmp_path)
    environment = without_linux(tmp_path)
    server = start_server(
        worker_class="kdr_wsgi.serving.WatchfulWorker",
        workers=2,
        wrapper=[*WITHOUT_PROC],
        environment=environment,
    )
    registry = server.folder / "registry" / "registry.sqlite"
    printed = run(environment, PUBLISHING, tree, tmp_path / "kept", registry, folder=tmp_path)
    by_key, by_content, snapshot, journal_mode = printed.split()
    # Nobody tells whether the file system shares memory.
    assert journal_mode == "delete"
    with Connection(server.address) as connection:
        tile = connection.request("GET", f"{by_key}inner/tile")
        assert (tile.status, tile.body) == (200, b"tile")
        assert connection.request("GET", f"{by_key}inner/tile", {"If-None-Match": tile["ETag"]}).status == 304
        assert connection.request("GET", f"{by_key}inside").body == b"tile"
        assert connection.request("GET", f"{by_key}big").body == BIG
        for first, last in ((5, 20), (1000, 900_000), (1_048_000, 1_048_575)):
            part = connection.request("GET", f"{by_key}big", {"Range": f"bytes={first}-{last}"})
            assert (part.status, part.body) == (206, BIG[first : last + 1])
        for outside in ("outside", "up/secret", "../secret", "%2e%2e/secret"):
            assert connection.request("GET", f"{by_key}{outside}").status == 404
        assert b"inner" in connection.request("GET", by_key).body
        for base, name in ((by_content, "inner/tile"), (snapshot, "tile")):
            promised = connection.request("GET", f"{base}{name}")
            assert (promised.status, promised.body) == (200, b"tile")
            assert "immutable" in promised["Cache-Control"]
        (tree / "inner" / "tile").write_bytes(b"other")
        assert connection.request("GET", f"{by_key}inner/tile").body == b"other"
        assert connection.request("GET", f"{by_content}inner/tile").status == 410
        assert connection.request("GET", f"{snapshot}tile").body == b"tile"
    # What another process revokes is gone for both workers at once.
    assert server.hub.registrar.revoke("tree")
    for _ in range(8):
        assert fetch(server.address, f"{by_key}inner/tile").status == 404
