from __future__ import annotations

import multiprocessing
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from hub import registry as registry_module
from hub.errors import LimitReached, RegistryError, RegistryTooNew
from hub.locations import DatabaseLocation, Location
from hub.registration import VISIBILITIES, Registration
from hub.registries import AnyRegistry, Reader, reader_source, registry_at
from hub.registry import SCHEMA_VERSION, Registry, RegistryReader
from tests.databases import DatabaseServer, name_of
from tests.forking import start_child

DATA = Path(__file__).parents[1] / "data"


def a_tree(key: str = "k", **options: object) -> Registration:
    return Registration(key, "tree", b"/data/\xff", **options)  # type: ignore[arg-type]


def test_what_is_claimed_is_found_as_it_was(location: Location) -> None:
    registry = registry_at(location)
    registration = Registration(
        "schlüssel/ü", "file", b"/data/m\xfcll", b"m\xfcll.fits", "users", True, (("A", "b"), ("C", "d")), 5.5, 1.5
    )
    registry.claim(registration)
    assert registry.find("schlüssel/ü") == registration
    assert registry.registrations() == [registration]
    assert registry.find("other") is None
    registry.close()
    assert registry.find("schlüssel/ü") == registration
    registry.close()


def test_the_file_is_for_the_user_alone(registry_path: Path) -> None:
    umask = os.umask(0)
    try:
        registry = Registry(registry_path)
        registry.claim(a_tree())
    finally:
        os.umask(umask)
    assert stat.S_IMODE(registry_path.parent.stat().st_mode) == 0o700
    for path in registry_path.parent.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    registry.close()


