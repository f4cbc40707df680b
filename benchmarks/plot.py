"""The figures as one picture."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.figures import Figures
from benchmarks.peers import (
    FLOOR,
    FLOOR_GRANIAN,
    KDR,
    KDR_GRANIAN,
    NGINX_PEER,
    SEND_PEER,
    STARLETTE_PEER,
    WHITENOISE_PEER,
)

#: From above, with how each is called in the picture.
BARS = {
    KDR.name: "kdr-wsgi, gunicorn",
    KDR_GRANIAN.name: "kdr-wsgi, granian",
    WHITENOISE_PEER.name: "whitenoise, gunicorn",
    SEND_PEER.name: "Flask send_from_directory,\ngunicorn",
    STARLETTE_PEER.name: "Starlette StaticFiles,\nuvicorn",
    NGINX_PEER.name: "nginx",
}
OURS = (KDR.name, KDR_GRANIAN.name)

PANELS = {"tiles": "tiles of 20 kB", "ranges": "64 KiB ranges of a 1 GiB file", "304s": "304 Not Modified"}

OUR_COLOUR, OTHER_COLOUR = "#1f6fb4", "#b4b9bf"
FLOORS = {FLOOR: ("gunicorn, constant answer", "--"), FLOOR_GRANIAN: ("granian, constant answer", ":")}

GROWTH = {"keys": "keys in the registry", "files, requests, kdr-wsgi": "files in the tree"}


def draw(figures: Figures, path: Path) -> None:
    """Draw the speed of every server, and how it grows, as far as that was measured."""
    panels = [name for name in PANELS if figures.row_names(name)]
    grown = [name for name in GROWTH if figures.row_names(name)]
    if not panels and not grown:
        return
    figure = Figure(figsize=(12, 4.6 if panels else 3), layout="constrained")
    axes = figure.subplots(1, len(panels) + bool(grown), squeeze=False)[0]
    for number, name in enumerate(panels):
        _draw_bars(axes[number], figures, name, has_labels=number == 0)
    if grown:
        _draw_growth(axes[-1], figures, grown)
    if panels:
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def _draw_bars(axes: Axes, figures: Figures, name: str, *, has_labels: bool) -> None:
    values = [figures.median(name, row) or 0.0 for row in BARS]
    colours = [OUR_COLOUR if row in OURS else OTHER_COLOUR for row in BARS]
    axes.barh(range(len(BARS)), values, color=colours, height=0.66)
    for floor, (label, style) in FLOORS.items():
        value = figures.median(name, floor)
        if value:
            axes.axvline(value, color="#333333", linestyle=style, linewidth=1.1, label=label)
    axes.set_xscale("log")
    known = [value for value in values if value]
    axes.set_xlim(min([100.0, *(value / 2 for value in known)]), max([1e5, *known]) * 5)
    for place, value in enumerate(values):
        # Over the lines of the floors.
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.85}
        text = f"{value:,.0f}" if value else "no answer"
        axes.annotate(
            text,
            (value or axes.get_xlim()[0], place),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            bbox=box,
        )
    axes.set_yticks(range(len(BARS)), BARS.values() if has_labels else [""] * len(BARS))
    axes.invert_yaxis()
    axes.set_title(PANELS[name], fontsize=10)
    axes.set_xlabel("requests per second (log)", fontsize=9)
    axes.tick_params(labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_growth(axes: Axes, figures: Figures, names: list[str]) -> None:
    for name, marker in zip(names, "os", strict=False):
        measured = [
            (int(row.split()[0].replace(",", "")), figures.median(name, row)) for row in figures.row_names(name)
        ]
        known = [(number, value) for number, value in measured if value]
        if known:
            numbers, values = zip(*known, strict=True)
            axes.plot(numbers, [value / values[0] for value in values], marker=marker, label=GROWTH[name])
    axes.set_xscale("log")
    axes.set_ylim(0, 1.25)
    axes.set_title("kdr-wsgi as it grows", fontsize=10)
    axes.set_xlabel("how many there are (log)", fontsize=9)
    axes.set_ylabel("requests/s, beside one", fontsize=9)
    axes.tick_params(labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower left", frameon=False, fontsize=9)
