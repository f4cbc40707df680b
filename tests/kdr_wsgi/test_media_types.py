from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kdr_wsgi.media_types import find_media_type


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        (b"tile.png", "image/png"),
        (b"TILE.PNG", "image/png"),
        (b"cube.fits", "image/fits"),
        (b"cube.fits.fz", "image/fits"),
        (b"cube.fits.gz", "application/gzip"),
        (b"index.wtml", "application/x-wtml"),
        (b".zarray", "application/json"),
        (b"a.tiff", "image/tiff"),
        (b"a.pmtiles", "application/vnd.pmtiles"),
        (b"page.html", "text/html; charset=utf-8"),
        (b"module.js", "text/javascript; charset=utf-8"),
        (b"nothing", "application/octet-stream"),
        (b"a.unknown", "application/octet-stream"),
        (b"a.\xff", "application/octet-stream"),
        (b"", "application/octet-stream"),
    ],
)
def test_the_name_decides(name: bytes, content_type: str) -> None:
    assert find_media_type(name).content_type == content_type


@pytest.mark.parametrize("name", [b"a.html", b"a.htm", b"a.svg", b"a.xml", b"a.xhtml", b"a.xsl", b"a.vot", b"a.rss"])
def test_what_a_browser_would_run_is_active(name: bytes) -> None:
    assert find_media_type(name).is_active


@pytest.mark.parametrize("name", [b"a.png", b"a.json", b"a.js", b"a.css", b"a.txt", b"a.wtml", b"a.pdf", b"a"])
def test_data_are_not_active(name: bytes) -> None:
    assert not find_media_type(name).is_active


@pytest.mark.parametrize(
    "name",
    "a.json a.geojson a.js a.mjs a.html a.css a.csv a.txt a.svg a.xml a.wtml a.wasm a.vot a.gltf a.yml .zarray".split(),
)
def test_what_is_text_or_as_wordy_is_compressible(name: str) -> None:
    assert find_media_type(name.encode()).is_compressible


@pytest.mark.parametrize(
    "name",
    "a.png a.jpg a.webp a.gz a.br a.zst a.zip a.mp4 a.fits a.fz a.tiff a.npy a.bin a a.pmtiles a.parquet "
    "a.json.gz a.woff2 a.pdf a.nc a.h5".split(),
)
def test_what_is_packed_already_or_unknown_is_not(name: str) -> None:
    assert not find_media_type(name.encode()).is_compressible


def test_the_machines_own_tables_change_nothing(tmp_path: Path) -> None:
    (tmp_path / "mime.types").write_text("text/evil png unknown\n")
    program = (
        f"import mimetypes; mimetypes.knownfiles.append({str(tmp_path / 'mime.types')!r}); mimetypes.init()\n"
        "mimetypes.add_type('text/evil', '.png')\n"
        "from kdr_wsgi.media_types import find_media_type\n"
        "print(find_media_type(b'a.png').content_type, find_media_type(b'a.unknown').content_type)"
    )
    printed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert printed == "image/png application/octet-stream\n"
