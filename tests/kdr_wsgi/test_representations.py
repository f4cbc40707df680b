"""What is compressed, how often, and for whom."""

from __future__ import annotations

import gzip
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest
from blake3 import blake3

from hub.registration import Registration
from kdr_wsgi import representations
from kdr_wsgi.cache import FileCache
from kdr_wsgi.encodings import gzip_bytes
from kdr_wsgi.errors import NoSuchEntry
from kdr_wsgi.files import AnyFile, OpenFile, PromisedFile, SmallFile
from kdr_wsgi.media_types import find_media_type
from kdr_wsgi.representations import Representations, is_negotiated
from kdr_wsgi.store import FileStore
from tests.conftest import make_settled

GZIP = {"HTTP_ACCEPT_ENCODING": "gzip"}
TEXT = b"a word and another " * 10_000
JSON = find_media_type(b"a.json")


class Store:
    """A store that has nothing but its cache."""

    def __init__(self, capacity_bytes: int = 64 << 20) -> None:
        self.cache = FileCache(capacity_bytes)
        self.asked: list[bytes] = []

    def open(self, _registration: Registration, entry: bytes) -> AnyFile:
        self.asked.append(entry)
        raise NoSuchEntry


def representations_of(store: Store) -> Representations:
    return Representations(cast("FileStore", store))


def open_file(path: Path) -> OpenFile:
    return OpenFile(os.open(path, os.O_RDONLY), JSON)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "a.json"
    made.write_bytes(TEXT)
    make_settled(made)
    return made


