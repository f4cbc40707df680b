"""Answers whose bodies nginx sends: it is told the path of the file (``X-Accel-Redirect``), and does the rest.

What nginx does with it is set by ``examples/nginx.conf``; ``docs/nginx.md``
says what each line is for.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import quote

from kdr_wsgi.answers import Answer, Headers
from kdr_wsgi.files import File, KeptFile, OpenFile
from kdr_wsgi.proxies import TrustedProxies
from kdr_wsgi.ranges import Span
from kdr_wsgi.versions import AnyVersion

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

#: What nginx passes on by itself (``redirect`` in ``ngx_http_upstream_headers_in``), and would pass on a second time
#: where it cannot send the file and asks again; so they go under other names, and are restored from there.
_RENAMED = {name.lower(): f"KDR-{name}" for name in ("Accept-Ranges", "Cache-Control", "Content-Disposition")}

#: What ``examples/nginx.conf`` restores by ``add_header``.
RESTORED = frozenset(
    {
        "accept-ranges",
        "access-control-allow-headers",
        "access-control-allow-methods",
        "access-control-allow-origin",
        "access-control-expose-headers",
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-security-policy",
        "cross-origin-embedder-policy",
        "cross-origin-opener-policy",
        "cross-origin-resource-policy",
        "etag",
        "last-modified",
        "vary",
        "x-content-type-options",
    }
)

_KNOWN = RESTORED | {"content-type"}

#: The header KDR-Accel, in which nginx says that it sends files, and below what prefix it takes them.
_OFFER = "HTTP_KDR_ACCEL"

#: So long a file must have been left alone. Then whoever changes it gives it another Last-Modified, in whole seconds,
#: which is all that nginx can compare.
LEFT_ALONE_NS = 2_000_000_000

#: nginx judges these by what it knows of the file, which is not its entity tag (ngx_http_not_modified_filter_module).
_JUDGED_BY_NGINX = ("HTTP_IF_MATCH", "HTTP_IF_UNMODIFIED_SINCE")

#: What both sides read alike.
_ONE_RANGE = re.compile(r"bytes=(?:[0-9]{1,18}-[0-9]{0,18}|-[0-9]{1,18})")

#: nginx takes a head of 4,096 bytes where it is not told otherwise (``proxy_buffer_size``); the server adds some lines.
_MAX_HEAD_CHARACTERS = 3700


class Acceleration:
    """Hands files over to an nginx that offers to send them.

    Parameters
    ----------
    prefix : str
        Of the URL paths that nginx takes for files; no slash at its end.
    proxies : TrustedProxies
        Whose offer is believed.
    """

    def __init__(self, prefix: str, proxies: TrustedProxies) -> None:
        self._prefix = prefix
        self._proxies = proxies

    def hand_over(
        self,
        environ: WSGIEnvironment,
        file: File | KeptFile,
        headers: Iterable[tuple[str, str]],
        spans: list[Span] | None,
    ) -> Answer | None:
        """Return the answer that lets nginx send `file`; None: it is for us to send.

        Parameters
        ----------
        environ : mapping
            Of a GET whose preconditions hold.
        file : File or KeptFile
        headers : iterable of headers
            Of the answer, but for what speaks of its body.
        spans : list of Span or None
            What is asked for; None: the whole.
        """
        if not isinstance(file, OpenFile) or file.is_promised or not self._is_offered(environ):
            return None
        # nginx adds Accept-Ranges to a whole body by itself.
        own = ("content-length",) if spans is not None else ("content-length", "accept-ranges")
        told = [pair for pair in (*headers, *file.content) if pair[0].lower() not in own]
        if not _has_plain_times(file.version, time.time_ns()) or not _is_read_alike(environ, told, spans):
            return None
        path = file.find_path()
        if path is None:
            return None
        order = [
            *((_RENAMED.get(name.lower(), name), value) for name, value in told),
            ("Content-Length", "0"),
            # nginx compares size and date with those of the file that it opens itself.
            ("KDR-Size", str(file.version.size_bytes)),
            ("X-Accel-Redirect", self._prefix + quote(path)),
        ]
        is_short = sum(len(name) + len(value) + 4 for name, value in order) <= _MAX_HEAD_CHARACTERS
        return Answer("200 OK", order, ()) if is_short else None

    def _is_offered(self, environ: WSGIEnvironment) -> bool:
        return environ.get(_OFFER) == self._prefix and environ.get("REMOTE_ADDR", "") in self._proxies


def _has_plain_times(version: AnyVersion, now_ns: int) -> bool:
    """Whether a file has been left alone, so that its Last-Modified tells it from what may come next."""
    changed_ns = max(version.modified_ns, version.changed_ns)
    # nginx knows no time before the epoch, and Last-Modified none in the future.
    return version.is_settled and version.modified_ns >= 1_000_000_000 and now_ns - changed_ns >= LEFT_ALONE_NS


def _is_read_alike(environ: WSGIEnvironment, headers: Headers, spans: list[Span] | None) -> bool:
    """Whether nginx makes of the request, and of the answer's headers, what we make of them."""
    if any(variable in environ for variable in _JUDGED_BY_NGINX):
        return False
    names = {name.lower() for name, _ in headers}
    # Of a header that is there twice nginx 1.22 restores one.
    if not names <= _KNOWN or len(names) < len(headers):
        return False
    requested = environ.get("HTTP_RANGE")
    if requested is None:
        return True
    if spans is None or len(spans) != 1 or not _ONE_RANGE.fullmatch(requested):
        return False
    if_range = environ.get("HTTP_IF_RANGE")
    return if_range is None or if_range in {value for name, value in headers if name in ("ETag", "Last-Modified")}
