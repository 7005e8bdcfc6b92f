"""Make the drawings of the documentation: ``python docs/drawings FOLDER``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import aggregates
import grids
import maps
import matplotlib as mpl
import measurements
import strips
from matplotlib.figure import Figure
from style import SETTINGS, save

DRAWINGS: dict[str, Callable[[], Figure]] = {
    "window_grid": grids.window_grid,
    "edges": grids.edges,
    "padding": grids.padding,
    "stride": grids.stride,
    "update_map": maps.update_map,
    "dilation": maps.dilation,
    "n": maps.n_maps,
    "strips": strips.strips,
    "mean_and_votes": aggregates.mean_and_votes,
    "dispersion": aggregates.dispersion,
    "choosing_stride": measurements.stride,
    "choosing_border": measurements.border,
}


def draw_all(folder: Path) -> None:
    """Write every drawing as an SVG file of its name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in DRAWINGS.items():
        with mpl.rc_context(SETTINGS):
            save(draw(), folder / f"{name}.svg")


if __name__ == "__main__":
    draw_all(Path(sys.argv[1]))
