"""Keys of users who share a registry: each begins with its owner's name."""

from __future__ import annotations

from urllib.parse import quote

from blake3 import blake3

from hub.keys import check_key

#: Of a longer name the hash is taken, since a key must hold a hash besides.
_OWNER_CHARACTERS = 200


def owned_key(owner: str, key: str) -> str:
    """Return the key that `key` of one user is among all users' keys.

    A tilde is no part of a quoted name, so that no two users have a key in common.

    Raises
    ------
    InvalidKey
    """
    return check_key(f"{_quoted(owner)}~{key}")


def is_key_of(owner: str, key: str) -> bool:
    """Whether a key is one of this user's."""
    return key.partition("~")[0] == _quoted(owner) and "~" in key


def _quoted(owner: str) -> str:
    # Neither may a key begin with "_", which is the server's.
    quoted = quote(owner, safe="").replace("~", "%7E")
    if len(quoted) > _OWNER_CHARACTERS:
        # No quoted name has a "!".
        return f"!{blake3(owner.encode()).hexdigest(16)}"
    return f"%5F{quoted[1:]}" if quoted.startswith("_") else quoted
