"""How good distributions are, against true values: of each row, and of a catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from morpheus_core import checks
from morpheus_core.columns.bins import bins_of, checked_centres
from morpheus_core.columns.derived import Float64, probabilities
from morpheus_core.columns.distributions import bin_of, edges_of, mean_of, shares_below
from morpheus_core.errors import InputError

if TYPE_CHECKING:
    from astropy.table import Table

#: Rows that are compared at once.
BLOCK_ROWS = 1 << 14


def pit(scores: ArrayLike, bin_centres: ArrayLike, truth: ArrayLike) -> Float64:
    """Return the probability integral transform: the share of each distribution below the truth.

    Over many rows it is even between 0 and 1 if distributions are right [1]_: high ends say that
    they are too narrow, a high middle that they are too wide, a slope that they are biased.

    Parameters
    ----------
    scores : array_like, (rows, bins)
        Distributions, of any sum.
    bin_centres : array_like, (bins,)
        Increasing numbers.
    truth : array_like, (rows,)
        The true value of each row.

    Returns
    -------
    ndarray, (rows,)
        0 and 1 where the truth is outside of all bins, NaN where a row has no scores or no truth.

    Raises
    ------
    InputError
        If the arguments do not fit each other.

    References
    ----------
    .. [1] T. Gneiting, F. Balabdaoui, A. E. Raftery, "Probabilistic forecasts, calibration and
       sharpness", J. R. Stat. Soc. B 69, 243 (2007)

    Examples
    --------
    >>> from morpheus_core import columns
    >>> columns.pit([[0.25, 0.5, 0.25]], [1, 2, 3], [2.0])
    array([0.5])
    """
    rows, centres, values = compared(scores, bin_centres, truth)
    return in_blocks(pit_of, rows, edges_of(centres), values)


def crps(scores: ArrayLike, bin_centres: ArrayLike, truth: ArrayLike) -> Float64:
    """Return the continuous ranked probability score of each row, 0 at best.

    It is the integral of (F(z) − [z ≥ truth])² over z, F being the share of the distribution below
    z [1]_, in the unit of the bins; of a distribution without width the distance from the truth.

    Parameters
    ----------
    scores, bin_centres, truth
        As for `pit`.

    Returns
    -------
    ndarray, (rows,)
        NaN where a row has no scores or no truth.

    Raises
    ------
    InputError
        If the arguments do not fit each other.

    References
    ----------
    .. [1] H. Hersbach, "Decomposition of the continuous ranked probability score for ensemble
       prediction systems", Weather and Forecasting 15, 559 (2000)

    Examples
    --------
    >>> from morpheus_core import columns
    >>> columns.crps([[0, 1, 0]], [1, 2, 3], [5.0]).round(4)  # from 1.5 to 2.5
    array([2.8333])
    """
    rows, centres, values = compared(scores, bin_centres, truth)
    return in_blocks(crps_of, rows, edges_of(centres), values)


@dataclass(frozen=True, slots=True)
class RedshiftSummary:
    """How good the redshifts of a catalogue are; see :func:`redshift_summary`.

    Attributes
    ----------
    n : int
        Rows that have scores and a true redshift; all else is of these.
    bias : float
        Mean of dz = (z_phot − z_spec) / (1 + z_spec).
    sigma_mad : float
        1.4826 times the median of abs(dz − median(dz)).
    outlier_share : float
        Share of rows with abs(dz) above the limit.
    crps : float
        Mean of `crps`.
    pit_counts : ndarray of int64, (intervals,)
        How many rows have their `pit` in each interval, the last of which holds 1.
    pit_edges : ndarray, (intervals + 1,)
        From 0 to 1.
    """

    n: int
    bias: float
    sigma_mad: float
    outlier_share: float
    crps: float
    pit_counts: NDArray[np.int64]
    pit_edges: Float64


def redshift_summary(
    table: Table,
    truth: str | ArrayLike,
    *,
    scores: str = "scores",
    point: str | None = None,
    outlier: float = 0.05,
    pit_intervals: int = 20,
) -> RedshiftSummary:
    """Compare the distributions of a table with true redshifts.

    The figures are those of Pasquet et al. [1]_, with dz = (z_phot − z_spec) / (1 + z_spec).

    Parameters
    ----------
    table : Table
        What `predict_catalog` returned with a `vector` among its columns, or its file.
    truth : str or array_like, (rows,)
        True redshifts, or the column that holds them.
    scores : str
        The column of the distributions.
    point : str, optional
        The column of redshifts that z_phot is; by default z_phot is the mean of the distribution.
    outlier : float
        Rows with a larger abs(dz) are outliers: 0.05, as in [1]_; 0.15 is as common.
    pit_intervals : int
        Into how many intervals of equal width the histogram of `pit` is cut.

    Returns
    -------
    RedshiftSummary
        Of the rows that have scores and a true redshift.

    Raises
    ------
    InputError
        If a column or the bins are missing, or no row can be compared.

    References
    ----------
    .. [1] J. Pasquet et al., "Photometric redshifts from SDSS images using a convolutional neural
       network", A&A 621, A26 (2019)
    """
    limit = checks.positive_number("outlier", outlier)
    intervals = checks.whole_number("pit_intervals", pit_intervals)
    values = column_of(table, truth) if isinstance(truth, str) else truth
    rows, centres, z_true = compared(column_of(table, scores), bins_of(table), values)
    edges = edges_of(centres)
    transforms = in_blocks(pit_of, rows, edges, z_true)
    if point is None:
        z_phot = in_blocks(lambda some, *_: mean_of(some, centres)[:, 0], rows, edges, z_true)
    else:
        z_phot = as_floats(column_of(table, point))
    known = np.isfinite(transforms) & np.isfinite(z_phot)
    if not known.any():
        raise InputError("a row must have scores and a true redshift, got none that has both")
    dz = (z_phot[known] - z_true[known]) / (1 + z_true[known])
    counts, pit_edges = np.histogram(transforms[known], intervals, (0, 1))
    return RedshiftSummary(
        n=int(known.sum()),
        bias=float(dz.mean()),
        sigma_mad=float(1.4826 * np.median(abs(dz - np.median(dz)))),
        outlier_share=float(np.mean(abs(dz) > limit)),
        crps=float(in_blocks(crps_of, rows[known], edges, z_true[known]).mean()),
        pit_counts=counts.astype(np.int64),
        pit_edges=pit_edges,
    )


def pit_of(scores: Float64, edges: Float64, truth: Float64) -> Float64:
    """Return the share below the truth; rounding of sums leaves some a little above 1."""
    return np.minimum(shares_below(scores, edges, truth), 1)


def crps_of(scores: Float64, edges: Float64, truth: Float64) -> Float64:
    """Integrate F² below the truth and (1 − F)² above it, bin by bin, where F is a straight line.

    Of a line from a to b over a width w, the integral of the square is w (a² + a b + b²) / 3.
    """
    p, widths = probabilities(scores), np.diff(edges)
    after = np.cumsum(p, axis=1)
    before = after - p
    below = widths * line_squared(before, after)
    above = widths * line_squared(1 - before, 1 - after)
    inside = np.clip(truth, edges[0], edges[-1])
    bins, rows = bin_of(inside, edges), np.arange(len(p))
    place = np.arange(len(widths))
    whole = np.where(place < bins[:, np.newaxis], below, above)
    whole[rows, bins] = 0
    first, last = before[rows, bins], after[rows, bins]
    middle = first + p[rows, bins] * (inside - edges[bins]) / widths[bins]
    cut = (inside - edges[bins]) * line_squared(first, middle)
    cut += (edges[bins + 1] - inside) * line_squared(1 - middle, 1 - last)
    return np.asarray(whole.sum(axis=1) + cut + abs(truth - inside))


def line_squared(start: Float64, end: Float64) -> Float64:
    """Return the mean of the square of a straight line."""
    return (start * start + start * end + end * end) / 3


def in_blocks(find: Any, scores: Any, edges: Float64, truth: Float64) -> Float64:
    """Return a number for each row, some rows at a time, NaN where scores or truth are missing."""
    found = np.full(len(truth), np.nan)
    for start in range(0, len(truth), BLOCK_ROWS):
        part = slice(start, start + BLOCK_ROWS)
        some = as_floats(scores[part])
        known = np.isfinite(some).all(axis=1) & np.isfinite(truth[part])
        found[part][known] = find(some[known], edges, truth[part][known])
    return found


def compared(scores: Any, bin_centres: ArrayLike, truth: Any) -> tuple[Any, Float64, Float64]:
    """Return distributions, the centres of their bins, and a true value for each."""
    centres, values = checked_centres(bin_centres), as_floats(truth)
    rows = scores if np.ma.isMaskedArray(scores) else np.asarray(scores)
    if rows.ndim != 2 or rows.shape[1] != len(centres) or values.shape != (len(rows),):
        raise InputError(
            f"scores must be (rows, bins), with a true value for each row, got {rows.shape} for "
            f"{len(centres)} bins and true values of shape {values.shape}"
        )
    return rows, centres, values


def as_floats(values: Any) -> Float64:
    """Return floats, NaN where a value is masked."""
    try:
        return np.asarray(np.ma.filled(np.ma.asarray(values).astype(float), np.nan))
    except (TypeError, ValueError) as error:
        raise InputError(f"true values and scores must be numbers: {error}") from error


def column_of(table: Table, name: str) -> Any:
    """Return a column of a table."""
    if name not in table.colnames:
        raise InputError(f"the table must have the column {name}, got {', '.join(table.colnames)}")
    return table[name]
