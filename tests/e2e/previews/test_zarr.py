"""Zarr: slices of arrays, of which only the chunks that are seen are read."""

from __future__ import annotations

import base64
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.e2e.previews.conftest import Previews, Watched

zarr = pytest.importorskip("zarr", minversion="3", reason="needs zarr 3, and that needs Python 3.11")
numcodecs = pytest.importorskip("numcodecs")

#: Zarr warns of what is in no specification yet; it is met, nevertheless.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:zarr", "ignore::FutureWarning:zarr")


def picture(shown: Watched) -> NDArray[np.uint8]:
    """The red of each pixel of the picture: in grey, how far its value is from the low to the high end of the range."""
    data: str = shown.page.locator("canvas.cells").evaluate("canvas => canvas.toDataURL('image/png')")
    with Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2]))) as image:
        return np.asarray(image.convert("RGBA"))[:, :, 0]


def grey(data: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    graded = np.floor((data.astype("f8") - low) * (256 / (high - low)))
    return np.clip(graded, 0, 255).astype("uint8")


def others(shown: Watched) -> list[str]:
    """What went wrong, but for metadata that was looked for and is not there, which a browser tells of."""
    return [each for each in shown.problems if "404 (Not Found)" not in each]


Y, X = np.mgrid[0:120, 0:170]
DATA = (X * Y % 1000 + 10 * np.sin(X)).astype("f8")

TWO = {
    **{
        f"{name}-{shuffle}": numcodecs.Blosc(name, 5, shuffle)
        for name in ("blosclz", "lz4", "zlib", "zstd")
        for shuffle in (0, 1, 2)
    },
    "LZ4": numcodecs.LZ4(),
    "Zstd": numcodecs.Zstd(3),
    "GZip": numcodecs.GZip(),
    "Zlib": numcodecs.Zlib(),
    "none": None,
}


def test_all_codecs_give_the_values(previews: Previews, tmp_path: Path) -> None:
    two = zarr.open_group(tmp_path / "two.zarr", mode="w", zarr_format=2)
    for name, codec in TWO.items():
        two.create_array(name, shape=DATA.shape, chunks=(50, 83), dtype="f8", compressors=codec)[:] = DATA
    two.create_array("big", shape=DATA.shape, chunks=(50, 83), dtype=">i4", order="F")[:] = DATA.astype("i4")
    zarr.consolidate_metadata(two.store, zarr_format=2)
    three = zarr.open_group(tmp_path / "three.zarr", mode="w", zarr_format=3)
    packers = zarr.codecs
    codecs = {
        "blosc": packers.BloscCodec(cname="lz4"),
        "gzip": packers.GzipCodec(),
        "zstd": packers.ZstdCodec(checksum=True),
    }
    for name, codec in codecs.items():
        three.create_array(name, shape=DATA.shape, chunks=(50, 83), dtype="f8", compressors=codec)[:] = DATA
    three.create_array("sharded", shape=DATA.shape, chunks=(25, 40), shards=(50, 80), dtype="f8")[:] = DATA
    zarr.consolidate_metadata(three.store, zarr_format=3)
    for tree, group in (("two.zarr", two), ("three.zarr", three)):
        with previews.opened("zarr", tmp_path / tree, more="&colours=grey&stretch=all") as shown:
            assert shown.wait() == "ready", shown.sentence
            for name in group.array_keys():
                shown.page.locator(".arrays").get_by_role("button", name=name).first.click()
                shown.page.locator(f".arrays button[aria-current=true]:has-text('{name}')").wait_for()
                assert shown.wait() == "ready", (name, shown.sentence)
                data = np.trunc(DATA) if name == "big" else DATA
                assert np.array_equal(picture(shown), grey(data, data.min(), data.max())), name
            assert others(shown) == []


def make_climate(path: Path, version: Any) -> NDArray[Any]:
    group = zarr.open_group(path, mode="w", zarr_format=version)
    names = {"dimension_names": ["time", "lat", "lon"]} if version == 3 else {}
    data = np.stack([DATA + 100 * time for time in range(6)]).astype("f4")
    array = group.create_array("climate/temperature", shape=data.shape, chunks=(2, 40, 50), dtype="f4", **names)
    array[:] = data
    array.attrs["note"] = "<img src=x onerror=alert(1)>"
    if version == 2:
        array.attrs["_ARRAY_DIMENSIONS"] = ["time", "lat", "lon"]
    group.create_array("climate/time", shape=(6,), chunks=(6,), dtype="i8")[:] = np.arange(6) ** 2 + 2**60
    group.create_array("mask", shape=DATA.shape, chunks=(50, 50), dtype="bool")[:] = DATA > 500
    scalar = group.create_array("scalar", shape=(), dtype="f8")
    scalar[...] = 42.5
    return data


@pytest.mark.parametrize("version", [2, 3])
def test_a_slice_is_chosen(previews: Previews, tmp_path: Path, axe: str, version: int) -> None:
    data = make_climate(tmp_path / "a.zarr", version)
    zarr.consolidate_metadata(tmp_path / "a.zarr", zarr_format=version)
    with previews.opened("zarr", tmp_path / "a.zarr", more="&colours=grey&stretch=all&at=1,0,0") as shown:
        assert shown.wait() == "ready", shown.sentence
        assert np.array_equal(picture(shown), grey(data[1], data[1].min(), data[1].max()))
        before = shown.read_bytes
        time = shown.page.get_by_role("slider", name="time")
        assert time.get_attribute("max") == "5"
        time.fill("0")
        shown.page.wait_for_url("**at=0%2C0%2C0**")
        assert shown.wait() == "ready", shown.sentence
        assert shown.read_bytes == before, "the chunks that are there already are read again"
        assert np.array_equal(picture(shown), grey(data[0], data[0].min(), data[0].max()))
        shown.page.locator("#controls select").first.select_option("0")
        assert shown.wait() == "ready", shown.sentence
        found = picture(shown)
        assert found.shape == (6, 170)
        assert np.array_equal(found, grey(data[:, 0], data[:, 0].min(), data[:, 0].max()))
        shown.page.locator("canvas.cells").focus()
        shown.page.keyboard.press("ArrowUp")
        where, _, value = shown.page.locator(".where").inner_text().partition(": ")
        assert (where, np.float32(value)) == ("time 2, lon 85", data[2, 0, 85])
        shown.page.get_by_text("About this array").click()
        assert "<img src=x onerror=alert(1)>" in shown.page.locator(".about pre").inner_text()
        assert shown.find_barriers(axe) == []
        assert others(shown) == []


def test_lines_values_and_texts(previews: Previews, tmp_path: Path, axe: str) -> None:
    make_climate(tmp_path / "a.zarr", 3)
    group = zarr.open_group(tmp_path / "a.zarr", zarr_format=3)
    group.create_array("names", shape=(3,), dtype=str)[:] = np.array(["one", "<b>two</b>", "é"], dtype=object)
    zarr.consolidate_metadata(group.store)
    with previews.opened("zarr", tmp_path / "a.zarr", more="&array=climate/time") as shown:
        assert shown.wait() == "ready", shown.sentence
        shown.page.locator("canvas.line").focus()
        shown.page.keyboard.press("ArrowRight")
        assert shown.page.locator(".where").inner_text() == f"axis 0 4: {16 + 2**60}"
        shown.page.get_by_role("button", name="scalar").click()
        shown.page.get_by_text("42.5").wait_for()
        shown.page.get_by_role("button", name="names").click()
        shown.page.get_by_role("cell", name="<b>two</b>").wait_for()
        shown.page.get_by_role("button", name="mask").click()
        shown.page.locator("canvas.cells").wait_for()
        assert shown.wait() == "ready", shown.sentence
        assert set(np.unique(picture(shown))) <= {68, 253}, "the ends of viridis"
        assert shown.find_barriers(axe) == []
        assert others(shown) == []


def test_of_a_huge_array_a_window_is_read(previews: Previews, tmp_path: Path) -> None:
    array = zarr.create_array(tmp_path / "a.zarr", shape=(100_000, 100_000), chunks=(1000, 1000), dtype="f4")
    y, x = np.mgrid[50_000:52_000, 30_000:32_000]
    array[50_000:52_000, 30_000:32_000] = (x * 3 + y) % 977
    with previews.opened("zarr", tmp_path / "a.zarr", more="&at=50000,30000&colours=grey&range=0,977") as shown:
        assert shown.wait() == "ready", shown.sentence
        assert "50,000 to 51,499 of 100,000" in shown.sentence
        assert np.array_equal(picture(shown), grey((x * 3 + y)[:1500, :1500] % 977, 0, 977))
        stored = sum(each.stat().st_size for each in (tmp_path / "a.zarr" / "c").rglob("*") if each.is_file())
        print(f"a window of an array of 40 GB is read with {shown.read_bytes} of {stored} bytes")
        assert shown.read_bytes < stored + 65536
        shown.page.locator("canvas.cells").focus()
        shown.page.keyboard.press("Shift+ArrowRight")
        shown.page.wait_for_url("**at=50000%2C30750**")
        assert shown.wait() == "ready", shown.sentence
        assert picture(shown)[0, 0] == grey(np.array((30_750 * 3 + 50_000) % 977), 0, 977)
        assert others(shown) == []


def test_a_costly_slice_is_read_when_asked_for(previews: Previews, tmp_path: Path, axe: str) -> None:
    array = zarr.create_array(tmp_path / "a.zarr", shape=(200, 400, 400), chunks=(200, 400, 400), dtype="f4")
    array[:] = 7
    with previews.opened("zarr", tmp_path / "a.zarr") as shown:
        assert shown.wait() == "ready", shown.sentence
        assert "128 MB" in shown.page.locator(".ask").inner_text()
        assert shown.read_bytes < 10_000
        assert shown.find_barriers(axe) == []
        shown.page.get_by_role("button", name="Read it").click()
        shown.page.locator("canvas.cells").wait_for()
        assert shown.wait() == "ready", shown.sentence
        assert picture(shown).shape == (400, 400)
        assert shown.problems == []


def test_multiscales_open_with_what_is_seen_whole(previews: Previews, tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    for level in range(4):
        side = 4096 >> level
        group.create_array(str(level), shape=(2, side, side), chunks=(1, 256, 256), dtype="u1")
    axes = [{"name": name} for name in "cyx"]
    group.attrs["ome"] = {"multiscales": [{"axes": axes, "datasets": [{"path": str(level)} for level in range(4)]}]}
    # (Without consolidated metadata: the datasets are found by what the attributes say.)
    with previews.opened("zarr", tmp_path / "a.zarr") as shown:
        assert shown.wait() == "ready", shown.sentence
        assert shown.page.locator(".arrays button[aria-current=true]").inner_text().startswith("2\n")
        assert shown.page.get_by_role("slider", name="c").is_visible()
        assert shown.page.locator(".where").inner_text() == "x →, y ↓"
        assert others(shown) == []


def test_folders_that_the_server_lists_are_looked_into(previews: Previews, tmp_path: Path) -> None:
    make_climate(tmp_path / "a.zarr", 3)
    with previews.opened("zarr", tmp_path / "a.zarr") as shown:
        assert shown.wait() == "ready", shown.sentence
        names = shown.page.locator(".arrays button span").all_inner_texts()
        assert names == ["climate/temperature", "climate/time", "mask", "scalar"]
        assert others(shown) == []


def test_an_array_of_a_group_is_named_by_its_folder_or_file(previews: Previews, tmp_path: Path) -> None:
    make_climate(tmp_path / "a.zarr", 3)
    for entry in ["mask/", "mask", "mask/zarr.json"]:
        with previews.opened("zarr", tmp_path / "a.zarr", entry) as shown:
            assert shown.wait() == "ready", shown.sentence
            assert picture(shown).shape == DATA.shape
            assert shown.problems == []


def three(**changes: object) -> dict[str, object]:
    """The metadata of a small array of version 3."""
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [4, 4],
        "data_type": "float64",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [4, 4]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        "attributes": {},
        **changes,
    }


def chunked(*shape: int) -> dict[str, object]:
    return {"name": "regular", "configuration": {"chunk_shape": list(shape)}}


GZIP = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "gzip", "configuration": {"level": 9}}]


