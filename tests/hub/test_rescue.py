"""A registry that is damaged or gone costs nothing but what nobody who still runs has registered."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from hub import JupyterRelayHub
from hub import registry as registry_module
from hub.errors import RegistryDamaged, RegistryError, RegistrySetAside
from hub.registry import Registry, RegistryReader
from kdr_wsgi import create_app


def fill_with_garbage(path: Path) -> None:
    path.write_bytes(os.urandom(65536))


def truncate(path: Path) -> None:
    _checkpoint(path)
    os.truncate(path, path.stat().st_size // 2)


def damage_a_page(path: Path) -> None:
    """Overwrite the page that has the first registrations, which shows only when they are read."""
    _checkpoint(path)
    connection = sqlite3.connect(path)
    (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'registration'").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    with open(path, "r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)


def _checkpoint(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


DAMAGES = (fill_with_garbage, truncate, damage_a_page)


def open_hub(path: Path) -> JupyterRelayHub:
    return JupyterRelayHub(registry=path, base_url="/", key_prefix="")


def aside(path: Path) -> list[Path]:
    """Return the registries that were set aside."""
    names = path.parent.glob(f"{path.name}.damaged-*")
    return [name for name in names if not name.name.endswith(("-wal", "-shm", "-journal"))]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_registry_is_set_aside_and_a_new_one_begun(
    hub: JupyterRelayHub, registry_path: Path, tree: Path, damage: Callable[[Path], None]
) -> None:
    url = hub.serve_tree(tree)
    hub.registry.close()
    damage(registry_path)
    damaged = registry_path.read_bytes()
    with pytest.warns(RegistrySetAside, match=r"is damaged; it was set aside as 'registry\.sqlite\.damaged-"):
        assert open_hub(registry_path).serve_tree(tree) == url
    (old,) = aside(registry_path)
    assert old.read_bytes() == damaged
    assert [registration.key for registration in Registry(registry_path).registrations()] == [url.key]


@pytest.mark.parametrize("damage", [*DAMAGES, os.unlink])
def test_a_living_kernel_registers_again_what_it_has(
    hub: JupyterRelayHub, registry_path: Path, tree: Path, damage: Callable[[Path], None]
) -> None:
    (tree / "a").write_text("a")
    kept, revoked = hub.serve_tree(tree), hub.serve_file(tree / "a", key="revoked")
    revoked.revoke()
    damage(registry_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RegistrySetAside)
        new = hub.serve_file(tree / "a", key="new")
    assert {registration.key for registration in hub.registry.registrations()} == {kept.key, new.key}


def test_what_others_have_claimed_since_is_theirs(hub: JupyterRelayHub, registry_path: Path, tree: Path) -> None:
    (tree / "new").mkdir()
    hub.serve_tree(tree, key="mine")
    registry_path.unlink()
    open_hub(registry_path).serve_tree(tree / "new", key="mine")
    hub.serve_tree(tree, key="another")
    found = Registry(registry_path).find("mine")
    assert found is not None
    assert found.root == os.fsencode(tree / "new")


def test_the_log_of_the_old_registry_does_not_come_into_the_new_one(
    hub: JupyterRelayHub, registry_path: Path, tree: Path
) -> None:
    for number in range(50):
        hub.serve_tree(tree, key=f"old{number}")
    _checkpoint(registry_path)
    hub.serve_tree(tree, key="in the log")
    log = Path(f"{registry_path}-wal")
    frames = log.read_bytes()
    hub.registry.close()
    fill_with_garbage(registry_path)
    log.write_bytes(frames)
    with pytest.warns(RegistrySetAside):
        open_hub(registry_path).serve_tree(tree, key="new")
    assert [registration.key for registration in Registry(registry_path).registrations()] == ["new"]
    Registry(registry_path).check()


@pytest.mark.parametrize("content", [b"SIMPLE  =                    T" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_what_never_was_a_registry_is_left_alone(tmp_path: Path, tree: Path, content: bytes) -> None:
    path = tmp_path / "cube.fits"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(RegistryError, match="name another file in KDR_REGISTRY"):
        open_hub(path).serve_tree(tree)
    assert path.read_bytes() == content
    assert sorted(name.name for name in tmp_path.iterdir() if name != tree) == ["cube.fits"]


def _claim(path: Path, root: Path, key: str, barrier: object) -> None:
    barrier.wait()  # type: ignore[attr-defined]  # multiprocessing has no public name of its type
    open_hub(path).serve_tree(root, key=key)


def test_of_many_that_find_the_damage_one_sets_it_aside_and_none_loses_a_claim(
    hub: JupyterRelayHub, registry_path: Path, tree: Path
) -> None:
    hub.serve_tree(tree)
    hub.registry.close()
    fill_with_garbage(registry_path)
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(8)
    kernels = [spawn.Process(target=_claim, args=(registry_path, tree, f"k{number}", barrier)) for number in range(8)]
    for kernel in kernels:
        kernel.start()
    for kernel in kernels:
        kernel.join(60)
    assert [kernel.exitcode for kernel in kernels] == [0] * 8
    assert {registration.key for registration in Registry(registry_path).registrations()} == {
        f"k{number}" for number in range(8)
    }
    assert len(aside(registry_path)) == 1


def test_a_server_waits_for_the_new_registry(hub: JupyterRelayHub, registry_path: Path, tree: Path) -> None:
    (tree / "a").write_text("a")
    url = hub.serve_tree(tree, visibility="public") + "a"
    app = create_app({"KDR_REGISTRY": str(registry_path)})
    client = app.test_client()
    assert client.get(url).status_code == 200
    _checkpoint(registry_path)
    fill_with_garbage(registry_path)
    with pytest.warns(RegistrySetAside):
        open_hub(registry_path).serve_tree(tree, key="new")
    hub.serve_tree(tree, key="newer")  # This kernel has noticed too, and brings back what it has.
    deadline = time.monotonic() + 1.5 * RegistryReader.IDENTIFY_SECONDS
    while time.monotonic() < deadline:
        answer = client.get(url)
        assert answer.status_code == 200 or (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        time.sleep(0.05)
    assert answer.status_code == 200
    assert client.get("/wwtkdr/new/a").status_code == 404  # It is private.
    app.extensions["kdr"].close()


def test_a_server_starts_on_a_damaged_registry(hub: JupyterRelayHub, registry_path: Path, tree: Path) -> None:
    hub.serve_tree(tree)
    hub.registry.close()
    fill_with_garbage(registry_path)
    with pytest.warns(RegistrySetAside):
        app = create_app({"KDR_REGISTRY": str(registry_path)})
    assert app.test_client().get("/wwtkdr/_health").status_code == 200
    app.extensions["kdr"].close()


@pytest.mark.parametrize("damage", DAMAGES)
def test_who_only_looks_changes_nothing(
    hub: JupyterRelayHub, registry_path: Path, tree: Path, damage: Callable[[Path], None]
) -> None:
    hub.serve_tree(tree)
    hub.registry.close()
    damage(registry_path)
    damaged = registry_path.read_bytes()
    for _ in range(2):
        with pytest.raises(RegistryDamaged, match=r"is damaged .*; whoever publishes next sets it aside"):
            Registry(registry_path).registrations()
    assert registry_path.read_bytes() == damaged
    assert not aside(registry_path)


@pytest.mark.parametrize("first", ["older", "newer"])
def test_the_newer_claim_wins_whoever_restores_first(
    hub: JupyterRelayHub, registry_path: Path, tree: Path, first: str
) -> None:
    for name in ("older", "newer"):
        (tree / name).mkdir()
    kernels = {"older": hub, "newer": open_hub(registry_path)}
    for name, kernel in kernels.items():
        kernel.serve_tree(tree / name, key="k")
    registry_path.unlink()
    for name in sorted(kernels, key=lambda name: name != first):
        kernels[name].serve_tree(tree, key=f"{name} is back")
    found = Registry(registry_path).find("k")
    assert found is not None
    assert found.root == os.fsencode(tree / "newer")


@pytest.mark.parametrize("first", ["public", "private"])
def test_what_was_made_private_stays_so(hub: JupyterRelayHub, registry_path: Path, tree: Path, first: str) -> None:
    (tree / "a").write_text("a")
    kernels = {"public": hub, "private": open_hub(registry_path)}
    keys = {kernel.serve_tree(tree, content=True, visibility=name).key for name, kernel in kernels.items()}
    registry_path.unlink()
    for name in sorted(kernels, key=lambda name: name != first):
        kernels[name].serve_tree(tree, key=f"{name} is back")
    (key,) = keys
    found = Registry(registry_path).find(key)
    assert found is not None
    assert found.visibility == "private"


def test_one_content_comes_back_with_all_its_names(hub: JupyterRelayHub, registry_path: Path, tree: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tree / name).write_text("the same")
        key = hub.serve_file(tree / name, content=True).key
    before = hub.registry.find(key)
    registry_path.unlink()
    hub.serve_tree(tree, key="new")
    assert before is not None
    assert len(before.sources) == 2
    assert hub.registry.find(key) == before


def test_a_registry_that_was_replaced_while_nobody_had_it_open_is_noticed(
    hub: JupyterRelayHub, registry_path: Path, tree: Path
) -> None:
    hub.serve_tree(tree, key="mine")
    hub.registry.close()  # As before each fork.
    registry_path.unlink()  # The next file mostly gets its number.
    open_hub(registry_path).serve_tree(tree, key="theirs")
    hub.serve_tree(tree, key="new")
    assert {registration.key for registration in hub.registry.registrations()} == {"mine", "theirs", "new"}


def test_an_emptied_registry_locks_nobody_out(
    hub: JupyterRelayHub, registry_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_module, "BUSY_TIMEOUT_SECONDS", 1.5)
    hub.serve_tree(tree, key="mine")
    os.truncate(registry_path, 0)
    with pytest.warns(RegistrySetAside):
        open_hub(registry_path).serve_tree(tree, key="theirs")
    hub.serve_tree(tree, key="new")
    assert {registration.key for registration in Registry(registry_path).registrations()} == {"mine", "theirs", "new"}


def test_damage_to_an_index_is_damage(hub: JupyterRelayHub, registry_path: Path, tree: Path) -> None:
    hub.serve_tree(tree, key="old")
    hub.registry.close()
    connection = sqlite3.connect(registry_path)
    connection.execute("PRAGMA writable_schema = 1")
    # An index of the rows of another table.
    connection.execute(
        "UPDATE sqlite_master SET rootpage = (SELECT rootpage FROM sqlite_master WHERE name = 'hashed') "
        "WHERE name = 'registration_owner'"
    )
    connection.commit()
    connection.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RegistrySetAside)
        open_hub(registry_path).serve_tree(tree, key="old")
        open_hub(registry_path).serve_tree(tree, key="new")
    assert {registration.key for registration in Registry(registry_path).registrations()} >= {"new"}


def test_what_a_link_leads_to_is_set_aside(hub: JupyterRelayHub, registry_path: Path, tree: Path) -> None:
    hub.serve_tree(tree, key="old")
    hub.registry.close()
    link = tree / "registry.sqlite"
    link.symlink_to(registry_path)
    fill_with_garbage(registry_path)
    with pytest.warns(RegistrySetAside):
        open_hub(link).serve_tree(tree, key="new")
    assert link.is_symlink()
    assert len(aside(registry_path)) == 1
    assert [registration.key for registration in Registry(registry_path).registrations()] == ["new"]


def test_threads_of_a_kernel_lose_nothing(hub: JupyterRelayHub, registry_path: Path, tree: Path) -> None:
    told: set[str] = set()

    def publish(thread: int) -> None:
        for number in range(40):
            # SQLite calls it an I/O error where a file goes while it is opened.
            with suppress(RegistryError):
                told.add(hub.serve_tree(tree, key=f"{thread}-{number}").key)

    threads = [threading.Thread(target=publish, args=(thread,)) for thread in range(6)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        with suppress(FileNotFoundError):
            registry_path.unlink()
        time.sleep(0.01)
    for thread in threads:
        thread.join()
    assert len(told) > 100
    told.add(hub.serve_tree(tree, key="last").key)
    # A call may fail once it has registered.
    assert {registration.key for registration in hub.registry.registrations()} >= told
