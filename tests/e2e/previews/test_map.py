"""Maps: GeoTIFF and PMTiles, drawn from the parts that are seen."""

from __future__ import annotations

import gzip
import io
import itertools
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
from affine import Affine
from numpy.typing import NDArray
from PIL import Image
from pmtiles.tile import Compression, TileType, zxy_to_tileid
from pmtiles.writer import Writer
from rasterio import warp

from tests.e2e.previews.conftest import Previews, Watched

#: A pixel of the tiles that are drawn, at a place of the map's box.
PIXEL = """([x, y]) => {
    const box = document.querySelector(".map").getBoundingClientRect();
    for (const canvas of document.querySelectorAll(".leaflet-tile-container canvas")) {
        const at = canvas.getBoundingClientRect();
        const [left, top] = [box.x + x - at.x, box.y + y - at.y];
        if (left >= 0 && top >= 0 && left < at.width && top < at.height) {
            const place = [Math.floor(left * canvas.width / at.width), Math.floor(top * canvas.height / at.height)];
            return [...canvas.getContext("2d").getImageData(...place, 1, 1).data];
        }
    }
    return null;
}"""


def pixel(shown: Watched, x: float, y: float) -> list[int]:
    found: list[int] = shown.page.evaluate(PIXEL, [x, y])
    return found


def centre(shown: Watched) -> tuple[float, float]:
    box = shown.page.locator(".map").bounding_box()
    assert box is not None
    return box["width"] / 2, box["height"] / 2


def write_tiff(path: Path, data: NDArray[Any], **profile: object) -> Path:
    bands = data[None] if data.ndim == 2 else data
    given = {"driver": "COG" if "overviews" in profile else "GTiff", **profile}
    with rasterio.open(
        path, "w", count=bands.shape[0], height=bands.shape[1], width=bands.shape[2], dtype=bands.dtype, **given
    ) as file:
        file.write(bands)
    return path


UTM = {"crs": "EPSG:32633", "transform": Affine(30, 0, 500_000, 0, -30, 5_300_000)}


def waves(dtype: str = "uint16", height: int = 900, width: int = 1200) -> NDArray[Any]:
    """An image that differs from pixel to pixel."""
    y, x = np.mgrid[0:height, 0:width]
    made: NDArray[Any] = (20_000 + 9_000 * np.sin(x / 40) * np.cos(y / 30) + 7 * x - 5 * y).astype(dtype)
    return made


def grey(value: float, low: float, high: float) -> int:
    """What the page makes of a value, in grey."""
    return int(min(255, max(0, np.floor((value - low) * 256 / (high - low)))))


#: Of a view at `at=-450,600,0`, whose middle is in column 600 and row 450 of `waves`, at its full size.
NATIVE = "&at=-450,600,0&stretch=98"
PLACES = [(0, 0), (-300, -200), (250, 170), (100, -140), (-77, 33)]


def pixels_of(shown: Watched) -> list[list[int]]:
    x, y = centre(shown)
    return [pixel(shown, x + dx, y + dy) for dx, dy in PLACES]


def expected_of(data: NDArray[Any], low: float, high: float) -> list[list[int]]:
    values = [grey(float(data[450 + dy, 600 + dx]), low, high) for dx, dy in PLACES]
    return [[value, value, value, 255] for value in values]


