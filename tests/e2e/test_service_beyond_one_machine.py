"""A real JupyterHub whose service has its registry in PostgreSQL and its data in an object store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import obstore
import pytest

from tests.databases import DatabaseServer, running_database
from tests.jupyter import Kernel, wait_until
from tests.jupyterhub import SharedHub, shared_hub
from tests.stores import write_rules
from tests.swift import Swift

TILE = bytes(range(256)) * 40


class Deployment(NamedTuple):
    """All that runs."""

    hub: SharedHub
    database: DatabaseServer
    kernel: Kernel


@pytest.fixture(scope="module")
def deployment(swift: Swift, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("deployment")
    for name in ("hub-data", "hub-uploads"):
        swift.make_bucket(name)
    for user in ("ada", "bob"):
        obstore.put(swift.bucket("hub-data"), f"{user}/tiles/0.png", TILE)
    rules = write_rules(
        folder / "stores.json",
        {"prefix": "s3://hub-data/{username}/", "options": swift.options},
        {"prefix": "s3://hub-uploads/", "options": swift.options},
    )
    with running_database() as database, database.new_database() as url:
        environment = {"KDR_REGISTRY": url, "KDR_STORES": str(rules), "KDR_UPLOADS": "s3://hub-uploads/"}
        with shared_hub(folder, environment=environment) as hub, hub.start_server("ada").kernel() as kernel:
            yield Deployment(hub, database, kernel)


def test_a_kernel_publishes_from_the_store_without_its_credentials(deployment: Deployment, swift: Swift) -> None:
    for options in ({}, {"content": True}):
        url = deployment.kernel.run(
            f"import hub; print(hub.get_relay_hub().serve_tree('s3://hub-data/ada/tiles/', **{options!r}))"
        ).strip()
        assert url.startswith("/services/kdr/wwtkdr/ada~")
        answer = deployment.hub.fetch(f"{url}0.png", "ada")
        assert (answer.status, answer.body) == (200, TILE)
        part = deployment.hub.fetch(f"{url}0.png", "ada", {"Range": "bytes=-10"})
        assert (part.status, part.body) == (206, TILE[-10:])
        assert deployment.hub.fetch(f"{url}0.png", "bob").status == 404
    told = deployment.kernel.run("import os; print([*os.environ.items()])")
    assert swift.options["secret_access_key"] not in told
    refused = deployment.kernel.run(
        "try:\n    hub.get_relay_hub().serve_tree('s3://hub-data/bob/tiles/')\n"
        "except hub.ServiceRefused as error:\n    print(error)"
    )
    assert "lies below these prefixes: s3://hub-data/ada/" in refused


def test_what_the_service_does_not_see_is_uploaded_once_and_served(deployment: Deployment, tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number}.png").write_bytes(TILE[number:])
    refused = deployment.kernel.run(
        f"import hub\ntry:\n    hub.get_relay_hub().serve_tree({str(tmp_path)!r})\n"
        "except hub.ServiceRefused as error:\n    print(error)"
    )
    assert "lies in these folders" in refused
    urls = {deployment.kernel.publish(tmp_path, upload=True) for _ in range(2)}
    (url,) = urls
    for number in range(20):
        assert deployment.hub.fetch(f"{url}{number}.png", "ada").body == TILE[number:]
        (tmp_path / f"{number}.png").unlink()
    # The kernel's files are of no use any more.
    assert deployment.hub.fetch(f"{url}0.png", "ada").body == TILE
    assert deployment.hub.fetch(f"{url}0.png", "bob").status == 404


def test_what_is_known_is_served_while_the_database_is_away(deployment: Deployment) -> None:
    publish = "import hub; print(hub.get_relay_hub().serve_tree('s3://hub-data/ada/tiles/', **{}))"
    url = deployment.kernel.run(publish).strip()
    # Each worker has been asked.
    for _ in range(20):
        assert deployment.hub.fetch(f"{url}0.png", "ada").status == 200
    deployment.database.stop()
    try:
        assert deployment.hub.fetch(f"{url}0.png", "ada").body == TILE
        refused = deployment.kernel.run(
            "try:\n    hub.get_relay_hub().serve_tree('s3://hub-data/ada/other/')\n"
            "except hub.HubError as error:\n    print(type(error).__name__, error)"
        )
        assert "cannot store this now" in refused
    finally:
        deployment.database.start()
    wait_until(lambda: deployment.hub.fetch(f"{url}0.png", "ada").status == 200, "the registry does not come back", 30)
    assert deployment.kernel.run(publish).strip() == url
