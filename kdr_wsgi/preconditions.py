"""Conditional requests (RFC 9110, section 13), from header strings to a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Any

from werkzeug.datastructures import ETags
from werkzeug.http import parse_date, parse_etags

#: Servers join the lines of a repeated header, so that their limits for a line do not bound a list.
_MAX_LIST_CHARACTERS = 8192


class Verdict(Enum):
    """What the preconditions make of a request."""

    PROCEED = auto()
    NOT_MODIFIED = auto()
    FAILED = auto()


def evaluate(environ: Mapping[str, Any], etag: str, modified_seconds: int) -> Verdict:
    """Return the verdict on a GET or HEAD, in the order of section 13.2.2.

    Parameters
    ----------
    environ : mapping
        Of which the ``HTTP_IF_*`` are read.
    etag : str
        The file's strong entity tag, in its quotes.
    modified_seconds : int
        The file's Last-Modified, seconds since the epoch.
    """
    if_match = environ.get("HTTP_IF_MATCH")
    if if_match is not None:  # 13.1.1: the strong comparison
        if not (if_match.strip() == "*" or _parse_tags(if_match).is_strong(etag[1:-1])):
            return Verdict.FAILED
    elif "HTTP_IF_UNMODIFIED_SINCE" in environ:  # 13.1.4
        unmodified_since = _parse_seconds(environ["HTTP_IF_UNMODIFIED_SINCE"])
        if unmodified_since is not None and modified_seconds > unmodified_since:
            return Verdict.FAILED

    if_none_match = environ.get("HTTP_IF_NONE_MATCH")
    if if_none_match is not None:  # 13.1.2: the weak comparison
        if if_none_match == etag or if_none_match.strip() == "*":
            return Verdict.NOT_MODIFIED
        if _parse_tags(if_none_match).contains_weak(etag[1:-1]):
            return Verdict.NOT_MODIFIED
    elif "HTTP_IF_MODIFIED_SINCE" in environ:  # 13.1.3
        modified_since = _parse_seconds(environ["HTTP_IF_MODIFIED_SINCE"])
        if modified_since is not None and modified_seconds <= modified_since:
            return Verdict.NOT_MODIFIED

    return Verdict.PROCEED


def is_range_current(if_range: str, etag: str, modified_seconds: int, now_seconds: float) -> bool:
    """Whether the Range header applies to the file as it is (13.1.5).

    A date counts only when it is exactly the file's and that second was over
    before now: within it, the file may have been written twice (8.8.2.2).
    """
    if if_range.startswith(('"', "W/")):
        return if_range == etag
    return _parse_seconds(if_range) == modified_seconds and modified_seconds + 1 <= now_seconds


def _parse_tags(header: str) -> ETags:
    """Return the tags of a list; none where it is longer than any list of tags that we gave out."""
    return parse_etags(header if len(header) <= _MAX_LIST_CHARACTERS else None)


def _parse_seconds(http_date: str) -> int | None:
    """Return an HTTP-date as seconds since the epoch; None where it is not valid."""
    try:
        date = parse_date(http_date)
        return None if date is None else int(date.timestamp())
    except OverflowError:
        return None
