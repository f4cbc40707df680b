from __future__ import annotations

from contextlib import suppress
from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdr_wsgi.errors import MalformedTarget, UnknownKey
from kdr_wsgi.targets import Target, find_target

names = st.binary(min_size=1, max_size=12).filter(lambda name: b"/" not in name and b"\0" not in name)
keys = st.text(min_size=1, max_size=12).filter(lambda key: "\0" not in key and not key.startswith("_"))
mounts = st.lists(st.text(alphabet="ab %ü", min_size=1, max_size=4), max_size=3)


def find(environ: dict[str, str]) -> Target | None:
    return find_target(environ, "/wwtkdr/")


def environ_of(path: str, mount: str = "", *, raw: str | None = "") -> dict[str, str]:
    """Return what a WSGI server makes of an encoded path below a mount point."""
    decoded = {name: unquote_to_bytes(text).decode("latin-1") for name, text in (("path", path), ("mount", mount))}
    environ = {"PATH_INFO": decoded["path"], "SCRIPT_NAME": decoded["mount"]}
    if raw is not None:
        environ["RAW_URI"] = raw or mount + path
    return environ


@given(keys, st.lists(names, max_size=4), mounts)
def test_whatever_is_quoted_comes_back(key: str, entry: list[bytes], mount: list[str]) -> None:
    path = "/wwtkdr/" + quote(key, safe="") + "/" + "/".join(quote(name, safe="") for name in entry)
    prefix = "".join(f"/{quote(segment, safe='')}" for segment in mount)
    wanted = Target(key, b"/".join(entry))
    assert find(environ_of(path, prefix)) == wanted
    assert find(environ_of(path, prefix, raw=path)) == wanted, "a proxy has cut the prefix off"
    assert find(environ_of(path, prefix, raw=f"http://host{prefix}{path}?a=%2F#b")) == wanted


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_target_is_an_unexpected_error(path: str, raw: str) -> None:
    environ = {"PATH_INFO": "/wwtkdr/" + path.encode().decode("latin-1"), "RAW_URI": raw, "SCRIPT_NAME": ""}
    with suppress(MalformedTarget, UnknownKey):
        find(environ)


@pytest.mark.parametrize("escape", ["%", "%4", "%zz", "%-1", "%%41"])
def test_a_bad_escape_is_malformed(escape: str) -> None:
    for path in (f"/wwtkdr/k/{escape}", f"/wwtkdr/{escape}/a"):
        with pytest.raises(MalformedTarget):
            find(environ_of(path))


def test_a_slash_in_a_key_needs_a_server_that_tells_the_target() -> None:
    assert find(environ_of("/wwtkdr/a%2Fb/c")) == Target("a/b", b"c")
    assert find(environ_of("/wwtkdr/a%2Fb/c", raw=None)) == Target("a", b"b/c")


def test_of_the_reserved_keys_the_static_files_alone_have_entries() -> None:
    assert find(environ_of("/wwtkdr/_static/a.js")) == Target("_static", b"a.js")
    assert find(environ_of("/wwtkdr/_static/a%20b")) == Target("_static", b"a b")
    assert find(environ_of("/wwtkdr/_status/a")) is None
    assert find(environ_of("/wwtkdr/_static2/a%20b")) is None


def test_a_key_alone_has_no_entry() -> None:
    assert find(environ_of("/wwtkdr/k")) == Target("k", None)
    assert find(environ_of("/wwtkdr/k/")) == Target("k", b"")


@pytest.mark.parametrize("path", ["/", "/x", "/wwtkdr", "/wwtkdr/", "/wwtkdr//a", "/wwtkdr/_probe", "/wwtkdr/%5Fx/a"])
def test_what_is_not_for_a_registration(path: str) -> None:
    assert find(environ_of(path)) is None


def test_an_encoded_route_is_the_route_but_not_part_of_the_key() -> None:
    assert find(environ_of("/%77wtkdr/k%20/a")) == Target("k ", b"a")
    with pytest.raises(MalformedTarget):
        find(environ_of("/wwtkdr%2Fk/a"))


def test_a_key_that_is_not_utf_8_is_unknown() -> None:
    with pytest.raises(UnknownKey):
        find(environ_of("/wwtkdr/%FF/a"))
