"""Drawings of what ``benchmarks/choosing.py`` measured."""

from __future__ import annotations

import csv
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter
from style import BLUE, GREEN, VERMILION, drawing

FOLDER = Path(__file__).parent.parent / "measured"


def columns(name: str) -> dict[str, list[str]]:
    """Read a table of measurements by its columns."""
    with (FOLDER / f"{name}.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    return dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))


def stride() -> Figure:
    """Draw errors, dispersion and time against stride."""
    table = {name: values for name, values in columns("stride").items() if name != "in each sky"}
    numbers = {name: [float(value) for value in values] for name, values in table.items()}
    strides = numbers["stride"]
    figure, panels = drawing(5.2, 3, sharex=True)
    lines = {
        "wrong pixels, relative to stride 40": ("wrong pixels", VERMILION),
        "dispersion of the most probable class": ("dispersion", BLUE),
        "time, relative to stride 40": ("time", GREEN),
    }
    ranges = [map(float, text.split("–")) for text in columns("stride")["in each sky"]]
    lowest, highest = zip(*ranges, strict=True)
    panels[0].fill_between(strides, lowest, highest, color=VERMILION, alpha=0.2, linewidth=0)
    for panel, (title, (name, colour)) in zip(panels, lines.items(), strict=True):
        panel.plot(strides, numbers[name], "o-", color=colour, markersize=5)
        panel.set_title(title, loc="left")
    panels[0].set_ylim(0, 1.15)
    panels[1].set_ylim(0)
    panels[2].set_yscale("log")
    panels[2].set(xscale="log", xlabel="stride (pixels)")
    panels[2].xaxis.set_major_locator(FixedLocator(strides))
    panels[2].xaxis.set_minor_locator(NullLocator())
    panels[2].xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
    return figure


def border() -> Figure:
    """Draw how often single predictions are wrong against the distance from the border."""
    distance, wrong = columns("border").values()
    figure, axes = drawing(2.5)
    axes.bar([int(pixels) for pixels in distance], [float(share) for share in wrong], color=BLUE)
    axes.set(xlabel="distance from the border of the window (pixels)", ylabel="wrong class (%)")
    axes.set_xticks(range(0, len(distance), 5))
    return figure
