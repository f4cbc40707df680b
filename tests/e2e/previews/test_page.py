"""What all preview pages have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from astropy.io import fits
from PIL import Image
from playwright.sync_api import Browser

from tests.conftest import LiveServer, live_server
from tests.e2e.previews.conftest import BASE_URL, Previews, Watched

PAGE = f"{BASE_URL}wwtkdr/_static/preview/json.html"


@pytest.mark.parametrize(
    "source",
    [
        "../../../api/contents",
        "/user/ada/api/contents",
        "//evil.example/a",
        "https://evil.example/",
        "javascript:alert(1)",
    ],
)
def test_only_files_of_this_relay_are_shown(previews: Previews, source: str) -> None:
    with previews.at(f"{PAGE}?url={source}") as shown:
        assert shown.wait() == "failed"
        assert "own relay server" in shown.sentence
        assert shown.problems == []


def test_without_a_file_the_page_says_how_to_name_one(previews: Previews) -> None:
    with previews.at(PAGE) as shown:
        assert shown.wait() == "failed"
        assert "?url=" in shown.sentence


def test_a_file_that_is_not_there_is_told_of(previews: Previews) -> None:
    with previews.at(f"{PAGE}?url=../../nothing/a.json") as shown:
        assert shown.wait() == "failed"
        assert "nothing" in shown.sentence.lower() or "404" in shown.sentence


def test_a_page_that_was_taken_over_reads_nothing_of_jupyter(previews: Previews, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    with previews.opened("json", tmp_path / "a.json") as shown:
        assert shown.wait() == "ready"
        refused = shown.page.evaluate(
            "url => fetch(url).then(answer => String(answer.status), error => error.name)", f"{BASE_URL}api/contents"
        )
        assert refused == "TypeError"
        assert shown.page.evaluate("fetch(location.href).then(answer => answer.status)") == 200


def test_a_file_that_changes_is_told_of(previews: Previews, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text('["' + "x" * 200_000 + '"]')
    with previews.opened("json", tmp_path / "a.json") as shown:
        assert shown.wait() == "ready"
        shown.page.route(
            "**/a.json",
            lambda route: (
                (file.write_text('["' + "y" * 200_000 + '"]'), route.continue_())[1]
                if "bytes=65536" in route.request.headers.get("range", "")
                else route.continue_()
            ),
        )
        shown.page.reload()
        assert shown.wait() == "failed"
        assert "has changed" in shown.sentence


def test_maps_of_colours_have_the_same_names_on_all_pages(previews: Previews, tmp_path: Path) -> None:
    data = np.arange(400.0, dtype="float32").reshape(20, 20)
    fits.PrimaryHDU(data).writeto(tmp_path / "a.fits")
    tifffile.imwrite(tmp_path / "a.tif", data)
    zarr.save_array(str(tmp_path / "a.zarr"), data)
    offered = {}
    for page, name in (("fits", "a.fits"), ("map", "a.tif"), ("zarr", "a.zarr")):
        for given, chosen in (("blue-red", "blue to red"), ("gray", "grey"), ("turbo", "turbo")):
            with previews.opened(page, tmp_path / name, more=f"&colours={given}") as shown:
                assert shown.wait() == "ready", shown.sentence
                colours = shown.page.get_by_role("combobox", name="Colours")
                assert colours.input_value() == chosen
                offered[page] = colours.locator("option").all_inner_texts()
    assert offered["fits"] == offered["map"] == offered["zarr"]


@pytest.fixture(scope="module")
def plain_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(tmp_path_factory.mktemp("server")) as running:
        yield running


def test_public_files_are_shown_in_a_sandbox(browser: Browser, plain_server: LiveServer, tmp_path: Path) -> None:
    """As another site may embed a preview, or a page of a registration, which has the sandbox."""
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    url = plain_server.hub.serve_file(tmp_path / "a.png", visibility="public")
    origin = f"http://127.0.0.1:{plain_server.address[1]}"
    address = f"{origin}/wwtkdr/_static/preview/media.html?url=../../{url.removeprefix('/wwtkdr/')}"
    page = browser.new_page()
    watched = Watched(page, origin)
    page.set_content(f'<iframe sandbox="allow-scripts" src="{address}"></iframe>')
    frame = page.frame_locator("iframe")
    frame.locator("html[data-state=ready], html[data-state=failed]").wait_for()
    assert frame.locator("#status").inner_text() == "30 × 20 pixels"  # noqa: RUF001
    assert watched.problems == []
    page.close()
