"""Drawings of update maps, of dilation, and of n."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from style import BLUE, VERMILION, as_plan, box, drawing, pixels, shaded, value_at

from morpheus_core import predict, update_maps
from morpheus_core.windows.grid import WindowGrid
from morpheus_core.windows.visits import Visits

WINDOW, STRIDE, SIDE = 12, 4, 36


def update_map() -> Figure:
    """Draw four update maps, and the sum of weights that each gives."""
    shape = (WINDOW, WINDOW)
    maps = {
        "all": np.ones(shape),
        "centre_crop": update_maps.centre_crop(shape, border=4).astype(float),
        "hann": update_maps.hann(shape),
        "gaussian": update_maps.gaussian(shape),
    }
    grid = WindowGrid((SIDE, SIDE), shape, (STRIDE, STRIDE))
    figure, panels = drawing(2.6, 2, len(maps))
    for (above, below), (name, weights) in zip(panels.T, maps.items(), strict=True):
        shaded(above, weights, 1)
        above.set_title(name)
        n = Visits(grid, weights).rows(0, SIDE)
        shaded(below, n, 9)
        value_at(below, n, SIDE // 2, SIDE // 2, 9)
    beside(panels[0, 0], "weight")
    beside(panels[1, 0], "n")
    return figure


def beside(axes: Any, name: str) -> None:
    """Write what a row of maps shows on its left."""
    place = {"rotation": 90, "ha": "right", "va": "center", "transform": axes.transAxes}
    axes.text(-0.08, 0.5, name, **place)


def dilation() -> Figure:
    """Draw an image, and outputs with twice and half as many pixels along each axis."""
    figure, panels = drawing(2.2, 1, 3)
    for panel, factor in zip(panels, (Fraction(1), Fraction(2), Fraction(1, 2)), strict=True):
        grid = WindowGrid((8, 8), (4, 4), (2, 2), dilation=factor)
        shape, window = grid.output_shape, grid.output_window_shape
        as_plan(panel, (-0.02 * shape[0], 1.02 * shape[0]), (-0.02 * shape[1], 1.02 * shape[1]))
        pixels(panel, shape, color="#A9ADB5")
        for number, colour in ((0, BLUE), (1, VERMILION)):
            corner = (grid.tops[number], grid.lefts[number])
            box(panel, corner, window, edgecolor=colour, linewidth=2)
        name = "image" if factor == 1 else f"dilation {factor}"
        panel.set_title(f"{name}\n{shape[0]} × {shape[1]}, window\n{window[0]} × {window[1]}")
    return figure


def n_maps() -> Figure:
    """Draw n as `predict` returns it: plain, padded, and with bad pixels."""
    bad = np.zeros((SIDE, SIDE), bool)
    bad[20:30, 6:12] = True
    bad[:, 26:] = True
    cases = {
        "default": counts(),
        'padding=\n"reflect"': counts(padding="reflect"),
        "mask=bad": counts(mask=bad),
    }
    figure, panels = drawing(2.05, 1, len(cases))
    value_at(panels[2], cases["mask=bad"], 25, 8, 9)
    value_at(panels[2], cases["mask=bad"], 17, 30, 9)
    for panel, (name, n) in zip(panels, cases.items(), strict=True):
        shaded(panel, n, 9)
        panel.set_title(name, family="monospace")
        for place in ((2, 2), (2, 17), (17, 17)):
            value_at(panel, n, *place, 9)
    return figure


def counts(**options: Any) -> NDArray[np.float32]:
    """Return how many predictions each pixel of a blank image gets."""
    image = np.zeros((SIDE, SIDE), np.float32)
    window, stride = (WINDOW, WINDOW), (STRIDE, STRIDE)

    def model(batch: list[NDArray[Any]]) -> NDArray[Any]:
        return np.ones((len(batch[0]), 2))

    _, (_, n) = predict(model, image, 2, 64, window, stride=stride, progress=False, **options)
    return n
