"""Answers: a status, headers and a body, ready for WSGI."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple, Optional, Union
from urllib.parse import quote

from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header
from werkzeug.wsgi import wrap_file

from kdr_wsgi.errors import PreconditionFailed, RangeNotSatisfiable, RelayError
from kdr_wsgi.files import AnyFile, CheckedSpan, File, KeptFile, OpenFile, SmallFile, SpanFile, StreamedFile, WholeFile
from kdr_wsgi.headers import ALWAYS, CROSS_ORIGIN
from kdr_wsgi.heads import Head, find_head
from kdr_wsgi.multipart import ByteRanges
from kdr_wsgi.preconditions import Verdict, evaluate, is_range_current
from kdr_wsgi.ranges import Span, parse_range

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from kdr_wsgi.catalog import Publication

Headers = list[tuple[str, str]]

#: Returns the answer that lets a server in front send a file, or None: see `kdr_wsgi.acceleration`.
HandOver = Callable[
    ["WSGIEnvironment", Union[File, KeptFile], Iterable[tuple[str, str]], list[Span] | None], Optional["Answer"]
]

#: Without any of these a GET asks for the whole file, whatever it is (RFC 9110, 13.1 and 14.2).
_CONDITIONS = (
    "HTTP_IF_NONE_MATCH",
    "HTTP_RANGE",
    "HTTP_IF_MODIFIED_SINCE",
    "HTTP_IF_MATCH",
    "HTTP_IF_UNMODIFIED_SINCE",
)

#: What servers without sendfile(2) read at a time.
CHUNK_BYTES = 65536


class Answer(NamedTuple):
    """What a WSGI application hands to its server."""

    status: str
    headers: Headers
    body: Iterable[bytes]


def answer_file(
    environ: WSGIEnvironment,
    publication: Publication,
    file: AnyFile,
    *,
    is_negotiated: bool = False,
    hand_over: HandOver | None = None,
) -> Answer:
    """Return the answer to a GET or HEAD for `file`; a streamed body takes its descriptor over.

    A promised file is opened only where the preconditions ask for more than a 304. Of one that `is_negotiated` another
    client may get another representation.

    Raises
    ------
    PreconditionFailed, RangeNotSatisfiable
    ContentChanged, FileBeingChanged, FileBeingHashed, NotReadable
        Of a promised file.
    """
    head = find_head(publication, file, is_negotiated=is_negotiated)
    if isinstance(file, SmallFile) and environ["REQUEST_METHOD"] == "GET" and environ.keys().isdisjoint(_CONDITIONS):
        return Answer("200 OK", [*head.whole], (file.body,))
    verdict = evaluate(environ, head.etag, file.modified_seconds)
    if verdict is Verdict.NOT_MODIFIED:
        return Answer("304 Not Modified", [*head.unchanged], ())
    if verdict is Verdict.FAILED:
        raise PreconditionFailed
    is_head = environ["REQUEST_METHOD"] == "HEAD"
    # RFC 9110, 14.2: Range is for GET alone, and may be ignored.
    spans = _requested_spans(environ, file, head.etag) if file.has_ranges and not is_head else None
    if spans is not None:
        opened: File | KeptFile = file.open_part(sum(span.size_bytes for span in spans))
    else:
        opened = file.open_part(0) if is_head else file.open()
    with opened:
        if is_head:
            return Answer("200 OK", [*head.whole], ())
        handed_over = hand_over and hand_over(environ, opened, head.part, spans)
        if handed_over:
            return handed_over
        if spans is None or isinstance(opened, WholeFile):
            return Answer("200 OK", [*head.whole], _whole_body(environ, opened))
        return _answer_spans(environ, head, opened, spans)


def _requested_spans(environ: WSGIEnvironment, file: AnyFile, etag: str) -> list[Span] | None:
    """Return what the Range header asks for; None: the whole file."""
    requested = environ.get("HTTP_RANGE")
    if requested is None:
        return None
    if_range = environ.get("HTTP_IF_RANGE")
    if if_range is not None and not is_range_current(if_range, etag, file.modified_seconds, time.time()):
        return None
    return parse_range(requested, file.version.size_bytes)


def _answer_spans(
    environ: WSGIEnvironment, head: Head, file: SmallFile | OpenFile | StreamedFile | KeptFile, spans: list[Span]
) -> Answer:
    size_bytes = file.version.size_bytes
    if not spans:
        raise RangeNotSatisfiable(size_bytes)
    parts = ByteRanges(spans, file.media_type, size_bytes)
    if len(parts.spans) == 1:
        (span,) = parts.spans
        headers = [
            *head.part,
            ("Content-Type", file.media_type.content_type),
            ("Content-Length", str(span.size_bytes)),
            ("Content-Range", span.content_range(size_bytes)),
        ]
        return Answer("206 Partial Content", headers, _span_body(environ, file, span))
    if parts.length_bytes >= size_bytes:  # 14.2: a server may ignore ranges that cost more than the file
        return Answer("200 OK", [*head.whole], _whole_body(environ, file))
    headers = [*head.part, ("Content-Type", parts.content_type), ("Content-Length", str(parts.length_bytes))]
    return Answer("206 Partial Content", headers, parts.body(file))


def prefers_json(environ: WSGIEnvironment, other: str) -> bool:
    """Whether the client would rather have JSON than the media type `other` (RFC 9110, 12.5.1)."""
    preference = environ.get("HTTP_ACCEPT", "")
    # Werkzeug's parser takes time with the square of the length.
    accepted = parse_accept_header(preference if len(preference) <= 1000 else None, MIMEAccept)
    return accepted.best_match([other, "application/json"], default=other) == "application/json"


def answer_error(environ: WSGIEnvironment, error: RelayError) -> Answer:
    """Return the answer that tells the client of `error`, as plain text, or as JSON where the client prefers that."""
    if prefers_json(environ, "text/plain"):
        content_type = "application/json"
        text = json.dumps({"status": int(error.status[:3]), "error": str(error)})
    else:
        content_type, text = "text/plain; charset=utf-8", str(error)
    body = f"{text}\n".encode()
    headers = [*ALWAYS, *error.headers, ("Content-Type", content_type), ("Content-Length", str(len(body)))]
    return Answer(error.status, headers, () if environ["REQUEST_METHOD"] == "HEAD" else (body,))


def answer_preflight() -> Answer:
    """Return the answer to OPTIONS: what a page of another origin may ask (https://fetch.spec.whatwg.org)."""
    headers = [*CROSS_ORIGIN, ("Access-Control-Max-Age", "86400"), ("Allow", "GET, HEAD, OPTIONS")]
    return Answer("204 No Content", headers, ())


def answer_redirect(headers: Iterable[tuple[str, str]], url: str) -> Answer:
    """Return the answer that sends a client elsewhere with the same method, which nobody keeps (RFC 9110, 15.4.8)."""
    own = [pair for pair in headers if pair[0] not in ("Accept-Ranges", "Cache-Control", "Referrer-Policy")]
    own += [("Cache-Control", "private, no-store"), ("Referrer-Policy", "no-referrer")]
    return Answer("307 Temporary Redirect", [*own, ("Location", url), ("Content-Length", "0")], ())


def answer_missing_slash(environ: WSGIEnvironment, name: bytes) -> Answer:
    """Return the redirect from a directory's URL to the same with a slash.

    The location is relative, so that it is right behind every proxy.
    """
    query = environ.get("QUERY_STRING", "")
    location = f"./{quote(name, safe='')}/" + (f"?{query}" if query else "")
    return Answer("308 Permanent Redirect", [*ALWAYS, ("Location", location), ("Content-Length", "0")], ())


def _whole_body(environ: WSGIEnvironment, file: File | KeptFile) -> Iterable[bytes]:
    if isinstance(file, SmallFile):
        return (file.body,)
    if isinstance(file, WholeFile):
        return file.make_body(environ)
    return _span_body(environ, file, Span(0, file.version.size_bytes))


def _span_body(
    environ: WSGIEnvironment, file: SmallFile | OpenFile | StreamedFile | KeptFile, span: Span
) -> Iterable[bytes]:
    if isinstance(file, OpenFile):
        body = CheckedSpan(file, span) if file.is_promised else SpanFile(file, span)
        return wrap_file(environ, body, CHUNK_BYTES)  # type: ignore[arg-type]  # it asks for all of IO
    if isinstance(file, StreamedFile):
        return file.stream([(b"", span)], b"")
    return (file.read(span),)
