"""Figures of evaluations; imports matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from morpheus_core.evaluation.strata import ALL
from morpheus_core.pictures.colours import class_colours
from morpheus_core.pictures.panels import Picture

if TYPE_CHECKING:
    from astropy.table import Table

    from morpheus_core.evaluation.reports import PixelEvaluation

QUIET = "#B0B0B0"
#: More classes than this are not written into the confusion matrix.
MOST_NUMBERS = 12
#: The least share of other classes that ROC curves show; of these a sample has few pixels.
FEWEST = 1e-6
#: More strata than this have their names written aslant.
MOST_LEVEL = 5
#: What is drawn of objects, in which colour, and how far aside if both are.
OF_OBJECTS = (("completeness", "#0072B2", -0.08), ("purity", "#D55E00", 0.08))


def draw_pixels(evaluation: PixelEvaluation) -> Picture:
    """Draw ROC curves, reliability, and the confusion matrix or the overlaps."""
    figure = Picture(figsize=(13, 4.4), layout="constrained")
    curves, reliability, last = figure.subplots(1, 3)
    colours = class_colours(evaluation.class_names)
    # No panel has a fixed aspect: a constrained layout would cut off what is written around it.
    draw_roc(curves, evaluation, colours)
    reliability.axline((0, 0), slope=1, color=QUIET, lw=1, ls="--")
    for name, colour in zip(evaluation.class_names, colours, strict=True):
        bins = evaluation.reliability(name)
        reliability.plot(bins["score"], bins["share"], "o-", ms=4, color=colour, label=name)
    reliability.set(title="Reliability", xlabel="mean score", ylabel="share of the class")
    reliability.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    if evaluation.has_labels:
        draw_confusion(last, evaluation)
    else:
        draw_overlaps(last, evaluation, colours)
    return figure


def draw_roc(axes: Axes, evaluation: PixelEvaluation, colours: Any) -> None:
    """Draw ROC curves by the logarithm of false positives, of which few matter in rare classes."""
    curves = {name: evaluation.roc(name) for name in evaluation.class_names}
    false = np.concatenate([curve["false_positives"] for curve in curves.values()])
    least = false[false > 0].min(initial=0.1)
    lowest = max(FEWEST, float(10 ** np.floor(np.log10(least))))
    chance = np.geomspace(lowest, 1, 100)
    axes.plot(chance, chance, color=QUIET, lw=1, ls="--")
    for (name, curve), colour in zip(curves.items(), colours, strict=True):
        # What has no false positives lies on the left edge.
        places = np.maximum(curve["false_positives"], lowest)
        axes.plot(places, curve["true_positives"], color=colour, label=name)
    axes.set(title="ROC", xlabel="share of other classes", ylabel="share of the class")
    axes.set(xscale="log", xlim=(lowest, 1.1), ylim=(-0.01, 1.01))
    axes.legend(loc="best", fontsize="small")


def draw_confusion(axes: Axes, evaluation: PixelEvaluation) -> None:
    """Draw which part of each class is taken for which."""
    names = evaluation.class_names
    confusion = np.array([evaluation.confusion()[name] for name in names], float).T
    with np.errstate(invalid="ignore"):
        shares = confusion / confusion.sum(axis=1, keepdims=True)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
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
    """Draw completeness and purity: of strata, if there are some, as points, of all as lines."""
    rows = table[table["stratum"] != ALL] if len(table) > 1 else table
    figure = Picture(figsize=(6.5, 4.2), layout="constrained")
    axes = figure.subplots()
    known = [drawn for drawn in OF_OBJECTS if np.isfinite(numbers(rows, drawn[0])).any()]
    for share, colour, _ in OF_OBJECTS if len(table) > 1 else ():
        of_all = numbers(table, share)[0]
        label = f"{share} of all: {of_all:.3f}"
        axes.axhline(of_all, color=colour, lw=1, ls="--", label=label)
    for share, colour, shift in known:
        values, low, high = (numbers(rows, f"{share}{end}") for end in ("", "_low", "_high"))
        places = np.arange(len(rows)) + (shift if len(known) > 1 else 0)
        errors = np.maximum([values - low, high - values], 0)
        axes.errorbar(places, values, errors, fmt="o", capsize=3, color=colour, label=share)
    axes.set(ylim=(-0.03, 1.03), xlim=(-0.5, len(rows) - 0.5), xticks=range(len(rows)))
    axes.set(xlabel=table.meta.get("STRATA", ""), ylabel="share, with 68 % intervals")
    if len(rows) > MOST_LEVEL:
        axes.set_xticklabels(rows["stratum"], rotation=40, ha="right", rotation_mode="anchor")
    else:
        axes.set_xticklabels(rows["stratum"])
    axes.legend(loc="lower left")
    return figure


def numbers(rows: Table, name: str) -> NDArray[np.float64]:
    """Return a column, NaN where it is masked."""
    return np.asarray(np.ma.filled(np.ma.asarray(rows[name]).astype(float), np.nan))
