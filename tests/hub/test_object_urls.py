from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import InvalidOption, JupyterRelayHub, NotAFile, UnusableURL
from hub.object_urls import is_object_root, is_object_url, normalise_object_url, split_root


@pytest.mark.parametrize(
    ("url", "root"),
    [
        ("s3://survey/tiles/", b"s3://survey/tiles"),
        ("s3://survey/tiles", b"s3://survey/tiles"),
        ("s3://survey", b"s3://survey"),
        ("s3://survey/", b"s3://survey"),
        ("gs://my.bucket/a b/ü.fits", "gs://my.bucket/a b/ü.fits".encode()),
        (b"az://container/cube.fits", b"az://container/cube.fits"),
    ],
)
def test_an_address_has_one_spelling(url: str | bytes, root: bytes) -> None:
    assert is_object_url(url)
    assert normalise_object_url(url) == root
    assert normalise_object_url(root) == root
    assert is_object_root(root)


@pytest.mark.parametrize(
    "url",
    [
        "s3://",
        "s3:///key",
        "s3://a",
        "s3://user@bucket/key",
        "s3://user:word@bucket/key",
        "s3://bucket:9000/key",
        "s3://bucket?endpoint=http://169.254.169.254",
        "s3://bucket/key?versionId=1",
        "s3://bucket/key#part",
        "s3://bucket/%2e%2e/key",
        "s3://bucket/a%2Fb",
        "s3://bucket/../key",
        "s3://bucket/a/./b",
        "s3://bucket//key",
        "s3://bucket/a//b",
        "s3://bucket/a//",
        "s3://bucket/a\\b",
        "s3://bucket/a\nb",
        "s3://bucket/a\0b",
        "s3://bucket/\udc80",
        b"s3://bucket/\xff",
        "s3://buc..ket/key",
        "s3://169.254.169.254:80/latest",
        "s3://[::1]/key",
        "s3://bucket/" + "x" * 1025,
    ],
)
def test_an_address_that_could_mean_something_else_is_refused(hub: JupyterRelayHub, url: str | bytes) -> None:
    with pytest.raises(UnusableURL):
        hub.serve_tree(url)


@pytest.mark.parametrize(
    "path", ["/s3://bucket", "s3:/bucket", "S3://bucket", "https://bucket/key", "file:///etc", b"x"]
)
def test_all_else_is_a_path(path: object) -> None:
    assert not is_object_url(path)


@given(st.text(), st.text())
def test_whatever_is_accepted_stays_what_it_is(bucket: str, key: str) -> None:
    try:
        root = normalise_object_url(f"s3://{bucket}/{key}")
    except UnusableURL:
        return
    assert normalise_object_url(root) == root
    assert root.decode() == f"s3://{bucket}/{key}".removesuffix("/")
    scheme, named, below = split_root(root)
    assert (scheme, "/" in named) == ("s3", False)
    assert not {"..", "."}.intersection(below.split("/"))


def test_a_prefix_and_an_object_are_published_with_keys_that_last(hub: JupyterRelayHub) -> None:
    tree = hub.serve_tree("s3://survey/tiles/")
    assert tree.endswith("/")
    assert hub.serve_tree("s3://survey/tiles") == tree
    file = hub.serve_file("s3://survey/ü cube.dat", ".fits", visibility="public")
    assert file.endswith("/%C3%BC%20cube.dat.fits")
    kinds = {one.key: (one.kind, one.location, one.path) for one in hub.list()}
    assert kinds[tree.key] == ("tree", "s3://survey/tiles", None)
    assert kinds[file.key] == ("file", "s3://survey/ü cube.dat", None)
    assert "s3://survey/tiles" in repr(hub.list())
    assert "s3://survey/tiles" in hub.list()._repr_html_()
    assert "read by only you" in _shown(tree)
    assert "tiles" in tree._repr_html_()


def _shown(url: object) -> str:
    from IPython.lib.pretty import pretty

    return str(pretty(url))  # type: ignore[no-untyped-call]  # IPython gives it no types


@pytest.mark.parametrize("url", ["s3://survey", "s3://survey/", "s3://survey/tiles/"])
def test_a_file_is_no_prefix(hub: JupyterRelayHub, url: str) -> None:
    with pytest.raises(NotAFile):
        hub.serve_file(url)


def test_what_cannot_be_done_with_objects_is_said(hub: JupyterRelayHub) -> None:
    with pytest.raises(InvalidOption, match="is not read for its key"):
        hub.serve_file("s3://survey/cube.fits", content=True, executor=ThreadPoolExecutor())
    with pytest.raises(UnusableURL, match="archive itself, with serve_file"):
        hub.serve_tree("s3://survey/tiles.zip")
    assert hub.serve_tree("s3://survey/tiles.zip/").endswith("/")
