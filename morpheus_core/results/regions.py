"""Connected regions of a map of probabilities, labelled a few rows at a time; needs scipy.

A part of a region is a row of columns that can be merged: areas and moments add up, bounds and
peaks are extrema. A pixel is the smallest part, so the same reduction makes parts of pixels and
regions of parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morpheus_core.pipeline.aggregators import AGGREGATION_METHODS
from morpheus_core.results.finished import Outputs

#: Equally long columns, by name.
Columns = dict[str, NDArray[Any]]

#: Neighbours of a pixel, and the most steps along the axes that lead to them.
CONNECTIVITIES = {4: 1, 8: 2}
#: How parts become one; the other columns are those of the part with the highest peak.
REDUCTIONS = {
    "area": np.add,
    "weight": np.add,
    "x_moment": np.add,
    "y_moment": np.add,
    "x_min": np.minimum,
    "x_max": np.maximum,
    "y_min": np.minimum,
    "y_max": np.maximum,
}


@dataclass(frozen=True, slots=True)
class Search:
    """What regions are looked for.

    Attributes
    ----------
    outputs : Outputs
        Of a run.
    method : AGGREGATION_METHODS
        Which result is compared.
    index : int
        The class.
    threshold : float
        The least mean, or share of votes, of a pixel.
    connectivity : int
        4 or 8.
    """

    outputs: Outputs
    method: AGGREGATION_METHODS
    index: int
    threshold: float
    connectivity: int

    def highest(self) -> float:
        """Return the highest mean, or share of votes, of all pixels; NaN if there is none."""
        shares = (block.probability(self.method, self.index) for block in self.outputs.blocks())
        highest = (np.fmax.reduce(share, axis=None) for share in shares)
        return float(np.fmax.reduce(list(highest)))

    def parts(self) -> Iterator[LabelledRows]:
        """Yield all rows, in which connected pixels have the same label, the same at each call."""
        from scipy import ndimage

        structure = ndimage.generate_binary_structure(2, CONNECTIVITIES[self.connectivity])
        above = np.zeros(self.outputs.shape[1], np.int64)  # labels of the row before
        count = 0
        for block in self.outputs.blocks():
            share = block.probability(self.method, self.index)
            # With the row before once more: its two labels tell which parts are of one region.
            inside = np.vstack([above > 0, share >= self.threshold])
            labels, found = ndimage.label(inside, structure)
            labels = np.where(inside, labels + np.int64(count), 0)
            links = np.unique([above[inside[0]], labels[0, inside[0]]], axis=1)
            above, count = labels[-1], count + found
            yield LabelledRows(block.first, share, labels[1:], links, count)


@dataclass(frozen=True, slots=True)
class LabelledRows:
    """Some rows whose pixels are labelled.

    Attributes
    ----------
    first : int
        The first row.
    share : ndarray, (rows, width)
        Mean, or share of votes.
    labels : ndarray of int64, (rows, width)
        From 1; 0 outside of regions.
    links : ndarray of int64, (2, n)
        Labels that are of one region.
    count : int
        The highest label so far.
    """

    first: int
    share: NDArray[Any]
    labels: NDArray[np.int64]
    links: NDArray[np.int64]
    count: int


def find_regions(search: Search) -> tuple[Columns, NDArray[np.int32]]:
    """Return all regions of a class, in any order.

    Returns
    -------
    dict of ndarray
        One row per region; the column "label" is its number, from 0.
    ndarray of int32, (labels + 1,)
        The number of the region of each label.
    """
    parts, links, count = [], [], 0
    for rows in search.parts():
        links.append(rows.links)
        parts.append(merged(pixels_of(rows.share, rows.labels, rows.first)))
        count = rows.count
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    region_of_label = region_of_labels(np.hstack(links), count)
    joined["label"] = region_of_label[joined["label"]]
    return merged(joined), region_of_label


def pixels_of(share: NDArray[Any], labels: NDArray[np.int64], first: int) -> Columns:
    """Return the labelled pixels of some rows as parts, by row and then by column."""
    y, x = np.nonzero(labels)
    weight = share[y, x].astype(np.float64)
    label, y = labels[y, x], y + first
    return {
        "label": label,
        "peak": weight,
        "x_peak": x,
        "y_peak": y,
        "area": np.ones(len(x), np.int64),
        "weight": weight,
        "x_moment": weight * x,
        "y_moment": weight * y,
        "x_min": x,
        "x_max": x,
        "y_min": y,
        "y_max": y,
    }


def merged(parts: Columns) -> Columns:
    """Return one part per label."""
    order = np.lexsort((*by_peak(parts), parts["label"]))
    first = np.flatnonzero(np.diff(parts["label"][order], prepend=-1))
    leading = order[first]
    return {
        name: REDUCTIONS[name].reduceat(column[order], first)
        if name in REDUCTIONS
        else column[leading]
        for name, column in parts.items()
    }


def by_peak(parts: Columns) -> tuple[NDArray[Any], ...]:
    """Return keys for `numpy.lexsort`: the highest peak first, equal ones by row and column."""
    return parts["x_peak"], parts["y_peak"], -parts["peak"]


def region_of_labels(links: NDArray[np.int64], count: int) -> NDArray[np.int32]:
    """Return the region of each label, (count + 1,), from pairs of labels of one region, (2, n)."""
    from scipy.sparse import coo_array, csgraph

    graph = coo_array((np.ones(links.shape[1], bool), tuple(links)), shape=(count + 1, count + 1))
    regions: NDArray[np.int32] = csgraph.connected_components(graph, directed=False)[1]
    return regions
