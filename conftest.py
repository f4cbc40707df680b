"""The code blocks of README.md and docs/ are tests."""

from __future__ import annotations

import pytest
from sybil.integration.pytest import SybilItem

from tests.docs.blocks import pages

pytest_collect_file = pages.pytest()


def pytest_itemcollected(item: pytest.Item) -> None:
    """A block of a page is never run again after it failed: what came before it in the page has already changed."""
    if isinstance(item, SybilItem):
        item.add_marker(pytest.mark.flaky(reruns=0))
