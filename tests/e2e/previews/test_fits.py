from __future__ import annotations

import gzip
import io
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.visualization import AsinhStretch
from astropy.wcs import WCS
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, FloatRect

from tests.conftest import live_server
from tests.e2e.previews.conftest import Previews, Watched

Pixels = NDArray[Any]

#: Values as they are: gray, from the least to the largest.
PLAIN = "&stretch=linear&black=0&white=100"


def make_image(kind: str = "float32", shape: tuple[int, ...] = (30, 40)) -> Pixels:
    random = np.random.default_rng(1)
    ramp = np.add.outer(np.arange(shape[-2]), 2 * np.arange(shape[-1])) * 1.0
    return np.asarray(ramp + random.normal(0, 5, shape) + 20).astype(kind)


def place_of(
    shown: Watched, shape: tuple[int, ...], x: int, y: int, box: FloatRect | None = None
) -> tuple[float, float]:
    """Return where a pixel, counted from 0, is on the page while the whole image is seen."""
    box = box or shown.page.locator(".stage canvas[role=img]").bounding_box()
    assert box is not None
    scale = min(box["width"] / shape[-1], box["height"] / shape[-2])
    left = box["x"] + box["width"] / 2 + (x + 0.5 - shape[-1] / 2) * scale
    return left, box["y"] + box["height"] / 2 - (y + 0.5 - shape[-2] / 2) * scale


def read_out(shown: Watched, shape: tuple[int, ...], x: int, y: int) -> str:
    """Return what the page says of a pixel under the pointer."""
    shown.page.mouse.move(*place_of(shown, shape, x, y))
    said = shown.page.locator(".readout")
    said.get_by_text(f"x {x + 1}  y {y + 1}").wait_for()
    for _ in range(100):
        if "…" not in (text := said.inner_text()):
            return text
        shown.page.wait_for_timeout(50)
    raise AssertionError(text)


def value_of(shown: Watched, shape: tuple[int, ...], x: int, y: int) -> float:
    text = read_out(shown, shape, x, y).split()[4]
    return float("nan") if text == "no" else float(text)


def colours_of(shown: Watched, shape: tuple[int, ...]) -> Pixels:
    """Return the colour in the middle of each pixel, as it is seen, the lowest row first."""
    picture = np.asarray(Image.open(io.BytesIO(shown.page.screenshot())).convert("RGB"))
    box = shown.page.locator(".stage canvas[role=img]").bounding_box()
    found = np.empty((*shape[-2:], 3), dtype=int)
    for y in range(shape[-2]):
        for x in range(shape[-1]):
            left, top = place_of(shown, shape, x, y, box)
            found[y, x] = picture[int(top), int(left)]
    return found


def write_compressed(path: Path, data: Pixels, **options: Any) -> Pixels:
    """Write a compressed image; return the pixels that astropy reads of it."""
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(data, **options)]).writeto(path)
    with fits.open(path) as opened:
        return np.array(opened[1].data)


@pytest.mark.parametrize("kind", ["uint8", "int16", "uint16", "int32", "int64", "float32", "float64"])
def test_pixels_have_the_values_that_astropy_reads(previews: Previews, tmp_path: Path, kind: str) -> None:
    data = make_image(kind)
    fits.PrimaryHDU(data).writeto(tmp_path / "a.fits")
    with previews.opened("fits", tmp_path / "a.fits") as shown:
        assert shown.wait() == "ready", shown.sentence
        for x, y in [(0, 0), (39, 29), (17, 3), (2, 28)]:
            assert value_of(shown, data.shape, x, y) == pytest.approx(
                float(data[y, x]), rel=1e-9 if kind != "float32" else 1e-6
            )
        assert shown.problems == []


