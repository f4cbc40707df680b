"""Keys with slashes behind a server that passes on the decoded path alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pytest
from granian.wsgi import Response

from hub.errors import RegistryError
from kdr_wsgi.errors import RelayError
from kdr_wsgi.granian_bridge import MAX_SLASHES, GranianBridge
from kdr_wsgi.targets import find_target

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

ROUTE = "/wwtkdr/"
DEEP = "/".join("k" * (MAX_SLASHES + 1))


def ask(path: str, *known: tuple[str, bytes]) -> str:
    """Return what is answered to a request for `path`, where there are these keys with one entry each."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            target = find_target(environ, ROUTE)
        except RelayError:
            target = None
        start_response("200 OK" if target in known else "404 Not Found", [])
        return (repr(target and tuple(target)).encode(),)

    response = Response()  # type: ignore[no-untyped-call]
    bridge = GranianBridge(app, lambda key: key in dict(known), ROUTE)
    body = bridge({"PATH_INFO": path, "SCRIPT_NAME": ""}, response)
    assert isinstance(body, list)
    return body[0].decode() if response.status == 200 else str(response.status)


@pytest.mark.parametrize(
    ("path", "key", "entry"),
    [
        ("/wwtkdr/a/b/c", "a/b", b"c"),
        ("/wwtkdr/a/b/", "a/b", b""),
        ("/wwtkdr/a/b/c/d/e", "a/b/c", b"d/e"),
        ("/wwtkdr//abs/path/x", "/abs/path", b"x"),
        ("/wwtkdr/a/b?#%41/\xff%", "a/b?#%41", b"\xff%"),
        ("/wwtkdr/\xc3\xbc/b/c", "ü/b", b"c"),
        (f"/wwtkdr/{DEEP}/x", DEEP, b"x"),
    ],
)
def test_a_key_with_slashes_is_found(path: str, key: str, entry: bytes) -> None:
    assert ask(path, (key, entry)) == repr((key, entry))


def test_the_key_without_a_slash_comes_first() -> None:
    known = (("a", b"b/c"), ("a/b", b"c"))
    assert ask("/wwtkdr/a/b/c", *known) == repr(("a", b"b/c"))
    assert ask("/wwtkdr/a/b/c", known[1], ("a", b"other")) == repr(known[1])


@pytest.mark.parametrize("path", ["/wwtkdr/x/y/z", "/other/a/b/c", "/wwtkdr/\xff/b/c", f"/wwtkdr/{DEEP}/k/x"])
def test_what_is_not_there_stays_so(path: str) -> None:
    assert ask(path, ("a/b", b"c"), (f"{DEEP}/k", b"x")) == "404"


def test_a_registry_that_cannot_be_read_changes_no_answer() -> None:
    def is_known(_key: str) -> bool:
        raise RegistryError("registry", "broken")

    def app(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("404 Not Found", [])
        return (b"nothing",)

    bridge = GranianBridge(app, is_known, ROUTE)
    response = Response()  # type: ignore[no-untyped-call]
    assert bridge({"PATH_INFO": "/wwtkdr/a/b/c"}, response) == [b"nothing"]
