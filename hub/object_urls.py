"""Addresses of objects and of prefixes in object stores, which are published as paths are: ``s3://bucket/cube.fits``."""

from __future__ import annotations

import re

from hub.errors import UnusableURL

#: Amazon S3 and what speaks as it does, Google Cloud Storage, Azure Blob Storage (which calls a bucket a container).
SCHEMES = ("s3", "gs", "az")

_BEGINS = tuple(f"{scheme}://" for scheme in SCHEMES)
_BYTES_BEGIN = tuple(begin.encode() for begin in _BEGINS)

#: A name of a bucket, without a user, a password and a port.
_BUCKET = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.)){1,220}[A-Za-z0-9]")

#: What a store takes for a key, in bytes of UTF-8.
MAX_KEY_BYTES = 1024

#: What stands for something else in a URL; in what a key is called there is only what is meant.
_AMBIGUOUS = frozenset("%?#\\")


def is_object_url(path: object) -> bool:
    """Whether `path` is the address of an object, or of a prefix, rather than a path of this machine."""
    if isinstance(path, bytes):
        return path.startswith(_BYTES_BEGIN)
    return isinstance(path, str) and path.startswith(_BEGINS)


def is_object_root(root: bytes) -> bool:
    """Whether the root of a registration is in an object store."""
    return root.startswith(_BYTES_BEGIN)


def normalise_object_url(url: str | bytes) -> bytes:
    """Return the one spelling of the address of an object or of a prefix: a scheme, a bucket, a key as it is.

    Nothing in it is decoded, so nothing in it can stand for something else.
    It ends without a slash.

    Raises
    ------
    UnusableURL
        It has a user, a port, a query, a fragment, an escape, an empty
        segment, ``.`` or ``..``, or no bucket that can be one.
    """
    try:
        text = url.decode("utf-8") if isinstance(url, bytes) else url
        shown = text
        text.encode("utf-8")
    except UnicodeError:
        raise UnusableURL(repr(url), "it is not UTF-8") from None
    scheme, _, rest = text.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme not in SCHEMES:
        raise UnusableURL(shown, f"it begins with none of {', '.join(_BEGINS)}")
    if not _BUCKET.fullmatch(bucket):
        raise UnusableURL(
            shown, "what follows the scheme is no name of a bucket; no user, password or port may stand there"
        )
    reason = find_fault(key.removesuffix("/")) if key.strip("/") or "//" in f"/{key}" else ""
    if _AMBIGUOUS.intersection(key):
        reason = (
            "a key is written as it is, without escapes, and no query follows it; to reach one with '%', '?', '#' or "
            "a backslash in it, publish the folder that it is in"
        )
    if reason:
        raise UnusableURL(shown, reason)
    return f"{scheme}://{bucket}/{key}".rstrip("/").encode()


def find_fault(key: str) -> str:
    """Return why `key` can be none of an object that is served; empty, where it can be one."""
    if any(segment in ("", ".", "..") for segment in key.split("/")):
        return "it has an empty segment, '.' or '..', which no URL can express"
    if any(character < " " or character == "\x7f" for character in key):
        return "it holds a control character"
    if len(key.encode("utf-8", "replace")) > MAX_KEY_BYTES:
        return f"it has more than {MAX_KEY_BYTES} bytes"
    return ""


def split_root(root: bytes) -> tuple[str, str, str]:
    """Return the scheme, the bucket and the key of a root that `normalise_object_url` has returned."""
    scheme, _, rest = root.decode("utf-8").partition("://")
    bucket, _, key = rest.partition("/")
    return scheme, bucket, key
