"""Claims and registrations as JSON, for the shared relay server of a JupyterHub; paths are percent-encoded bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from hub.content.signatures import SIGNATURE_BYTES
from hub.errors import InvalidOption, UnusableURL
from hub.object_urls import is_object_root, normalise_object_url
from hub.registrar import Claim
from hub.registration import (
    MAX_TTL_SECONDS,
    Kind,
    Registration,
    check_audience,
    check_extension,
    check_headers,
    check_trusted,
    check_ttl,
)
from hub.views import View

#: The reason in the answer to a claim of what the service sees nothing of, or something else.
NOT_SEEN_THERE = "not seen there"

_HASH = re.compile(r"[0-9a-f]{64}")
_SIGNATURE = re.compile(rf"[0-9a-f]{{{2 * SIGNATURE_BYTES}}}")

#: A file's name has 255 bytes at the most, and an extension may follow.
MAX_NAME_BYTES = 512

#: Since the epoch: what lasts longest of what is registered before the year 9000.
_MAX_SECONDS = 8 * MAX_TTL_SECONDS


def claim_to_json(claim: Claim) -> dict[str, Any]:
    """Return what `claim_from_json` takes."""
    return {
        **registration_to_json(claim.registration),
        "place": quote(claim.place),
        "extension": quote(claim.extension),
        "ttl": claim.ttl,
        # What an older service does not know, it does not see where it does not matter.
        **({"is_by_content": True} if claim.is_by_content else {}),
    }


def claim_from_json(told: Mapping[str, Any]) -> Claim:
    """Return the claim that somebody has sent, each of its options checked.

    Raises
    ------
    InvalidOption
    """
    visibility, audience = check_audience(_field(told, "visibility", (str, list)))
    trusted = check_trusted(_field(told, "trusted", bool))
    content = _digest(told, "content")
    registration = Registration(
        key=_field(told, "key", str),
        kind=_kind(told),
        root=_path(told, "root"),
        name=_bytes(told, "name"),
        visibility=visibility,
        trusted=trusted,
        headers=check_headers(_field(told, "headers", dict), trusted=trusted),
        content=content,
        signature=_signature(told) if content else b"",
        is_kept=_field(told, "is_kept", bool),
        audience=audience,
    )
    _check_name(registration)
    extension = check_extension(_bytes(told, "extension").decode("utf-8", "surrogateescape"))
    ttl = check_ttl(told.get("ttl"))
    is_by_content = told.get("is_by_content", False)
    if not isinstance(is_by_content, bool) or (is_by_content and (content or not is_object_root(registration.root))):
        raise InvalidOption("is_by_content", is_by_content, "it is for what is in an object store, without a hash")
    return Claim(registration, _path(told, "place"), extension, ttl, is_by_content=is_by_content)


def view_to_json(view: View | None) -> dict[str, Any]:
    """Return what `view_from_json` takes, of what an older service does not look at."""
    return {} if view is None else {"view": {"nonce": view.nonce.hex(), "digest": view.digest.hex()}}


def view_from_json(told: Mapping[str, Any]) -> View | None:
    """Return what the path of a claim looks like to who sent it; None: an older kernel does not say.

    Raises
    ------
    InvalidOption
    """
    view = told.get("view")
    if view is None:
        return None
    if not isinstance(view, Mapping):
        raise InvalidOption("view", view, "it is no JSON object")
    nonce, digest = (_digest(view, name) for name in ("nonce", "digest"))
    if not nonce or not digest:
        raise InvalidOption("view", dict(view), "it has a nonce and a digest")
    return View(bytes.fromhex(nonce), bytes.fromhex(digest))


def registration_to_json(registration: Registration) -> dict[str, Any]:
    """Return what `registration_from_json` takes."""
    return {
        "key": registration.key,
        "kind": registration.kind,
        "root": quote(registration.root),
        "name": quote(registration.name),
        "visibility": list(registration.audience) or registration.visibility,
        "trusted": registration.trusted,
        "headers": dict(registration.headers),
        "content": registration.content,
        "signature": registration.signature.hex(),
        "is_kept": registration.is_kept,
        "claimed_at": registration.claimed_at,
        "expires_at": registration.expires_at,
        "owner": registration.owner,
    }


def registration_from_json(told: object) -> Registration:
    """Return the registration that a server tells of.

    Raises
    ------
    InvalidOption
        Something is missing, or is none of its kind.
    """
    if not isinstance(told, Mapping):
        raise InvalidOption("registration", told, "it is no JSON object")
    visibility, audience = check_audience(_field(told, "visibility", (str, list)))
    return Registration(
        key=_field(told, "key", str),
        kind=_kind(told),
        root=_path(told, "root"),
        name=_bytes(told, "name"),
        visibility=visibility,
        trusted=_field(told, "trusted", bool),
        headers=tuple(_field(told, "headers", dict).items()),
        expires_at=_moment(told, "expires_at"),
        claimed_at=_moment(told, "claimed_at"),
        content=_digest(told, "content"),
        signature=_signature(told),
        is_kept=_field(told, "is_kept", bool),
        owner=_field(told, "owner", str),
        audience=audience,
    )


def _check_name(registration: Registration) -> None:
    name = registration.name
    if registration.kind != "file" and name:
        raise InvalidOption("name", name, "a tree has none")
    if registration.kind == "file" and (not 0 < len(name) <= MAX_NAME_BYTES or b"/" in name or b"\0" in name):
        raise InvalidOption("name", name, "it is no name of a file")


def _field(told: Mapping[str, Any], name: str, kind: type | Sequence[type]) -> Any:
    value = told.get(name)
    if not isinstance(value, kind if isinstance(kind, type) else tuple(kind)):
        raise InvalidOption(name, value, "it is missing, or of another type")
    return value


def _kind(told: Mapping[str, Any]) -> Kind:
    kind = told.get("kind")
    if kind == "file":
        return "file"
    if kind == "tree":
        return "tree"
    if kind == "archive":
        return "archive"
    raise InvalidOption("kind", kind, "choose file, tree or archive")


def _bytes(told: Mapping[str, Any], name: str) -> bytes:
    text: str = _field(told, name, str)
    try:
        return unquote_to_bytes(text)
    except UnicodeEncodeError:  # JSON can escape half of a character.
        raise InvalidOption(name, text, "it holds a character that UTF-8 cannot express") from None


def _moment(told: Mapping[str, Any], name: str) -> float | None:
    seconds: float | None = _field(told, name, (int, float, type(None)))
    if isinstance(seconds, bool) or not (seconds is None or 0 <= seconds <= _MAX_SECONDS):
        raise InvalidOption(name, seconds, "it is no time")
    return seconds


def _path(told: Mapping[str, Any], name: str) -> bytes:
    path = _bytes(told, name)
    if is_object_root(path):
        try:
            is_normal = normalise_object_url(path) == path
        except UnusableURL as error:
            raise InvalidOption(name, told[name], error.reason) from error
        if is_normal:
            return path
    if not path.startswith(b"/") or b"\0" in path:
        raise InvalidOption(name, told[name], "it is no absolute path")
    return path


def _digest(told: Mapping[str, Any], name: str) -> str:
    text: str = _field(told, name, str)
    if text and not _HASH.fullmatch(text):
        raise InvalidOption(name, text, "it is no BLAKE3 hash in hexadecimal")
    return text


def _signature(told: Mapping[str, Any]) -> bytes:
    text = _field(told, "signature", str)
    if text and not _SIGNATURE.fullmatch(text):
        raise InvalidOption("signature", text, "it is none of a file")
    return bytes.fromhex(text)