@pytest.mark.parametrize(
    "profile",
    [
        {"overviews": "AUTO", "compress": "DEFLATE", "predictor": "YES"},
        {"overviews": "AUTO", "compress": "ZSTD"},
        {"overviews": "AUTO", "compress": "LZW", "bigtiff": "YES"},
        {"overviews": "AUTO", "compress": "LERC"},
        {"overviews": "AUTO", "compress": "LERC_ZSTD"},
        {"overviews": "AUTO", "compress": "LERC_DEFLATE"},
        {"compress": "PACKBITS"},
        {
            "compress": "DEFLATE",
            "predictor": 2,
            "endianness": "BIG",
            "tiled": True,
            "blockxsize": 128,
            "blockysize": 64,
        },
        {"endianness": "BIG", "blockysize": 7},
        {"blockysize": 900},
    ],
    ids=lambda profile: "-".join(map(str, profile.values())),
)
def test_pixels_are_those_of_the_file(previews: Previews, tmp_path: Path, profile: dict[str, object]) -> None:
    data = waves()
    path = write_tiff(tmp_path / "a.tif", data, **UTM, **profile)
    with previews.opened("map", path, more="&at=-450,600,0&range=10000,30000") as shown:
        assert shown.wait() == "ready", shown.sentence
        assert pixels_of(shown) == expected_of(data, 10_000, 30_000)
        assert shown.problems == []


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "uint32", "float32", "float64"])
def test_numbers_of_all_types_are_shown(previews: Previews, tmp_path: Path, dtype: str) -> None:
    data = (waves("float64") / 200 - 100).astype(dtype)
    path = write_tiff(tmp_path / "a.tif", data, overviews="AUTO", compress="DEFLATE", predictor="YES", **UTM)
    with previews.opened("map", path, more="&at=-450,600,0&range=-70,90&colours=grey") as shown:
        assert shown.wait() == "ready", shown.sentence
        assert pixels_of(shown) == expected_of(data, -70, 90)


def test_the_range_is_of_the_values(previews: Previews, tmp_path: Path, axe: str) -> None:
    data = waves()
    path = write_tiff(tmp_path / "a.tif", data, overviews="AUTO", compress="DEFLATE", **UTM)
    with previews.opened("map", path) as shown:
        assert shown.wait() == "ready", shown.sentence
        low, high = (float(shown.page.get_by_label(name, exact=True).input_value()) for name in ("from", "to"))
        assert np.allclose([low, high], np.percentile(data[::2, ::2], [2, 98]), rtol=0.02)
        shown.page.get_by_role("combobox", name="Range", exact=True).select_option("all")
        shown.page.get_by_role("combobox", name="Colours", exact=True).select_option("magma")
        shown.page.locator("html[data-state=ready]").wait_for()
        shown.page.wait_for_url(lambda url: "colours=magma" in url and "stretch=all" in url)
        assert shown.find_barriers(axe) == []
        assert shown.problems == []


