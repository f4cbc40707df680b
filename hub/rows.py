"""A registration as a row of the table of any registry, whatever the database."""

from __future__ import annotations

import json
from typing import Any

from hub.registration import Registration

#: The first is what a row is found by.
COLUMNS = (
    "key",
    "kind",
    "root",
    "name",
    "visibility",
    "trusted",
    "headers",
    "expires_at",
    "claimed_at",
    "content",
    "signature",
    "is_kept",
    "owner",
    "audience",
    "is_archive",
)

#: Under how many names a user who shares a registry may publish one content.
MAX_NAMES = 100

#: In how many places a content key's bytes are looked for, besides the latest.
MAX_OTHER_SOURCES = 15


def last_key(beginning: str) -> str:
    """Return what no key that begins so comes behind."""
    # Keys have at most 512 bytes, of which the last character takes four.
    return beginning + "\U0010ffff" * 128


def to_row(registration: Registration) -> tuple[Any, ...]:
    """Return what is stored in `COLUMNS`."""
    return (
        registration.key,
        # The tables know two kinds: an archive is a tree to them.
        "file" if registration.kind == "file" else "tree",
        registration.root,
        registration.name,
        registration.visibility,
        registration.trusted,
        json.dumps(registration.headers),
        registration.expires_at,
        registration.claimed_at,
        registration.content,
        registration.signature,
        registration.is_kept,
        registration.owner,
        json.dumps(registration.audience),
        registration.kind == "archive",
    )


def from_row(row: tuple[Any, ...]) -> Registration:
    """Return the registration of which `row` is, without other names and sources."""
    (key, kind, root, name, visibility, trusted, headers, expires_at, claimed_at, *rest) = row
    content, signature, is_kept, owner, audience, is_archive = rest
    return Registration(
        key=key,
        kind="archive" if is_archive else kind,
        root=root,
        name=name,
        visibility=visibility,
        trusted=bool(trusted),
        headers=tuple((header, value) for header, value in json.loads(headers)),
        expires_at=expires_at,
        claimed_at=claimed_at,
        content=content,
        signature=signature,
        is_kept=bool(is_kept),
        owner=owner,
        audience=tuple(json.loads(audience)),
    )
