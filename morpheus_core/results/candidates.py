"""From a map of probabilities to a table of objects; needs scipy, the ``candidates`` extra."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from morpheus_core import checks
from morpheus_core.errors import InputError
from morpheus_core.extras import require_package
from morpheus_core.results.finished import Outputs
from morpheus_core.results.opened import GivenResults, open_outputs
from morpheus_core.results.regions import CONNECTIVITIES, Columns, Search, by_peak, find_regions
from morpheus_core.sky.headers import wcs_of

if TYPE_CHECKING:
    from astropy.table import Column, Table
    from astropy.wcs import WCS

#: Units of columns.
UNITS = {
    **dict.fromkeys(("x", "y", "x_peak", "y_peak", "x_min", "x_max", "y_min", "y_max"), "pix"),
    "area": "pix2",
}
#: Digits behind the point that are worth showing: a third of a milliarcsecond, a thousandth pixel.
DIGITS = {"ra": 7, "dec": 7, "x": 3, "y": 3, "peak": 5, "mean": 5}


def find_candidates(
    results: GivenResults,
    class_name: str,
    threshold: float,
    min_area: int = 1,
    *,
    connectivity: int = 8,
    aggregate_method: str | None = None,
    overlap: int | None = None,
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
    overlap : int, optional
        How many pixels along its edges the result has in common with neighbouring tiles; adds the
        column ``in_overlap``.

    Returns
    -------
    Table
        Of astropy; :func:`morpheus_core.export_candidates` writes it. One row per region, the
        highest peak first, equal ones by the row and then the column of the peak:

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
        ``at_border``                whether it touches an edge of the result, beyond which it may
                                     go on
        ``in_overlap``               with `overlap`, whether its peak is in these pixels, so that
                                     another tile may list it as well
        ============================ ========================================================

        Pixels are those of the result (of the image times the dilation) and count from 0 at the
        centre of the first one, x along columns and y along rows.

    Raises
    ------
    InputError
        If there is no finished run, an argument does not fit the result, or something cannot be
        read.
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
    >>> print(table["x", "y", "peak", "area"])
      x      y      peak  area
     pix    pix           pix2
    ------ ------ ------- ----
    21.500 11.000 0.75000   12
    """
    least = checks.whole_number("min_area", min_area)
    pixels = None if overlap is None else checks.whole_number("overlap", overlap)
    with search_of(results, class_name, threshold, connectivity, aggregate_method) as search:
        regions, _ = listed(search, least)
        return as_table(regions, search.outputs, pixels)


@contextmanager
def search_of(
    results: GivenResults,
    class_name: str,
    threshold: float,
    connectivity: int,
    aggregate_method: str | None,
) -> Iterator[Search]:
    """Check what is looked for, and open the outputs to look there."""
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
        yield Search(outputs, method, index, lowest, connectivity)


def listed(search: Search, min_area: int) -> tuple[Columns, NDArray[np.int32]]:
    """Return the regions that are large enough, in the order of the table, and all labels."""
    regions, region_of_label = find_regions(search)
    order = np.lexsort(by_peak(regions))
    order = order[regions["area"][order] >= min_area]
    return {name: column[order] for name, column in regions.items()}, region_of_label


def as_table(regions: Columns, outputs: Outputs, overlap: int | None) -> Table:
    """Return regions as users see them."""
    from astropy.table import Table

    x, y = (regions[moment] / regions["weight"] for moment in ("x_moment", "y_moment"))
    table = Table(
        {
            "id": np.arange(1, len(x) + 1, dtype=np.int32),
            **sky_columns(wcs_of(outputs.n.header), x, y),
            "x": x,
            "y": y,
            **{name: regions[name] for name in ("peak", "x_peak", "y_peak", "area")},
            "mean": regions["weight"] / regions["area"],
            **{name: regions[name] for name in ("x_min", "x_max", "y_min", "y_max")},
            "at_border": near_edge(regions, ("_min", "_max"), 1, outputs.shape),
        },
        meta={"HEIGHT": outputs.shape[0], "WIDTH": outputs.shape[1]},
    )
    if overlap is not None:
        table["in_overlap"] = near_edge(regions, ("_peak", "_peak"), overlap, outputs.shape)
    for name, unit in UNITS.items():
        table[name].unit = unit
    for name in DIGITS.keys() & set(table.colnames):
        table[name].info.format = f".{DIGITS[name]}f"
    return table


def near_edge(
    regions: Columns, ends: tuple[str, str], pixels: int, shape: tuple[int, int]
) -> NDArray[np.bool_]:
    """Say which regions begin or end within so many pixels of an edge of the result."""
    first, last = ends
    near = np.zeros(len(regions["area"]), bool)
    for axis, length in zip("yx", shape, strict=True):
        near |= (regions[f"{axis}{first}"] < pixels) | (regions[f"{axis}{last}"] >= length - pixels)
    return near


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
