"""What a registry in PostgreSQL does that one in SQLite need not do: lose its connection, and share all that it has."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from hub.content.manifests import ManifestStore
from hub.content.trees import hash_tree
from hub.errors import InvalidOption, ManifestError, RegistryError, RegistryTooNew
from hub.locations import DatabaseLocation
from hub.postgres import reader as reader_module
from hub.postgres.connections import Connection
from hub.postgres.reader import PostgresReader
from hub.postgres.registry import find
from hub.postgres.usage import add_counts, read_counts
from hub.registration import Registration
from hub.registries import registry_at
from hub.secret import read_secret
from hub.settings import find_registry
from tests.databases import PASSWORD, QUOTED_PASSWORD, DatabaseServer, Wire, name_of
from tests.forking import start_child


def a_tree(key: str = "k", **options: object) -> Registration:
    return Registration(key, "tree", b"/data/\xff", **options)  # type: ignore[arg-type]


def until(is_so: Callable[[], bool], seconds: float = 1.0) -> None:
    """Wait for what is promised within a second."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.005)


def is_refused(reader: PostgresReader[Registration], key: str) -> bool:
    told = ""
    try:
        reader.find(key)
    except RegistryError as error:
        told = str(error)
    assert PASSWORD not in told
    return "127.0.0.1" in told


def a_reader(location: DatabaseLocation, grace_seconds: float = 60) -> PostgresReader[Registration]:
    return PostgresReader(location, lambda found: found, grace_seconds)


@pytest.fixture
def wire(database_server: DatabaseServer) -> Iterator[Wire]:
    made = Wire(database_server.port)
    yield made
    made.close()


def through(wire: Wire, database: DatabaseLocation, server: DatabaseServer) -> DatabaseLocation:
    location = find_registry(server.url(name_of(database), port=wire.port))
    assert isinstance(location, DatabaseLocation)
    return location


def test_changes_are_seen_by_readers_within_a_second(database: DatabaseLocation) -> None:
    registry = registry_at(database)
    readers = [a_reader(database), a_reader(database)]
    assert [reader.find("k") for reader in readers] == [None, None]
    for trusted in (False, True):
        registry.claim(a_tree(trusted=trusted))
        for reader in readers:
            until(lambda reader=reader, trusted=trusted: reader.find("k") == a_tree(trusted=trusted))  # type: ignore[misc]
    registry.revoke("k")
    for reader in readers:
        until(lambda reader=reader: reader.find("k") is None)  # type: ignore[misc]
        reader.close()


