"""Figures of evaluations; imports matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes

from morpheus_core.evaluation.strata import ALL
from morpheus_core.pictures.colours import class_colours
from morpheus_core.pictures.panels import Picture

if TYPE_CHECKING:
    from astropy.table import Table

    from morpheus_core.evaluation.reports import PixelEvaluation

QUIET = "#B0B0B0"
#: More classes than this are not written into the confusion matrix.
MOST_NUMBERS = 12


def draw_pixels(evaluation: PixelEvaluation) -> Picture:
    """Draw ROC curves, reliability, and the confusion matrix or the overlaps."""
    figure = Picture(figsize=(13, 4.4), layout="constrained")
    curves, reliability, last = figure.subplots(1, 3)
    colours = class_colours(evaluation.class_names)
    for axes in (curves, reliability):
        axes.axline((0, 0), slope=1, color=QUIET, lw=1, ls="--")
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    for name, colour in zip(evaluation.class_names, colours, strict=True):
        roc, bins = evaluation.roc(name), evaluation.reliability(name)
        curves.plot(roc["false_positives"], roc["true_positives"], color=colour, label=name)
        reliability.plot(bins["score"], bins["share"], "o-", ms=4, color=colour, label=name)
    curves.set(title="ROC", xlabel="share of other classes", ylabel="share of the class")
    curves.legend(loc="lower right", fontsize="small")
    reliability.set(title="Reliability", xlabel="mean score", ylabel="share of the class")
    if evaluation.has_labels:
        draw_confusion(last, evaluation)
    else:
        draw_overlaps(last, evaluation, colours)
    return figure


def draw_confusion(axes: Axes, evaluation: PixelEvaluation) -> None:
    """Draw which part of each class is taken for which."""
    names = evaluation.class_names
    confusion = np.array([evaluation.confusion()[name] for name in names], float).T
    with np.errstate(invalid="ignore"):
        shares = confusion / confusion.sum(axis=1, keepdims=True)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    places = range(len(names))
    axes.set(title="Confusion", xlabel="predicted", ylabel="true", xticks=places, yticks=places)
    axes.set_xticklabels(names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticklabels(names)
    if len(names) <= MOST_NUMBERS:
        for (row, column), share in np.ndenumerate(shares):
            if np.isfinite(share):
                colour = "white" if share > 0.5 else "black"
                axes.text(column, row, f"{share:.2f}", ha="center", va="center", color=colour)


def draw_overlaps(axes: Axes, evaluation: PixelEvaluation, colours: Any) -> None:
    """Draw the intersection over union of each class."""
    rows = evaluation.table[evaluation.table["stratum"] == ALL]
    axes.barh(rows["class"], rows["iou"], color=colours)
    axes.invert_yaxis()
    axes.set(title="Intersection over union", xlim=(0, 1))


def draw_objects(table: Table) -> Picture:
    """Draw completeness and purity, by strata if there are some."""
    rows = table[table["stratum"] != ALL] if len(table) > 1 else table
    figure = Picture(figsize=(6.5, 4.2), layout="constrained")
    axes = figure.subplots()
    for share, shift, colour in (("completeness", -0.08, "#0072B2"), ("purity", 0.08, "#D55E00")):
        values, low, high = (
            np.ma.filled(np.ma.asarray(rows[name]).astype(float), np.nan)
            for name in (share, f"{share}_low", f"{share}_high")
        )
        places = np.arange(len(rows)) + shift
        errors = np.maximum([values - low, high - values], 0)
        axes.errorbar(places, values, errors, fmt="o", capsize=3, color=colour, label=share)
    axes.set(ylim=(-0.03, 1.03), xticks=range(len(rows)), ylabel="share, with 68 % intervals")
    axes.set_xticklabels(rows["stratum"])
    axes.legend(loc="lower left")
    return figure
