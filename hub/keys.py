"""Keys: what names a registration in a URL."""

from __future__ import annotations

import re

from blake3 import blake3

from hub.errors import InvalidKey

#: A quoted byte takes three characters of a URL, and servers take URLs of about 4,000 characters.
MAX_KEY_BYTES = 512

#: Of the static files that every relay server has of itself.
STATIC_KEY = "_static"

#: What is of this form names its content, and nobody else may take it.
_HASH = re.compile(r"[0-9a-f]{64}(-[0-9a-f]{16})?")


def check_key(key: str) -> str:
    """Return `key` if it can name a registration.

    Parameters
    ----------
    key : str
        The whole key, as it will stand (quoted) in the URL.

    Raises
    ------
    InvalidKey
        The key is empty, holds NUL or a lone surrogate, is longer than
        `MAX_KEY_BYTES` bytes of UTF-8, is a dot segment (RFC 3986, 5.2.4), or
        begins with ``_``, which is reserved for the server.
    """
    if not isinstance(key, str):
        raise InvalidKey(key, "it is not a str")
    if not key:
        raise InvalidKey(key, "it is empty")
    if "\0" in key:
        raise InvalidKey(key, "it holds a NUL character")
    if key.startswith("_"):
        raise InvalidKey(key, "keys that begin with '_' are reserved for the server")
    if key in (".", ".."):
        raise InvalidKey(key, "browsers drop '.' and '..' from a URL")
    try:
        encoded = key.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidKey(key, "it holds a character that UTF-8 cannot express") from None
    if len(encoded) > MAX_KEY_BYTES:
        raise InvalidKey(key, f"it is longer than {MAX_KEY_BYTES} bytes")
    return key


def path_key(path: bytes, extension: bytes, secret: bytes) -> str:
    """Return the stable, opaque key of an absolute path: its keyed BLAKE3 hash in hexadecimal.

    A file that is exposed with an `extension` has a key of its own, so that
    both names of the file go on working. (NUL ends no path, so no path's key
    is another's.)
    """
    named = path + b"\0" + extension if extension else path
    return blake3(named, key=secret).hexdigest()


def content_key(content: str, variant: str) -> str:
    """Return the key of what hashes to `content`.

    What is served with trust, or with headers of its own, has a key of its
    own, with its `variant`: caches never ask again for what they have, and
    would keep answers without either.
    """
    return f"{content}-{variant}" if variant else content


def is_hash(key: str) -> bool:
    """Whether a key has the form of a hash, whole."""
    return _HASH.fullmatch(key) is not None


def check_chosen_key(key: str) -> str:
    """Return `key`, which somebody chose, if it can name a registration.

    Raises
    ------
    InvalidKey
        As from `check_key`; or the key is a hash, which names one content for ever.
    """
    if is_hash(check_key(key)):
        raise InvalidKey(key, "it has the form of a hash, which names its content; choose another word")
    return key


def shorten_key(key: str) -> str:
    """Return `key` as people are shown it: all of what somebody chose, the begin of a hash.

    At a shared relay server an owner's name and a tilde stand in front.
    """
    owner, tilde, own = key.rpartition("~")
    return f"{owner}{tilde}{own[:8]}" if _HASH.fullmatch(own) else key
