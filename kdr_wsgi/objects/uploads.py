"""Where the shared relay server of a JupyterHub keeps what kernels upload: a prefix in an object store.

Below the prefix each user has a folder in the layout of snapshots
(`hub.content.snapshots`): each file once, under its hash. No user publishes
from there by an address: what is served of it goes by registrations of that
user's uploads alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from blake3 import blake3

from hub.content.snapshots import object_entry
from hub.errors import InvalidOption
from hub.object_urls import split_root
from hub.registration import Source
from kdr_wsgi.errors import NoSuchEntry
from kdr_wsgi.objects.rules import ObjectPlace
from kdr_wsgi.objects.stores import Store, Stores

#: What of a user's name is the name of a folder as it is; of all others a hash is.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}")

_OBJECT = re.compile(r"objects/[0-9a-f]{2}/([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class UploadPlace:
    """The prefix below which uploads are kept.

    Attributes
    ----------
    root : bytes
        Its address, without a slash at its end.
    place : ObjectPlace
    """

    root: bytes
    place: ObjectPlace

    def root_of(self, owner: str) -> bytes:
        """Return the address of a user's folder: what stands as root in registrations of the user's uploads."""
        return self.root + b"/" + _folder_name(owner).encode()

    def holds(self, source: Source, owner: str) -> bool:
        """Whether a source of a registration is its owner's own folder."""
        return bool(owner) and source.is_kept and source.root == self.root_of(owner)


class Uploaded(NamedTuple):
    """A file that is kept.

    Attributes
    ----------
    digest : bytes
    size_bytes : int
    modified_seconds : float
        Since the epoch.
    """

    digest: bytes
    size_bytes: int
    modified_seconds: float


class UploadStore:
    """Reads and writes uploads.

    Parameters
    ----------
    place : UploadPlace
    """

    def __init__(self, place: UploadPlace) -> None:
        self._place = place
        self._store = Stores().find(place.place.rule, place.place.bucket)

    def root_of(self, owner: str) -> bytes:
        """Return the address of a user's folder."""
        return self._place.root_of(owner)

    def owns(self, root: bytes, owner: str) -> bool:
        """Whether a root is this user's folder."""
        return bool(owner) and root == self._place.root_of(owner)

    def list(self, owner: str) -> Iterator[Uploaded]:
        """Yield what is kept of a user's.

        Raises
        ------
        StoreFailing
        """
        return self._list(f"{self._key_of(self.root_of(owner))}/")

    def owner_folders(self) -> Iterator[str]:
        """Yield the names of the users' folders.

        Raises
        ------
        StoreFailing
        """
        for listed in self._store.list_folder(f"{self._place.place.key}/" if self._place.place.key else ""):
            if listed.is_folder:
                yield listed.name.rstrip("/")

    def list_folder(self, name: str) -> Iterator[Uploaded]:
        """Yield what is in the folder of that name."""
        return self._list(f"{self._key_of(self._place.root + b'/' + name.encode())}/")

    def write(self, owner: str, digest: bytes, size_bytes: int, chunks: Iterable[bytes]) -> None:
        """Keep a file, which is there only once all of it is, and has that hash.

        Raises
        ------
        InvalidOption
            It has another size or hash.
        StoreFailing
        """
        hasher = blake3()

        def checked() -> Iterator[bytes]:
            count = 0
            for chunk in chunks:
                count += len(chunk)
                hasher.update(chunk)
                yield chunk
            if count != size_bytes or hasher.digest() != digest:
                reason = f"what was sent are {count:,} bytes that hash to {hasher.hexdigest()}"
                raise InvalidOption("upload", digest.hex(), reason)

        self._store.write(self._key(self.root_of(owner), digest), size_bytes, checked())

    def has(self, owner: str, digest: bytes) -> bool:
        """Whether a file is kept.

        Raises
        ------
        StoreFailing
        """
        try:
            self._store.find(self._key(self.root_of(owner), digest))
        except NoSuchEntry:
            return False
        return True

    def remove(self, name: str, digests: Iterable[bytes]) -> None:
        """Remove files of the folder of that name.

        Raises
        ------
        StoreFailing
        """
        root = self._place.root + b"/" + name.encode()
        self._store.remove([self._key(root, digest) for digest in digests])

    def locate(self, root: bytes, below: bytes) -> tuple[Store, str]:
        """Return the store of a file in a user's folder, and its key there."""
        return self._store, f"{self._key_of(root)}/{below.decode()}"

    def _list(self, prefix: str) -> Iterator[Uploaded]:
        for name, version in self._store.list_all(prefix):
            if found := _OBJECT.fullmatch(name):
                yield Uploaded(bytes.fromhex(found[1]), version.size_bytes, version.modified_ns / 1e9)

    def _key(self, root: bytes, digest: bytes) -> str:
        return f"{self._key_of(root)}/{object_entry(digest).decode()}"

    def _key_of(self, root: bytes) -> str:
        return split_root(root)[2]


def _folder_name(owner: str) -> str:
    # No plain name begins with "!".
    return owner if _PLAIN_NAME.fullmatch(owner) else f"!{blake3(owner.encode()).hexdigest(16)}"
