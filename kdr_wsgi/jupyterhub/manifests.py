"""The manifests that users send of the trees whose content keys they claim."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from hub.content.cleaning import needed_by
from hub.content.manifests import Columns, ManifestStore, TreeWriter
from hub.content.transfer import receive_tree
from hub.content.trees import explained
from hub.errors import HubError, InvalidOption, LimitReached, ManifestError
from hub.filesystems import make_private_directories
from hub.registries import AnyRegistry

#: How long a manifest waits for others of the same user.
_PATIENCE_SECONDS = 20.0

#: What a file takes of a disk at least.
_BLOCK_BYTES = 4096

#: What was sent within this time may be about to be registered.
_GRACE_SECONDS = 3600.0


class ManifestNeeded(HubError):
    """A tree's content key is claimed of which the service has no manifest."""


class ReceivedManifests:
    """Keeps what each user tells of trees, for that user alone, up to a limit.

    Parameters
    ----------
    registry : Registry
        Beside which the manifests are.
    max_bytes : int
        What those of one user may take.
    """

    def __init__(self, registry: AnyRegistry, max_bytes: int) -> None:
        self._registry = registry
        self._max_bytes = max_bytes

    def check(self, owner: str, root: bytes, content: str, index: object) -> None:
        """Raise ManifestNeeded unless there is a manifest of this tree, with the index of that checksum."""
        try:
            known = ManifestStore(self._registry.location, owner).open(content, root)
        except ManifestError:
            raise ManifestNeeded("send the manifest first") from None
        if known.index_checksum.hex() != index:
            raise ManifestNeeded("send the manifest again, since files were touched")

    def receive(self, owner: str, root: bytes, content: str, body: Iterable[bytes]) -> None:
        """Store what a user tells of the tree below `root`.

        Raises
        ------
        InvalidOption
            It is no manifest, or of something else than `content`.
        LimitReached, ManifestError
        """
        found = self.store(owner, root, _columns(content, body))
        if found != content:
            raise InvalidOption("manifest", content, f"what was sent hashes to {found}")

    def store(self, owner: str, root: bytes, pieces: Iterable[Columns]) -> str:
        """Store a manifest for a user, and return what the tree below `root` hashes to.

        Raises
        ------
        LimitReached, ManifestError
        """
        store = ManifestStore(self._registry.location, owner)
        with explained(store), _alone(store):
            self._clean_up(owner, store)
            left = self._max_bytes - store.size_bytes() - 2 * _BLOCK_BYTES
            with TreeWriter(store, root) as writer:
                for columns in pieces:
                    left -= columns.stored_bytes
                    if left < 0:
                        raise LimitReached(
                            "the manifests of your content keys take as much as you may have; revoke content keys "
                            "that you need no more, or publish without content=True"
                        )
                    writer.add(columns)
                return writer.finish()

    def make_room(self, owner: str) -> None:
        """Remove what no registration of a user's needs any more; raise ManifestError if that fails."""
        store = ManifestStore(self._registry.location, owner)
        with explained(store):
            self._clean_up(owner, store)

    def _clean_up(self, owner: str, store: ManifestStore) -> None:
        store.clean_up(needed_by(self._registry.registrations_of(owner)), time.time() - _GRACE_SECONDS)


def _columns(content: str, body: Iterable[bytes]) -> Iterator[Columns]:
    try:
        yield from receive_tree(body)
    except HubError:
        raise
    except ValueError as error:
        raise InvalidOption("manifest", content, str(error)) from error


@contextmanager
def _alone(store: ManifestStore) -> Iterator[None]:
    """Let one request at a time write to a user's folder, so that none passes the limit beside another.

    Raises
    ------
    LimitReached
        Others are at it for too long.
    """
    until = time.monotonic() + _PATIENCE_SECONDS
    lock = store.folder.with_name(f"{store.folder.name}.lock")
    make_private_directories(lock)
    with open(lock, "wb") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise LimitReached(
                        "other manifests of yours are being sent; try again when they are done"
                    ) from None
                time.sleep(0.02)
        yield
