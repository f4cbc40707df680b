"""Pyramids of tiles; those of WorldWide Telescope are in tests/e2e/test_demo.py, with the demonstration."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.e2e.previews.conftest import Previews, Watched

#: The quarters of the image, by column and row from its upper left corner.
COLOURS = {(0, 0): (200, 30, 30), (1, 0): (30, 200, 30), (0, 1): (30, 30, 200), (1, 1): (200, 200, 30)}


def picture(side: int) -> Image.Image:
    made = Image.new("RGB", (side, side))
    for (column, row), colour in COLOURS.items():
        made.paste(colour, (column * side // 2, row * side // 2, (column + 1) * side // 2, (row + 1) * side // 2))
    return made


def make_squares(folder: Path, name: Callable[[int, int, int], str], levels: int = 2, tile: int = 256) -> None:
    for level in range(levels + 1):
        count = 2**level
        image = picture(tile * count)
        for x in range(count):
            for y in range(count):
                path = folder / name(level, x, y)
                path.parent.mkdir(parents=True, exist_ok=True)
                image.crop((x * tile, y * tile, (x + 1) * tile, (y + 1) * tile)).save(path)


def make_dzi(folder: Path, width: int, height: int, tile: int = 254, overlap: int = 1) -> Path:
    """Write a Deep Zoom image; what it shows has the colours in its quarters."""
    (folder / "image.dzi").write_text(
        f'<?xml version="1.0"?><Image xmlns="http://schemas.microsoft.com/deepzoom/2008" TileSize="{tile}" '
        f'Overlap="{overlap}" Format="png"><Size Width="{width}" Height="{height}"/></Image>'
    )
    deepest = math.ceil(math.log2(max(width, height)))
    for level in range(deepest + 1):
        scale = 2 ** (deepest - level)
        size = (math.ceil(width / scale), math.ceil(height / scale))
        image = picture(256).resize(size, Image.Resampling.NEAREST)
        target = folder / "image_files" / str(level)
        target.mkdir(parents=True)
        for x in range(math.ceil(size[0] / tile)):
            for y in range(math.ceil(size[1] / tile)):
                left, top = max(0, x * tile - overlap), max(0, y * tile - overlap)
                right, bottom = min(size[0], (x + 1) * tile + overlap), min(size[1], (y + 1) * tile + overlap)
                image.crop((left, top, right, bottom)).save(target / f"{x}_{y}.png")
    return folder / "image.dzi"


def check_quarters(shown: Watched, ratio: float = 1.0) -> None:
    """Compare the colours in the middle of the image's quarters, while all of it is seen."""
    shown.page.wait_for_timeout(1200)  # The tiles fade in.
    seen = Image.open(io.BytesIO(shown.page.locator("#viewer").screenshot())).convert("RGB")
    width = min(seen.width, seen.height * ratio)
    height = width / ratio
    for (column, row), colour in COLOURS.items():
        x = seen.width / 2 + (column - 0.5) * width / 2
        y = seen.height / 2 + (row - 0.5) * height / 2
        found = seen.getpixel((round(x), round(y)))
        assert isinstance(found, tuple)
        assert all(abs(a - b) < 12 for a, b in zip(found, colour, strict=True)), (column, row, found)


def own_problems(shown: Watched) -> list[str]:
    """Return problems other than what a browser says of tiles that are not there."""
    return [problem for problem in shown.problems if "404" not in problem]


@pytest.mark.parametrize(
    "name",
    [
        lambda level, x, y: f"{level}/{x}/{y}.png",
        lambda level, x, y: f"{level}/{x}/{y}.jpg",
        lambda level, x, y: f"{level}/{y}/{y}_{x}.png",
    ],
)
def test_tiles_by_level_column_and_row_are_found(
    previews: Previews, tmp_path: Path, axe: str, name: Callable[[int, int, int], str]
) -> None:
    make_squares(tmp_path, name)
    with previews.opened("pyramid", tmp_path) as shown:
        assert shown.wait() == "ready", shown.sentence
        assert "1,024 × 1,024 pixels, levels 0 to 2" in shown.page.locator("#facts").inner_text()  # noqa: RUF001
        check_quarters(shown)
        assert shown.read_bytes > 0
        assert shown.find_barriers(axe) == []
        assert own_problems(shown) == []


def test_a_folder_that_may_not_be_listed_is_tried(previews: Previews, tmp_path: Path) -> None:
    make_squares(tmp_path, lambda level, x, y: f"{level}/{x}/{y}.png")
    with previews.opened("pyramid", tmp_path) as shown:
        shown.page.route("**/*format=json", lambda route: route.fulfill(status=403))
        shown.page.reload()
        assert shown.wait() == "ready", shown.sentence
        assert "1,024 × 1,024 pixels, levels 0 to 2" in shown.page.locator("#facts").inner_text()  # noqa: RUF001


