"""Content codings (RFC 9110, 8.4): which ones a client prefers, and gzip itself."""

from __future__ import annotations

import re
import zlib
from functools import lru_cache
from typing import Literal

Coding = Literal["br", "zstd", "gzip"]

#: The codings that are known, what they make smallest first, and how the name of a file ends that has one.
SUFFIXES: dict[Coding, bytes] = {"br": b".br", "zstd": b".zst", "gzip": b".gz"}

#: Browsers send some 30.
MAX_CHARACTERS = 1000

#: RFC 9110, 12.5.3 and 12.4.2.
_PREFERENCE = re.compile(
    r"(?P<coding>[!#$%&'*+\-.^_`|~0-9A-Za-z]+)"
    r"(?:[ \t]*;[ \t]*[qQ]=(?P<quality>0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?"
)

#: Of zlib: the next ones take twice the time for 1 % less of JSON.
_LEVEL = 4
_GZIP_WINDOW = 31


def preferred_codings(accept_encoding: str | None) -> tuple[Coding, ...]:
    """Return the codings that a client takes at least as gladly as none, the best first.

    Parameters
    ----------
    accept_encoding : str or None
        The header, its lines joined. Without one no coding is used, though
        any would do (12.5.3); nor with one that is very long. Parts of wrong
        syntax are skipped; of what stands there twice the last counts.
    """
    if not accept_encoding or len(accept_encoding) > MAX_CHARACTERS:
        return ()
    return _parse(accept_encoding)


@lru_cache(256)
def _parse(accept_encoding: str) -> tuple[Coding, ...]:
    qualities: dict[str, float] = {}
    for part in accept_encoding.split(","):
        match = _PREFERENCE.fullmatch(part.strip(" \t"))
        if match is not None:
            coding = match["coding"].lower()
            qualities["gzip" if coding == "x-gzip" else coding] = float(match["quality"] or 1)  # 8.4.1.3
    others = qualities.get("*", 0.0)
    # Where nothing is acceptable, the file is sent as it is all the same.
    none = qualities.get("identity", others)
    wanted = {coding: qualities.get(coding, others) for coding in SUFFIXES}
    taken = [coding for coding, quality in wanted.items() if quality > 0 and quality >= none]
    return tuple(sorted(taken, key=lambda coding: -wanted[coding]))


def gzip_bytes(body: bytes) -> bytes:
    """Return `body` with the coding gzip; the same bytes for the same body, since there is no time in it."""
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
    return compressor.compress(body) + compressor.flush()
