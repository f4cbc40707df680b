"""The relay server: a WSGI application that serves what kernels have registered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flask import Flask

__all__ = ["__version__", "create_app"]


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    """Tell the Jupyter server of the Jupyter relay."""
    try:
        from kdr_wsgi.jupyter.extension import KernelDataRelay
    except ModuleNotFoundError as error:
        remedy = "in the environment of the Jupyter server run: pip install 'kdr-wsgi[jupyter]'"
        raise ModuleNotFoundError(f"the Jupyter relay needs {error.name}; {remedy}", name=error.name) from error
    return [{"module": "kdr_wsgi.jupyter.extension", "app": KernelDataRelay}]


def create_app(config: Mapping[str, str] | None = None) -> Flask:
    """Return the relay server's application; see `kdr_wsgi.app.create_app`."""
    from kdr_wsgi.app import create_app  # Here, so that the pure modules load without Flask.

    return create_app(config)


def __getattr__(name: str) -> str:
    if name == "__version__":
        from hub.version import VERSION  # Here, so that the command `kdr` can say where `hub` does not run.

        return VERSION
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
