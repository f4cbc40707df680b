"""The browser that looks at the site."""

from __future__ import annotations

from tests.e2e.conftest import axe, browser

__all__ = ["axe", "browser"]
