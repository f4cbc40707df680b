"""From a folder to what it hashes to, reading only what is not known yet."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Executor, Future
from contextlib import ExitStack, closing, contextmanager
from itertools import chain, compress
from typing import NamedTuple

from hub.content.hashing import CHANGING, Outcome
from hub.content.journals import Journal
from hub.content.manifests import Columns, ManifestStore, Tree, TreeWriter
from hub.content.opening import GONE
from hub.content.progress import Progress
from hub.content.signatures import SIGNATURE_BYTES, size_of
from hub.content.walking import Record, entry_of, signature_of, walk
from hub.content.workers import Hashing, hashing
from hub.errors import HubError, ManifestError, UnhashableEntry

#: What an executor gets at a time.
_BATCH_FILES = 1024
_BATCH_BYTES = 32 << 20

#: How many pieces are hashed, or wait for a large file in the first of them.
_PIECES_AHEAD = 64


class Known(NamedTuple):
    """Entries of the tree as it was, from `start` to `stop`, which are as they were."""

    start: int
    stop: int


class Walked(NamedTuple):
    """Entries that were walked, with the hashes of those that are as they were."""

    records: list[Record]
    hashes: list[bytes | None]


class Read(NamedTuple):
    """Entries with what became of them, and whether they were read for it now."""

    records: list[Record]
    outcomes: list[Outcome]
    is_new: list[bool]


def hash_tree(root: bytes, store: ManifestStore, executor: Executor | None = None) -> str:
    """Return what a tree hashes to; its manifest and index are in `store` then.

    Of a tree that was hashed before, only what has changed is read. What an
    interrupted call has hashed is not read again.

    Parameters
    ----------
    root : bytes
        A folder's absolute path, free of links.
    store : ManifestStore
    executor : concurrent.futures.Executor, optional
        Runs `hub.content.hashing.hash_batch`, also on other machines that see
        the folder at the same path. Default: processes on this one.

    Returns
    -------
    str
        The BLAKE3 hash that docs/content.md defines, in hexadecimal.

    Raises
    ------
    UnhashableEntry, EndlessTree, ManifestError
    """
    with explained(store), ExitStack() as stack:
        progress = stack.enter_context(Progress("hashing"))
        journal = Journal(store.root_folder(root))
        latest = store.find_latest(root)
        compared = _compare(walk(root), latest, journal, progress)
        hashed = stack.enter_context(closing(hash_pieces(root, compared, executor, progress)))
        content = _write(root, store, latest, journal, hashed)
        journal.discard()
    return content


@contextmanager
def explained(store: ManifestStore) -> Iterator[None]:
    """Tell of the manifests where the system refuses to read or write them."""
    try:
        yield
    except HubError:
        raise
    except OSError as error:
        path = os.fsdecode(error.filename or store.folder)
        raise ManifestError(path, error.strerror or str(error)) from error


def _compare(
    runs: Iterator[list[Record]], latest: Tree | None, journal: Journal, progress: Progress
) -> Iterator[Known | Walked]:
    """Tell of each run what is known of it."""
    earlier = [_Cursor(known) for known in journal.earlier()]
    position, count = 0, 0 if latest is None else len(latest.manifest)
    for run in runs:
        progress.pass_files(len(run))
        if latest is not None and latest.has_records(position, b"".join(run)):
            yield Known(position, position + len(run))
            position += len(run)
            continue
        hashes: list[bytes | None] = []
        for record in run:
            found = None
            if latest is not None:
                while position < count and latest.record(position) < record:
                    position += 1
                if position < count and latest.record(position) == record:
                    found = latest.manifest.hash(position)
                    position += 1
            for cursor in earlier:
                found = found or cursor.find(record)
            hashes.append(found)
        yield Walked(run, hashes)


class _Cursor:
    """Looks records up that come in ascending order, as do those among which it looks."""

    def __init__(self, known: Iterator[tuple[Record, bytes]]) -> None:
        self._known = known
        self._record, self._hash = next(known, (b"", b""))

    def find(self, record: Record) -> bytes | None:
        """Return the hash of exactly this record."""
        while self._record and self._record < record:
            self._record, self._hash = next(self._known, (b"", b""))
        return self._hash if self._record == record else None


class _Batch(NamedTuple):
    """Positions in a run, of files that are being hashed."""

    positions: list[int]
    future: Future[list[Outcome]]


class _Underway(NamedTuple):
    walked: Walked
    batches: list[_Batch]

    def is_done(self) -> bool:
        return all(batch.future.done() for batch in self.batches)


def hash_pieces(
    root: bytes, pieces: Iterator[Known | Walked], executor: Executor | None, progress: Progress
) -> Generator[Known | Read, None, None]:
    """Let the executor hash what is not known, some pieces ahead of what is yielded."""
    waiting: deque[Known | _Underway] = deque()
    with hashing(executor, progress) as hasher:
        try:
            for piece in pieces:
                waiting.append(piece if isinstance(piece, Known) else _submit(root, piece, hasher, progress))
                while waiting and (len(waiting) > _PIECES_AHEAD or _is_done(waiting[0])):
                    yield _finish(waiting.popleft())
            progress.expect_no_more()
            while waiting:
                yield _finish(waiting.popleft())
        finally:
            for underway in waiting:
                if isinstance(underway, _Underway):
                    for batch in underway.batches:
                        batch.future.cancel()


def _submit(root: bytes, walked: Walked, hasher: Hashing, progress: Progress) -> _Underway:
    batches = []
    for positions, sizes in _divide(walked):
        progress.expect(sum(sizes))
        entries = [entry_of(walked.records[position]) for position in positions]
        batches.append(_Batch(positions, hasher.submit(root, entries, sizes)))
    return _Underway(walked, batches)


def _divide(walked: Walked) -> Iterator[tuple[list[int], list[int]]]:
    """Yield positions of what is to be hashed, as many as an executor gets at a time, and the sizes."""
    positions: list[int] = []
    sizes: list[int] = []
    batch_bytes = 0
    for position, known in enumerate(walked.hashes):
        if known is None:
            size = size_of(signature_of(walked.records[position]))
            positions.append(position)
            sizes.append(size)
            batch_bytes += size
            if len(positions) >= _BATCH_FILES or batch_bytes >= _BATCH_BYTES:
                yield positions, sizes
                positions, sizes, batch_bytes = [], [], 0
    if positions:
        yield positions, sizes


def _is_done(piece: Known | _Underway) -> bool:
    return isinstance(piece, Known) or piece.is_done()


def _finish(piece: Known | _Underway) -> Known | Read:
    """Wait for what is being hashed of a piece."""
    if isinstance(piece, Known):
        return piece
    records, hashes = piece.walked
    outcomes: list[Outcome] = [
        b"" if known is None else signature_of(record) + known for record, known in zip(records, hashes, strict=True)
    ]
    for positions, future in piece.batches:
        for position, outcome in zip(positions, future.result(), strict=True):
            outcomes[position] = outcome
    return Read(records, outcomes, [known is None for known in hashes])


def explain_outcome(number: int) -> str:
    """Return why a file could not be hashed, and what to do."""
    if number == CHANGING:
        return "it is changed each time that it is read; try again when nobody writes to it"
    if number in (errno.EACCES, errno.EPERM):
        return f"{os.strerror(number)}; make it readable, or move it elsewhere"
    return os.strerror(number)


def _write(
    root: bytes, store: ManifestStore, latest: Tree | None, journal: Journal, pieces: Iterator[Known | Read]
) -> str:
    """Write manifest and index, unless all is as it was; return what the tree hashes to."""
    count = 0 if latest is None else len(latest.manifest)
    unchanged = 0
    piece: Known | Read | None = None
    for piece in pieces:
        if not isinstance(piece, Known) or piece.start != unchanged:
            break
        unchanged, piece = piece.stop, None
    if latest is not None and piece is None and unchanged == count:
        return store.confirm(latest, root)
    with TreeWriter(store, root) as writer:
        rest = pieces if piece is None else chain([piece], pieces)
        for known_or_read in chain([Known(0, unchanged)], rest):
            for columns in _columns(root, known_or_read, latest, journal):
                writer.add(columns)
        return writer.finish()


def _columns(root: bytes, piece: Known | Read, latest: Tree | None, journal: Journal) -> Iterator[Columns]:
    """Yield what is written of a piece.

    Raises
    ------
    UnhashableEntry
    """
    if isinstance(piece, Read):
        records, hashes, new = [], [], []
        for record, outcome, is_new in zip(*piece, strict=True):
            if isinstance(outcome, bytes):
                records.append(entry_of(record) + b"\0" + outcome[:SIGNATURE_BYTES])
                hashes.append(outcome[SIGNATURE_BYTES:])
                new.append(is_new)
            elif outcome not in GONE:
                raise UnhashableEntry(os.fsdecode(os.path.join(root, entry_of(record))), explain_outcome(outcome))
        if any(new):
            journal.add(list(compress(records, new)), list(compress(hashes, new)))
        yield Columns.of(records, hashes)
    elif latest is not None:
        yield from latest.pieces(*piece)