@pytest.fixture
def tree_registration(tmp_path: Path) -> Registration:
    return Registration("k", "tree", bytes(tmp_path))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the bodies that were compressed."""
    sizes: list[int] = []

    def count(body: bytes) -> bytes:
        sizes.append(len(body))
        time.sleep(0.05)
        return gzip_bytes(body)

    monkeypatch.setattr(representations, "gzip_bytes", count)
    return sizes


def body_of(file: AnyFile) -> bytes:
    assert isinstance(file, (SmallFile, PromisedFile))
    opened = file.open()
    assert isinstance(opened, SmallFile)
    return opened.body


def test_who_asks_at_once_waits_for_the_one_that_compresses(
    path: Path, tree_registration: Registration, counted: list[int]
) -> None:
    chooser = representations_of(Store())

    def ask(_: int) -> bytes:
        file = open_file(path)
        with file:
            return body_of(chooser.choose(GZIP, tree_registration, b"a.json", file))

    with ThreadPoolExecutor(8) as pool:
        bodies = [*pool.map(ask, range(8))]
    assert {gzip.decompress(body) for body in bodies} == {TEXT}
    assert counted == [len(TEXT)]


def test_each_spelling_of_an_entry_is_the_same(path: Path, tree_registration: Registration, counted: list[int]) -> None:
    chooser = representations_of(Store())
    for entry in (b"a.json", b"./a.json", b".//./a.json"):
        file = open_file(path)
        with file:
            chooser.choose(GZIP, tree_registration, entry, file)
    assert len(counted) == 1


def test_that_it_is_not_worth_it_is_remembered(
    tmp_path: Path, tree_registration: Registration, counted: list[int]
) -> None:
    (tmp_path / "a.json").write_bytes(os.urandom(100_000))
    make_settled(tmp_path / "a.json")
    chooser = representations_of(Store())
    for _ in range(3):
        file = open_file(tmp_path / "a.json")
        with file:
            assert chooser.choose(GZIP, tree_registration, b"a.json", file) is file
    assert len(counted) == 1


def test_a_file_that_changes_while_it_is_read_is_sent_as_it_is(path: Path, tree_registration: Registration) -> None:
    file = open_file(path)
    with file:
        path.write_bytes(TEXT + b"more")
        assert representations_of(Store()).choose(GZIP, tree_registration, b"a.json", file) is file


def test_what_is_kept_counts_in_the_budget(tmp_path: Path, tree_registration: Registration) -> None:
    store = Store(200_000)
    chooser = representations_of(store)
    body = os.urandom(50_000).hex().encode()
    for number in range(10):
        (tmp_path / f"{number}.json").write_bytes(b"%d" % number + body)
        make_settled(tmp_path / f"{number}.json")
        file = open_file(tmp_path / f"{number}.json")
        with file:
            assert chooser.choose(GZIP, tree_registration, b"%d.json" % number, file) is not file
    places = [(bytes(tmp_path), b"%d.json" % number, (b"", "gzip")) for number in range(10)]
    kept = [place for place in places if place in store.cache._entries]
    assert 1 <= len(kept) <= 3


def test_without_accept_encoding_or_with_a_range_nothing_is_looked_for(
    path: Path, tree_registration: Registration
) -> None:
    store = Store()
    environs: list[dict[str, Any]] = [{}, {"HTTP_ACCEPT_ENCODING": "identity"}, {**GZIP, "HTTP_RANGE": "bytes=0-1"}]
    for environ in environs:
        file = open_file(path)
        with file:
            assert representations_of(store).choose(environ, tree_registration, b"a.json", file) is file
    assert store.asked == []


@pytest.mark.parametrize("is_made", [False, True])
@pytest.mark.parametrize("kind", ["file", "tree"])
def test_only_files_of_a_tree_have_siblings(tmp_path: Path, path: Path, kind: Any, *, is_made: bool) -> None:
    store = Store()
    file = open_file(path)
    with file:
        representations_of(store).choose(
            {"HTTP_ACCEPT_ENCODING": "gzip, br"}, Registration("k", kind, bytes(tmp_path)), b"a", file, is_made=is_made
        )
    assert store.asked == ([b"a.br", b"a.gz"] if kind == "tree" and not is_made else [])


def promised(path: Path, body: bytes) -> PromisedFile:
    """Return the file at `path`, of which somebody says that `body` is in it."""

    def open_it() -> OpenFile:
        return open_file(path)

    file = open_it()
    with file:
        version = file.version
    return PromisedFile(version, JSON, blake3(body).digest(), open_it, open_it)


def test_a_false_word_on_a_hash_harms_nobody_else(tmp_path: Path, path: Path, tree_registration: Registration) -> None:
    chooser = representations_of(Store())
    (tmp_path / "forged.json").write_bytes(b"f" * len(TEXT))
    forged = promised(tmp_path / "forged.json", TEXT)
    assert chooser.choose(GZIP, tree_registration, b"forged.json", forged) is forged
    chosen = chooser.choose(GZIP, tree_registration, b"a.json", promised(path, TEXT))
    assert chosen.etag == f'"{blake3(TEXT).hexdigest()}-gzip"'
    assert gzip.decompress(body_of(chosen)) == TEXT


def test_whether_a_promised_file_has_siblings_is_looked_up_once(path: Path, tree_registration: Registration) -> None:
    store = Store()
    chooser = representations_of(store)
    for _ in range(3):
        chooser.choose({"HTTP_ACCEPT_ENCODING": "br"}, tree_registration, b"a.json", promised(path, TEXT))
    assert store.asked == [b"a.json.br"]


@pytest.mark.parametrize(
    ("name", "headers", "is_so"),
    [
        (b"a.json", (), True),
        (b"a.json", (("X", "y"),), True),
        (b"a.json", (("CONTENT-ENCODING", "gzip"),), False),
        (b"a.json", (("Content-Digest", "a=:b:"),), False),
        (b"a.png", (), False),
        (b"a", (), False),
    ],
)
def test_which_answers_vary(name: bytes, headers: tuple[tuple[str, str], ...], *, is_so: bool) -> None:
    registration = Registration("k", "tree", b"/", headers=headers)
    assert is_negotiated(registration, find_media_type(name)) is is_so
