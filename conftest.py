"""The code blocks of README.md and docs/ are tests."""

from __future__ import annotations

import pytest
from _pytest._code import Traceback
from sybil.integration.pytest import SybilItem

from tests.docs.blocks import pages

pytest_collect_file = pages.pytest()


def pytest_itemcollected(item: pytest.Item) -> None:
    """A block of a page is never run again after it failed: what came before it in the page has already changed."""
    if isinstance(item, SybilItem):
        item.add_marker(pytest.mark.flaky(reruns=0))


def _filter_traceback(item: SybilItem, failure: pytest.ExceptionInfo[BaseException]) -> Traceback:
    """Return what is shown of a failure; of what pytest gathers, unclosed files say, Sybil's own finds no frame."""
    try:
        return _filter(item, failure)
    except IndexError:
        return failure.traceback


_filter = SybilItem._traceback_filter
SybilItem._traceback_filter = _filter_traceback  # type: ignore[assignment,method-assign]
