"""Snapshots: copies of files under what they hash to, which stay when the originals are overwritten.

A folder of snapshots holds

- ``objects/ab/ab12...``: each file once, under its hash, read-only;
- ``kept/``: for each registration that needs some of them an empty file or, of
  a tree, its manifest; the name says which, and in which registry;
- ``lock``: held by who keeps and registers, together with others, and by who
  cleans up, alone.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain
from pathlib import Path

from blake3 import blake3

from hub.content.hashing import CHANGING, HASH_BYTES, LARGE_FILE_BYTES, hash_batch, hash_descriptor
from hub.content.manifests import Columns, Manifest, ManifestStore, Tree, TreeWriter
from hub.content.opening import open_beneath
from hub.content.progress import Progress
from hub.content.signatures import SIGNATURE_BYTES, make_signature, size_of
from hub.content.trees import explain_outcome
from hub.content.walking import Record, entry_of, signature_of, split_records
from hub.drafts import DRAFT_SUFFIX, Draft
from hub.errors import HubError, ManifestError, SnapshotError, UnhashableEntry
from hub.filesystems import find_intruder, make_private_directories
from hub.registries import AnyRegistry
from hub.secret import read_secret

_OBJECT_MODE = 0o444

#: The names in ``kept/``.
_NEED = re.compile(r"(?P<content>[0-9a-f]{64})\.(?P<kind>file|tree)\.[0-9a-f]{32}")

#: ioctl(2) FICLONE, of Linux: share the blocks of another file until one of the two is written to.
_FICLONE = 0x40049409
_NO_CLONING = frozenset({errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EPERM})

#: What is copied at a time.
_BUFFER_BYTES = 1 << 20

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
        Absolute, free of links.
    registry : Registry
        What it has registered is needed.
    """

    def __init__(self, path: Path, registry: AnyRegistry) -> None:
        self.path = path
        self.root = os.fsencode(path)
        self._registry = registry

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Let nobody clean up until what is kept in the block is registered, which it does at its end.

        The folder is made where it does not exist.

        Raises
        ------
        SnapshotError
            Nobody can write there.
        """
        with self._explained():
            for folder in (self.path, self.path / "objects", self.path / "kept"):
                make_private_directories(folder / "file")
                if reason := find_intruder(folder):
                    raise SnapshotError(str(self.path), reason)
            with self._locked(fcntl.LOCK_SH):
                yield

    def keep_file(self, path: bytes, signature: bytes, content: str) -> bytes:
        """Keep a file that hashes to `content`; return the signature of the copy."""
        folder, name = os.path.split(path)
        target = os.path.join(self.root, object_entry(bytes.fromhex(content)))
        self._need_path(content, "file").touch()
        with suppress(FileNotFoundError):
            kept = make_signature(os.stat(target))
            if self._registry.recall_hash(target, kept) == content:
                return kept
        kept = self._keep(folder, name + b"\0" + signature, bytes.fromhex(content))
        self._registry.remember_hash(target, kept, content)
        return kept

    def keep_tree(self, root: bytes, tree: Tree, store: ManifestStore) -> None:
        """Keep all files of a tree; write the index of the copies."""
        content = tree.manifest.digest.hex()
        # First: what is copied before a crash is needed too.
        with Draft(self.path / "kept") as draft, open(store.manifest_path(content), "rb") as manifest:
            shutil.copyfileobj(manifest, draft.file, _BUFFER_BYTES)
            with suppress(FileExistsError):
                draft.link(self._need_path(content, "tree"))
        earlier: Tree | None = None
        with suppress(ManifestError):  # It was not kept before.
            earlier = store.open(content, self.root)
        with (
            ThreadPoolExecutor(_THREADS) as threads,
            Progress("keeping") as progress,
            TreeWriter(store, self.root) as writer,
        ):
            position = 0
            for columns in tree.pieces(0, len(tree.manifest)):
                records = list(split_records(columns.records))
                progress.pass_files(len(records))
                digests = [columns.hashes[at : at + HASH_BYTES] for at in range(0, len(columns.hashes), HASH_BYTES)]
                known = [earlier.signature(position + at) if earlier else b"" for at in range(len(records))]
                kept = threads.map(partial(self._keep_record, root, progress), records, digests, known)
                writer.add(Columns.of(list(kept), digests))
                position += len(records)
            writer.finish()

    def check(self) -> None:
        """Raise SnapshotError if nothing has ever been kept there."""
        if not (self.path / "lock").exists():
            raise SnapshotError(str(self.path), "nothing has been kept there")

    def clean_up(self) -> tuple[int, int]:
        """Remove what no registration needs any more.

        Returns
        -------
        (int, int)
            How many files were removed, and their bytes.

        Raises
        ------
        SnapshotError, ManifestError, RegistryError
        """
        self.check()
        files = size_bytes = 0
        with self._explained(), self._locked(fcntl.LOCK_EX), Progress("looking at copies") as progress:
            registered = self._registry.kept_contents(self.root)
            own = self._own_suffix()
            for need in (self.path / "kept").iterdir():
                if need.name.endswith(own) and need.name.partition(".")[0] not in registered:
                    need.unlink()
            needed = set(self._needed_digests())
            drafts = (self.path / "kept").glob(f"*{DRAFT_SUFFIX}")
            for path in chain((self.path / "objects").glob("*/*"), drafts):
                progress.pass_files(1)
                if path.name not in needed:
                    size_bytes += path.stat().st_size
                    files += 1
                    path.unlink()
        return files, size_bytes

    def _needed_digests(self) -> Iterator[str]:
        for need in (self.path / "kept").iterdir():
            known = _NEED.fullmatch(need.name)
            if known is None:
                continue
            if known["kind"] == "file":
                yield known["content"]
            else:
                manifest = Manifest(need)
                for position in range(len(manifest)):
                    yield manifest.hash(position).hex()

    def _need_path(self, content: str, kind: str) -> Path:
        return self.path / "kept" / f"{content}.{kind}{self._own_suffix()}"

    def _own_suffix(self) -> str:
        """Return what ends the names of what this registry needs; another one may lie at the same path elsewhere."""
        return f".{blake3(b'snapshots', key=read_secret(self._registry.location)).hexdigest(16)}"

    def _keep_record(self, root: bytes, progress: Progress, record: Record, digest: bytes, known: bytes) -> Record:
        kept = self._keep(root, record, digest, known)
        progress.add(size_of(kept))
        return entry_of(record) + b"\0" + kept

    def _keep(self, root: bytes, record: Record, digest: bytes, known: bytes = b"") -> bytes:
        """Make sure that the bytes of a file are in the folder; return the signature of the copy.

        A copy that is there is read, unless a stat says of it what is `known`.

        Raises
        ------
        UnhashableEntry
            The file has changed.
        """
        entry = object_entry(digest)
        target = os.path.join(self.root, entry)
        with suppress(FileNotFoundError):
            kept = make_signature(os.stat(target, follow_symlinks=False))
            if kept == known or _has_hash(self.root, entry, digest):
                return kept
            os.unlink(target)
        os.makedirs(os.path.dirname(target), 0o700, exist_ok=True)
        with Draft(Path(os.fsdecode(os.path.dirname(target)))) as draft:
            descriptor = draft.file.fileno()
            is_as_hashed = _copy(root, record, descriptor)
            os.fchmod(descriptor, _OBJECT_MODE)
            if size_of(signature_of(record)) >= LARGE_FILE_BYTES:
                os.fsync(descriptor)
            if not is_as_hashed and (hash_descriptor(descriptor) or b"")[SIGNATURE_BYTES:] != digest:
                raise UnhashableEntry(os.fsdecode(os.path.join(root, entry_of(record))), explain_outcome(CHANGING))
            # Not renamed over it: another process may have kept the same file, and noted what a stat says of its copy.
            with suppress(FileExistsError):
                draft.link(Path(os.fsdecode(target)))
        return make_signature(os.stat(target))

    @contextmanager
    def _locked(self, operation: int) -> Iterator[None]:
        with open(self.path / "lock", "ab") as lock:
            fcntl.flock(lock, operation)
            yield

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except HubError:
            raise
        except OSError as error:
            where = f": {os.fsdecode(error.filename)}" if error.filename else ""
            raise SnapshotError(str(self.path), f"{error.strerror or error}{where}") from error


def _copy(root: bytes, record: Record, target: int) -> bool:
    """Copy a file; return whether a stat says of it what it did when it was hashed, before and after.

    Raises
    ------
    UnhashableEntry
        It is not there any more.
    """
    try:
        source = open_beneath(root, entry_of(record))
    except OSError as error:
        raise UnhashableEntry(
            os.fsdecode(os.path.join(root, entry_of(record))), explain_outcome(error.errno or errno.EIO)
        ) from error
    try:
        is_same = make_signature(os.fstat(source)) == signature_of(record)
        if not _clone(source, target):
            with open(source, "rb", closefd=False) as reader, open(target, "wb", closefd=False) as writer:
                shutil.copyfileobj(reader, writer, _BUFFER_BYTES)
        return is_same and make_signature(os.fstat(source)) == signature_of(record)
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


def _has_hash(folder: bytes, name: bytes, digest: bytes) -> bool:
    (outcome,) = hash_batch(folder, [name])
    return isinstance(outcome, bytes) and outcome[SIGNATURE_BYTES:] == digest