def test_colours_are_those_of_the_stretch(previews: Previews, tmp_path: Path, axe: str) -> None:
    data = make_image()
    data[3, 4] = np.nan
    fits.PrimaryHDU(data).writeto(tmp_path / "a.fits")
    share = (data - np.nanmin(data)) / (np.nanmax(data) - np.nanmin(data))
    with previews.opened("fits", tmp_path / "a.fits", more=PLAIN) as shown:
        assert shown.wait() == "ready", shown.sentence
        clear = np.isnan(data)
        # The key is drawn above the image's right upper corner.
        seen = colours_of(shown, data.shape)
        seen[26:, :] = seen[:1, :]
        differs = np.abs(seen - np.round(255 * share)[..., None])
        assert np.nanmax(differs[:26]) <= 1.01
        assert (seen[clear][0] == [238, 240, 242]).all(), "a pixel without a value is clear"
        shown.page.get_by_role("combobox", name="Stretch").select_option("asinh")
        shown.page.get_by_label("Inverted").check()
        shown.page.wait_for_url(lambda url: "invert=1" in url)
        expected = np.round(255 - 255 * AsinhStretch(0.1)(share, clip=False))
        assert np.nanmax(np.abs(colours_of(shown, data.shape)[:26] - expected[:26, :, None])) <= 2.01
        assert "stretch" not in shown.page.url.partition("invert")[2], "asinh is what is usual"
        assert shown.find_barriers(axe) == []
        assert shown.problems == []


def test_scaled_values_and_blanks_are_read_as_they_are_meant(previews: Previews, tmp_path: Path) -> None:
    stored = make_image("int16")
    stored[2, 5] = -999
    header = fits.Header({"BSCALE": 0.25, "BZERO": 100.0, "BLANK": -999})
    written = fits.PrimaryHDU(stored, header)
    written.header.update(header)
    written.writeto(tmp_path / "a.fits", output_verify="ignore")
    with fits.open(tmp_path / "a.fits") as opened:
        data = np.array(opened[0].data)
    assert np.isnan(data[2, 5])
    with previews.opened("fits", tmp_path / "a.fits") as shown:
        assert shown.wait() == "ready", shown.sentence
        assert value_of(shown, data.shape, 7, 9) == pytest.approx(float(data[9, 7]))
        assert np.isnan(value_of(shown, data.shape, 5, 2))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("int16", {"compression_type": "RICE_1"}),
        ("int32", {"compression_type": "RICE_1", "tile_shape": (7, 9)}),
        ("uint8", {"compression_type": "RICE_1"}),
        ("float32", {"compression_type": "RICE_1", "quantize_method": 1, "dither_seed": 7}),
        ("float32", {"compression_type": "RICE_1", "quantize_method": 2, "dither_seed": 9000}),
        ("float32", {"compression_type": "RICE_1", "quantize_method": -1}),
        ("int16", {"compression_type": "GZIP_1"}),
        ("int32", {"compression_type": "GZIP_2", "tile_shape": (30, 8)}),
        ("float32", {"compression_type": "GZIP_1", "quantize_level": 0.0}),
        ("float64", {"compression_type": "GZIP_2", "quantize_level": 0.0}),
        ("float32", {"compression_type": "GZIP_2", "quantize_method": 1, "dither_seed": 3}),
    ],
)
def test_compressed_images_have_the_values_that_astropy_reads(
    previews: Previews, tmp_path: Path, kind: str, options: dict[str, Any]
) -> None:
    written = make_image(kind)
    if kind == "float32":
        written[3, 3] = np.nan
        written[4, 4] = 0
    data = write_compressed(tmp_path / "a.fits", written, **options)
    with previews.opened("fits", tmp_path / "a.fits") as shown:
        assert shown.wait() == "ready", shown.sentence
        for x, y in [(0, 0), (39, 29), (17, 3), (3, 3), (4, 4), (8, 6), (9, 7)]:
            assert value_of(shown, data.shape, x, y) == pytest.approx(float(data[y, x]), rel=1e-6, nan_ok=True)
        assert shown.problems == []


