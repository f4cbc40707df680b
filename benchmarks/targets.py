"""What this project means to reach, beside others in the same run."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks import jupyter
from benchmarks.figures import Figures
from benchmarks.growth import counted
from benchmarks.peers import FLOOR, KDR, KDR_GRANIAN, NGINX_PEER, SEND_PEER, WHITENOISE_PEER


@dataclass(frozen=True)
class Target:
    """A ratio of two medians of one column.

    Attributes
    ----------
    title : str
    column : str
    row, other : str
    at_least : float
    """

    title: str
    column: str
    row: str
    other: str
    at_least: float

    def ratio(self, figures: Figures) -> float | None:
        """Return what was measured; None, if that is missing."""
        value, other = (figures.median(self.column, row) for row in (self.row, self.other))
        return value / other if value is not None and other else None

    def verdict(self, figures: Figures) -> str:
        """Say whether it was met."""
        ratio = self.ratio(figures)
        if ratio is None:
            return "not measured"
        return "met" if ratio >= self.at_least else "not met"


TARGETS = (
    Target("tiles / gunicorn with a constant body", "tiles", KDR.name, FLOOR, 0.85),
    Target("tiles / send_from_directory", "tiles", KDR.name, SEND_PEER.name, 2.4),
    Target("tiles / whitenoise", "tiles", KDR.name, WHITENOISE_PEER.name, 1.15),
    Target("304s / gunicorn with a constant empty body", "304s", KDR.name, FLOOR, 0.85),
    Target("64 KiB ranges / whitenoise", "ranges", KDR.name, WHITENOISE_PEER.name, 1.1),
    Target("tiles under granian / nginx", "tiles", KDR_GRANIAN.name, NGINX_PEER.name, 0.35),
    Target("1 GiB body / nginx", "big", KDR.name, NGINX_PEER.name, 0.95),
    Target("through Jupyter, 1 connection / constant JupyterHandler", "jupyter, 1", "kdr-wsgi", jupyter.FLOOR, 0.8),
    Target("through Jupyter, 8 connections / constant JupyterHandler", "jupyter, 8", "kdr-wsgi", jupyter.FLOOR, 0.8),
    Target("one tile, 1,000,000 keys / 1 key", "keys", counted(1_000_000, "key"), counted(1, "key"), 0.95),
)
