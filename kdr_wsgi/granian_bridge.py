"""What lies between granian and a WSGI application: granian passes on the decoded path alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import quote

from hub.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment
    from granian.wsgi import Response

#: So many slashes a key may have: each costs whoever asks for what is not there a look into the registry.
MAX_SLASHES = 16


class GranianBridge:
    """Finds the keys that have a slash, which stands as ``%2F`` in a URL and as a slash in PATH_INFO.

    What is found without that counts: the key ``a`` with the entry ``b/c``
    comes before the key ``a/b`` with the entry ``c``.

    Parameters
    ----------
    app : WSGI application
        It calls `start_response` before it returns.
    is_known : callable
        Whether a key is registered; may raise RegistryError.
    route : str
        What precedes the key: one segment, between slashes.
    """

    def __init__(self, app: WSGIApplication, is_known: Callable[[str], bool], route: str) -> None:
        self._app = app
        self._is_known = is_known
        self._route = route

    def __call__(self, environ: WSGIEnvironment, start_response: Response) -> Iterable[bytes]:
        """Answer one request."""
        body = self._app(environ, start_response)
        if start_response.status == 404:
            target = self._find_target(environ["PATH_INFO"])
            if target is not None:
                if hasattr(body, "close"):
                    body.close()
                environ["RAW_URI"] = target
                body = self._app(environ, start_response)
        # Granian has a short way for lists alone (granian/wsgi.py, _callback_wrapper).
        return list(body) if isinstance(body, tuple) else body

    def _find_target(self, path: str) -> str | None:
        """Return a target in which the key of `path` is quoted, if there is one with a slash."""
        if not path.startswith(self._route):
            return None
        # PEP 3333: the characters of PATH_INFO stand for bytes.
        segments = path[len(self._route) :].encode("latin-1").split(b"/")
        for count in range(2, min(len(segments), MAX_SLASHES + 1) + 1):
            key = b"/".join(segments[:count])
            try:
                if self._is_known(key.decode("utf-8")):
                    return self._route + "/".join((quote(key, safe=""), *map(quote, segments[count:])))
            except (UnicodeDecodeError, RegistryError):
                return None
        return None
