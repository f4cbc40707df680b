"""Byte ranges (RFC 9110, section 14), from strings to spans."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

_RANGE_SPEC = re.compile(r"([0-9]*)-([0-9]*)")

#: Larger than any file; numbers with more digits than this one has are as good as it.
_BEYOND_ANY_FILE = 10**18

#: A longer header costs more than it can save (RFC 9110, 14.2: a server may ignore it).
_MAX_CHARACTERS = 8192


class Span(NamedTuple):
    """The bytes from `start` up to, but not with, `stop`."""

    start: int
    stop: int

    @property
    def size_bytes(self) -> int:
        """How many bytes the span has."""
        return self.stop - self.start

    def content_range(self, size_bytes: int) -> str:
        """Return the Content-Range of this part of a file of `size_bytes` (14.4)."""
        return f"bytes {self.start}-{self.stop - 1}/{size_bytes}"


def parse_range(header: str, size_bytes: int) -> list[Span] | None:
    """Return the satisfiable spans that a Range header asks of a file, in the header's order.

    Parameters
    ----------
    header : str
    size_bytes : int
        The file's size.

    Returns
    -------
    list of Span or None
        An empty list: not satisfiable (416). None: the header is to be
        ignored, for its unit is another, its syntax is wrong or it is far too
        long (14.2), or it asks for the last bytes of an empty file, which no Content-Range can express.
    """
    unit, _, range_set = header.partition("=")
    if unit.strip().lower() != "bytes" or len(header) > _MAX_CHARACTERS:
        return None
    spans = []
    specs = [spec for item in range_set.split(",") if (spec := item.strip(" \t"))]
    for spec in specs:
        match = _RANGE_SPEC.fullmatch(spec)
        if match is None:
            return None
        first, last = match.groups()
        if first:
            start, stop = _to_int(first), _to_int(last) + 1 if last else size_bytes
            if last and _magnitude(last) < _magnitude(first):
                return None
        elif last:
            if size_bytes == 0:
                return None
            start, stop = max(size_bytes - _to_int(last), 0), size_bytes
        else:
            return None
        if start < size_bytes and start < stop:
            spans.append(Span(start, min(stop, size_bytes)))
    return spans if specs else None


def coalesce(spans: Sequence[Span], gap_bytes: int) -> list[Span]:
    """Join the spans that overlap or lie at most `gap_bytes` apart.

    The order stays that of the first of those that were joined (15.3.7.2).
    """
    joined: list[tuple[int, Span]] = []
    for position, span in sorted(enumerate(spans), key=lambda item: item[1].start):
        if joined and span.start <= joined[-1][1].stop + gap_bytes:
            first, last = joined[-1]
            joined[-1] = (min(first, position), Span(last.start, max(last.stop, span.stop)))
        else:
            joined.append((position, span))
    return [span for _, span in sorted(joined, key=lambda item: item[0])]


def _magnitude(digits: str) -> tuple[int, str]:
    """Return what sorts as the number does, however many digits it has."""
    significant = digits.lstrip("0")
    return len(significant), significant


def _to_int(digits: str) -> int:
    significant = digits.lstrip("0") or "0"
    return int(significant) if len(significant) <= 18 else _BEYOND_ANY_FILE