def test_what_is_known_is_not_asked_again(
    database: DatabaseLocation, database_server: DatabaseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = registry_at(database)
    registry.claim(a_tree())
    registry.claim(Registration("h", "file", b"/a", b"a", content="h"))
    asked: list[str] = []

    def count(connection: Connection, key: str) -> Registration | None:
        asked.append(key)
        return find(connection, key)

    monkeypatch.setattr(reader_module, "find", count)
    reader = a_reader(database)
    for _ in range(3):
        assert reader.find("k") == a_tree()
        assert reader.find("none") is None
        assert reader.find("with\0nul") is None
        assert reader.find("long" * 1000) is None
    assert asked == ["k", "none", "with\0nul"]
    # Another place of the same content changes the registration, too.
    assert reader.find("h") is not None
    registry.restore([Registration("h", "file", b"/b", b"b", content="h", claimed_at=-1.0)])
    until(lambda: (found := reader.find("h")) is not None and found.other_names == {b"b"})
    # Whoever empties a table by hand is heard, too.
    database_server.ask("TRUNCATE kdr.registration", name_of(database))
    until(lambda: reader.find("k") is None)
    reader.close()


def test_a_reader_keeps_no_more_than_its_capacity(database: DatabaseLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PostgresReader, "CAPACITY", 10)
    monkeypatch.setattr(PostgresReader, "ABSENT_CAPACITY", 10)
    registry = registry_at(database)
    for number in range(25):
        registry.claim(a_tree(f"k{number}"))
    reader = a_reader(database)
    for number in range(25):
        assert reader.find(f"k{number}") == a_tree(f"k{number}")
        assert reader.find(f"none{number}") is None
        assert len(reader._prepared) <= 10
        assert len(reader._absent) <= 10
    reader.close()


def test_without_its_database_a_reader_knows_what_it_knew_and_recovers(
    database: DatabaseLocation, database_server: DatabaseServer
) -> None:
    registry = registry_at(database)
    registry.claim(a_tree())
    registry.claim(a_tree("unread"))
    reader, strict = a_reader(database), a_reader(database, grace_seconds=0)
    assert reader.find("k") == strict.find("k") == a_tree()
    database_server.stop()
    try:
        until(lambda: is_refused(reader, "unread"))
        assert is_refused(reader, "nobody's")
        assert reader.find("k") == a_tree()
        until(lambda: is_refused(strict, "k"))
        with pytest.raises(RegistryError, match=f"{name_of(database)}.*refused") as failure:
            registry.claim(a_tree("other"))
        assert PASSWORD not in str(failure.value)
    finally:
        database_server.start()
    for each in (reader, strict):
        until(lambda each=each: not is_refused(each, "unread"), 10)  # type: ignore[misc]
        assert each.find("unread") == a_tree("unread")
        each.close()
    registry.claim(a_tree("other"))


def test_what_was_revoked_while_the_network_was_cut_is_gone_afterwards(
    database: DatabaseLocation, database_server: DatabaseServer, wire: Wire
) -> None:
    registry = registry_at(database)
    registry.claim(a_tree())
    registry.claim(a_tree("kept"))
    reader = a_reader(through(wire, database, database_server))
    assert reader.find("k") == a_tree()
    wire.cut()
    registry.revoke("k")
    # Noticed by the heartbeat alone: no connection was ended. Until then a question waits.
    noticed_within = reader_module.HEARTBEAT_SECONDS + reader_module.HEARTBEAT_LIMIT_SECONDS + 3
    until(lambda: reader._failure is not None, noticed_within)
    assert is_refused(reader, "kept")
    assert reader.find("k") == a_tree()  # Nobody has told it; docs/scaling.md says for how long.
    wire.mend()
    until(lambda: not is_refused(reader, "kept"), 15)
    assert reader.find("k") is None
    assert reader.find("kept") == a_tree("kept")
    reader.close()


def test_a_cut_that_nobody_notices_ends_with_the_grace(
    database: DatabaseLocation,
    database_server: DatabaseServer,
    wire: Wire,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reader_module, "HEARTBEAT_SECONDS", 0.2)
    monkeypatch.setattr(reader_module, "HEARTBEAT_LIMIT_SECONDS", 0.5)
    registry = registry_at(database)
    registry.claim(a_tree())
    reader = a_reader(through(wire, database, database_server), grace_seconds=1)
    assert reader.find("k") == a_tree()
    wire.cut()
    registry.revoke("k")
    revoked_at = time.monotonic()
    while time.monotonic() < revoked_at + 1.3:
        time.sleep(0.01)
    assert is_refused(reader, "k")
    reader.close()


def test_tables_that_were_made_anew_are_noticed(
    database: DatabaseLocation, database_server: DatabaseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "HEARTBEAT_SECONDS", 0.1)
    registry = registry_at(database)
    registry.claim(a_tree())
    generation = registry.generation
    reader = a_reader(database)
    assert reader.find("k") == a_tree()
    # No trigger tells of that.
    database_server.ask("DROP SCHEMA kdr CASCADE", name_of(database))
    registry.claim(a_tree("other"))
    assert registry.generation == generation + 1
    until(lambda: not is_refused(reader, "k") and reader.find("k") is None, 5)
    assert reader.find("other") == a_tree("other")
    reader.close()


def test_a_later_version_is_left_alone(
    database: DatabaseLocation, database_server: DatabaseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "HEARTBEAT_SECONDS", 0.1)
    registry = registry_at(database)
    registry.claim(a_tree())
    reader = a_reader(database)
    assert reader.find("k") == a_tree()
    database_server.ask("UPDATE kdr.schema SET version = 99", name_of(database))
    with pytest.raises(RegistryTooNew, match="its schema is version 99"):
        registry.claim(a_tree("other"))
    until(lambda: is_refused(reader, "k"), 2)
    reader.close()
    assert database_server.ask("SELECT key FROM kdr.registration", name_of(database)) == [("k",)]


def test_a_role_that_may_only_read_can_serve(
    database: DatabaseLocation, database_server: DatabaseServer, request: pytest.FixtureRequest
) -> None:
    registry = registry_at(database)
    registry.claim(a_tree())
    page = (request.config.rootpath / "docs" / "scaling.md").read_text("utf-8")
    grants = page.partition("```sql\n")[2].partition("```")[0]
    name = name_of(database)
    database_server.ask(f"CREATE ROLE kdr_reader LOGIN PASSWORD '{PASSWORD}'; {grants}", name)
    try:
        location = find_registry(database.url.replace("://kdr:", "://kdr_reader:"))
        assert isinstance(location, DatabaseLocation)
        registry_at(location).open()
        reader = a_reader(location)
        assert reader.find("k") == a_tree()
        registry.revoke("k")
        until(lambda: reader.find("k") is None)
        reader.close()
        add_counts(location, [("k", 1, 2, 3.0)])
        assert read_counts(database, None) == [("k", 1, 2, 3.0)]
        with pytest.raises(RegistryError, match="permission denied for table registration; GRANT it"):
            registry_at(location).claim(a_tree())
    finally:
        database_server.ask("DROP OWNED BY kdr_reader; DROP ROLE kdr_reader", name)


def claim_one(location: DatabaseLocation, number: int) -> None:
    registry = registry_at(location)
    for turn in range(5):
        registry.claim(a_tree(f"{number}-{turn}"))
        registry.claim(Registration("same", "file", b"/%d" % number, b"%d" % number, content="c", claimed_at=turn))
    registry.close()


def test_64_processes_that_claim_at_once_lose_nothing(database: DatabaseLocation) -> None:
    processes = [start_child(lambda number=number: claim_one(database, number)) for number in range(64)]  # type: ignore[misc]
    assert [os.waitpid(process, 0)[1] for process in processes] == [0] * 64
    found = {registration.key: registration for registration in registry_at(database).registrations()}
    assert found.keys() == {f"{number}-{turn}" for number in range(64) for turn in range(5)} | {"same"}
    assert found["same"].other_names | {found["same"].name} == {b"%d" % number for number in range(64)}


def read_secret_once(location: DatabaseLocation) -> bytes:
    return read_secret(location)


def test_a_secret_is_made_once(database: DatabaseLocation) -> None:
    with multiprocessing.get_context("spawn").Pool(6) as pool:
        secrets = pool.map(read_secret_once, [database] * 12, chunksize=1)
    assert len(set(secrets)) == 1
    assert len(secrets[0]) == 32


def test_a_forked_child_reads_by_itself(database: DatabaseLocation) -> None:
    registry = registry_at(database)
    registry.claim(a_tree())
    reader = a_reader(database)
    assert reader.find("k") == a_tree()

    def look() -> None:
        assert reader.find("k") == a_tree()
        registry.revoke("k")
        until(lambda: reader.find("k") is None)

    child = start_child(look)
    assert os.waitpid(child, 0)[1] == 0
    until(lambda: reader.find("k") is None)
    registry.claim(a_tree())
    until(lambda: reader.find("k") == a_tree())
    reader.close()


def test_a_thread_that_nobody_needs_ends(database: DatabaseLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "HEARTBEAT_SECONDS", 0.1)
    before = threading.active_count()
    reader = a_reader(database)
    assert reader.find("k") is None
    assert threading.active_count() == before + 1
    reader.close()
    assert threading.active_count() == before
    reader = a_reader(database)
    assert reader.find("k") is None
    del reader
    until(lambda: threading.active_count() == before, 5)


def test_a_process_ends_with_its_connections(database: DatabaseLocation) -> None:
    program = """
import os, warnings
warnings.simplefilter("error")
from hub.registries import reader_source, registry_at
from hub.settings import find_registry
location = find_registry()
registry_at(location).open()
print(reader_source(location, lambda found: found, 60)().find("k"))
"""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", program],
        env={"KDR_REGISTRY": database.url, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("None\n", "", 0)


def test_manifests_come_from_another_machine(
    database: DatabaseLocation,
    tree_of_two: bytes,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path_factory.mktemp("one")))
    here = find_registry(database.url)
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path_factory.mktemp("other")))
    there = find_registry(database.url)
    one, other = ManifestStore(here), ManifestStore(there)
    assert one.folder != other.folder
    content = hash_tree(tree_of_two, one)
    tree = other.open(content, tree_of_two)
    assert [tree.manifest[0], tree.manifest[1]] == [b"a", b"b/c"]
    # What one of them hashes the other one need not hash.
    latest = other.find_latest(tree_of_two)
    assert latest is not None
    assert latest.manifest.digest.hex() == content
    assert hash_tree(tree_of_two, other) == content
    # A copy that is damaged is taken anew.
    other.manifest_path(content).write_bytes(b"damaged")
    assert len(other.open(content, tree_of_two).manifest) == 2
    assert one.size_bytes() == other.size_bytes() > 0
    assert one.clean_up({content}, time.time() + 1) == (0, 0)
    assert one.clean_up(set(), time.time() + 1)[0] == 2
    with pytest.raises(ManifestError, match="publish again"):
        other.open(content, tree_of_two)


