"""Which response headers users of a service may choose, since others than they get them."""

from __future__ import annotations

from hub.errors import InvalidOption
from hub.registration import Registration

#: What speaks of the file alone. What speaks to proxies (X-Accel-Redirect), to browsers of the whole host (NEL,
#: Strict-Transport-Security) or to caches (Vary) is the service's, and the administrator's.
_ALLOWED = frozenset({"cache-control", "content-disposition", "content-encoding", "content-language"})

#: What a page may want that runs with its owner's login.
_ALLOWED_WITH_TRUST = _ALLOWED | {
    "content-security-policy",
    "cross-origin-embedder-policy",
    "cross-origin-opener-policy",
}

#: RFC 9111, 5.2.2: what keeps an answer from the caches that users share; one of them must stand there.
_UNSHARED = frozenset({"private", "no-store"})


def check_service_headers(registration: Registration) -> None:
    """Raise InvalidOption if a registration has a header that a service does not send for its users."""
    allowed = _ALLOWED_WITH_TRUST if registration.trusted else _ALLOWED
    for name, value in registration.headers:
        if name.lower() not in allowed:
            raise InvalidOption("headers", name, f"here there are {', '.join(sorted(allowed))}")
        if name.lower() == "cache-control":
            words = {word.strip() for word in value.lower().split(",")}
            if _UNSHARED.isdisjoint(words) or "public" in words or any(word.startswith("s-maxage") for word in words):
                reason = "who may read differs, so it must say private or no-store, and not public or s-maxage"
                raise InvalidOption("headers", {name: value}, reason)
