"""From a map of probabilities to a table of objects; needs scipy, the ``candidates`` extra.

Regions are labelled in a few rows at a time. A part of a region is a row of columns that can be
merged: areas and moments add up, bounds and peaks are extrema. A pixel is the smallest part, so the
same reduction makes parts of pixels and regions of parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from morpheus_core import checks
from morpheus_core.errors import InputError
from morpheus_core.extras import require_package
from morpheus_core.pipeline.aggregators import AGGREGATION_METHODS
from morpheus_core.results.finished import GivenResults, Outputs, open_outputs
from morpheus_core.sky.headers import wcs_of

if TYPE_CHECKING:
    from astropy.table import Column, Table
    from astropy.wcs import WCS

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


def find_candidates(
    results: GivenResults,
    class_name: str,
    threshold: float,
    min_area: int = 1,
    *,
    connectivity: int = 8,
    aggregate_method: str | None = None,
) -> Table:
    """List the connected regions in which a class reaches a threshold.

    Needs SciPy, which the extra ``candidates`` brings.

    Parameters
    ----------
    results : path, or what predict returns
        The `out_dir` of a finished run; or ``output_hduls``, ``output_arrays``, or both as
        :func:`morpheus_core.predict` returns them.
    class_name : str
        The class to look for, as `class_names` of the run calls it; where no names are known,
        ``"class_0"``, ``"class_1"`` ...
    threshold : float
        Pixels belong to a region where the mean, or the share of votes, is at least this; above 0
        and at most 1. Pixels without a result (n is 0) or with NaN belong to none.
    min_area : int, default 1
        Regions of fewer pixels are left out.
    connectivity : {8, 4}
        Whether pixels that share a corner are connected, or only those that share an edge.
    aggregate_method : {"mean_var", "rank_vote"}, optional
        Which result is compared; needed only if the run has both.

    Returns
    -------
    Table
        Of astropy; ``table.write("candidates.ecsv")`` writes it. One row per region, the highest
        peak first, equal ones by the row and then the column of the peak:

        ============================ ========================================================
        ``id``                       from 1, in the order of the table
        ``ra``, ``dec``              the centroid in degrees, ICRS; only where the result has
                                     celestial coordinates, those of ``n.fits``, which keep
                                     distortions
        ``x``, ``y``                 the centroid, weighted by probability
        ``peak``                     the highest probability of the region
        ``x_peak``, ``y_peak``       where that is, first by row, then by column
        ``area``                     in pixels
        ``mean``                     mean probability
        ``x_min``, ``x_max``,        bounding box; the last pixel is part of it
        ``y_min``, ``y_max``
        ============================ ========================================================

        Pixels are those of the result (of the image times the dilation) and count from 0 at the
        centre of the first one, x along columns and y along rows.

    Raises
    ------
    InputError
        If there is no finished run, an argument does not fit the result, means are no
        probabilities, or something cannot be read.
    MissingPackageError
        If scipy is not installed.

    Notes
    -----
    A few rows are read at a time and regions are joined across them, so memory does not grow with
    the height of the result, but with the number of regions, of any area: 100 MB, and 300 bytes for
    each.

    Examples
    --------
    >>> import numpy as np
    >>> from morpheus_core import find_candidates
    >>> votes = np.zeros((50, 60, 2))
    >>> votes[10:13, 20:24, 0] = 0.75
    >>> votes[40, 50, 0] = 1
    >>> table = find_candidates([votes, np.ones((50, 60))], "class_0", threshold=0.5, min_area=5)
    >>> table["x", "y", "peak", "area"].pprint()
     x    y   peak area
    ---- ---- ---- ----
    21.5 11.0 0.75   12
    """
    least = checks.whole_number("min_area", min_area)
    lowest = checks.positive_number("threshold", threshold)
    if lowest > 1:
        raise InputError(f"threshold must be a probability, > 0 and <= 1, got {threshold!r}")
    if connectivity not in list(CONNECTIVITIES):
        raise InputError(f"connectivity must be 4 or 8, got {connectivity!r}")
    require_package("scipy", "candidates", "find_candidates")
    with open_outputs(results) as outputs:
        method = outputs.method(aggregate_method)
        names = outputs.class_names
        index = names.index(checks.one_of("class_name", class_name, names))
        regions = find_regions(outputs, method, index, lowest, connectivity)
        wcs = wcs_of(outputs.n.header)
    large = regions["area"] >= least
    return as_table({name: column[large] for name, column in regions.items()}, wcs)


def find_regions(
    outputs: Outputs, method: AGGREGATION_METHODS, index: int, threshold: float, connectivity: int
) -> Columns:
    """Return all regions of a class, in any order."""
    from scipy import ndimage

    structure = ndimage.generate_binary_structure(2, CONNECTIVITIES[connectivity])
    above = np.zeros(outputs.shape[1], np.int64)  # labels of the row before; 0 outside of regions
    parts, links, count = [], [], 0
    for block in outputs.blocks():
        share = block.probability(method, index)
        # With the row before once more: its two labels tell which parts are of one region.
        inside = np.vstack([above > 0, share >= threshold])
        labels, found = ndimage.label(inside, structure)
        labels = np.where(inside, labels + np.int64(count), 0)
        links.append(np.unique([above[inside[0]], labels[0, inside[0]]], axis=1))
        parts.append(merged(pixels_of(share, labels[1:], block.first)))
        above, count = labels[-1], count + found
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    joined["label"] = region_of_labels(np.hstack(links), count)[joined["label"]]
    return merged(joined)


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


def as_table(regions: Columns, wcs: WCS | None) -> Table:
    """Return regions as users see them."""
    from astropy.table import Table

    order = np.lexsort(by_peak(regions))
    regions = {name: column[order] for name, column in regions.items()}
    x, y = (regions[moment] / regions["weight"] for moment in ("x_moment", "y_moment"))
    return Table(
        {
            "id": np.arange(1, len(order) + 1),
            **sky_columns(wcs, x, y),
            "x": x,
            "y": y,
            **{name: regions[name] for name in ("peak", "x_peak", "y_peak", "area")},
            "mean": regions["weight"] / regions["area"],
            **{name: regions[name] for name in ("x_min", "x_max", "y_min", "y_max")},
        }
    )


def sky_columns(wcs: WCS | None, x: NDArray[Any], y: NDArray[Any]) -> dict[str, Column]:
    """Return the sky positions of pixels, if they have some that SkyCoord knows."""
    from astropy.coordinates import SkyCoord
    from astropy.table import Column

    sky = None if wcs is None else wcs.pixel_to_world(x, y)
    if not isinstance(sky, SkyCoord):  # but two angles on the Sun, for instance
        return {}
    return {
        "ra": Column(sky.icrs.ra.deg, unit="deg"),
        "dec": Column(sky.icrs.dec.deg, unit="deg"),
    }
