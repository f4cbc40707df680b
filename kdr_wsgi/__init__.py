"""The relay server: a WSGI application that serves what kernels have registered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hub.version import VERSION as __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flask import Flask

__all__ = ["__version__", "create_app"]


def create_app(config: Mapping[str, str] | None = None) -> Flask:
    """Return the relay server's application; see `kdr_wsgi.app.create_app`."""
    from kdr_wsgi.app import create_app  # Here, so that the pure modules load without Flask.

    return create_app(config)