def test_a_compression_that_is_not_known_is_named(previews: Previews, tmp_path: Path) -> None:
    write_compressed(tmp_path / "a.fits", make_image("int16", (64, 64)), compression_type="HCOMPRESS_1")
    with previews.opened("fits", tmp_path / "a.fits") as shown:
        assert shown.wait() == "failed"
        assert "compressed by HCOMPRESS_1" in shown.sentence


def test_planes_of_a_cube_are_chosen(previews: Previews, tmp_path: Path, axe: str) -> None:
    data = make_image("float32", (2, 5, 30, 40))
    header = fits.Header({"CTYPE3": "FREQ", "CRVAL3": 1e9, "CDELT3": 1e6, "CRPIX3": 1.0, "CUNIT3": "Hz"})
    fits.PrimaryHDU(data, header).writeto(tmp_path / "cube.fits")
    with previews.opened("fits", tmp_path / "cube.fits", more="&plane=2,1") as shown:
        assert shown.wait() == "ready", shown.sentence
        assert "FREQ 1001000000 Hz" in shown.sentence
        assert value_of(shown, data.shape, 10, 11) == pytest.approx(float(data[0, 1, 11, 10]), rel=1e-6)
        shown.page.get_by_label("FREQ", exact=True).press("End")
        shown.page.get_by_label("Axis 4", exact=True).press("End")
        shown.page.get_by_text("FREQ 1004000000 Hz").wait_for()
        assert value_of(shown, data.shape, 10, 11) == pytest.approx(float(data[1, 4, 11, 10]), rel=1e-6)
        shown.page.wait_for_url(lambda url: "plane=5%2C2" in url)
        assert shown.find_barriers(axe) == []
        assert shown.problems == []


def test_compressed_cubes_have_their_planes(previews: Previews, tmp_path: Path) -> None:
    data = write_compressed(
        tmp_path / "a.fits", make_image("int16", (5, 30, 40)), compression_type="RICE_1", tile_shape=(2, 8, 40)
    )
    with previews.opened("fits", tmp_path / "a.fits", more="&plane=4") as shown:
        assert shown.wait() == "ready", shown.sentence
        assert value_of(shown, data.shape, 10, 11) == data[3, 11, 10]
    with previews.opened("fits", tmp_path / "a.fits", more="&plane=5") as shown:
        assert shown.wait() == "ready", shown.sentence
        assert value_of(shown, data.shape, 10, 11) == data[4, 11, 10]


