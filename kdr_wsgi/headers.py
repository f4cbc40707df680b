"""The headers that every answer carries."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

#: What the Kernel Data Relay sends, and what range requests and revalidation need besides.
CROSS_ORIGIN = (
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Allow-Methods", "GET, HEAD"),
    (
        "Access-Control-Allow-Headers",
        "Content-Disposition, Content-Encoding, Content-Length, Content-Type, "
        "Range, If-Range, If-Match, If-None-Match, If-Modified-Since",
    ),
    (
        "Access-Control-Expose-Headers",
        "Content-Range, Content-Length, Accept-Ranges, ETag, Last-Modified",
    ),
)

NO_SNIFFING = (("X-Content-Type-Options", "nosniff"),)

#: Keep, but ask before each use; and keep from the caches that users share.
REVALIDATE = (("Cache-Control", "private, no-cache"),)

#: Of a content key: keep for a year, the most that caches take, and do not ask (RFC 8246).
IMMUTABLE = (("Cache-Control", "private, max-age=31536000, immutable"),)

#: As Jupyter does for /files/: scripts run, but in an origin of their own, without the viewer's login.
SANDBOX = (("Content-Security-Policy", "sandbox allow-scripts"),)

#: Of a page of ours, which needs its own style and nothing else, whatever the names in it say.
STYLE_ONLY = (("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox"),)

#: Keeps pages of other sites from embedding what a browser reads with its login (https://fetch.spec.whatwg.org).
SAME_ORIGIN = (("Cross-Origin-Resource-Policy", "same-origin"),)

#: Of what its owner gets otherwise than the rest (RFC 9110, 12.5.5).
VARY_BY_LOGIN = (("Vary", "Cookie, Authorization"),)

ALWAYS = CROSS_ORIGIN + NO_SNIFFING + REVALIDATE
ALWAYS_THE_SAME = CROSS_ORIGIN + NO_SNIFFING + IMMUTABLE


def add_vary(headers: Iterable[tuple[str, str]], *names: str) -> list[tuple[str, str]]:
    """Return `headers` with one Vary (RFC 9110, 12.5.5) of what they had of it and `names`, each once."""
    kept: list[tuple[str, str]] = []
    varying: dict[str, str] = {}
    for name, value in headers:
        if name.lower() == "vary":
            varying.update((part.strip().lower(), part.strip()) for part in value.split(",") if part.strip())
        else:
            kept.append((name, value))
    for name in names:
        varying.setdefault(name.lower(), name)
    return [*kept, ("Vary", "*" if "*" in varying else ", ".join(varying.values()))]


@lru_cache(256)
def vary_by_encoding(headers: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Return `headers` with what those need of which another representation may be chosen."""
    return tuple(add_vary(headers, "Accept-Encoding"))


@lru_cache(256)
def without_ranges(headers: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Return `headers` with what those say of which no part can be asked for (RFC 9110, 14.3)."""
    return tuple((name, "none" if name == "Accept-Ranges" else value) for name, value in headers)
