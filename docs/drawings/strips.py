"""A drawing of groups, strips and seams."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from style import BLUE, GREEN, INK, QUIET, SMALL, VERMILION, as_plan, box, drawing

from morpheus_core.windows.grid import Strip, WindowGrid

GRID = WindowGrid((54, 24), window_shape=(12, 12), stride=(6, 6))
BATCH_SIZE = 6  # two window rows of three windows
COLOURS = (BLUE, VERMILION, GREEN)
IMAGE = 14  # width of the image as drawn


def strips() -> Figure:
    """Draw the window rows of an image in three strips, and the rows that strips share."""
    figure, axes = drawing(4.6)
    as_plan(axes, (-3.4, 54.4), (-0.4, 52))
    windows = np.full(len(GRID.rows.origins), len(GRID.columns.origins))
    parts = GRID.strips(BATCH_SIZE, len(COLOURS), windows)
    for number, (strip, colour) in enumerate(zip(parts, COLOURS, strict=True)):
        draw_own_rows(axes, strip, f"strip {number}", colour)
        draw_window_rows(axes, strip, colour)
    for first, stop in GRID.seams(parts):
        look = {"fill": True, "facecolor": "#00000022", "edgecolor": QUIET, "linewidth": 0.6}
        box(axes, (first, 0), (stop - first, 51.5), **look)
        label = f"seam:\nrows {first} to {stop - 1}"
        axes.text(50.8, (first + stop) / 2, label, ha="right", va="center", fontsize=SMALL)
    axes.text(IMAGE / 2, -1, "output rows", ha="center")
    axes.text(IMAGE + 3, -1, "window rows, in groups of two", ha="left")
    box(axes, (0, 0), (54, IMAGE), edgecolor=INK, linewidth=1)
    return figure


def draw_own_rows(axes: Axes, strip: Strip, name: str, colour: str) -> None:
    """Draw the output rows that a strip has for itself."""
    _, own_start, own_stop, _ = GRID.strip_rows(strip)
    own = {"fill": True, "facecolor": colour, "alpha": 0.35, "linewidth": 0}
    box(axes, (own_start, 0), (own_stop - own_start, IMAGE), **own)
    place = {"ha": "center", "va": "center", "fontsize": SMALL}
    axes.text(IMAGE / 2, (own_start + own_stop) / 2, f"{name},\nits own", **place)


def draw_window_rows(axes: Axes, strip: Strip, colour: str) -> None:
    """Draw the window rows of a strip as bars, with a gap between groups."""
    look = {"fill": True, "color": colour}
    for group in GRID.groups(BATCH_SIZE, strip):
        for row in range(group.start, group.stop):
            left = IMAGE + 3 + 2.4 * row + group.start / 2
            corner = (GRID.rows.origins[row] + 0.2, left)
            box(axes, corner, (GRID.window_shape[0] - 0.4, 1.8), **look)
