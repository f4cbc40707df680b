"""The code blocks of README.md and docs/ are tests."""

from __future__ import annotations

from tests.docs.blocks import pages

pytest_collect_file = pages.pytest()
