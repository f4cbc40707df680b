"""Previews: by name, and the addresses of their pages."""

from __future__ import annotations

import subprocess
import sys
from urllib.parse import parse_qs, unquote_to_bytes, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.errors import InvalidKey
from hub.keys import check_key
from hub.previews import Preview, find_folder_preview, find_preview, preview_url


@pytest.mark.parametrize(
    ("name", "page"),
    [
        ("m31.fits", "fits.html"),
        ("M31.FITS", "fits.html"),
        ("a.b.fit", "fits.html"),
        ("elevation.tif", "map.html"),
        ("planet.pmtiles", "map.html"),
        ("stars.csv", "table.html"),
        ("stars.parquet", "table.html"),
        ("places.geojson", "json.html"),
        ("image.dzi", "pyramid.html"),
        ("cube.FITS.gz", "fits.html"),
        ("photo.jpeg", "media.html"),
        ("film.webm", "media.html"),
        ("cube.zarr/", "zarr.html"),
    ],
)
def test_the_extension_says_which_page_shows_a_file(name: str, page: str) -> None:
    assert find_preview(name) == Preview(page)


@pytest.mark.parametrize("name", ["", "/", "fits", ".json", "stars.csv.gz", "a.fits/", "cube.zarr", "x.html", "x."])
def test_other_names_have_no_preview(name: str) -> None:
    assert find_preview(name) is None


@pytest.mark.parametrize(
    ("names", "page"),
    [
        (["index_rel.wtml", "0/", "1/", "thumb.jpg"], "pyramid.html"),
        (["0/", "1/", "2/", "10/"], "pyramid.html"),
        ([".zattrs", ".zgroup", "x/"], "zarr.html"),
        ([".zarray", "0", "1"], "zarr.html"),
        (["c/", "zarr.json"], "zarr.html"),
        (["index_rel.wtml", "zarr.json"], "zarr.html"),
    ],
)
def test_the_names_in_a_folder_say_which_page_shows_it(names: list[str], page: str) -> None:
    assert find_folder_preview(names) == Preview(page)
    assert find_folder_preview(reversed(names)) == Preview(page)


@pytest.mark.parametrize(
    "names", [[], ["0", "1"], ["0/", "1/", "readme.txt"], ["0/", "x/"], ["²/"], ["/"], [f"{n}/" for n in range(100)]]
)
def test_other_folders_have_no_preview(names: list[str]) -> None:
    assert find_folder_preview(names) is None


def _is_key(key: str) -> bool:
    try:
        check_key(key)
    except InvalidKey:
        return False
    return True


_SEGMENTS = st.binary(min_size=1, max_size=12).filter(
    lambda name: b"\0" not in name and b"/" not in name and name not in (b".", b"..")
)


@given(st.text(min_size=1, max_size=20).filter(_is_key), st.lists(_SEGMENTS, max_size=4), st.booleans())
def test_a_previews_page_finds_the_file_whatever_its_key_and_name(
    key: str, names: list[bytes], is_folder: bool
) -> None:
    entry = b"/".join(names) + (b"/" if is_folder and names else b"")
    listing = f"https://hub.example/user/ada/wwtkdr/{'x/' * (len(names) + 1)}"
    address = preview_url(Preview("fits.html"), key, entry, before="../" * (len(names) + 1))
    page = urljoin(listing, address)
    assert urlsplit(page).path == "/user/ada/wwtkdr/_static/preview/fits.html"
    (shown,) = parse_qs(urlsplit(page).query, strict_parsing=True)["url"]
    parts = urlsplit(urljoin(page, shown))
    assert (parts.netloc, parts.query, parts.fragment) == ("hub.example", "", "")
    segment, _, quoted = parts.path.removeprefix("/user/ada/wwtkdr/").partition("/")
    assert unquote_to_bytes(segment).decode() == key
    assert unquote_to_bytes(quoted) == entry


def test_the_module_needs_nothing_but_the_standard_library() -> None:
    code = "import sys, hub.previews; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not {"flask", "werkzeug", "jinja2", "kdr_wsgi"} & {*done.stdout.split()}
