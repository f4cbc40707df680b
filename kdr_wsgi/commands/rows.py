"""What is registered and how it is used, a row for each registration: for ``kdr list`` and ``kdr top``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from hub import JupyterRelayHub
from hub.registration import Registration


class Usage(NamedTuple):
    """How a registration has been used.

    Attributes
    ----------
    hits : int
        Requests that were answered.
    sent_bytes : int
    accessed_at : float or None
        Seconds since the epoch; None: never.
    """

    hits: int
    sent_bytes: int
    accessed_at: float | None


class Row(NamedTuple):
    """A registration, its URL, and how it is used; None where nobody counts."""

    registration: Registration
    url: str
    usage: Usage | None


def read_rows(hub: JupyterRelayHub) -> list[Row]:
    """Return what `hub` registers with has, in the order of the keys."""
    registrations = hub.registrar.registrations()
    # A shared relay server counts for its administrator.
    usage = {} if hub.service else read_usage(hub.registry.path)
    return [Row(registration, url, usage.get(registration.key)) for registration, url in registrations]


def read_usage(_registry: Path) -> Mapping[str, Usage]:
    """Return how the registrations of a registry are used, by their keys."""
    return {}
