"""What all drawings share: size, colours, and the shapes they are made of.

A drawing is as wide as a phone shows it without shrinking its letters much. It brings its own light
panel, so it can be read on a dark page, and its colours are told apart by colour-blind eyes.
Pixel (row, column) covers ``[row, row + 1]`` and ``[column, column + 1]`` of an axis; rows go down.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from morpheus_core.pictures.colours import PALETTE

PANEL, INK, QUIET, LINE = "#FCFBF8", "#22252B", "#666A73", "#D3D0C8"
VERMILION, SKY_BLUE, GREEN, BLUE = PALETTE[0], PALETTE[1], PALETTE[2], PALETTE[6]
#: From few to many.
SHADES = LinearSegmentedColormap.from_list("shades", ["#EEF3F8", "#8FB8DA", BLUE, "#06304F"])
#: In inches.
WIDTH = 3.9
SMALL, USUAL = 8.5, 9.5

SETTINGS = {
    "font.size": USUAL,
    "axes.titlesize": USUAL,
    "axes.labelsize": USUAL,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.facecolor": PANEL,
    "figure.facecolor": PANEL,
    "savefig.facecolor": PANEL,
    "savefig.bbox": "tight",
    "savefig.pad_inches": 0.12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "morpheus-core",  # the same drawing has the same bytes
}


def drawing(height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """Return a figure so many inches high, and its axes as `Figure.subplots` returns them."""
    figure = Figure((WIDTH, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as SVG."""
    figure.savefig(path, metadata={"Date": None})


def as_plan(axes: Axes, rows: tuple[float, float], columns: tuple[float, float]) -> None:
    """Make axes a map of pixels: rows go down, pixels are square, nothing around them."""
    axes.set(xlim=columns, ylim=rows[::-1], aspect="equal")
    axes.set_axis_off()


def box(axes: Axes, corner: tuple[float, float], shape: tuple[float, float], **look: Any) -> None:
    """Draw a rectangle by its first (row, column) and its (height, width)."""
    axes.add_patch(Rectangle(corner[::-1], shape[1], shape[0], **{"fill": False, **look}))


def pixels(axes: Axes, shape: tuple[int, int], **look: Any) -> None:
    """Draw the outlines of the pixels of an image, (height, width)."""
    height, width = shape
    look = {"color": LINE, "linewidth": 0.6, "zorder": 0, **look}
    axes.hlines(range(height + 1), 0, width, **look)
    axes.vlines(range(width + 1), 0, height, **look)


def shaded(axes: Axes, values: NDArray[Any], highest: float) -> None:
    """Draw a map of values, (height, width), between 0 and the highest."""
    height, width = values.shape
    place = {"extent": (0, width, height, 0), "interpolation": "nearest"}
    axes.imshow(values, cmap=SHADES, vmin=0, vmax=highest, **place)
    as_plan(axes, (0, height), (0, width))
    box(axes, (0, 0), values.shape, edgecolor=QUIET, linewidth=0.8, clip_on=False)


def value_at(axes: Axes, values: NDArray[Any], row: int, column: int, highest: float) -> None:
    """Write a value where it is on a shaded map."""
    value = values[row, column]
    colour = "white" if value > 0.45 * highest else INK
    text = f"{value:.3g}" if np.isfinite(value) else "NaN"
    place = {"ha": "center", "va": "center", "fontsize": SMALL}
    axes.text(column + 0.5, row + 0.5, text, color=colour, **place)
