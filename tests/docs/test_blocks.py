"""What runs the code blocks of the documentation itself: a page that is wrong must not pass."""

from __future__ import annotations

import os
import unittest
from pathlib import Path

import pytest
from sybil.example import SybilFailure

from tests.docs.blocks import pages


def evaluate(folder: Path, text: str) -> None:
    """Run a page's blocks as the tests of the documentation do."""
    page = folder / "page.md"
    page.write_text(text)
    document = pages.parse(page)
    assert pages.setup is not None
    assert pages.teardown is not None
    pages.setup(document.namespace)
    try:
        for example in document.examples():
            example.evaluate()
    finally:
        pages.teardown(document.namespace)


def test_what_a_page_publishes_is_read_from_a_server(tmp_path: Path) -> None:
    evaluate(tmp_path, "```python\nimport hub\n\nurl = hub.get_relay_hub().serve_file('cube.fits')\n```\n")
    publish_and_lose = "import hub, shutil\nurl = hub.get_relay_hub().serve_tree('tiles')\nshutil.rmtree('tiles')"
    with pytest.raises(SybilFailure, match="is answered 404"):
        evaluate(tmp_path, f"```python\n{publish_and_lose}\n```\n")


@pytest.mark.parametrize(
    ("page", "told"),
    [
        ("```python\n1 / 0\n```\n", "line 2: 1 / 0\nZeroDivisionError"),
        ("```sh\necho printed; false\n```\n", "exit code 1\nprinted"),
        ("```console\n$ echo one\ntwo\n```\n", "the page shows\ntwo\nand printed is\none"),
        ("```nginx\nlisten 80;\n```\n", "a block of 'nginx' is not run here"),
        ("```\nkdr list\n```\n", "a block has no language"),
        ("1. A list\n\n   ```python\n   1 / 0\n   ```\n", "ZeroDivisionError"),
    ],
)
def test_a_block_that_is_wrong_or_not_run_fails(tmp_path: Path, page: str, told: str) -> None:
    with pytest.raises(SybilFailure) as failure:
        evaluate(tmp_path, page)
    assert told in str(failure.value)


def test_a_marked_block_is_skipped_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(unittest.SkipTest, match="it needs systemd"):
        evaluate(tmp_path, '<!-- skip: next "it needs systemd" -->\n```ini\n[Unit]\n```\n')


def test_pictures_and_the_sites_own_directives_are_no_code(tmp_path: Path) -> None:
    evaluate(tmp_path, "```text\na --> b\n```\n\n```{toctree}\n:hidden:\n```\n")


def test_a_page_leaves_the_environment_as_it_was(tmp_path: Path) -> None:
    before = (dict(os.environ), Path.cwd())
    evaluate(tmp_path, "```python\nimport os\n\nos.environ['KDR_ROUTE'] = 'elsewhere'\n```\n")
    assert (dict(os.environ), Path.cwd()) == before
