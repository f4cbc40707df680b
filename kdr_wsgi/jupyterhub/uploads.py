"""What kernels upload whose files the service does not see: which hashes are lacking, and the files of those."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from hub.content.manifests import Tree
from hub.content.signatures import size_of
from hub.errors import HubError, LimitReached
from kdr_wsgi.errors import StoreBusy
from kdr_wsgi.objects.uploads import UploadStore

#: Uploads of a worker at a time; each holds a thread, and some parts of 5 MiB in memory.
CONCURRENT_UPLOADS = 4

#: What is known of a user's uploads is listed again after so long, or after so many times what that has taken.
_FRESH_SECONDS = 10.0
_FRESH_TIMES = 10

#: The same where something is asked of that is not known.
_LACKING_TIMES = 2

#: How long a request waits for others of the same user.
_PATIENCE_SECONDS = 5.0

#: Users of whom it is kept what they have, at about 150 bytes a file.
_USERS = 16


_Files = Callable[[], Iterator[tuple[bytes, int]]]


class NotUploaded(HubError):
    """What is claimed was not uploaded, or not all of it."""


@dataclass
class _Ledger:
    """What a user has."""

    sizes: dict[bytes, int] = field(default_factory=dict)
    size_bytes: int = 0
    pending_bytes: int = 0
    listed_at: float = 0.0
    listed_in: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, digest: bytes, size_bytes: int) -> None:
        self.size_bytes += size_bytes - self.sizes.get(digest, 0)
        self.sizes[digest] = size_bytes


class ReceivedUploads:
    """Keeps what each user uploads, for that user alone, up to a limit.

    Each worker counts by what the store lists. What other workers take is
    counted with the next listing, some seconds later, so that who sends to
    several at once may pass the limit by what they take in that time.

    Parameters
    ----------
    store : UploadStore
    max_bytes : int
        What those of one user may take.
    """

    def __init__(self, store: UploadStore, max_bytes: int) -> None:
        self._store = store
        self.max_bytes = max_bytes
        self._ledgers: dict[str, _Ledger] = {}
        self._lock = threading.Lock()
        self._turns = threading.BoundedSemaphore(CONCURRENT_UPLOADS)

    def root_of(self, owner: str) -> bytes:
        """Return what stands as root in registrations of a user's uploads."""
        return self._store.root_of(owner)

    def used_bytes(self, owner: str) -> int:
        """Return what a user's uploads take."""
        return self._ledger(owner).size_bytes

    def missing(self, owner: str, digests: Iterable[bytes], *, anew: bool) -> list[bytes]:
        """Return of which of the hashes there is no file; listed `anew` where what is known has turned out wrong."""
        ledger = self._ledger(owner, must_list=anew)
        lacking = [digest for digest in digests if digest not in ledger.sizes]
        if lacking and time.monotonic() - ledger.listed_at > _LACKING_TIMES * ledger.listed_in:
            # Another worker may have taken them.
            ledger = self._ledger(owner, must_list=True)
            lacking = [digest for digest in lacking if digest not in ledger.sizes]
        return lacking

    def receive(self, owner: str, digest: bytes, size_bytes: int, chunks: Iterable[bytes]) -> None:
        """Keep a file.

        Raises
        ------
        InvalidOption
            It has another hash.
        LimitReached
        StoreBusy
            The worker takes as many as it may.
        StoreFailing
        """
        with self._turn():
            ledger = self._ledger(owner)
            if digest in ledger.sizes and self._store.has(owner, digest):
                return
            with _locked(ledger):
                if ledger.size_bytes + ledger.pending_bytes + size_bytes > self.max_bytes:
                    raise LimitReached(
                        f"your uploads take {ledger.size_bytes:,} bytes, and may take {self.max_bytes:,} (this file "
                        f"has {size_bytes:,}); revoke what you need no more, and ask the administrator to run kdr gc"
                    )
                ledger.pending_bytes += size_bytes
            is_kept = False
            try:
                self._store.write(owner, digest, size_bytes, chunks)
                is_kept = True
            finally:
                with ledger.lock:
                    ledger.pending_bytes -= size_bytes
                    if is_kept:
                        ledger.add(digest, size_bytes)

    def check_file(self, owner: str, content: str, signature: bytes) -> None:
        """Raise NotUploaded unless a file is kept that has this hash and the size of the signature."""
        self._check(owner, lambda: iter([(bytes.fromhex(content), size_of(signature))]))

    def check_tree(self, owner: str, tree: Tree) -> None:
        """Raise NotUploaded unless all files of a tree are kept."""
        manifest = tree.manifest
        self._check(owner, lambda: ((manifest.hash(at), manifest.size_bytes(at)) for at in range(len(manifest))))

    def _check(self, owner: str, files: _Files) -> None:
        # What is not known may have gone to another worker.
        for must_list in (False, True):
            sizes = self._ledger(owner, must_list=must_list).sizes
            lacking = sum((digest, size_bytes) not in sizes.items() for digest, size_bytes in files())
            if not lacking:
                return
        raise NotUploaded(
            f"{lacking:,} files of what is published were not uploaded; publish it again, which sends those alone"
        )

    def _ledger(self, owner: str, *, must_list: bool = False) -> _Ledger:
        with self._lock:
            ledger = self._ledgers.pop(owner, None) or _Ledger()
            self._ledgers[owner] = ledger
            if len(self._ledgers) > _USERS:
                del self._ledgers[next(iter(self._ledgers))]
        with _locked(ledger):
            age = time.monotonic() - ledger.listed_at
            if must_list or not ledger.listed_at or age > max(_FRESH_SECONDS, _FRESH_TIMES * ledger.listed_in):
                began = time.monotonic()
                sizes = {each.digest: each.size_bytes for each in self._store.list(owner)}
                ledger.sizes, ledger.size_bytes = sizes, sum(sizes.values())
                ledger.listed_at = time.monotonic()
                ledger.listed_in = ledger.listed_at - began
        return ledger

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._turns.acquire(blocking=False):
            raise StoreBusy(f"{CONCURRENT_UPLOADS} uploads are under way, as many as a worker takes")
        try:
            yield
        finally:
            self._turns.release()


@contextmanager
def _locked(ledger: _Ledger) -> Iterator[None]:
    """Let one thread list at a time, and only so many wait for it.

    Raises
    ------
    StoreBusy
    """
    if not ledger.lock.acquire(timeout=_PATIENCE_SECONDS):
        raise StoreBusy("the uploads of a user are being listed")
    try:
        yield
    finally:
        ledger.lock.release()
