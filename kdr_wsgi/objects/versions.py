"""Which version of an object this is."""

from __future__ import annotations

import os
from typing import NamedTuple

from blake3 import blake3


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

    def has_signature(self, _signature: bytes) -> bool:
        """Return False: there is no content key of an object."""
        return False

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
