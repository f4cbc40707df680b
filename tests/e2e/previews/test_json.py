from __future__ import annotations

import json
from pathlib import Path

from tests.e2e.previews.conftest import Previews


def test_a_tree_opens_branch_by_branch(previews: Previews, tmp_path: Path, axe: str) -> None:
    data = {"name": "<img src=x onerror=alert(1)>", "stars": [{"id": number} for number in range(1000)], "none": None}
    (tmp_path / "a.json").write_text(json.dumps(data))
    with previews.opened("json", tmp_path / "a.json") as shown:
        assert shown.wait() == "ready", shown.sentence
        assert "<img src=x onerror=alert(1)>" in shown.page.locator(".tree").inner_text()
        assert shown.page.locator("summary").count() == 2, "a branch is made before somebody opens it"
        shown.page.get_by_text("stars").click()
        shown.page.get_by_role("button", name="800 more").click()
        assert shown.page.locator("summary").count() == 402
        assert shown.find_barriers(axe) == []
        assert shown.problems == []


def test_what_is_no_json_is_shown_as_it_is(previews: Previews, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"cut": ')
    with previews.opened("json", tmp_path / "a.json") as shown:
        assert shown.wait() == "failed"
        assert "no JSON" in shown.sentence
        assert shown.page.locator("pre").inner_text() == '{"cut": '


def test_of_a_large_file_the_beginning_is_read(previews: Previews, tmp_path: Path) -> None:
    with open(tmp_path / "a.json", "wb") as file:
        file.write(b'["beginning"')
        file.truncate(3_000_000_000)
    with previews.opened("json", tmp_path / "a.json") as shown:
        assert shown.wait() == "ready", shown.sentence
        assert "3.00 GB" in shown.sentence
        assert shown.page.locator("pre").inner_text().startswith('["beginning"')
        assert shown.read_bytes <= 65536
        assert shown.problems == []