def test_a_version_1_file_is_migrated_with_all_that_it_holds(registry_path: Path) -> None:
    registry_path.parent.mkdir(mode=0o700)
    shutil.copyfile(DATA / "registry-v1.sqlite", registry_path)
    registry_path.chmod(0o600)
    registry = Registry(registry_path)
    tiles, file = registry.registrations()[::-1]
    assert tiles == Registration(
        "pywwt_tiles", "tree", b"/data/tiles", visibility="users", headers=(("Content-Language", "de"),)
    )
    assert file == Registration(
        "pywwt_naïve/key", "file", b"/data/m\xfcll.fits", b"m\xfcll.fits", trusted=True, expires_at=4102444800.0
    )
    registry.claim(a_tree(claimed_at=1.0))
    assert registry.find("k") == a_tree(claimed_at=1.0)
    registry.close()
    with sqlite3.connect(registry_path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    connection.close()


def test_a_migration_that_fails_leaves_the_file_as_it_was(registry_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Registry(registry_path).claim(a_tree())
    broken = (*registry_module.MIGRATIONS, ("CREATE TABLE more (x)", "NO SUCH STATEMENT"))
    monkeypatch.setattr(registry_module, "MIGRATIONS", broken)
    monkeypatch.setattr(registry_module, "SCHEMA_VERSION", len(broken))
    with pytest.raises(RegistryError, match="syntax error"):
        Registry(registry_path).registrations()
    monkeypatch.undo()
    registry = Registry(registry_path)
    assert registry.find("k") == a_tree()
    registry.close()


def test_a_newer_file_is_refused_and_not_touched(registry_path: Path) -> None:
    registry = Registry(registry_path)
    registry.claim(a_tree())
    reader = RegistryReader(registry_path, lambda found: found)
    assert reader.find("k") == a_tree()
    with sqlite3.connect(registry_path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    told = r"version 99 and this installation knows up to \d; upgrade"
    with pytest.raises(RegistryTooNew, match=told):
        Registry(registry_path).claim(a_tree("other"))
    with pytest.raises(RegistryTooNew, match=told):
        reader.find("k")
    reader.close()
    registry.close()


@pytest.mark.parametrize("shares", [True, False])
def test_the_journal_is_what_the_file_system_can_do(
    registry_path: Path, monkeypatch: pytest.MonkeyPatch, shares: bool
) -> None:
    monkeypatch.setattr(registry_module, "shares_memory", lambda directory: not shares)
    registry = Registry(registry_path)
    registry.claim(a_tree())
    registry.close()
    monkeypatch.undo()
    monkeypatch.setattr(registry_module, "shares_memory", lambda directory: shares)
    registry = Registry(registry_path)
    assert registry.journal_mode() == ("wal" if shares else "delete")
    reader = RegistryReader(registry_path, lambda found: found)
    assert reader.find("k") == a_tree()
    registry.claim(a_tree("new"))
    assert reader.find("new") == a_tree("new")
    reader.close()
    registry.close()


def test_a_reader_prepares_once_per_change(registry_path: Path) -> None:
    prepared: list[Registration] = []
    registry = Registry(registry_path)
    registry.claim(a_tree())

    def prepare(found: Registration) -> Registration:
        prepared.append(found)
        return found

    reader = RegistryReader(registry_path, prepare)
    for _ in range(3):
        assert reader.find("k") == a_tree()
    assert len(prepared) == 1
    registry.claim(a_tree(trusted=True))
    assert reader.find("k") == a_tree(trusted=True)
    assert len(prepared) == 2
    registry.revoke("k")
    assert reader.find("k") is None
    reader.close()
    registry.close()


def test_a_reader_keeps_no_more_than_its_capacity(registry_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RegistryReader, "CAPACITY", 10)
    registry = Registry(registry_path)
    for number in range(25):
        registry.claim(a_tree(f"k{number}"))
    reader = RegistryReader(registry_path, lambda found: found)
    for number in range(25):
        assert reader.find(f"k{number}") == a_tree(f"k{number}")
        assert len(reader._prepared) <= 10
    reader.close()
    registry.close()


def test_expired_registrations_are_removed_and_no_others(location: Location) -> None:
    registry = registry_at(location)
    now = time.time()
    for key, end in (("past", now - 1), ("future", now + 100), ("never", None)):
        registry.claim(a_tree(key, expires_at=end))
    assert [registration.key for registration in registry.remove_expired(now)] == ["past"]
    assert [registration.key for registration in registry.registrations()] == ["future", "never"]
    registry.close()


def claim_through(registry: AnyRegistry, prefix: str, count: int) -> None:
    for number in range(count):
        registry.claim(a_tree(f"{prefix}{number}"))


def claim_many(location: Location, prefix: str, count: int) -> None:
    registry = registry_at(location)
    claim_through(registry, prefix, count)
    registry.close()


def test_two_processes_that_claim_thousands_of_keys_each_lose_none(location: Location) -> None:
    count = 10_000 if isinstance(location, Path) else 2_000
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=claim_many, args=(location, prefix, count)) for prefix in "ab"]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    registry = registry_at(location)
    keys = {registration.key for registration in registry.registrations()}
    assert keys == {f"{prefix}{number}" for prefix in "ab" for number in range(count)}
    registry.close()


def test_many_processes_may_make_the_registry_at_once(location: Location) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(6) as pool:
        pool.starmap(claim_many, [(location, f"{number}-", 5) for number in range(12)], chunksize=1)
    registry = registry_at(location)
    assert len(registry.registrations()) == 60
    registry.close()


def test_a_forked_child_has_a_connection_of_its_own(location: Location) -> None:
    registry = registry_at(location)
    stop = threading.Event()

    def claim_all_the_time() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            registry.claim(a_tree(f"parent{number}"))

    claimer = threading.Thread(target=claim_all_the_time)
    claimer.start()
    try:
        children = [
            start_child(lambda child=child: claim_through(registry, f"child{child}-", 20))  # type: ignore[misc]
            for child in range(8)
        ]
        assert [os.waitpid(process, 0)[1] for process in children] == [0] * 8
    finally:
        stop.set()
        claimer.join()
    registry.claim(a_tree("last"))
    registry.check()
    keys = {registration.key for registration in registry.registrations()}
    assert {f"child{child}-{number}" for child in range(8) for number in range(20)} <= keys
    assert {"parent1", "last"} <= keys
    registry.close()


def test_registries_that_others_could_write_are_refused(registry_path: Path) -> None:
    Registry(registry_path).claim(a_tree())
    registry_path.chmod(0o666)
    with pytest.raises(RegistryError, match="other users can write it; run: chmod 600"):
        Registry(registry_path).claim(a_tree())


def test_places_that_cannot_hold_a_registry_are_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for place in (tmp_path / "file" / "registry", Path("/proc/kdr/registry"), tmp_path / "folder"):
        with pytest.raises(RegistryError, match="cannot be used"):
            Registry(place).claim(a_tree())


def test_a_registry_that_was_removed_is_noticed_by_writers_and_readers(
    registry_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RegistryReader, "IDENTIFY_SECONDS", 0.0)
    registry = Registry(registry_path)
    registry.claim(a_tree("old"))
    reader = RegistryReader(registry_path, lambda found: found)
    assert reader.find("old") == a_tree("old")
    shutil.rmtree(registry_path.parent)
    with pytest.raises(RegistryError, match="unable to open"):
        reader.find("old")
    registry.claim(a_tree("new"))
    assert [found.key for found in registry.registrations()] == ["new"]
    assert reader.find("new") == a_tree("new")
    assert reader.find("old") is None
    reader.close()
    registry.close()


def test_a_reader_recovers_from_a_replacement_that_it_could_not_open_at_first(
    registry_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RegistryReader, "IDENTIFY_SECONDS", 0.0)
    registry = Registry(registry_path)
    registry.claim(a_tree("old"))
    reader = RegistryReader(registry_path, lambda found: found)
    shutil.rmtree(registry_path.parent)
    registry.claim(a_tree("new"))

    def fail(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("unable to open database file")

    with monkeypatch.context() as short_of_descriptors:
        short_of_descriptors.setattr(registry_module, "_connect", fail)
        for _ in range(2):
            with pytest.raises(RegistryError, match="unable to open"):
                reader.find("old")
    assert reader.find("new") == a_tree("new")
    reader.close()
    registry.close()


def test_a_hub_does_not_write_into_a_registry_that_became_newer(registry_path: Path) -> None:
    registry = Registry(registry_path)
    registry.claim(a_tree())
    with sqlite3.connect(registry_path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(RegistryTooNew):
        registry.claim(a_tree("other"))
    registry.close()


def test_what_a_child_claims_after_its_parent_ended_is_there(registry_path: Path) -> None:
    program = """
import os, sys, time
from pathlib import Path
from hub.registration import Registration
from hub.registry import Registry
registry = Registry(Path(sys.argv[1]))
registry.claim(Registration("parent", "tree", b"/"))
parent = os.getpid()
if os.fork() == 0:
    registry.claim(Registration("child1", "tree", b"/"))
    while os.getppid() == parent:
        time.sleep(0.01)
    registry.claim(Registration("child2", "tree", b"/"))
    print("done", flush=True)
    time.sleep(1)
"""
    with subprocess.Popen([sys.executable, "-c", program, str(registry_path)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"done\n"
        other = Registry(registry_path)
        assert [found.key for found in other.registrations()] == ["child1", "child2", "parent"]
        other.close()


registrations = st.builds(
    Registration,
    key=st.sampled_from(["a", "b", "ü/", "c d"]),
    kind=st.sampled_from(["file", "tree", "archive"]),
    root=st.binary(min_size=1, max_size=8),
    name=st.binary(max_size=8),
    visibility=st.sampled_from(VISIBILITIES),
    trusted=st.booleans(),
    headers=st.lists(st.tuples(st.text(max_size=4), st.text(max_size=4)), max_size=2).map(tuple),
    expires_at=st.one_of(st.none(), st.floats(0, 10)),
    claimed_at=st.one_of(st.none(), st.floats(0, 10)),
)


class RegistryMachine(RuleBasedStateMachine):
    """Two writers and a reader against a dictionary."""

    #: How long a reader may take to learn of a change.
    patience_seconds = 0.0

    def __init__(self) -> None:
        super().__init__()
        location = self.new_location()
        self.writers = [registry_at(location), registry_at(location)]
        assert self.writers[0].registrations() == []
        self.reader: Reader[Registration] = reader_source(location, lambda found: found, 60)()
        self.model: dict[str, Registration] = {}

    def new_location(self) -> Location:
        self.folder = tempfile.TemporaryDirectory()
        return Path(self.folder.name) / "kdr" / "registry.sqlite"

    @rule(registration=registrations, writer=st.integers(0, 1))
    def claim(self, registration: Registration, writer: int) -> None:
        self.writers[writer].claim(registration)
        self.model[registration.key] = registration

    @rule(key=st.sampled_from(["a", "b", "ü/", "c d"]), writer=st.integers(0, 1))
    def revoke(self, key: str, writer: int) -> None:
        assert self.writers[writer].revoke(key) == (self.model.pop(key, None) is not None)

    @rule(now=st.floats(0, 10), writer=st.integers(0, 1))
    def expire(self, now: float, writer: int) -> None:
        ended = {k for k, r in self.model.items() if r.expires_at is not None and r.expires_at <= now}
        assert {r.key for r in self.writers[writer].remove_expired(now)} == ended
        for key in ended:
            del self.model[key]

    @rule(writer=st.integers(0, 1))
    def reopen(self, writer: int) -> None:
        self.writers[writer].close()

    @invariant()
    def all_agree(self) -> None:
        for key in ("a", "b", "ü/", "c d"):
            until = time.monotonic() + self.patience_seconds
            while self.reader.find(key) != self.model.get(key):
                assert time.monotonic() < until
                time.sleep(0.001)
        for writer in self.writers:
            assert {r.key: r for r in writer.registrations()} == self.model

    def teardown(self) -> None:
        self.reader.close()
        for writer in self.writers:
            writer.close()
        self.remove()

    def remove(self) -> None:
        self.folder.cleanup()


RegistryMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
TestRegistryAgainstADictionary = RegistryMachine.TestCase


def test_a_database_against_a_dictionary(database: DatabaseLocation, database_server: DatabaseServer) -> None:
    class DatabaseMachine(RegistryMachine):
        patience_seconds = 1.0

        def new_location(self) -> Location:
            return database

        def remove(self) -> None:
            database_server.ask("TRUNCATE kdr.registration, kdr.name, kdr.source", name_of(database))

    run_state_machine_as_test(
        DatabaseMachine, settings=settings(max_examples=20, stateful_step_count=20, deadline=None)
    )


def test_an_owner_has_a_limit_that_what_has_expired_does_not_use_up(location: Location) -> None:
    registry = registry_at(location)
    for number in range(3):
        ended = Registration(f"ada~{number}", "tree", b"/a", owner="ada", expires_at=time.time() - 1)
        registry.claim(ended, limit=2)
    for number in range(2):
        registry.claim(Registration(f"ada~new{number}", "tree", b"/a", owner="ada"), limit=2)
    with pytest.raises(LimitReached, match="you have 2 registrations, and may have 2"):
        registry.claim(Registration("ada~more", "tree", b"/a", owner="ada"), limit=2)
    registry.claim(Registration("ada~new0", "tree", b"/b", owner="ada"), limit=2)
    registry.claim(Registration("bob~new", "tree", b"/a", owner="bob"), limit=2)
    assert registry.count_by_owner() == {"ada": 2, "bob": 1}
    assert [found.key for found in registry.registrations_of("ada")] == ["ada~new0", "ada~new1"]
    registry.close()


def test_one_content_under_ever_new_names_reaches_the_limit_too(location: Location) -> None:
    registry = registry_at(location)
    for number in range(2):
        registry.claim(Registration("ada~h", "file", b"/a", b"%d" % number, owner="ada", content="h"), limit=2)
    with pytest.raises(LimitReached, match="you have 2 names of content keys"):
        registry.claim(Registration("ada~h", "file", b"/a", b"2", owner="ada", content="h"), limit=2)
    registry.claim(Registration("ada~h", "file", b"/b", b"0", owner="ada", content="h"), limit=2)
    with pytest.raises(LimitReached, match="you have 2 places of content keys"):
        registry.claim(Registration("ada~h", "file", b"/c", b"0", owner="ada", content="h"), limit=2)
    registry.close()


def test_one_content_has_so_many_names_and_no_more(location: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "MAX_NAMES", 2)
    monkeypatch.setattr("hub.postgres.registry.MAX_NAMES", 2)
    registry = registry_at(location)
    for name in (b"0", b"1", b"0"):
        registry.claim(Registration("ada~h", "file", b"/a", name, owner="ada", content="h"), limit=100)
    with pytest.raises(LimitReached, match="one content may have 2 names; revoke 'ada~h' first"):
        registry.claim(Registration("ada~h", "file", b"/a", b"2", owner="ada", content="h"), limit=100)
    registry.close()
