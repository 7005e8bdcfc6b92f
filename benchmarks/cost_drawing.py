"""The figure of the page on costs: what was measured, and what is expected of many GPUs."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from cost_measurements import Measurements
from cost_projection import Cluster, Fit, Mosaic, best, fitted, project
from cost_tables import BANDWIDTH, RATE, STRIDES
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from morpheus_core.pictures.colours import PALETTE

COLOURS = (PALETTE[6], PALETTE[0])
PANEL, QUIET = "#FCFBF8", "#666A73"
SETTINGS = {
    "font.size": 9.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "axes.facecolor": PANEL,
    "figure.facecolor": PANEL,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "morpheus-core",  # the same drawing has the same bytes
}


def draw(measured: Measurements, path: Path) -> None:
    """Write the figure as SVG."""
    with mpl.rc_context(SETTINGS):
        figure = Figure((4.6, 7.2), layout="constrained")
        upper, lower = figure.subplots(2)
        fit = fitted(measured.samples)
        draw_fit(upper, fit, measured)
        draw_projection(lower, fit, measured)
        figure.savefig(path, metadata={"Date": None})


def draw_fit(axes: Axes, fit: Fit, measured: Measurements) -> None:
    """Draw runs as points, and the model through them."""
    counts = sorted({sample.windows for sample in measured.samples})
    strips = np.linspace(0, 1.05 * max(sample.strips for sample in measured.samples))
    for windows, line in zip(counts, ("--", "-"), strict=True):
        for workers, colour, marker in zip((1, 2), COLOURS, "os", strict=True):
            name = f"{workers} worker{'s'[: workers - 1]}, {windows} windows"
            axes.plot(strips, fit.seconds(workers, windows, strips), line, color=colour)
            runs = [s for s in measured.samples if (s.workers, s.windows) == (workers, windows)]
            axes.plot(
                [run.strips for run in runs],
                [run.seconds for run in runs],
                marker,
                color=colour,
                markerfacecolor=colour if line == "-" else PANEL,
                label=name,
            )
    axes.set(xlabel="strips", ylabel="wall time (s)", xlim=(0, None), ylim=(0, None))
    axes.set_title("Measured, and fitted", loc="left")
    axes.legend()


def draw_projection(axes: Axes, fit: Fit, measured: Measurements) -> None:
    """Draw the total against the number of GPUs."""
    gpus = [2**k for k in range(10)]
    for stride, colour in zip(STRIDES, COLOURS, strict=True):
        mosaic = Mosaic(stride)
        clusters = [Cluster(count, RATE, BANDWIDTH) for count in gpus]
        chosen = [best(mosaic, cluster, fit, measured) for cluster in clusters]
        usual = [
            project(mosaic, cluster, mosaic.default_strips(cluster.workers), fit, measured)
            for cluster in clusters
        ]
        axes.plot(gpus, [one.total for one in chosen], "-", color=colour)
        axes.plot(gpus, [one.total for one in usual], "--", color=colour)
        axes.plot(gpus, [one.predicting for one in chosen], ":", color=colour)
        axes.annotate(f"stride {stride}", (1.15, chosen[0].total * 1.25), color=colour)
    for style, name in (("-", "best strips"), ("--", "default strips"), (":", "GPUs alone")):
        axes.plot([], [], style, color=QUIET, label=name)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="GPUs",
        ylabel="wall time",
        xticks=gpus[::3],
        xticklabels=gpus[::3],
    )
    axes.minorticks_off()
    axes.set_ylim(top=3 * axes.get_ylim()[1])
    scale = {"1 min": 60, "10 min": 600, "1 h": 3600, "10 h": 36_000, "4 d": 345_600}
    axes.set_yticks(list(scale.values()), list(scale))
    axes.set_title("Expected time for 100,000 × 100,000 pixels", loc="left")
    axes.legend()
