"""What several owners have published is kept in one memory; nobody's claim reaches another's answers."""

from __future__ import annotations

import gzip
import os
import time
from pathlib import Path

import pytest
from blake3 import blake3
from werkzeug.test import Client, TestResponse

from hub import JupyterRelayHub
from hub.content.signatures import make_signature
from hub.registration import Registration
from hub.registry import Registry
from kdr_wsgi import create_app


@pytest.fixture
def registry(registry_path: Path) -> Registry:
    registry = Registry(registry_path)
    registry.open()
    return registry


@pytest.fixture
def client(registry_path: Path, registry: Registry) -> Client:
    return create_app({"KDR_REGISTRY": str(registry_path)}).test_client()


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    time.sleep(0.05)  # Until the version is settled.


def claim(registry: Registry, owner: str, path: Path, digest: str) -> str:
    """Let `owner` say of a file as it is now that it has this hash, whether it has or not; return its URL."""
    registration = Registration(
        owner,
        "file",
        os.fsencode(path),
        os.fsencode(path.name),
        visibility="public",
        content=digest,
        signature=make_signature(os.stat(path)),
        owner=owner,
        claimed_at=time.time(),
    )
    registry.claim(registration)
    return f"/wwtkdr/{owner}/{path.name}"


def text_of(answer: TestResponse) -> bytes:
    return gzip.decompress(answer.data) if answer.headers.get("Content-Encoding") == "gzip" else answer.data


def test_who_knows_a_hash_gets_no_bytes_from_what_was_compressed_for_another(
    client: Client, registry: Registry, tmp_path: Path
) -> None:
    secret = b'{"secret": 1}'.ljust(80_000)
    write(tmp_path / "a.json", secret)
    write(tmp_path / "b.json", b"b" * len(secret))
    digest = blake3(secret).hexdigest()
    of_ada = claim(registry, "ada", tmp_path / "a.json", digest)
    of_bob = claim(registry, "bob", tmp_path / "b.json", digest)
    accepts_gzip = {"Accept-Encoding": "gzip"}
    assert text_of(client.get(of_ada, headers=accepts_gzip)) == secret
    assert b"secret" not in text_of(client.get(of_bob, headers=accepts_gzip))


def test_a_false_claim_of_one_owner_opens_nothing_for_another(
    client: Client, registry: Registry, tmp_path: Path
) -> None:
    path = tmp_path / "shared.fits"
    write(path, b"A" * 200_000)
    digest = blake3(b"A" * 200_000).hexdigest()
    of_ada = claim(registry, "ada", path, digest)
    first_bytes = {"Range": "bytes=0-9"}
    assert client.get(of_ada, headers=first_bytes).data == b"A" * 10
    write(path, b"E" * 200_000)
    of_bob = claim(registry, "bob", path, digest)
    client.get(of_bob, headers=first_bytes).close()
    assert client.get(of_ada, headers=first_bytes).status_code == 410


def test_a_snapshot_tells_no_order_in_which_files_were_written(
    client: Client, registry_path: Path, tmp_path: Path
) -> None:
    hub = JupyterRelayHub(registry=registry_path, key_prefix="", base_url="/")
    tree = tmp_path / "tree"
    tree.mkdir()
    for name, content in (
        ("x.json", b"A" * 3000),
        ("x.json", b"B" * 3000),
        ("x.json.gz", gzip.compress(b"B" * 3000)),
        ("x.json", b"A" * 3000),
    ):
        write(tree / name, content)
        url = hub.serve_tree(tree, visibility="public", content=True, snapshot=tmp_path / "snapshots")
    answer = client.get(f"{url}x.json", headers={"Accept-Encoding": "gzip"})
    assert text_of(answer) == b"A" * 3000
