"""Manifests: what each entry of a tree hashes to, and what a stat said of it, in files that are mapped into memory.

For each tree there are two files (all numbers are 64 bits, little-endian):

- the *manifest*, which equal trees share: the entries in ascending order, each
  followed by a NUL; where each of them begins; their sizes; their hashes;
- the *index* of one root: the records of a walk (`hub.content.walking`).

Both end with how many entries there are, the tree's hash, a BLAKE3 hash of all
that is before it in the file, and a word that says what the file is.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import sys
import time
from array import array
from binascii import hexlify
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, suppress
from copy import copy
from itertools import accumulate, islice
from operator import lt
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from blake3 import blake3

from hub.content.entries import SortedEntries
from hub.content.hashing import HASH_BYTES
from hub.content.signatures import SIGNATURE_BYTES, size_field_of
from hub.content.walking import Record, signature_of
from hub.drafts import DRAFT_SUFFIX, Draft
from hub.errors import ManifestError, RegistryError
from hub.filesystems import find_intruder, make_private_directories
from hub.locations import Location, beside

if TYPE_CHECKING:
    from hub.postgres.manifests import SharedManifests

#: Keeps the hash of a tree from being that of a file that holds the same list.
TREE_CONTEXT = "kernel data relay 2026-11-25 tree"

_MANIFEST_WORD = b"kdr-tree"
_INDEX_WORD = b"kdr-stat"

#: What a database has of a folder; the rest is made on each machine.
_COPIED = (".manifest", ".index")

#: How many there are of what the file is about; a hash, or what else tells it from others; a checksum; a word.
END = struct.Struct("<Q32s32s8s")
_CHECKSUM_AND_WORD_BYTES = 40
_NUMBER = struct.Struct("<Q")
_ENTRIES_PER_COPY = 4096
_COPY_BYTES = 1 << 20

#: A draft that is younger may not be locked yet.
_YOUNG_SECONDS = 60.0


class Columns(NamedTuple):
    """Some entries that follow each other, each column in one piece.

    Attributes
    ----------
    names : bytes
        The entries, each followed by a NUL.
    records : bytes
        As an index has them.
    sizes, hashes : bytes
        As a manifest has them.
    """

    names: bytes
    records: bytes
    sizes: bytes
    hashes: bytes

    @property
    def stored_bytes(self) -> int:
        """What manifest and index take for these entries."""
        return sum(map(len, self)) + len(self.sizes)  # Where each begins is as long as how large it is.

    @classmethod
    def of(cls, records: Sequence[Record], hashes: Sequence[bytes]) -> Columns:
        """Return the columns of what was walked and hashed."""
        names = b"".join([record[:-SIGNATURE_BYTES] for record in records])
        sizes = b"".join([size_field_of(signature_of(record)) for record in records])
        return cls(names, b"".join(records), sizes, b"".join(hashes))


class MappedFile:
    """A file that is mapped into memory, and its end understood."""

    def __init__(self, path: Path, word: bytes) -> None:
        self.path = path
        try:
            with open(path, "rb") as file:
                self.bytes = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        except OSError as error:
            raise ManifestError(str(path), error.strerror or str(error)) from error
        except ValueError:  # From mmap: it is empty.
            raise self.damage() from None
        if len(self.bytes) < END.size:
            raise self.damage()
        self.count: int
        self.digest: bytes
        self.checksum: bytes
        end = len(self.bytes) - END.size
        self.count, self.digest, self.checksum, found = END.unpack_from(self.bytes, end)
        # A tenth of a second for a million entries, each time that a process opens it; half of that for `_is_in_order`.
        with memoryview(self.bytes) as whole:
            if (
                found != word
                or blake3(whole[:-_CHECKSUM_AND_WORD_BYTES], max_threads=blake3.AUTO).digest() != self.checksum
            ):
                raise self.damage()

    def damage(self) -> ManifestError:
        """Return the error that says that the file is not whole."""
        return ManifestError(str(self.path), "it is damaged; remove it and publish again")


class Manifest(SortedEntries):
    """The entries of a tree, in ascending order; what equal trees share.

    Parameters
    ----------
    path : Path

    Raises
    ------
    ManifestError
    """

    def __init__(self, path: Path) -> None:
        mapped = MappedFile(path, _MANIFEST_WORD)
        self._bytes = mapped.bytes
        self._count: int = mapped.count
        self.digest: bytes = mapped.digest
        self._hashes = len(self._bytes) - END.size - self._count * HASH_BYTES
        self._sizes = self._hashes - self._count * _NUMBER.size
        self._starts = self._sizes - self._count * _NUMBER.size
        if self._starts < 0 or not self._is_in_order():
            raise mapped.damage()

    def _is_in_order(self) -> bool:
        """Whether each entry begins behind the one before, and all of them end where the names do."""
        starts = _numbers(self._bytes[self._starts : self._sizes])
        starts.append(self._starts)
        return starts[0] == 0 and all(map(lt, starts, islice(starts, 1, None)))

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, position: int) -> bytes:
        """Return the entry at `position`."""
        return self._bytes[self.start(position) : self.start(position + 1) - 1]

    def start(self, position: int) -> int:
        """Return where the names of the entries from `position` on begin."""
        if position == self._count:
            return self._starts  # The names end where that column begins.
        return self._number(self._starts, position)

    def size_bytes(self, position: int) -> int:
        """Return the size of the file at `position`."""
        return self._number(self._sizes, position)

    def total_bytes(self) -> int:
        """Return the size of all files together."""
        return sum(_numbers(self._bytes[self._sizes : self._hashes]))

    def hash(self, position: int) -> bytes:
        """Return the BLAKE3 hash of the file at `position`."""
        start = self._hashes + position * HASH_BYTES
        return self._bytes[start : start + HASH_BYTES]

    def _number(self, column: int, position: int) -> int:
        number: int = _NUMBER.unpack_from(self._bytes, column + position * _NUMBER.size)[0]
        return number

    def columns(self, start: int, stop: int) -> tuple[bytes, bytes, bytes]:
        """Return names, sizes and hashes of the entries from `start` to `stop`."""
        return (
            self._bytes[self.start(start) : self.start(stop)],
            self._bytes[self._sizes + start * _NUMBER.size : self._sizes + stop * _NUMBER.size],
            self._bytes[self._hashes + start * HASH_BYTES : self._hashes + stop * HASH_BYTES],
        )


class Tree:
    """A manifest, and what a stat said of its files below one root.

    Parameters
    ----------
    manifest, index : Path

    Raises
    ------
    ManifestError
    """

    def __init__(self, manifest: Path, index: Path) -> None:
        self.manifest = Manifest(manifest)
        mapped = MappedFile(index, _INDEX_WORD)
        self._bytes = mapped.bytes
        count = len(self.manifest)
        length = self.manifest.start(count) + count * SIGNATURE_BYTES + END.size
        if (mapped.count, mapped.digest, len(mapped.bytes)) != (count, self.manifest.digest, length):
            raise mapped.damage()
        #: Tells this index from any other.
        self.index_checksum = mapped.checksum

    def signature(self, position: int) -> bytes:
        """Return the signature of the file at `position`."""
        stop = self._start(position + 1)
        return self._bytes[stop - SIGNATURE_BYTES : stop]

    def record(self, position: int) -> Record:
        """Return the record of the file at `position`."""
        return self.records(position, position + 1)

    def records(self, start: int, stop: int) -> bytes:
        """Return the records from `start` to `stop`, one after the other."""
        return self._bytes[self._start(start) : self._start(stop)]

    def has_records(self, start: int, records: bytes) -> bool:
        """Whether `records` are those that begin at `start`."""
        first = self._start(start)
        return self._bytes[first : first + len(records)] == records

    def pieces(self, start: int, stop: int) -> Iterator[Columns]:
        """Yield all that is known of the entries from `start` to `stop`."""
        for first in range(start, stop, _ENTRIES_PER_COPY):
            last = min(first + _ENTRIES_PER_COPY, stop)
            names, sizes, hashes = self.manifest.columns(first, last)
            yield Columns(names, self.records(first, last), sizes, hashes)

    def _start(self, position: int) -> int:
        # Beside the names there is a signature for each entry before.
        return self.manifest.start(position) + position * SIGNATURE_BYTES


class ManifestStore:
    """The folder beside a registry that holds manifests, and what is known of each root.

    Of a registry in a database it holds copies of what is there, which other
    servers share.

    Parameters
    ----------
    registry : path or DatabaseLocation
    owner : str
        Of users that share a registry, each has a folder: one's word on a root counts for nobody else.
    """

    def __init__(self, registry: Location, owner: str = "") -> None:
        self._registry = registry
        # Whoever reaches a registry through a link finds the same manifests.
        place = os.path.realpath(beside(registry))
        shared = Path(f"{place}.owners")
        self.folder = shared / blake3(owner.encode()).hexdigest(16) if owner else Path(f"{place}.manifests")
        self._shared = shared

    def with_owners(self) -> Iterator[ManifestStore]:
        """Yield this store, and that of each user who shares the registry."""
        yield self
        names = {folder.name for folder in self._shared.glob("*/")}
        if not isinstance(self._registry, Path):
            from hub.postgres.manifests import stores

            names.update(stores(self._registry))
        for name in sorted(names):
            store = copy(self)
            store.folder = self._shared / name
            yield store

    def open(self, content: str, root: bytes) -> Tree:
        """Return the tree that hashes to `content`, with its signatures below `root`.

        Raises
        ------
        ManifestError
        """
        paths = self.manifest_path(content), self.index_path(content, root)
        if (database := self._database()) is not None:
            self.check_private(root)
            for path, word in zip(paths, (_MANIFEST_WORD, _INDEX_WORD), strict=True):
                self._fetch(database, path, word)
        return Tree(*paths)

    def _database(self) -> SharedManifests | None:
        """Return what other servers share; None where all is in the folder."""
        if isinstance(self._registry, Path):
            return None
        from hub.postgres.manifests import SharedManifests  # Here, since it takes an extra.

        return SharedManifests(self._registry, self.owner_name)

    @property
    def owner_name(self) -> str:
        """What tells this store from those of other users: empty, or the name of the folder."""
        return self.folder.name if self.folder.parent == self._shared else ""

    def _fetch(self, database: SharedManifests, path: Path, word: bytes) -> None:
        """See to it that the copy at `path` is that of the database.

        Raises
        ------
        ManifestError
        """
        checksum = None
        with suppress(ManifestError):  # There is no copy yet, or it is damaged.
            checksum = MappedFile(path, word).checksum
        try:
            is_there = database.fetch(self._name(path), path, checksum)
        except RegistryError as error:
            # What a copy says stays true; what is claimed meanwhile nobody learns here.
            if checksum is None:
                raise ManifestError(str(path), str(error)) from error
        except OSError as error:
            raise ManifestError(str(path), error.strerror or str(error)) from error
        else:
            if not is_there:
                raise ManifestError(str(path), "the database has none; publish again")

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.folder))

    def share(self, content: str, root: bytes) -> None:
        """Let other servers have what was written of a tree.

        Raises
        ------
        ManifestError
        """
        if (database := self._database()) is not None:
            paths = (self.manifest_path(content), _MANIFEST_WORD), (self.index_path(content, root), _INDEX_WORD)
            database.store({self._name(path): (path, MappedFile(path, word).checksum) for path, word in paths})

    def find_latest(self, root: bytes) -> Tree | None:
        """Return what `root` was when it was last hashed; None if that is not known."""
        self.check_private(root)
        if (database := self._database()) is not None:
            for name in database.latest(self.root_folder(root).name):
                with suppress(ManifestError):  # All is hashed again then.
                    return self.open(Path(name).stem, root)
            return None
        ages = {}
        for path in self.root_folder(root).glob("*.index"):
            with suppress(FileNotFoundError):  # Somebody cleans up.
                ages[path] = path.stat().st_mtime_ns
        for path in sorted(ages, key=lambda path: ages[path], reverse=True):
            with suppress(ManifestError):  # All is hashed again then.
                return Tree(self.manifest_path(path.stem), path)
        return None

    def check_private(self, root: bytes) -> None:
        """Raise ManifestError if somebody else could have written what is known of `root`."""
        for folder in (self.folder, self.root_folder(root)):
            with suppress(FileNotFoundError):
                if reason := find_intruder(folder):
                    raise ManifestError(str(self.folder), reason)

    def shareable(self) -> Iterator[tuple[str, Path, bytes]]:
        """Yield of each manifest and index what it is called in the folder, its path and its checksum."""
        for path, word in (
            *((path, _MANIFEST_WORD) for path in sorted(self.folder.glob("*.manifest"))),
            *((path, _INDEX_WORD) for path in sorted(self.folder.glob("*/*.index"))),
        ):
            with suppress(ManifestError):  # What is damaged, or removed meanwhile, is of no use elsewhere either.
                yield self._name(path), path, MappedFile(path, word).checksum

    def confirm(self, tree: Tree, root: bytes) -> str:
        """Return what the tree of `root` hashes to, after noting that it was so today."""
        content = tree.manifest.digest.hex()
        paths = self.manifest_path(content), self.index_path(content, root)
        for path in paths:
            os.utime(path)
        database = self._database()
        if database is not None and not database.touch([self._name(path) for path in paths]):
            self.share(content, root)
        return content

    def size_bytes(self) -> int:
        """Return what all files take."""
        database = self._database()
        total = 0 if database is None else database.size_bytes()
        for path in (*self.folder.glob("*/*"), *self.folder.glob("*.manifest")):
            if database is not None and path.suffix in _COPIED:
                continue
            with suppress(FileNotFoundError):
                status = path.stat()
                total += max(status.st_size, status.st_blocks * 512)
        return total

    def clean_up(self, needed: Collection[str], older_than: float) -> tuple[int, int]:
        """Remove what no registration needs.

        Parameters
        ----------
        needed : collection of str
            What the registered trees hash to.
        older_than : float
            What is younger stays, seconds since the epoch: somebody may be about to register it, or to go on.

        Returns
        -------
        (int, int)
            How many files were removed, and their bytes.
        """
        database = self._database()
        files, size_bytes = (0, 0) if database is None else database.clean_up(needed, older_than)
        for path in (*self.folder.glob("*/*"), *self.folder.glob("*.manifest")):
            with suppress(FileNotFoundError):  # Somebody else cleans up, or has finished.
                status = path.stat()
                if path.stem not in needed and status.st_mtime < older_than:
                    path.unlink()
                    if database is None or path.suffix not in _COPIED:
                        files += 1
                        size_bytes += status.st_size
        for folder in self.folder.glob("*/"):
            with suppress(OSError):  # It is not empty.
                if folder.stat().st_mtime < older_than:
                    folder.rmdir()
        return files, size_bytes

    def root_folder(self, root: bytes) -> Path:
        """Return the folder of what is known of `root`."""
        return self.folder / blake3(root).hexdigest(16)

    def index_path(self, content: str, root: bytes) -> Path:
        """Return where the index of `root` is, as it was when it hashed to `content`."""
        return self.root_folder(root) / f"{content}.index"

    def manifest_path(self, content: str) -> Path:
        """Return where the manifest of the tree is that hashes to `content`."""
        return self.folder / f"{content}.manifest"


class TreeWriter:
    """Writes the manifest and the index of a tree, which appear whole or not at all; a context manager.

    Parameters
    ----------
    store : ManifestStore
    root : bytes
    """

    def __init__(self, store: ManifestStore, root: bytes) -> None:
        self._store = store
        self._root = root
        self._starts = array("Q")
        self._names_bytes = 0
        self._hasher = blake3(derive_key_context=TREE_CONTEXT)
        folder = store.root_folder(root)
        make_private_directories(folder / "file")
        store.check_private(root)
        remove_abandoned(folder)
        with ExitStack() as files:
            self._manifest, self._index, self._sizes, self._hashes = (
                files.enter_context(FilePart(folder)) for _ in range(4)
            )
            self._files = files.pop_all()

    def __enter__(self) -> TreeWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()

    def add(self, columns: Columns) -> None:
        """Add entries, which follow those that were added before."""
        entries = columns.names.split(b"\0")[:-1]
        sizes = struct.unpack(f"<{len(entries)}Q", columns.sizes)
        digits = hexlify(columns.hashes)
        self._hasher.update(
            b"".join(
                [
                    b"%b\0%d\0%b\n" % (entry, size, digits[first : first + 2 * HASH_BYTES])
                    for entry, size, first in zip(entries, sizes, range(0, len(digits), 2 * HASH_BYTES), strict=True)
                ]
            )
        )
        ends = list(accumulate((len(entry) + 1 for entry in entries), initial=self._names_bytes))
        self._names_bytes = ends.pop()
        self._starts.extend(ends)
        self._manifest.write(columns.names)
        self._index.write(columns.records)
        self._sizes.write(columns.sizes)
        self._hashes.write(columns.hashes)

    def finish(self) -> str:
        """Let the files appear, and return what the tree hashes to, in hexadecimal."""
        digest = self._hasher.digest()
        if sys.byteorder == "big":
            self._starts.byteswap()
        self._manifest.write(self._starts.tobytes())
        for column in (self._sizes, self._hashes):
            column.file.seek(0)
            while block := column.file.read(_COPY_BYTES):
                self._manifest.write(block)
        content = digest.hex()
        for draft, word, path in (
            (self._manifest, _MANIFEST_WORD, self._store.manifest_path(content)),
            (self._index, _INDEX_WORD, self._store.index_path(content, self._root)),
        ):
            draft.publish(path, len(self._starts), digest, word)
        self._store.share(content, self._root)
        return content


def _numbers(column: bytes) -> array[int]:
    numbers = array("Q", column)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def remove_abandoned(folder: Path) -> None:
    """Remove the drafts of processes that were killed, on a file system on which drafts have names."""
    for path in folder.glob(f"*{DRAFT_SUFFIX}"):
        # An error: somebody writes it, or has finished; or nobody can tell.
        with suppress(OSError), open(path, "rb") as draft:
            fcntl.flock(draft, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if abs(time.time() - os.fstat(draft.fileno()).st_mtime) > _YOUNG_SECONDS:
                path.unlink()


class FilePart:
    """What is written of a file, or a column of it; a lock tells that somebody writes it, where it has a name."""

    def __init__(self, folder: Path) -> None:
        self._draft = Draft(folder)
        self._hasher = blake3()
        #: What goes past `write` has no part in the checksum.
        self.file = self._draft.file
        with suppress(OSError):  # A file system without locks: only gc removes what is abandoned there.
            fcntl.flock(self.file, fcntl.LOCK_EX)

    def __enter__(self) -> FilePart:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._draft.__exit__(kind, error, trace)

    def write(self, data: bytes) -> None:
        """Add to the file."""
        self._hasher.update(data)
        self.file.write(data)

    def publish(self, path: Path, count: int, digest: bytes, word: bytes) -> None:
        """Write the end of the file and give it its name."""
        self._hasher.update(END.pack(count, digest, b"", word)[:-_CHECKSUM_AND_WORD_BYTES])
        self.file.write(END.pack(count, digest, self._hasher.digest(), word))
        self.file.flush()
        os.fsync(self.file.fileno())
        self._draft.replace(path)