@pytest.mark.parametrize(
    "types",
    [
        ("RA---TAN", "DEC--TAN"),
        ("RA---SIN", "DEC--SIN"),
        ("GLON-CAR", "GLAT-CAR"),
        ("DEC--TAN", "RA---TAN"),
        ("RA---TAN-SIP", "DEC--TAN-SIP"),
    ],
)
def test_coordinates_are_those_of_astropy(previews: Previews, tmp_path: Path, types: tuple[str, str]) -> None:
    data = make_image()
    header = fits.Header(
        {"CTYPE1": types[0], "CTYPE2": types[1], "CRPIX1": 12.0, "CRPIX2": 20.5, "CUNIT1": "deg", "CUNIT2": "deg"}
    )
    centre = (83.6, 0.0) if types[0].startswith("G") else (-5.4, 83.6) if types[0].startswith("D") else (83.6, -5.4)
    header.update({"CRVAL1": centre[0], "CRVAL2": centre[1], "CD1_1": -0.5, "CD1_2": 0.1, "CD2_1": 0.12, "CD2_2": 0.6})
    if types[0].endswith("SIP"):
        header.update({"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-3, "A_1_1": 2e-3, "B_0_2": -1e-3, "B_1_1": 5e-4})
    fits.PrimaryHDU(data, header).writeto(tmp_path / "a.fits")
    world = WCS(header)
    with previews.opened("fits", tmp_path / "a.fits") as shown:
        assert shown.wait() == "ready", shown.sentence
        for x, y in [(0, 0), (39, 29), (11, 19)]:
            text = read_out(shown, data.shape, x, y)
            found = [float(part.strip("(,)°")) for part in text.split() if "°" in part and "." in part]
            expected = [float(value) for value in world.all_pix2world(x, y, 0)]
            if types[0].startswith("D"):
                expected.reverse()
            assert found[-2:] == pytest.approx(expected, abs=2e-6), text


def test_keys_say_the_value_below_the_cross(previews: Previews, tmp_path: Path) -> None:
    data = make_image()
    fits.PrimaryHDU(data).writeto(tmp_path / "a.fits")
    with previews.opened("fits", tmp_path / "a.fits") as shown:
        assert shown.wait() == "ready", shown.sentence
        canvas = shown.page.get_by_role("img")
        assert "40 × 30 pixels" in (canvas.get_attribute("aria-label") or "")  # noqa: RUF001
        canvas.press("ArrowRight")
        canvas.press("ArrowUp")
        assert shown.page.locator(".readout").inner_text().startswith(f"x 21  y 17   {data[16, 20]:.4}"[:16])
        canvas.press("+")
        canvas.press("Shift+ArrowLeft")
        shown.page.wait_for_url(lambda url: "zoom=" in url)
        canvas.press("0")
        shown.page.wait_for_url(lambda url: "zoom=" not in url)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cube of 40 GB, 100 planes of 10,000 by 10,000; almost all of it is a hole in the file."""
    path = tmp_path_factory.mktemp("large") / "large.fits"
    header = fits.Header(
        [("SIMPLE", True), ("BITPIX", -32), ("NAXIS", 3), ("NAXIS1", 10000), ("NAXIS2", 10000), ("NAXIS3", 100)]
    )
    with open(path, "wb") as file:
        file.write(header.tostring().encode())
        start = file.tell()
        rows = np.hypot.outer(np.linspace(-1, 1, 10000), np.linspace(-1, 1, 10000)).astype(">f4")
        file.seek(start + 50 * 400_000_000)
        rows.tofile(file)
        file.truncate(start + 40_000_000_000 + (-40_000_000_000 % 2880))
    return path


def check_radius(shown: Watched) -> None:
    """Compare the value under the pointer with what was written there."""
    said = shown.page.locator(".readout")
    said.get_by_text(re.compile(r"x \d+  y \d+   [\d.]+")).wait_for()
    _, x, _, y, value = said.inner_text().split()
    at = [(int(place) - 1) / 9999 * 2 - 1 for place in (x, y)]
    assert float(value) == pytest.approx(math.hypot(*at), abs=1e-6)


def test_a_cube_of_40_gigabytes_opens_with_few_bytes(previews: Previews, large: Path) -> None:
    with previews.opened("fits", large, more="&plane=51&colours=magma") as shown:
        assert shown.wait() == "ready", shown.sentence
        assert "10,000 × 10,000 × 100" in shown.sentence  # noqa: RUF001
        assert shown.read_bytes < 8_000_000
        first = shown.read_bytes
        # Zoomed in, what is seen is read in full.
        shown.page.mouse.move(*place_of(shown, (10000, 10000), 7000, 2500))
        check_radius(shown)
        for _ in range(6):
            shown.page.mouse.wheel(0, -300)
        shown.page.wait_for_timeout(400)
        assert shown.wait() == "ready", shown.sentence
        assert "row was read" not in shown.sentence
        assert 100_000 < shown.read_bytes - first < 8_000_000
        shown.page.mouse.move(300, 400)
        check_radius(shown)
        assert shown.problems == []


def test_what_is_not_wanted_any_more_is_not_read(previews: Previews, large: Path) -> None:
    with previews.opened("fits", large) as shown:
        assert shown.wait() == "ready", shown.sentence
        first = shown.read_bytes
        field = shown.page.get_by_label("Axis 3", exact=True)
        for _ in range(30):
            field.press("ArrowRight")
        shown.page.get_by_text("10,000").first.wait_for()
        assert shown.wait() == "ready", shown.sentence
        assert shown.read_bytes - first < 3 * 8_000_000
        shown.page.wait_for_url(lambda url: "plane=31" in url)


def test_parts_are_chosen_and_headers_are_searched(previews: Previews, tmp_path: Path, axe: str) -> None:
    data = make_image()
    header = fits.Header()
    header["OBJECT"] = ("<img src=x onerror=alert(1)>", "it's hostile")
    header["LONG"] = "x" * 150 + "'quoted'"
    header["HIERARCH ESO DET GAIN"] = 1.5
    rows = fits.BinTableHDU.from_columns(
        [
            fits.Column("name", "12A", array=np.array(["alpha", "<b>beta</b>", ""])),
            fits.Column("flag", "L", array=np.array([True, False, True])),
            fits.Column("count", "J", null=-1, array=np.array([1, -1, 3])),
            fits.Column("large", "K", array=np.array([2**62, -5, 0])),
            fits.Column("unsigned", "I", bzero=32768, array=np.array([0, 65535, 7], dtype="uint16")),
            fits.Column("flux", "E", unit="Jy", array=np.array([0.1, np.nan, -2.5e10], dtype="float32")),
            fits.Column("vector", "3D", array=np.arange(9.0).reshape(3, 3)),
            fits.Column("complex", "C", array=np.array([1j, 2, 3], dtype="complex64")),
        ],
        name="CATALOG",
    )
    text = fits.TableHDU.from_columns(
        [fits.Column("a", "A5", array=np.array(["x", "y"])), fits.Column("b", "I4", array=np.array([1, 22]))]
    )
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(data, header, name="SCI"), rows, text]).writeto(tmp_path / "a.fits")
    with previews.opened("fits", tmp_path / "a.fits") as shown:
        assert shown.wait() == "ready", shown.sentence
        page = shown.page
        assert value_of(shown, data.shape, 1, 1) == pytest.approx(float(data[1, 1]), rel=1e-6)
        page.locator(".cards summary").click()
        page.get_by_label("Only cards that have").fill("LONG")
        assert page.locator(".cards tbody td").nth(0).inner_text() == "x" * 150 + "'quoted'"
        page.get_by_label("Only cards that have").fill("hostile")
        assert page.locator(".cards tbody").inner_text().split("\t") == [
            "OBJECT",
            "<img src=x onerror=alert(1)>",
            "it's hostile",
        ]
        page.get_by_label("Only cards that have").fill("eso det")
        assert page.locator(".cards tbody").inner_text().split("\t")[:2] == ["ESO DET GAIN", "1.5"]
        page.locator(".cards summary").click()
        page.get_by_role("combobox", name="Part").select_option("2")
        page.get_by_text("3 rows, 8 columns").wait_for()
        found = [row.split("\t") for row in page.locator(".grid tbody").inner_text().split("\n")]
        assert found == [
            ["1", "alpha", "true", "1", str(2**62), "0", "0.1", "[0, 1, 2]", "…"],
            ["2", "<b>beta</b>", "false", "null", "-5", "65535", "NaN", "[3, 4, 5]", "…"],
            ["3", "", "true", "3", "0", "7", "-25000000000", "[6, 7, 8]", "…"],
        ]
        assert shown.find_barriers(axe) == []
        page.get_by_role("combobox", name="Part").select_option("3")
        page.get_by_text("2 rows, 2 columns").wait_for()
        assert page.locator(".grid tbody").inner_text().split() == ["1", "x", "1", "2", "y", "22"]
        page.wait_for_url(lambda url: "hdu=3" in url)
        assert shown.problems == []


def test_another_part_is_shown_from_its_first_row(previews: Previews, tmp_path: Path) -> None:
    columns = [fits.Column("n", "J", array=np.arange(500))]
    parts = [fits.BinTableHDU.from_columns(columns) for _ in range(2)]
    fits.HDUList([fits.PrimaryHDU(), *parts]).writeto(tmp_path / "a.fits")
    with previews.opened("fits", tmp_path / "a.fits", more="&hdu=1&row=301") as shown:
        assert shown.wait() == "ready", shown.sentence
        assert shown.page.locator(".grid tbody td").first.inner_text() == "300"
        shown.page.get_by_role("combobox", name="Part").select_option("2")
        shown.page.locator(".grid tbody td").get_by_text("0", exact=True).wait_for()
        shown.page.wait_for_url(lambda url: "hdu=2" in url and "row=" not in url)


def test_a_large_table_is_turned_page_by_page(previews: Previews, tmp_path: Path) -> None:
    numbers = np.arange(500_000)
    fits.BinTableHDU.from_columns(
        [fits.Column("n", "J", array=numbers), fits.Column("s", "D", array=numbers / 8)]
    ).writeto(tmp_path / "a.fits")
    with previews.opened("fits", tmp_path / "a.fits") as shown:
        assert shown.wait() == "ready", shown.sentence
        assert shown.read_bytes < 200_000
        shown.page.get_by_label("From row").fill("400001")
        shown.page.get_by_label("From row").press("Enter")
        shown.page.get_by_text("400,001", exact=True).wait_for()
        assert shown.page.locator(".grid tbody tr").first.inner_text().split() == ["400,001", "400000", "50000"]
        shown.page.get_by_role("button", name="Last rows").click()
        shown.page.get_by_text("500,000", exact=True).wait_for()
        assert shown.read_bytes < 200_000


def test_a_file_that_gzip_has_compressed_is_read_whole(previews: Previews, tmp_path: Path) -> None:
    data = make_image()
    fits.PrimaryHDU(data).writeto(tmp_path / "a.fits")
    (tmp_path / "b.fits.gz").write_bytes(gzip.compress((tmp_path / "a.fits").read_bytes()))
    with previews.opened("fits", tmp_path / "b.fits.gz") as shown:
        assert shown.wait() == "ready", shown.sentence
        assert value_of(shown, data.shape, 30, 3) == pytest.approx(float(data[3, 30]), rel=1e-6)


def card(text: str) -> bytes:
    return text.ljust(80).encode()


def header_of(*cards: str) -> bytes:
    whole = b"".join(map(card, [*cards, "END"]))
    return whole + b" " * (-len(whole) % 2880)


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "no FITS file"),
    "text": (lambda: b"hello" * 1000, "no FITS file"),
    "endless": (lambda: card("SIMPLE  = T") + card("COMMENT x") * 200_000, "no END within"),
    "cut in the header": (lambda: card("SIMPLE  = T") + card("NAXIS   = 0"), "ends within a header"),
    "huge": (
        lambda: header_of(
            "SIMPLE  = T", "BITPIX  = 8", "NAXIS   = 2", "NAXIS1  = 99999999999", "NAXIS2  = 99999999999"
        ),
        "more than any file",
    ),
    "many axes": (lambda: header_of("SIMPLE  = T", "BITPIX  = 8", "NAXIS   = 900"), "900 axes"),
    "negative": (
        lambda: header_of("SIMPLE  = T", "BITPIX  = 8", "NAXIS   = 2", "NAXIS1  = -5", "NAXIS2  = 5"),
        "not a count",
    ),
    "wrong bits": (lambda: header_of("SIMPLE  = T", "BITPIX  = 7", "NAXIS   = 1", "NAXIS1  = 5"), "BITPIX is 7"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_is_wrong_is_told_of(previews: Previews, tmp_path: Path, name: str) -> None:
    make, told = HOSTILE[name]
    (tmp_path / "a.fits").write_bytes(make())
    with previews.opened("fits", tmp_path / "a.fits") as shown:
        assert shown.wait() == "failed"
        assert told in shown.sentence
        # (A browser calls the answer to a part of an empty file an error.)
        assert [problem for problem in shown.problems if "416" not in problem] == []


def test_of_a_file_that_is_cut_there_is_what_there_is(previews: Previews, tmp_path: Path) -> None:
    data = make_image()
    fits.PrimaryHDU(data).writeto(tmp_path / "a.fits")
    (tmp_path / "a.fits").write_bytes((tmp_path / "a.fits").read_bytes()[: 2880 + 4 * 40 * 10 + 8])
    with previews.opened("fits", tmp_path / "a.fits") as shown:
        assert shown.wait() == "ready", shown.sentence
        assert "the file is cut" in shown.sentence
        assert value_of(shown, data.shape, 5, 9) == pytest.approx(float(data[9, 5]), rel=1e-6)
        assert np.isnan(value_of(shown, data.shape, 5, 20))


def test_an_image_that_a_file_only_claims_to_have_takes_no_memory(previews: Previews, tmp_path: Path) -> None:
    claimed = header_of("SIMPLE  = T", "BITPIX  = -64", "NAXIS   = 2", "NAXIS1  = 20000000", "NAXIS2  = 20000000")
    (tmp_path / "a.fits").write_bytes(claimed + bytes(5760))
    with previews.opened("fits", tmp_path / "a.fits") as shown:
        assert shown.wait() == "ready", shown.sentence
        assert "the file is cut" in shown.sentence
        assert shown.read_bytes < 100_000


def test_a_plane_with_rows_that_are_too_long_is_sampled(previews: Previews, tmp_path: Path) -> None:
    """A dynamic spectrum: 1,000,000 by 100, 400 MB."""
    header = fits.Header([("SIMPLE", True), ("BITPIX", -32), ("NAXIS", 2), ("NAXIS1", 1_000_000), ("NAXIS2", 100)])
    with open(tmp_path / "a.fits", "wb") as file:
        file.write(header.tostring().encode())
        np.tile(np.arange(1_000_000, dtype=">f4"), (100, 1)).tofile(file)
        file.write(bytes(-400_000_000 % 2880))
    with previews.opened("fits", tmp_path / "a.fits") as shown:
        assert shown.wait() == "ready", shown.sentence
        assert "a few pixels of every" in shown.sentence
        assert shown.read_bytes < 8_000_000
        assert shown.problems == []


def test_in_a_sandbox_all_parts_are_read_and_the_address_is_kept(browser: Browser, tmp_path: Path) -> None:
    """As in another site's page: the requests of such a frame are those of an unknown origin."""
    data = np.tile(np.arange(1000, dtype="float32"), (1000, 1))
    fits.PrimaryHDU(data).writeto(tmp_path / "a.fits")
    (tmp_path / "server").mkdir()
    with live_server(tmp_path / "server") as server:
        url = server.hub.serve_file(tmp_path / "a.fits", visibility="public")
        origin = f"http://127.0.0.1:{server.address[1]}"
        page = browser.new_page()
        watched = Watched(page, origin)
        source = f"{origin}/wwtkdr/_static/preview/fits.html?url=../../{url.removeprefix('/wwtkdr/')}"
        page.set_content(f'<iframe sandbox="allow-scripts" src="{source}"></iframe>')
        frame = page.frame_locator("iframe")
        frame.locator("html[data-state=ready], html[data-state=failed]").wait_for()
        assert frame.locator("#status").inner_text() == "1,000 × 1,000 pixels"  # noqa: RUF001
        frame.get_by_role("combobox", name="Colours").select_option("magma")
        page.wait_for_timeout(1000)
        assert page.frames[1].evaluate("location.search").endswith("&colours=magma")
        assert watched.problems == []
        page.close()
