"""Snapshots: copies of files under what they hash to, which stay when the originals are overwritten.

A folder of snapshots holds

- ``objects/ab/ab12...``: each file once, under its hash, read-only;
- ``kept/``: for each registration that needs some of them an empty file or, of
  a tree, its manifest; the name says which, and in which registry;
- ``lock``: held by who adds, together, and by who cleans up, alone.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from blake3 import blake3

from hub.content.hashing import CHANGING, HASH_BYTES, LARGE_FILE_BYTES, hash_batch
from hub.content.manifests import Columns, Manifest, ManifestStore, Tree, TreeWriter
from hub.content.progress import Progress
from hub.content.signatures import SIGNATURE_BYTES, make_signature, size_of
from hub.content.trees import explain_outcome
from hub.content.walking import Record, entry_of, signature_of, split_records
from hub.errors import HubError, SnapshotError, UnhashableEntry
from hub.filesystems import make_private_directories

#: What every object's mtime is set to (2000-01-01); one that has another has been written to.
_OBJECT_TIME_NS = 946_684_800 * 1_000_000_000
_OBJECT_MODE = 0o444

#: ioctl(2) FICLONE, of Linux: share the blocks of another file until one of the two is written to.
_FICLONE = 0x40049409
_NO_CLONING = frozenset({errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EPERM})

#: What is copied at a time.
_BUFFER_BYTES = 1 << 20

#: What was kept within this time may be about to be registered.
_GRACE_SECONDS = 60.0

#: Copies that are made at a time.
_THREADS = 4


def object_entry(digest: bytes) -> bytes:
    """Return where, below a folder of snapshots, the file is that has this hash."""
    name = digest.hex()
    return f"objects/{name[:2]}/{name}".encode()


class SnapshotFolder:
    """A folder of snapshots.

    Parameters
    ----------
    path : Path
        It is made where it does not exist.

    Raises
    ------
    SnapshotError
        From every method, where the folder cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = os.fsencode(path)

    def keep_file(self, path: bytes, signature: bytes, content: str, registry: Path) -> bytes:
        """Keep a file that hashes to `content`; return the signature of the copy."""
        with self._locked(fcntl.LOCK_SH):
            kept = self._keep(path, signature, bytes.fromhex(content))
            self._note_need(content, "file", registry).touch()
        return kept

    def keep_tree(self, root: bytes, tree: Tree, store: ManifestStore, registry: Path) -> None:
        """Keep all files of a tree; write the index of the copies."""
        with (
            self._locked(fcntl.LOCK_SH),
            ThreadPoolExecutor(_THREADS) as threads,
            Progress("keeping") as progress,
            TreeWriter(store, self.root) as writer,
        ):
            content = tree.manifest.digest.hex()
            # First: what is copied before a crash is needed too.
            need = self._note_need(content, "tree", registry)
            with tempfile.NamedTemporaryFile(dir=self.path, suffix=".tmp") as draft:
                shutil.copyfile(store.manifest_path(content), draft.name)
                with suppress(FileExistsError):
                    os.link(draft.name, need)
            need.touch()
            for columns in tree.pieces(0, len(tree.manifest)):
                records = list(split_records(columns.records))
                progress.expect(sum(size_of(signature_of(record)) for record in records))
                digests = [columns.hashes[at : at + HASH_BYTES] for at in range(0, len(columns.hashes), HASH_BYTES)]
                keep = partial(self._keep_record, root, progress)
                writer.add(Columns.of(list(threads.map(keep, records, digests)), digests))
            writer.finish()

    def clean_up(self, registry: Path, needed: frozenset[str]) -> tuple[int, int]:
        """Remove what no registration needs any more.

        Parameters
        ----------
        registry : Path
        needed : frozenset of str
            The contents that `registry` has registered from this folder.

        Returns
        -------
        (int, int)
            How many files were removed, and their bytes.
        """
        if not (self.path / "lock").exists():
            raise SnapshotError(str(self.path), "nothing has been kept there")
        files = size_bytes = 0
        with self._locked(fcntl.LOCK_EX):
            for need in (self.path / "kept").glob(f"*{_suffix(registry)}"):
                is_new = need.stat().st_mtime > time.time() - _GRACE_SECONDS
                if need.name.partition(".")[0] not in needed and not is_new:
                    need.unlink()
            digests = set(self._needed_digests())
            for path in (self.path / "objects").glob("*/*"):
                if path.name not in digests:
                    size_bytes += path.stat().st_size
                    files += 1
                    path.unlink()
        return files, size_bytes

    def _needed_digests(self) -> Iterator[str]:
        for need in (self.path / "kept").glob("*"):
            content, kind = need.name.split(".")[:2]
            if kind == "file":
                yield content
            else:
                manifest = Manifest(need)
                for position in range(len(manifest)):
                    yield manifest.hash(position).hex()

    def _note_need(self, content: str, kind: str, registry: Path) -> Path:
        need = self.path / "kept" / f"{content}.{kind}{_suffix(registry)}"
        make_private_directories(need)
        return need

    def _keep_record(self, root: bytes, progress: Progress, record: Record, digest: bytes) -> Record:
        signature = signature_of(record)
        kept = self._keep(os.path.join(root, entry_of(record)), signature, digest)
        progress.add(size_of(signature))
        return entry_of(record) + b"\0" + kept

    def _keep(self, path: bytes, signature: bytes, digest: bytes) -> bytes:
        """Make sure that the file's bytes are in the folder; return the signature of the copy."""
        target = os.path.join(self.root, object_entry(digest))
        with suppress(FileNotFoundError):
            status = os.stat(target)
            is_whole = status.st_size == size_of(signature) and status.st_mtime_ns == _OBJECT_TIME_NS
            if is_whole or _has_hash(target, digest):
                return make_signature(status)
            os.unlink(target)
        os.makedirs(os.path.dirname(target), 0o700, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(dir=os.path.dirname(target), suffix=b".tmp")
        try:
            with open(descriptor, "wb") as copy:
                is_as_hashed = _copy(path, descriptor, signature)
                os.fchmod(descriptor, _OBJECT_MODE)
                os.utime(descriptor, ns=(_OBJECT_TIME_NS, _OBJECT_TIME_NS))
                if size_of(signature) >= LARGE_FILE_BYTES:
                    os.fsync(descriptor)
                copy.flush()
            if not is_as_hashed and not _has_hash(draft, digest):
                raise UnhashableEntry(os.fsdecode(path), explain_outcome(CHANGING))
            # Not renamed over it: another process may have kept the same file, and noted what a stat says of its copy.
            with suppress(FileExistsError):
                os.link(draft, target)
        finally:
            os.unlink(draft)
        return make_signature(os.stat(target))

    @contextmanager
    def _locked(self, operation: int) -> Iterator[None]:
        try:
            make_private_directories(self.path / "file")
            with open(self.path / "lock", "ab") as lock:
                fcntl.flock(lock, operation)
                yield
        except HubError:
            raise
        except OSError as error:
            raise SnapshotError(str(self.path), f"{error.strerror}: {os.fsdecode(error.filename or '')}") from error


def _copy(path: bytes, target: int, signature: bytes) -> bool:
    """Copy a file; return whether a stat says of it what `signature` does, before and after."""
    source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        is_same = make_signature(os.fstat(source)) == signature
        if not _clone(source, target):
            with open(source, "rb", closefd=False) as reader, open(target, "wb", closefd=False) as writer:
                shutil.copyfileobj(reader, writer, _BUFFER_BYTES)
        return is_same and make_signature(os.fstat(source)) == signature
    finally:
        os.close(source)


def _clone(source: int, target: int) -> bool:
    """Let a file share another one's blocks; False where the file system does not."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in _NO_CLONING:
            return False
        raise
    return True


def _has_hash(path: bytes, digest: bytes) -> bool:
    (outcome,) = hash_batch(b"", [path])
    return isinstance(outcome, bytes) and outcome[SIGNATURE_BYTES:] == digest


def _suffix(registry: Path) -> str:
    """Return what ends the names of what a registry needs."""
    return f".{blake3(os.fsencode(registry)).hexdigest(8)}"