def test_colours_are_shown_as_they_are(previews: Previews, tmp_path: Path) -> None:
    y, x = np.mgrid[0:900, 0:1200]
    data = np.stack([x % 256, y % 256, (x // 100 * 20) % 256]).astype("uint8")
    write_tiff(tmp_path / "plain.tif", data, photometric="RGB", **UTM)
    write_tiff(tmp_path / "planes.tif", data, photometric="RGB", interleave="band", compress="DEFLATE", **UTM)
    write_tiff(tmp_path / "webp.tif", data, overviews="AUTO", compress="WEBP", quality=100, **UTM)
    alpha = np.where(x < 600, 255, 0).astype("uint8")
    write_tiff(tmp_path / "alpha.tif", np.concatenate([data, alpha[None]]), photometric="RGB", alpha="YES", **UTM)
    for name in ["plain", "planes", "webp", "alpha"]:
        with previews.opened("map", tmp_path, f"{name}.tif", more=NATIVE.replace("&stretch=98", "")) as shown:
            assert shown.wait() == "ready", shown.sentence
            expected = [[*(int(each) for each in data[:, 450 + dy, 600 + dx]), 255] for dx, dy in PLACES]
            if name == "alpha":
                expected = [each if dx < 0 else [0, 0, 0, 0] for each, (dx, _) in zip(expected, PLACES, strict=True)]
            assert pixels_of(shown) == expected, name
            assert shown.problems == []


def test_jpeg_and_its_mask(previews: Previews, tmp_path: Path) -> None:
    y, x = np.mgrid[0:900, 0:1200]
    data = np.stack([x * 255 / 1200, y * 255 / 900, 128 + 0 * x]).astype("uint8")
    path = tmp_path / "a.tif"
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path,
            "w",
            driver="COG",
            count=3,
            height=900,
            width=1200,
            dtype="uint8",
            compress="JPEG",
            blocksize=256,
            **UTM,
        ) as file,
    ):
        file.write(data)
        file.write_mask(x < 600)
    with previews.opened("map", path, more="&at=-450,600,0") as shown:
        assert shown.wait() == "ready", shown.sentence
        for (dx, dy), found in zip(PLACES, pixels_of(shown), strict=True):
            if dx < 0:
                assert np.allclose(found[:3], data[:, 450 + dy, 600 + dx], atol=6), (dx, dy)
            assert found[3] == (255 if dx < 0 else 0)
        assert shown.problems == []


def test_palettes_bits_and_missing_values(previews: Previews, tmp_path: Path) -> None:
    y, x = np.mgrid[0:900, 0:1200]
    with rasterio.open(
        tmp_path / "palette.tif",
        "w",
        count=1,
        height=900,
        width=1200,
        dtype="uint8",
        compress="LZW",
        photometric="palette",
        **UTM,
    ) as file:
        file.write_colormap(1, {index: (index * 30, 255 - index * 20, index, 255) for index in range(7)})
        file.write(((x + y) % 7).astype("uint8"), 1)
    with previews.opened("map", tmp_path / "palette.tif", more="&at=-450,600,0") as shown:
        assert shown.wait() == "ready", shown.sentence
        values = [(1050 + dx + dy) % 7 for dx, dy in PLACES]
        assert pixels_of(shown) == [[value * 30, 255 - value * 20, value, 255] for value in values]
    write_tiff(tmp_path / "bits.tif", ((x // 3 + y) % 2).astype("uint8"), nbits=1, compress="DEFLATE", **UTM)
    with previews.opened("map", tmp_path / "bits.tif", more="&at=-450,600,0&range=0,1") as shown:
        assert shown.wait() == "ready", shown.sentence
        assert [found[0] for found in pixels_of(shown)] == [
            255 * (((600 + dx) // 3 + 450 + dy) % 2) for dx, dy in PLACES
        ]
    data = waves("float32")
    data[450, 600] = -9999
    data[250, 300] = np.nan
    write_tiff(tmp_path / "missing.tif", data, nodata=-9999, **UTM)
    with previews.opened("map", tmp_path / "missing.tif", more="&at=-450,600,0&range=10000,30000") as shown:
        assert shown.wait() == "ready", shown.sentence
        assert [found[3] for found in pixels_of(shown)] == [0, 0, 255, 255, 255]


def test_bands_are_chosen(previews: Previews, tmp_path: Path) -> None:
    data = np.stack([waves() + 1000 * band for band in range(5)]).astype("uint16")
    path = write_tiff(tmp_path / "a.tif", data, overviews="AUTO", compress="DEFLATE", **UTM)
    with previews.opened("map", path, more="&at=-450,600,0&range=10000,34000&bands=4") as shown:
        assert shown.wait() == "ready", shown.sentence
        assert pixels_of(shown) == expected_of(data[3], 10_000, 34_000)
        shown.page.get_by_role("combobox", name="Shown", exact=True).select_option("colour")
        shown.page.get_by_label("from", exact=True).wait_for()
        shown.page.locator("html[data-state=ready]").wait_for()
        shown.page.wait_for_url(lambda url: "bands=colour" in url)


@pytest.mark.parametrize("code", [4326, 3857, 32633, 32733, 3413, 3035, 2154])
def test_places_are_those_of_the_file(previews: Previews, tmp_path: Path, code: int) -> None:
    size = 0.01 if code == 4326 else 250
    place = warp.transform("EPSG:4326", f"EPSG:{code}", [11.0], [-45.0 if code == 32733 else 51.0])
    corner = Affine(size, 0, place[0][0] - 600 * size, 0, -size, place[1][0] + 450 * size)
    path = write_tiff(tmp_path / "a.tif", waves(), crs=f"EPSG:{code}", transform=corner, compress="DEFLATE")
    with previews.opened("map", path) as shown:
        assert shown.wait() == "ready", shown.sentence
        assert shown.sentence == ""
        told = shown.page.locator("#where")
        told.filter(has_text="°").wait_for()
        latitude, longitude = (float(each.split("°")[0]) for each in told.inner_text().split(" · ")[0].split(", "))
        assert latitude == pytest.approx(45.0 if code == 32733 else 51.0, abs=0.005)
        assert longitude == pytest.approx(11.0, abs=0.005)
        assert shown.problems == []


def test_without_a_known_place_pixels_are_counted(previews: Previews, tmp_path: Path) -> None:
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        write_tiff(tmp_path / "a.tif", waves())
    with previews.opened("map", tmp_path / "a.tif", more="&at=-450.5,600.5,2") as shown:
        assert shown.wait() == "ready", shown.sentence
        assert "does not say where it is" in shown.sentence
        told = shown.page.locator("#where")
        told.filter(has_text="column 600, row 450 · ").wait_for()
        assert told.inner_text().endswith(str(waves()[450, 600]))
        x, y = centre(shown)
        shown.page.locator(".map").hover(position={"x": x + 40, "y": y - 40})
        told.filter(has_text="column 610, row 440 · ").wait_for()
        assert told.inner_text().endswith(str(waves()[440, 610]))
    write_tiff(tmp_path / "b.tif", waves(), crs="EPSG:27700", transform=Affine(30, 0, 0, 0, -30, 0))
    with previews.opened("map", tmp_path / "b.tif") as shown:
        assert shown.wait() == "ready", shown.sentence
        assert "EPSG:27700) is not known here" in shown.sentence


def test_the_keyboard_moves_and_zooms(previews: Previews, tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", waves(), compress="DEFLATE", **UTM)
    with previews.opened("map", path, more="&at=-450,600,0") as shown:
        assert shown.wait() == "ready", shown.sentence
        shown.page.locator(".map").focus()
        assert shown.page.locator(".cross").evaluate("cross => getComputedStyle(cross).display") == "block"
        shown.page.keyboard.press("+")
        shown.page.wait_for_url("**%2C1")
        shown.page.keyboard.press("ArrowRight")
        shown.page.locator("html[data-state=ready]").wait_for()
        assert shown.problems == []


def write_huge(path: Path, side: int = 40_000) -> Path:
    """An image of 3.2 GB with overviews, of which the disk holds what was written only."""
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for level in range(7):
            file.write(
                shape=(side >> level, side >> level),
                dtype="uint16",
                tile=(256, 256),
                subfiletype=1 if level else 0,
                photometric="minisblack",
                metadata=None,
            )
    with tifffile.TiffFile(path) as opened:
        places = [page.dataoffsets for page in opened.pages]
    with open(path, "r+b") as raw:
        for level in range(7):
            across = -(-(side >> level) // 256)
            # Around the middle of the image, or all of a small one.
            near = range(across) if level >= 5 else range(max(0, across // 2 - 4), across // 2 + 4)
            for row, column in itertools.product(near, near):
                y, x = np.mgrid[row * 256 : row * 256 + 256, column * 256 : column * 256 + 256]
                raw.seek(places[level][row * across + column])
                raw.write((((x << level) + (y << level)) % 60_000).astype("<u2").tobytes())
    return path


def test_of_a_huge_cog_little_is_read(previews: Previews, tmp_path: Path) -> None:
    path = write_huge(tmp_path / "huge.tif")
    assert path.stat().st_size > 4_000_000_000
    with previews.opened("map", path, more="&range=0,60000") as shown:
        assert shown.wait() == "ready", shown.sentence
        x, y = centre(shown)
        found = pixel(shown, x - 100, y + 200)
        assert found[:3] == [grey((20_000 - 6400 + 20_000 + 12_800) % 60_000, 0, 60_000)] * 3
        first = shown.read_bytes
        print(f"a COG of {path.stat().st_size} bytes opens with {first}")
        assert first < 2_000_000
        assert shown.problems == []
    with previews.opened("map", path, more="&range=0,60000&at=-20000,20000,0") as shown:
        assert shown.wait() == "ready", shown.sentence
        x, y = centre(shown)
        assert pixel(shown, x + 50, y - 20)[0] == grey(40_030, 0, 60_000)
        print(f"and a view of its full size with {shown.read_bytes}")
        assert shown.read_bytes < first + 40 * 256 * 256 * 2 + 10 * 65536


def test_of_a_huge_image_without_overviews_a_sample_is_shown(previews: Previews, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        file.write(shape=(40_000, 40_000), dtype="uint16", rowsperstrip=1, photometric="minisblack", metadata=None)
    with previews.opened("map", path, more="&range=0,60000") as shown:
        assert shown.wait() == "ready", shown.sentence
        assert "Zoom in to see all" in shown.sentence
        assert shown.read_bytes < 16_000_000
    with previews.opened("map", path, more="&range=0,60000&at=-20000,20000,0") as shown:
        assert shown.wait() == "ready", shown.sentence
        assert "Zoom in" not in shown.sentence


def tiff(entries: list[tuple[int, int, int, int]], *, next_offset: int = 0, more: bytes = b"") -> bytes:
    """A small TIFF of one directory: its entries are (tag, type, count, value)."""
    made = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries))
    for tag, kind, count, value in entries:
        made += struct.pack("<HHII", tag, kind, count, value)
    return made + struct.pack("<I", next_offset) + more


def entries(**changes: int) -> list[tuple[int, int, int, int]]:
    """The entries of a sound image of 4 x 4 bytes, which are at 400."""
    values = {256: 4, 257: 4, 258: 8, 259: 1, 262: 1, 273: 400, 277: 1, 278: 4, 279: 16}
    values |= {int(name.removeprefix("tag")): value for name, value in changes.items()}
    return [(tag, 4, 1, value) for tag, value in sorted(values.items())]


SOUND = tiff(entries()).ljust(400, b"\0") + bytes(range(16))


@pytest.mark.parametrize(
    ("content", "state", "sentence"),
    [
        (SOUND, "ready", ""),
        (
            SOUND[:4] + struct.pack("<I", 8) + tiff(entries(), next_offset=8)[8:].ljust(392, b"\0") + bytes(16),
            "ready",
            "",
        ),
        (SOUND[:60], "failed", "cut or damaged"),
        (SOUND[:402], "failed", "cut or damaged"),
        (tiff(entries(tag256=2**31 - 1, tag257=2**31 - 1, tag278=2**31 - 1)).ljust(500, b"\0"), "failed", "too much"),
        (tiff(entries(tag256=2**32 - 1)).ljust(500, b"\0"), "failed", "cannot be"),
        (
            tiff(entries(tag256=100_000, tag257=100_000, tag278=100_000, tag259=8)).ljust(500, b"\0"),
            "failed",
            "too much",
        ),
        (tiff(entries(tag256=0)).ljust(500, b"\0"), "failed", "cannot be"),
        (tiff(entries(tag259=34712)).ljust(500, b"\0"), "failed", "34712"),
        (tiff(entries(tag279=2**32 - 1)).ljust(500, b"\0"), "failed", "too much"),
        (tiff([*entries()[:-1], (279, 4, 2**32 - 1, 0)]).ljust(500, b"\0"), "failed", "too much"),
        (b"II*\0" + struct.pack("<I", 0) + bytes(100), "failed", "no image"),
        (b"II+\0" + struct.pack("<HHQ", 8, 0, 16) + struct.pack("<Q", 2**60) + bytes(100), "failed", "damaged"),
        (b"<html><script>alert(1)</script></html>", "failed", "neither TIFF nor PMTiles"),
    ],
)
def test_damaged_tiff_is_told_of(previews: Previews, tmp_path: Path, content: bytes, state: str, sentence: str) -> None:
    (tmp_path / "a.tif").write_bytes(content)
    with previews.opened("map", tmp_path / "a.tif") as shown:
        assert shown.wait() == state, shown.sentence
        assert sentence in shown.sentence
        assert shown.problems == []


def test_a_tile_that_unpacks_to_gigabytes_is_not_unpacked(previews: Previews, tmp_path: Path) -> None:
    packer = zlib.compressobj(9)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(1500)) + packer.flush()
    content = tiff(entries(tag259=8, tag256=2000, tag257=2000, tag278=2000, tag279=len(bomb)))
    (tmp_path / "a.tif").write_bytes(content.ljust(400, b"\0") + bomb)
    with previews.opened("map", tmp_path / "a.tif") as shown:
        assert shown.wait() == "failed"
        assert "larger than" in shown.sentence
        assert shown.problems == []


def varint(number: int) -> bytes:
    made = bytearray()
    while number > 127:
        made.append(number & 127 | 128)
        number >>= 7
    return bytes([*made, number])


def field(number: int, value: int | bytes) -> bytes:
    """A field of a protocol buffer."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def zigzag(number: int) -> int:
    return number * 2 if number >= 0 else -number * 2 - 1


def feature(kind: int, lines: list[list[tuple[int, int]]], tags: list[int]) -> bytes:
    """A feature of a vector tile; kind is 1 for points, 2 for lines, 3 for polygons."""
    commands = b""
    before = (0, 0)
    for line in lines:
        for index, (x, y) in enumerate(line):
            if index < 2:
                commands += varint(1 << 3 | 1) if index == 0 else varint((len(line) - 1) << 3 | 2)
            commands += varint(zigzag(x - before[0])) + varint(zigzag(y - before[1]))
            before = (x, y)
        commands += varint(1 << 3 | 7) if kind == 3 else b""
    return field(2, b"".join(map(varint, tags))) + field(3, kind) + field(4, commands)


def layer(name: str, features: list[bytes], properties: dict[str, str]) -> bytes:
    made = field(15, 2) + field(1, name.encode()) + b"".join(field(2, each) for each in features)
    made += b"".join(field(3, key.encode()) for key in properties)
    made += b"".join(field(4, field(1, value.encode())) for value in properties.values())
    return field(3, made + field(5, 4096))


LAND = [[(512, 512), (3584, 512), (3584, 3584), (512, 3584)]]


def vector_tile() -> bytes:
    land = layer("land", [feature(3, LAND, [0, 0])], {"name": "<b>Land</b>"})
    road = layer("roads", [feature(2, [[(0, 2048), (4096, 3000)]], [0, 0])], {"name": "Road 1"})
    places = [feature(1, [[(1024 + 300 * index, 1200)]], [0, 0]) for index in range(5)]
    return land + road + layer("places", places, {"name": "Place"})


def write_pmtiles(
    path: Path, tile_type: TileType, tiles: dict[tuple[int, int, int], bytes], metadata: dict[str, object] | None = None
) -> Path:
    zooms = [z for z, _, _ in tiles]
    packed = Compression.GZIP if tile_type == TileType.MVT else Compression.NONE
    with open(path, "wb") as file:
        writer = Writer(file)
        for z, x, y in sorted(tiles, key=lambda each: zxy_to_tileid(*each)):
            tile = tiles[z, x, y]
            writer.write_tile(zxy_to_tileid(z, x, y), gzip.compress(tile) if packed == Compression.GZIP else tile)
        header = {
            "tile_type": tile_type,
            "tile_compression": packed,
            "min_zoom": min(zooms),
            "max_zoom": max(zooms),
            "min_lon_e7": -1_800_000_000,
            "min_lat_e7": -850_000_000,
            "max_lon_e7": 1_800_000_000,
            "max_lat_e7": 850_000_000,
            "center_zoom": 0,
            "center_lon_e7": 0,
            "center_lat_e7": 0,
        }
        writer.finalize(header, metadata or {})
    return path


def all_tiles(zoom: int) -> list[tuple[int, int, int]]:
    return [(z, x, y) for z in range(zoom + 1) for x in range(2**z) for y in range(2**z)]


def image_tile(colour: tuple[int, int, int], kind: str = "PNG") -> bytes:
    made = io.BytesIO()
    Image.new("RGB", (256, 256), colour).save(made, kind)
    return made.getvalue()


def test_images_of_pmtiles(previews: Previews, tmp_path: Path) -> None:
    for tile_type, kind in (
        (TileType.PNG, "PNG"),
        (TileType.JPEG, "JPEG"),
        (TileType.WEBP, "WEBP"),
        (TileType.AVIF, "AVIF"),
    ):
        tiles = {(z, x, y): image_tile((x * 60, y * 60, z * 60), kind) for z, x, y in all_tiles(2)}
        path = write_pmtiles(tmp_path / f"{kind}.pmtiles", tile_type, tiles)
        with previews.opened("map", path, more="&at=30,30,2") as shown:
            assert shown.wait() == "ready", shown.sentence
            x, y = centre(shown)
            assert np.allclose(pixel(shown, x, y), [120, 60, 120, 255], atol=4), kind
            assert shown.problems == []


def test_vector_tiles_have_layers_and_features(previews: Previews, tmp_path: Path, axe: str) -> None:
    metadata: dict[str, object] = {
        "name": "A <i>map</i>",
        "attribution": '<a href="https://evil.example/">© someone</a><img src="https://evil.example/a.png">',
    }
    path = write_pmtiles(tmp_path / "a.pmtiles", TileType.MVT, {each: vector_tile() for each in all_tiles(2)}, metadata)
    with previews.opened("map", path, more="&at=0,0,0") as shown:
        assert shown.wait() == "ready", shown.sentence
        x, y = centre(shown)
        inside = pixel(shown, x, y + 60)
        assert inside[3] > 0, "the land is not drawn"
        assert inside[2] > inside[0], "the land is not blue"
        assert pixel(shown, x - 120, y - 120) == [0, 0, 0, 0]
        layers = shown.page.get_by_role("group", name="Layers")
        assert layers.locator(".count").all_inner_texts() == ["1", "1", "5"]
        assert "© someone" in shown.page.locator("#facts").inner_text()
        shown.page.locator(".map").focus()
        shown.page.keyboard.press("Enter")
        table = shown.page.get_by_role("table", name="land")
        table.wait_for()
        assert "<b>Land</b>" in table.inner_text()
        layers.get_by_label("land").uncheck()
        shown.page.locator("html[data-state=ready]").wait_for()
        assert pixel(shown, x, y + 60) == [0, 0, 0, 0]
        assert shown.find_barriers(axe) == []
        assert shown.problems == []
    with previews.opened("map", path, more="&at=0,0,0&hidden=land%0Aroads") as shown:
        assert shown.wait() == "ready", shown.sentence
        x, y = centre(shown)
        assert pixel(shown, x, y + 60) == [0, 0, 0, 0]


def test_beyond_the_last_zoom_tiles_are_drawn_larger(previews: Previews, tmp_path: Path) -> None:
    # Of equal tiles the writer keeps one, and says that its zoom is the last.
    tiles = {each: vector_tile() + layer(str(each), [], {}) for each in all_tiles(1)}
    path = write_pmtiles(tmp_path / "a.pmtiles", TileType.MVT, tiles)
    # At zoom 3, 1/8 of a tile of zoom 1 to the right and below of its corner: the edge of the land.
    with previews.opened("map", path, more="&at=0,0,3") as shown:
        assert shown.wait() == "ready", shown.sentence
        x, y = centre(shown)
        assert pixel(shown, x + 100, y + 100) == [0, 0, 0, 0]
        assert pixel(shown, x + 180, y + 180)[3] > 0


def test_of_large_pmtiles_little_is_read(previews: Previews, tmp_path: Path) -> None:
    noise = np.random.default_rng(1)
    tiles = {
        each: image_tile((0, 0, 0)) + noise.integers(0, 255, 20_000, dtype="uint8").tobytes() for each in all_tiles(6)
    }
    path = write_pmtiles(tmp_path / "a.pmtiles", TileType.PNG, tiles)
    assert path.stat().st_size > 100_000_000
    with previews.opened("map", path, more="&at=40,10,6") as shown:
        assert shown.wait() == "ready", shown.sentence
        print(f"a view of PMTiles of {path.stat().st_size} bytes is shown with {shown.read_bytes}")
        assert shown.read_bytes < 4_500_000
        assert shown.problems == []


def archive(directory: bytes, tile: bytes = b"", **changes: int) -> bytes:
    """PMTiles with one directory and tile, as they are; changes are of the numbers of the header, by their place."""
    behind = 127 + len(directory)
    numbers = [127, len(directory), behind + len(tile), len(b"{}"), 127, 0, behind, len(tile), 1, 1, 1]
    for name, value in changes.items():
        numbers[int(name.removeprefix("number"))] = value
    head = b"PMTiles\x03" + struct.pack("<11Q", *numbers)
    head += bytes([1, 1, 1, 1, 0, 2]) + struct.pack("<4i", -1_800_000_000, -850_000_000, 1_800_000_000, 850_000_000)
    return head.ljust(127, b"\0") + directory + tile + b"{}"


def one_tile(tile: bytes) -> bytes:
    return archive(varint(1) + varint(0) + varint(1) + varint(len(tile)) + varint(1), tile)


def closed(times: int) -> bytes:
    """A tile whose polygon is closed very often."""
    commands = varint(1 << 3 | 1) + varint(2) * 2 + varint(times << 3 | 7) + varint(1 << 3 | 1) + varint(2) * 2
    return layer("land", [field(3, 3) + field(4, commands)], {})


@pytest.mark.parametrize(
    ("content", "state", "sentence"),
    [
        (one_tile(vector_tile()), "ready", ""),
        (one_tile(closed(2**28)), "ready", ""),
        (one_tile(vector_tile())[:-5], "failed", "cut or damaged"),
        (one_tile(b"\x1a\xff\xff\xff\xff\x0fxx"), "failed", ""),
        (archive(varint(2**50) + bytes(20)), "failed", "more tiles than it can have"),
        (archive(varint(1) + varint(0) + varint(1) + varint(2**40) + varint(1)), "failed", "more than a tile"),
        (archive(varint(1) + varint(0) + varint(0) + varint(5) + varint(1), number4=127, number5=5), "failed", ""),
        (archive(b"", number1=2**50), "failed", "more than a tile or a directory"),
        (b"PMTiles\x02" + bytes(200), "failed", "not of version 3"),
        (b"PMTiles\x03", "failed", "cut or damaged"),
    ],
)
def test_damaged_pmtiles_are_told_of(
    previews: Previews, tmp_path: Path, content: bytes, state: str, sentence: str
) -> None:
    (tmp_path / "a.pmtiles").write_bytes(content)
    # Its one tile is that of the whole world.
    with previews.opened("map", tmp_path / "a.pmtiles", more="&at=0,0,0") as shown:
        assert shown.wait() == state, shown.sentence
        assert sentence in shown.sentence
        assert shown.problems == []


@pytest.mark.parametrize(
    ("tile", "sentence"),
    [
        (field(3, b"") * 1000, "too many layers"),
        (field(3, field(3, b"") * 4_000_001), "too many points"),
        (field(3, field(4, b"") * 4_000_001), "too many points"),
        (layer("land", [field(3, 3) + field(4, varint(1 << 3 | 7) * 4_000_001)], {}), "too many points"),
    ],
)
def test_small_tiles_that_name_millions_take_no_memory(
    previews: Previews, tmp_path: Path, tile: bytes, sentence: str
) -> None:
    (tmp_path / "a.pmtiles").write_bytes(one_tile(tile))
    with previews.opened("map", tmp_path / "a.pmtiles", more="&at=0,0,0") as shown:
        assert shown.wait() == "failed"
        assert sentence in shown.sentence
        assert shown.problems == []
