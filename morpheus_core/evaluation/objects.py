"""Which objects of a catalogue are found, and which of what is found are in it; needs scipy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.stats import binom_conf_interval
from numpy.typing import NDArray

from morpheus_core.catalogs.positions import Positions, find_positions
from morpheus_core.errors import InputError
from morpheus_core.evaluation.metrics import ratio
from morpheus_core.evaluation.strata import ALL, Strata
from morpheus_core.evaluation.tables import with_formats

if TYPE_CHECKING:
    from astropy.table import Table

Int64 = NDArray[np.int64]

#: Of intervals of shares: that of one standard deviation of a normal distribution.
CONFIDENCE = 0.6826894921370859
ARCSECOND = np.pi / 180 / 3600
ANY = (None, None)


def object_table(found: Table, truth: Table, radius: float, strata: Strata | None) -> Table:
    """Return completeness and purity, of all objects and by strata.

    Parameters
    ----------
    found, truth : Table
        With positions.
    radius : float
        The most that two may be apart: in arcseconds, or in pixels.
    strata : Strata or None
        Of a column of `truth`; purity is split as well if `found` has it.
    """
    from astropy.table import Table, vstack

    places = [find_positions(table, ANY, ANY, None) for table in (truth, found)]
    if places[0].on_sky != places[1].on_sky:
        kinds = ["ra and dec" if one.on_sky else "x and y" for one in places]
        raise InputError(
            f"the truth and what is found must have positions of the same kind, got {kinds[0]} "
            f"and {kinds[1]}"
        )
    pairs = matched(points_of(places[0]), points_of(places[1]), radius_of(radius, places[0]))
    is_true, is_matched = (np.zeros(len(table), bool) for table in (truth, found))
    is_true[pairs[0]], is_matched[pairs[1]] = True, True
    rows = [row_of(ALL, is_true[places[0].there], is_matched[places[1].there])]
    if strata is not None:
        of_truth = strata.of(column_of(truth, strata.source))
        has_column = strata.source in found.colnames
        of_found = strata.of(column_of(found, strata.source)) if has_column else None
        for place, name in enumerate(strata.names):
            true = is_true[places[0].there & (of_truth == place)]
            others = None
            if of_found is not None:
                others = is_matched[places[1].there & (of_found == place)]
            rows.append(row_of(name, true, others))
    table = Table(vstack(rows))
    if strata is not None:
        table.meta["STRATA"] = strata.source
    return with_formats(table)


def row_of(name: str, is_true: NDArray[np.bool_], is_matched: NDArray[np.bool_] | None) -> Table:
    """Return a row of the table; without what is found, purity is masked."""
    from astropy.table import Table

    row = Table({"stratum": [name]}, masked=True)
    for (whole, part, share), hits in (
        (("n_true", "n_found", "completeness"), is_true),
        (("n_detected", "n_matched", "purity"), is_matched),
    ):
        count, hit = (0, 0) if hits is None else (len(hits), int(np.count_nonzero(hits)))
        low, high = interval(hit, count)
        row[whole], row[part], row[share] = [count], [hit], [float(ratio(hit, count))]
        row[f"{share}_low"], row[f"{share}_high"] = [low], [high]
        if hits is None:
            for column in (whole, part, share, f"{share}_low", f"{share}_high"):
                row[column].mask = True
    return row


def interval(hits: int, count: int) -> tuple[float, float]:
    """Return the ends of a Jeffreys interval (Brown, Cai & DasGupta 2001, Stat. Sci. 16, 101)."""
    if count == 0:
        return np.nan, np.nan
    low, high = binom_conf_interval(hits, count, CONFIDENCE, "jeffreys")
    return float(low), float(high)


def column_of(table: Table, name: Any) -> NDArray[np.float64]:
    """Return a column as floats, NaN where it is masked."""
    if not isinstance(name, str) or name not in table.colnames:
        raise InputError(
            f"strata must be of a column of the truth, {', '.join(table.colnames)}, got {name!r}"
        )
    return np.asarray(np.ma.filled(np.ma.asarray(table[name]).astype(float), np.nan))


def radius_of(radius: float, positions: Positions) -> float:
    """Return the longest straight line between two points: of the unit sphere, or of pixels."""
    return 2 * np.sin(radius * ARCSECOND / 2) if positions.on_sky else radius


def points_of(positions: Positions) -> NDArray[np.float64]:
    """Return points of the unit sphere, (rows, 3), or pixels, (rows, 2), NaN where none is."""
    first, second = positions.first, positions.second
    if not positions.on_sky:
        points = np.stack([first, second], axis=-1)
    else:
        longitude, latitude = np.radians(first), np.radians(second)
        across = np.cos(latitude)
        points = np.stack(
            [across * np.cos(longitude), across * np.sin(longitude), np.sin(latitude)], axis=-1
        )
    return np.where(positions.there[:, np.newaxis], points, np.nan)


def matched(
    first: NDArray[np.float64], second: NDArray[np.float64], radius: float
) -> tuple[Int64, Int64]:
    """Return pairs of rows, each row in one at most: the closest pair, then the next, and so on."""
    from scipy.spatial import KDTree

    places = [np.flatnonzero(np.isfinite(points).all(axis=1)) for points in (first, second)]
    trees = [KDTree(points[place]) for points, place in zip((first, second), places, strict=True)]
    near = trees[0].sparse_distance_matrix(trees[1], radius, output_type="coo_matrix")
    order = np.lexsort((near.col, near.row, near.data))
    one, other = places[0][near.row[order]], places[1][near.col[order]]
    chosen: list[list[Int64]] = [[np.empty(0, np.int64)], [np.empty(0, np.int64)]]
    while len(one):
        # A pair that comes first for both of its rows is closer than whatever else they are in.
        firsts = [np.unique(rows, return_index=True)[1] for rows in (one, other)]
        both = np.intersect1d(firsts[0], firsts[1])
        chosen[0].append(one[both])
        chosen[1].append(other[both])
        left = ~(np.isin(one, one[both]) | np.isin(other, other[both]))
        one, other = one[left], other[left]
    return np.concatenate(chosen[0]), np.concatenate(chosen[1])