def bomb() -> bytes:

    return gzip.compress(bytes(100_000_000))


@pytest.mark.parametrize(
    ("metadata", "chunk", "state", "sentence"),
    [
        (three(), bytes(128), "ready", ""),
        (three(), bytes(100), "failed", "cut or damaged"),
        (three(), bytes(50_000_000), "failed", "larger than"),
        (three(codecs=GZIP), bomb, "failed", "larger than"),
        (three(codecs=GZIP), b"no gzip", "failed", ""),
        (three(shape=[0, 4]), b"", "ready", "empty"),
        (three(shape=[-4, 4]), b"", "failed", "no shape"),
        (three(shape="<script>"), b"", "failed", "no shape"),
        (three(shape=[2**52, 2**52], chunk_grid=chunked(2**31, 2**31)), b"", "failed", "too much"),
        (three(shape=[2**52, 2**52], chunk_grid=chunked(1, 1)), bytes(8), "ready", "A window"),
        (three(chunk_grid=chunked(0, 4)), b"", "failed", "no shape"),
        (three(data_type={"name": "struct", "configuration": {}}), b"", "failed", "struct"),
        (three(data_type="complex128"), b"", "failed", "complex128"),
        (three(codecs=[*GZIP, {"name": "<b>"}]), bytes(9), "failed", "<b>"),
        (b'{"zarr_format": 3', b"", "failed", "no JSON"),
        (b"[]", b"", "failed", ""),
    ],
)
def test_damaged_zarr_is_told_of(
    previews: Previews,
    tmp_path: Path,
    metadata: dict[str, object] | bytes,
    chunk: bytes | Callable[[], bytes],
    state: str,
    sentence: str,
) -> None:
    folder = tmp_path / "a.zarr"
    (folder / "c" / "0").mkdir(parents=True)
    (folder / "zarr.json").write_bytes(metadata if isinstance(metadata, bytes) else json.dumps(metadata).encode())
    (folder / "c" / "0" / "0").write_bytes(chunk() if callable(chunk) else chunk)
    with previews.opened("zarr", folder) as shown:
        assert shown.wait() == state, shown.sentence
        assert sentence in shown.sentence
        assert others(shown) == []


def test_consolidated_metadata_leads_nowhere_else(previews: Previews, tmp_path: Path) -> None:
    (tmp_path / "b.zarr").mkdir()
    known = {"../secret": three(), "a?b#c": three()}
    group = {"zarr_format": 3, "node_type": "group", "consolidated_metadata": {"metadata": known}}
    (tmp_path / "b.zarr" / "zarr.json").write_text(json.dumps(group))
    with previews.opened("zarr", tmp_path / "b.zarr") as shown:
        assert shown.wait() == "failed"
        assert "no path of this folder" in shown.sentence
        assert shown.problems == []


def test_a_folder_without_zarr_says_so(previews: Previews, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with previews.opened("zarr", tmp_path / "empty") as shown:
        assert shown.wait() == "failed"
        assert "no metadata of Zarr" in shown.sentence
