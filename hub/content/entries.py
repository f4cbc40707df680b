"""Entries in ascending order, among which those of a folder stand together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class SortedEntries(ABC):
    """What is looked up in entries in ascending order of their bytes, wherever these are kept."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, position: int) -> bytes:
        """Return the entry at `position`."""

    def find(self, entry: bytes) -> int | None:
        """Return the position of `entry`; None if there is none such."""
        position = bisect_left(self, entry)
        return position if position < len(self) and self[position] == entry else None

    def folder(self, prefix: bytes) -> tuple[int, int]:
        """Return the position of the first entry that begins with `prefix`, and that behind the last.

        `prefix` ends with a slash, or is empty.
        """
        if not prefix:
            return 0, len(self)
        # "0" follows the slash in the order of bytes.
        return bisect_left(self, prefix), bisect_left(self, prefix[:-1] + b"0")

    def children(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, int | None]]:
        """Yield the names in a folder, each with its position, or None if it is a folder itself.

        Parameters
        ----------
        prefix : bytes
            The folder, with a slash at its end; empty for the topmost one.
        after : bytes
            A name in it, with a slash at its end if it is that of a folder; all that comes before it is left out, and
            it too.
        """
        position, stop = self.folder(prefix)
        if after:
            position = max(position, self._position_after(prefix + after))
        while position < stop:
            name, slash, _ = self[position][len(prefix) :].partition(b"/")
            if slash:
                yield name, None
                _, position = self.folder(prefix + name + slash)
                continue
            if name:  # Else it is the folder's own entry, as archives have them.
                yield name, position
            position += 1

    def _position_after(self, entry: bytes) -> int:
        return self.folder(entry)[1] if entry.endswith(b"/") else bisect_right(self, entry)
