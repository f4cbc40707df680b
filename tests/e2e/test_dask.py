"""A tree on a file system that several machines see, hashed by a Dask cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3
from distributed import Client, LocalCluster

from hub import JupyterRelayHub
from tests.hub.content.executors import Recording
from tests.hub.content.trees import hash_as_documented


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client


def test_a_cluster_hashes_a_tree(client: Client, hub: JupyterRelayHub, tree: Path) -> None:
    for number in range(3000):
        folder = tree / f"{number % 11}"
        folder.mkdir(exist_ok=True)
        (folder / f"{number}").write_bytes(b"%d" % number * 100)
    with (tree / "large").open("wb") as file:
        file.truncate(100 << 20)
    expected = hash_as_documented(tree)
    with client.get_executor() as executor:
        assert hub.serve_tree(tree, content=True, executor=executor).key == expected
    # Batches have been at both of its workers, and not here.
    logs = client.run(lambda dask_worker: dask_worker.state.executed_count)
    assert len(logs) == 2
    assert all(count > 0 for count in logs.values())


def test_a_cluster_hashes_a_file_once(client: Client, hub: JupyterRelayHub, tree: Path) -> None:
    (tree / "a").write_bytes(os.urandom(5 << 20))
    with client.get_executor() as executor:
        url = hub.serve_file(tree / "a", content=True, executor=executor)
    assert url.key == blake3((tree / "a").read_bytes()).hexdigest()
    recording = Recording()
    assert hub.serve_file(tree / "a", content=True, executor=recording) == url
    assert recording.entries == []
