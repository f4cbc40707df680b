"""Kernels that see other files than the service does, at a real service."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hub import JupyterRelayHub, NotSeenThere
from tests.fake_hub import PREFIX, LiveService, live_service
from tests.raw_http import Answer


@pytest.fixture
def service(environment: dict[str, str], tmp_path: Path) -> Iterator[LiveService]:
    """A service that finds ada's home elsewhere than a kernel of hers: the two folders may have other files."""
    for name in ("seen", "homes"):
        (tmp_path / name / "ada").mkdir(parents=True)
    environment["KDR_ROOTS"] = f"{tmp_path}/seen/{{username}}={tmp_path}/homes/{{username}}"
    with live_service(tmp_path, environment, "-w", "2") as service:
        yield service


@pytest.fixture
def hub(service: LiveService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> JupyterRelayHub:
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "token-of-ada")
    monkeypatch.setenv("KDR_REGISTRY", str(tmp_path / "own" / "registry.sqlite"))
    return JupyterRelayHub(service="http://{}:{}{}".format(*service.address, PREFIX))


def write(path: Path, body: bytes, at_ns: int = 10**18) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    os.utime(path, ns=(at_ns, at_ns))


def get(service: LiveService, url: str) -> Answer:
    return service.get(url.removeprefix(f"{PREFIX}wwtkdr/"), {"Authorization": "token token-of-ada"})


def test_a_file_that_is_the_same_there_is_served(service: LiveService, hub: JupyterRelayHub, tmp_path: Path) -> None:
    for side in ("seen", "homes"):
        write(tmp_path / side / "ada" / "x.bin", b"the same")
        write(tmp_path / side / "ada" / "tree" / "0.png", b"the same")
    assert get(service, hub.serve_file(tmp_path / "seen/ada/x.bin")).body == b"the same"
    assert get(service, hub.serve_tree(tmp_path / "seen/ada/tree") + "0.png").body == b"the same"


def test_a_path_that_the_service_does_not_see_is_refused_with_what_to_do(hub: JupyterRelayHub, tmp_path: Path) -> None:
    write(tmp_path / "seen/ada/tree/x.bin", b"only here")
    for publish, path in ((hub.serve_file, "tree/x.bin"), (hub.serve_tree, "tree")):
        with pytest.raises(
            NotSeenThere, match=r"there is no such .* move it to a folder that your kernel and the relay"
        ):
            publish(tmp_path / "seen/ada" / path)
    assert not hub.list()


@pytest.mark.parametrize("there", [b"another", b"different"])
def test_another_file_at_the_same_path_is_refused(hub: JupyterRelayHub, tmp_path: Path, there: bytes) -> None:
    write(tmp_path / "seen/ada/x.bin", b"different")
    write(tmp_path / "homes/ada/x.bin", there, 10**18 + 1)
    with pytest.raises(NotSeenThere, match="another file is at this path"):
        hub.serve_file(tmp_path / "seen/ada/x.bin")
    with pytest.raises(NotSeenThere, match="another file is at this path"):
        hub.serve_file(tmp_path / "seen/ada/x.bin", content=True)
    assert not hub.list()


def test_another_tree_at_the_same_path_is_refused(hub: JupyterRelayHub, tmp_path: Path) -> None:
    write(tmp_path / "seen/ada/tree/0.png", b"here")
    write(tmp_path / "homes/ada/tree/1.png", b"here")
    with pytest.raises(NotSeenThere, match="another folder is at this path"):
        hub.serve_tree(tmp_path / "seen/ada/tree")


def test_what_lies_below_no_root_is_refused_before_it_is_looked_at(hub: JupyterRelayHub, tmp_path: Path) -> None:
    write(tmp_path / "elsewhere.bin", b"x")
    with pytest.raises(Exception, match="lies in these folders") as caught:
        hub.serve_file(tmp_path / "elsewhere.bin")
    assert not isinstance(caught.value, NotSeenThere)


def test_a_file_that_is_written_all_the_time_is_published(hub: JupyterRelayHub, tmp_path: Path) -> None:
    (tmp_path / "homes/ada").rmdir()
    (tmp_path / "homes/ada").symlink_to(tmp_path / "seen/ada")
    path, is_over = tmp_path / "seen/ada/log", threading.Event()
    path.write_bytes(b"begin")

    def append() -> None:
        with closing(path.open("ab", buffering=0)) as file:
            while not is_over.wait(0.0005):
                file.write(b"x")

    writer = threading.Thread(target=append)
    writer.start()
    try:
        for _ in range(10):
            hub.serve_file(path)
    finally:
        is_over.set()
        writer.join()
