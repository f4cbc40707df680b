"""What a store's error means to who asks for an object, and what the log says of it: never a secret, nor an address."""

from __future__ import annotations

import asyncio
import re
from concurrent.futures import CancelledError

from kdr_wsgi.errors import StoreBusy, StoreFailing, StoreRefusing, StoreTooSlow, StoreUnreachable

#: As object_store writes them into its messages, which may hold signed addresses and echoes of credentials.
_STATUS = re.compile(r"non-2xx status code: ([0-9]{3})")
_CODE = re.compile(r"<Code>([A-Za-z0-9]{1,60})</Code>")
_KIND = re.compile(r"kind: ([A-Za-z]{1,30})")
_HOST = re.compile(r"https?://([A-Za-z0-9.\-\[\]:]{1,260})[/?]")

#: What stores answer who asks too much (RFC 6585, 4; S3's SlowDown).
_TOO_MUCH = (429, 503)


def find_status(error: BaseException) -> int:
    """Return the HTTP status that a store has answered; 0: it has answered none."""
    found = _STATUS.search(str(error))
    return int(found[1]) if found else 0


def explain(error: BaseException, what: str) -> StoreFailing:
    """Return the request's error for one of obstore's, or for the end of our patience.

    Parameters
    ----------
    error : exception
    what : str
        What was asked of which store, for the log.
    """
    if isinstance(error, (TimeoutError, asyncio.TimeoutError, CancelledError)):
        return StoreTooSlow(f"{what}: no answer in time (answer_seconds)")
    text = str(error)
    status = find_status(error)
    code, kind, host = (_first(pattern, text) for pattern in (_CODE, _KIND, _HOST))
    at = f" from {host}" if host else ""
    if status:
        told = f"{what}: status {status}{f' ({code})' if code else ''}{at}"
        if status in (401, 403):
            return StoreRefusing(
                f"{told}; the credentials in the file of KDR_STORES are wrong, have ended, or may not read this; a "
                "store says the same of what is not there to who may not list the bucket"
            )
        if status in _TOO_MUCH:
            return StoreBusy(told)
        if status == 504:
            return StoreTooSlow(told)
        return StoreUnreachable(told)
    if kind == "Timeout":
        return StoreTooSlow(f"{what}: no answer in time{at}")
    if kind == "Connect":
        return StoreUnreachable(f"{what}: no connection, or to a host that the store's rule does not name{at}")
    if "NotPartial" in text:
        return StoreUnreachable(f"{what}: the store ignores ranges{at}")
    return StoreUnreachable(f"{what}: {type(error).__name__}{f' ({kind})' if kind else ''}{at}")


def _first(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return found[1] if found else ""
