"""Which version of an object this is."""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

from blake3 import blake3

from hub.content.signatures import SIGNATURE_BYTES, size_field_of

#: Keeps the hash of a store's word on an object from being that of any file.
_CONTEXT = "kernel data relay 2026-11-27 object"

#: Size and time stand where those of a file do; in place of its ctime and inode there is what tells versions apart.
_SIGNATURE = struct.Struct("<Qq16s")
assert _SIGNATURE.size == SIGNATURE_BYTES


class ObjectVersion(NamedTuple):
    """What a store says of an object.

    Attributes
    ----------
    size_bytes : int
    modified_ns : int
        Nanoseconds since the epoch.
    tag : str
        The store's own strong entity tag, in its quotes.
    url : str
        Of the object: equal tags of two objects name no equal answers.
    """

    size_bytes: int
    modified_ns: int
    tag: str
    url: str

    @property
    def changed_ns(self) -> int:
        """As `modified_ns`: a store has one time."""
        return self.modified_ns

    @property
    def is_settled(self) -> bool:
        """True: each change gives an object another tag."""
        return True

    @property
    def digest(self) -> bytes:
        """What a content key promises: a hash of the store's own checksum, its tag, and of what that is said of."""
        named = f"{self.url}\0{self.tag}\0{self.size_bytes}"
        return blake3(named.encode("utf-8", "surrogatepass"), derive_key_context=_CONTEXT).digest()

    def make_signature(self) -> bytes:
        """Return what a manifest has of this version (`hub.content.signatures`)."""
        return _SIGNATURE.pack(self.size_bytes, self.modified_ns, self.digest[:16])

    def has_signature(self, signature: bytes) -> bool:
        """Whether `signature` is of this version; who writes the same bytes once more changes only its time."""
        own = self.make_signature()
        return size_field_of(own) == size_field_of(signature) and own[-16:] == signature[-16:]

    def make_etag(self) -> str:
        """Return the strong entity tag (RFC 9110, 8.8.3), in its quotes."""
        named = f"{self.url}\0{self.tag}\0{self.size_bytes}"
        return f'"{blake3(named.encode("utf-8", "surrogatepass")).hexdigest(16)}"'

    def last_modified(self, now_seconds: float) -> int:
        """Last-Modified in seconds since the epoch, never later than now (RFC 9110, 8.8.2.1) nor before the epoch."""
        return max(0, min(self.modified_ns // 1_000_000_000, int(now_seconds)))

    def is_of(self, _status: os.stat_result) -> bool:
        """Return False: no status of a file on disk is of an object."""
        return False