@pytest.fixture
def tree_of_two(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("tree")
    (folder / "a").write_bytes(b"1")
    (folder / "b").mkdir()
    (folder / "b" / "c").write_bytes(b"2")
    return bytes(folder.resolve())


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://kdr:s3cret@db.example.org:5433/kdr", "postgresql://kdr@db.example.org:5433/kdr"),
        ("postgres://kdr:s3%2Fcret@db/kdr?sslmode=require", "postgresql://kdr@db/kdr"),
        ("postgresql:///kdr?host=/run/postgresql&user=ada&password=s3cret", "postgresql://ada@%2Frun%2Fpostgresql/kdr"),
        ("postgresql://%2Frun%2Fpostgresql/kdr", "postgresql://%2Frun%2Fpostgresql/kdr"),
        ("postgresql://kdr:s3cret@one:1,[::1]:2/kdr", "postgresql://kdr@one:1,[::1]:2/kdr"),
    ],
)
def test_a_location_shows_no_password(url: str, shown: str) -> None:
    location = find_registry(url)
    assert isinstance(location, DatabaseLocation)
    assert str(location) == shown
    assert location.url == url
    assert "cret" not in repr(location)
    assert "cret" not in str(location.local)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://kdr:s3/cret@db/kdr",
        "postgresql://kdr:s3?cret@db/kdr",
        "postgresql://kdr:s3#cret@db/kdr",
        "postgresql://kdr:s3@cret@db/kdr",
        "postgresql://kdr:s3cret@[db/kdr",
        "postgresql://kdr:s3cret@db",
        "postgresql://kdr:s3cret@db/kdr?cret",
        "postgresql://kdr:s3\ncret@db/kdr",
    ],
)
def test_what_is_no_url_is_told_without_showing_it(url: str) -> None:
    with pytest.raises(InvalidOption) as failure:
        find_registry(url)
    assert "cret" not in str(failure.value)


def test_a_password_that_is_wrong_is_not_shown(database: DatabaseLocation) -> None:
    location = find_registry(database.url.replace(QUOTED_PASSWORD, "wr0ng"))
    with pytest.raises(RegistryError, match="password authentication failed") as failure:
        registry_at(location).open()
    assert "wr0ng" not in str(failure.value)
    with pytest.raises(RegistryError, match="libpq cannot read") as failure:
        registry_at(find_registry(f"{database.url}?nothing=s3cret")).open()
    assert "s3cret" not in str(failure.value)
