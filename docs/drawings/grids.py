"""Drawings of the window grid: windows, edges, padding and stride."""

from __future__ import annotations

from typing import get_args

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from style import (
    BLUE,
    GREEN,
    INK,
    LINE,
    QUIET,
    SHADES,
    SMALL,
    VERMILION,
    as_plan,
    box,
    drawing,
    pixels,
    shaded,
    value_at,
)

from morpheus_core.pipeline.slabs import source_pixels
from morpheus_core.windows.grid import Axis, Padding, WindowGrid, place_windows
from morpheus_core.windows.visits import Visits


def window_grid() -> Figure:
    """Draw the windows of a small image, three of them outlined."""
    grid = WindowGrid((14, 22), window_shape=(8, 8), stride=(3, 7))
    figure, axes = drawing(3.3)
    as_plan(axes, (-1.9, 14.2), (-3.2, 22.2))
    pixels(axes, grid.image_shape)
    rows, columns = grid.rows.origins, grid.columns.origins
    outlined = [(rows[0], columns[0]), (rows[0], columns[1]), (rows[1], columns[0])]
    for corner, colour in zip(outlined, (BLUE, VERMILION, GREEN), strict=True):
        box(axes, corner, grid.window_shape, edgecolor=colour, linewidth=2.2)
    for row in rows:
        axes.plot(columns + 0.5, np.full(len(columns), row + 0.5), "o", color=INK, markersize=4.5)
    stride_arrows(axes, grid)
    for number, row in enumerate(rows):
        name = f"row {number}" if number else "window\nrow 0"
        axes.text(-0.3, row + 0.5, name, ha="right", va="center", fontsize=SMALL)
    return figure


def stride_arrows(axes: Axes, grid: WindowGrid) -> None:
    """Draw both strides, from the first window to its neighbours."""
    look = {"arrowstyle": "<->", "color": INK, "shrinkA": 0, "shrinkB": 0}
    down, right = grid.stride
    axes.annotate("", (0, -0.5), (right, -0.5), arrowprops=look)
    axes.text(right / 2, -0.8, f"stride[1] = {right}", ha="center", fontsize=SMALL)
    axes.annotate("", (1.3, 0), (1.3, down), arrowprops=look)
    label = {"facecolor": axes.get_facecolor(), "edgecolor": "none", "pad": 1}
    place = {"va": "center", "fontsize": SMALL, "bbox": label}
    axes.text(1.65, down / 2, f"stride[0] = {down}", **place)
    axes.text(right + 1.5, 9, f"window_shape = {grid.window_shape}", color=VERMILION, **place)


LENGTH, WINDOW, STRIDE = 17, 6, 3


def edges() -> Figure:
    """Draw the windows along one axis that the stride does not divide, in three ways."""
    ways = {
        'edges="cover" (default)': WindowGrid((1, LENGTH), (1, WINDOW), (1, STRIDE)),
        'edges="drop"': WindowGrid((1, LENGTH), (1, WINDOW), (1, STRIDE), edges="drop"),
        'padding="reflect"': WindowGrid((1, LENGTH), (1, WINDOW), (1, STRIDE), padding="reflect"),
    }
    highest = max(Visits(grid, np.ones((1, WINDOW))).row(0).max() for grid in ways.values())
    heights = [1.9 + 0.8 * len(grid.columns.origins) for grid in ways.values()]
    figure, panels = drawing(4.4, 3, gridspec_kw={"height_ratios": heights})
    for panel, height, (name, grid) in zip(panels, heights, ways.items(), strict=True):
        as_plan(panel, (-0.3, height - 0.3), (-4.2, LENGTH + 3.2))
        panel.set_title(name, loc="left", family="monospace")
        one_axis(panel, grid, highest)
    return figure


def one_axis(axes: Axes, grid: WindowGrid, highest: float) -> None:
    """Draw n in the pixels of an image that is one pixel high, and its windows below."""
    n = Visits(grid, np.ones(grid.window_shape)).row(0)
    for column, count in enumerate(n):
        colour = SHADES(count / highest) if count else "white"
        box(axes, (0, column), (1, 1), fill=True, facecolor=colour, edgecolor=QUIET, linewidth=0.7)
        value_at(axes, n[np.newaxis], 0, column, highest)
    axes.text(-0.3 - grid.columns.before, 0.5, "n", ha="right", va="center")
    padded = ((-grid.columns.before, grid.columns.before), (LENGTH, grid.columns.after))
    for first, width in padded:
        box(axes, (0, first), (1, width), edgecolor=LINE, hatch="////", linewidth=0.7)
    for number, origin in enumerate(grid.columns.origins):
        flush = origin + WINDOW == LENGTH + grid.columns.after and origin % STRIDE
        colour = VERMILION if flush else BLUE
        axes.hlines(1.7 + 0.8 * number, origin + 0.1, origin + WINDOW - 0.1, colour, linewidth=4)


def padding() -> Figure:
    """Draw which pixels of the image stand beyond its border for each kind of padding."""
    figure, axes = drawing(1.9)
    as_plan(axes, (-0.2, 6.0), (-7.2, 11.2))
    image = "abcdef"
    axis = Axis(place_windows(len(image), 8, 4, "cover", padded=True).origins, 4, 4)
    for number, kind in enumerate(get_args(Padding)):
        row = 1.5 * number
        axes.text(-4.4, row + 0.5, kind, ha="right", va="center", family="monospace")
        for place, source in enumerate(source_pixels(len(image), axis, kind)):
            inside = 0 <= place - axis.before < len(image)
            colour = "#CFE0EE" if inside else "white"
            look = {"fill": True, "facecolor": colour, "edgecolor": QUIET, "linewidth": 0.7}
            column = place - axis.before
            box(axes, (row, column), (1, 1), **look)
            letter = image[source] if source >= 0 else "0"
            axes.text(column + 0.5, row + 0.5, letter, ha="center", va="center")
    return figure


def stride() -> Figure:
    """Draw how often windows visit each pixel, for three strides."""
    strides = (8, 4, 2)
    figure, panels = drawing(2.05, 1, len(strides))
    highest = (8 // min(strides)) ** 2
    for panel, step in zip(panels, strides, strict=True):
        grid = WindowGrid((32, 32), (8, 8), (step, step))
        n = Visits(grid, np.ones(grid.window_shape)).rows(0, 32)
        shaded(panel, n, highest)
        for place in ((2, 2), (2, 15), (15, 15)):
            value_at(panel, n, *place, highest)
        panel.set_title(f"stride ({step}, {step})\n{len(grid)} windows")
    return figure