def test_tiles_from_the_bottom_are_shown_by_a_link(previews: Previews, tmp_path: Path) -> None:
    make_squares(tmp_path, lambda level, x, y: f"tiles/z{level}/{x}-{2**level - 1 - y}.webp", tile=128)
    more = "&kind=tms&pattern=tiles/z{z}/{x}-{y}.webp&tile=128&levels=2"
    with previews.opened("pyramid", tmp_path, more=more) as shown:
        assert shown.wait() == "ready", shown.sentence
        assert "512 × 512 pixels" in shown.page.locator("#facts").inner_text()  # noqa: RUF001
        check_quarters(shown)
        assert own_problems(shown) == []


def test_what_was_not_found_is_said_in_a_form(previews: Previews, tmp_path: Path) -> None:
    make_squares(tmp_path, lambda level, x, y: f"a{level}_{x}_{y}.png", levels=1)
    with previews.opened("pyramid", tmp_path) as shown:
        assert shown.wait() == "failed"
        assert "say above where its tiles are" in shown.sentence
        shown.page.get_by_label("Tiles", exact=True).fill("a{z}_{x}.png")
        shown.page.get_by_role("button", name="Show", exact=True).click()
        shown.page.get_by_text("need a pattern with").wait_for()
        shown.page.get_by_label("Tiles", exact=True).fill("a{z}_{x}_{y}.png")
        shown.page.get_by_label("Deepest level").fill("1")
        shown.page.get_by_role("button", name="Show", exact=True).click()
        shown.page.get_by_text("tiles", exact=False).first.wait_for()
        assert shown.wait() == "ready", shown.sentence
        check_quarters(shown)
        shown.page.wait_for_url(lambda url: "levels=1" in url)


@pytest.mark.parametrize("size", [(1000, 1000), (1500, 700)])
def test_deep_zoom_images_are_shown(previews: Previews, tmp_path: Path, axe: str, size: tuple[int, int]) -> None:
    make_dzi(tmp_path, *size)
    with previews.opened("pyramid", tmp_path, "image.dzi", is_tree=True) as shown:
        assert shown.wait() == "ready", shown.sentence
        check_quarters(shown, size[0] / size[1])
        assert shown.find_barriers(axe) == []
        assert shown.problems == []


def test_a_link_shows_the_same_part(previews: Previews, tmp_path: Path) -> None:
    make_squares(tmp_path, lambda level, x, y: f"{level}/{x}/{y}.png")
    with previews.opened("pyramid", tmp_path) as shown:
        assert shown.wait() == "ready", shown.sentence
        shown.page.locator(".openseadragon-canvas").first.focus()
        for _ in range(8):
            shown.page.get_by_role("button", name="Zoom in").click()
        shown.page.locator(".openseadragon-canvas").first.press("ArrowUp")
        shown.page.wait_for_timeout(2500)
        address = shown.page.url
        assert "zoom=" in address
    with previews.at(address.removeprefix(previews.jupyter.origin)) as again:
        assert again.wait() == "ready", again.sentence
        again.page.wait_for_timeout(1200)
        assert again.page.url == address


def test_a_folder_is_asked_for_what_it_holds(previews: Previews, tmp_path: Path) -> None:
    """A server that lists folders as JSON spares the page from trying names."""
    make_squares(tmp_path / "t", lambda level, x, y: f"{level}/{x}/{y}.png", levels=1)
    with previews.opened("pyramid", tmp_path, "t/", is_tree=True) as shown:
        assert shown.wait() == "ready", shown.sentence
        assert not any("wtml" in request.url for request in shown.requests)
        check_quarters(shown)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (('Format="png"', 'Format="/../../x"'), "describes no Deep Zoom image"),
        (('Width="1000"', 'Width="1e99"'), "describes no Deep Zoom image"),
        (('TileSize="254"', 'TileSize="0"'), "describes no Deep Zoom image"),
        (("<Image", "<html"), "describes no Deep Zoom image"),
    ],
)
def test_a_description_that_is_wrong_is_told_of(
    previews: Previews, tmp_path: Path, change: tuple[str, str], told: str
) -> None:
    path = make_dzi(tmp_path, 1000, 600)
    path.write_text(path.read_text().replace(*change))
    with previews.opened("pyramid", tmp_path, "image.dzi", is_tree=True) as shown:
        assert shown.wait() == "failed"
        assert told in shown.sentence
        assert shown.problems == []


@pytest.mark.parametrize(
    "pattern",
    ["/user/ada/api/{z}{x}{y}", "../{z}/{x}/{y}.png", "https://evil.example/{z}{x}{y}", "x/%2e%2e/%2e%2e/{z}{x}{y}"],
)
def test_a_link_makes_the_page_read_nothing_beside_its_folder(previews: Previews, tmp_path: Path, pattern: str) -> None:
    make_squares(tmp_path, lambda level, x, y: f"{level}/{x}/{y}.png", levels=0)
    with previews.opened("pyramid", tmp_path, more=f"&kind=xyz&pattern={pattern}&levels=2") as shown:
        assert shown.wait() == "failed"
        assert "must lie below its folder" in shown.sentence
        assert own_problems(shown) == []
