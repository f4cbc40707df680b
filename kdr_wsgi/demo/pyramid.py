"""The pyramid that the demonstration shows, and how it is read back."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urljoin

#: An image that toasty ships for its own tests.
IMAGE = "geminiann11015a.jpg"


class DemoError(Exception):
    """The demonstration cannot go on; the sentence says why and what to do."""


def make_pyramid(folder: Path) -> None:
    """Tile the image into `folder`, as toasty does for WorldWide Telescope."""
    import toasty
    from toasty.builder import Builder
    from toasty.image import ImageLoader
    from toasty.pyramid import PyramidIO

    image = ImageLoader().load_path(str(Path(toasty.__file__).with_name("tests") / IMAGE))
    builder = Builder(PyramidIO(str(folder), default_format="png"))
    builder.tile_base_as_study(image)
    builder.make_placeholder_thumbnail()
    builder.default_tiled_study_astrometry()
    builder.set_name("NGC 7552, Gemini Observatory")
    builder.cascade()
    builder.write_index_rel_wtml()


def check_tiles(server: str, tiles: str, folder: Path, headers: Mapping[str, str]) -> None:
    """Read some tiles of `folder` by range; raise DemoError at the first that is wrong.

    Parameters
    ----------
    server : str
        Scheme, host and port.
    tiles : str
        The pyramid's partial URL.
    folder : Path
    headers : mapping
        Sent with each request.
    """
    paths = sorted(folder.rglob("*.png"))
    for path in (paths[0], paths[len(paths) // 2], paths[-1]):
        whole = path.read_bytes()
        first, last = len(whole) // 3, len(whole) // 2
        url = f"{server}{tiles}{quote(path.relative_to(folder).as_posix())}"
        status, body = fetch(url, {**headers, "Range": f"bytes={first}-{last}"})
        if status != 206 or body != whole[first : last + 1]:
            raise DemoError(f"bytes {first} to {last} of {url} are wrong (status {status}); run: kdr doctor")
        print(f"ok    bytes {first}-{last} of {path.relative_to(folder).as_posix()}")


def check_page(server: str, page: str, headers: Mapping[str, str]) -> None:
    """Read the viewer's page and what it needs; raise DemoError at the first that is missing."""
    for name in ("", "pyramid.js", "page.css"):
        url = urljoin(server + page, name) if name else server + page
        status, body = fetch(url, headers)
        if status != 200 or not body:
            raise DemoError(f"{url} is missing (status {status}); install kdr-wsgi anew")
        print(f"ok    {url.removeprefix(server)}")


def fetch(url: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
    """Return the status and the body of an answer."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=dict(headers)), timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
    except OSError as error:
        raise DemoError(f"{url} cannot be read: {error}") from error
