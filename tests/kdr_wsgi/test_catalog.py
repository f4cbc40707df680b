from __future__ import annotations

import os
from pathlib import Path

from hub import JupyterRelayHub
from kdr_wsgi.catalog import Catalog


def test_claims_of_one_key_do_not_add_up_in_memory(hub: JupyterRelayHub, registry_path: Path, tree: Path) -> None:
    catalog = Catalog(registry_path, has_login=False)
    found = set()
    for number in range(50):
        hub.serve_tree(tree, key="k", headers={"X-Number": str(number)})
        publication = catalog.find("k")
        assert publication is not None
        found.add(publication.registration.headers)
    assert len(found) == 50
    assert len(catalog._publications) == 1
    catalog.close()


def test_readers_share_what_is_made_of_a_registration(hub: JupyterRelayHub, registry_path: Path, tree: Path) -> None:
    hub.serve_tree(tree, key="k")
    catalog = Catalog(registry_path, has_login=False)
    first = catalog.find("k")
    catalog.close()
    assert catalog.find("k") is first
    catalog.close()


def test_the_static_files_are_there_in_every_registry(registry_path: Path) -> None:
    catalog = Catalog(registry_path, has_login=False)
    publication = catalog.find("_static")
    assert publication is not None
    assert publication.registration.visibility == "public"
    assert Path(os.fsdecode(publication.registration.root), "preview", "pyramid.html").exists()
    catalog.close()
