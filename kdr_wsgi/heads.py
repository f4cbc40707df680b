"""The headers of a file as a publication serves it, made once for as long as both stay the same."""

from __future__ import annotations

from typing import NamedTuple

from kdr_wsgi.catalog import Publication
from kdr_wsgi.files import AnyFile, PromisedFile
from kdr_wsgi.headers import SANDBOX, vary_by_encoding, without_ranges

_Pairs = tuple[tuple[str, str], ...]


class Head(NamedTuple):
    """What the answers for one file say.

    Attributes
    ----------
    publication : Publication
    is_negotiated : bool
        Whether another client may get another representation.
    etag : str
        The entity tag, in its quotes.
    unchanged : tuple of headers
        Of a 304.
    part : tuple of headers
        Of any body, but for what speaks of how much of the file it is.
    whole : tuple of headers
        Of a body that is the whole file.
    """

    publication: Publication
    is_negotiated: bool
    etag: str
    unchanged: _Pairs
    part: _Pairs
    whole: _Pairs


def find_head(publication: Publication, file: AnyFile, *, is_negotiated: bool) -> Head:
    """Return the head of `file`, which keeps the one that was made last."""
    head = file.head
    if head is None or head.publication is not publication or head.is_negotiated is not is_negotiated:
        head = file.head = _make_head(publication, file, is_negotiated=is_negotiated)
    return head


def _make_head(publication: Publication, file: AnyFile, *, is_negotiated: bool) -> Head:
    etag = publication.tag(file.etag)
    own = publication.immutable_headers if isinstance(file, PromisedFile) else publication.headers
    if not file.has_ranges:
        own = without_ranges(own)
    if is_negotiated:
        own = vary_by_encoding(own)
    unchanged = part = (*own, ("ETag", etag), file.last_modified)
    if file.media_type.is_active and not publication.registration.trusted:
        part += SANDBOX
    return Head(publication, is_negotiated, etag, unchanged, part, part + file.content)
