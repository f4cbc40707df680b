from __future__ import annotations

import wave
from pathlib import Path

from PIL import Image

from tests.e2e.previews.conftest import Previews


def test_an_image_is_shown_whole(previews: Previews, tmp_path: Path, axe: str) -> None:
    Image.new("RGB", (300, 200), (200, 30, 30)).save(tmp_path / "red & <b>.png")
    with previews.opened("media", tmp_path / "red & <b>.png") as shown:
        assert shown.wait() == "ready", shown.sentence
        assert shown.sentence == "300 × 200 pixels"  # noqa: RUF001
        assert shown.page.locator("h1").inner_text() == "red & <b>.png"
        assert shown.page.locator("img.media").bounding_box()["width"] == 300  # type: ignore[index]
        assert shown.find_barriers(axe) == []
        assert shown.problems == []


def test_sound_can_be_sought(previews: Previews, tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "long.wav"), "wb") as sound:
        sound.setnchannels(2)
        sound.setsampwidth(2)
        sound.setframerate(44100)
        sound.writeframes(bytes(4 * 44100 * 120))
    asked: list[str] = []
    with previews.opened("media", tmp_path / "long.wav") as shown:
        shown.page.on("request", lambda request: asked.append(request.headers.get("range", "")))
        assert shown.wait() == "ready", shown.sentence
        assert shown.sentence == "2:00"
        sought = """player => new Promise(resolve => {
            player.addEventListener("seeked", () => resolve(player.currentTime));
            player.currentTime = 110;
        })"""
        assert shown.page.locator("audio").evaluate(sought) == 110
        assert any(asked), "nothing was asked for by range"
        assert shown.problems == []


def test_what_is_no_medium_says_so(previews: Previews, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    with previews.opened("media", tmp_path / "a.txt") as shown:
        assert shown.wait() == "failed"
        assert "neither an image nor audio nor video" in shown.sentence
