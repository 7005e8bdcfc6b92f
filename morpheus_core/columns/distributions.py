"""Distributions over bins, one per row: their moments, and what is below a value.

A distribution is even within each bin, so the share below a value grows by straight lines.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from morpheus_core.columns.derived import Float64, probabilities


def edges_of(centres: Float64) -> Float64:
    """Return the edges of bins around these centres, one more."""
    middles = (centres[1:] + centres[:-1]) / 2
    ends = 2 * centres[0] - middles[0], 2 * centres[-1] - middles[-1]
    return np.array([ends[0], *middles, ends[1]])


def shares_below(scores: Float64, edges: Float64, values: Float64) -> Float64:
    """Return the share of each row's distribution below a value of its own.

    Parameters
    ----------
    scores : ndarray, (rows, bins)
        Of any sum.
    edges : ndarray, (bins + 1,)
        Of the bins.
    values : ndarray, (rows,)
        One per row; NaN gives NaN.
    """
    p = probabilities(scores)
    inside = np.clip(values, edges[0], edges[-1])
    bins = bin_of(inside, edges)
    rows = np.arange(len(p))
    before = np.cumsum(p, axis=1)[rows, bins] - p[rows, bins]
    return np.asarray(before + p[rows, bins] * (inside - edges[bins]) / np.diff(edges)[bins])


def bin_of(values: Float64, edges: Float64) -> NDArray[np.int64]:
    """Return the bins that values lie in, of which the last has its upper edge."""
    return np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)


def mean_of(scores: Float64, centres: Float64) -> Float64:
    """Return Σ p c, (rows, 1)."""
    return np.asarray(probabilities(scores) @ centres[:, np.newaxis])


def std_of(scores: Float64, centres: Float64) -> Float64:
    """Return √(Σ p (c − mean)²), (rows, 1)."""
    squares = (centres - mean_of(scores, centres)) ** 2
    return np.asarray(np.sqrt((probabilities(scores) * squares).sum(axis=1, keepdims=True)))


def quantiles_of(scores: Float64, centres: Float64, shares: Sequence[float]) -> Float64:
    """Return where shares of the distribution end, (rows, shares)."""
    edges = edges_of(centres)
    sums = np.cumsum(probabilities(scores), axis=1)
    rows = [np.interp(shares, [0, *row], edges) for row in sums]
    return np.where(np.isnan(sums[:, -1:]), np.nan, np.reshape(rows, (-1, len(shares))))


def mode_of(scores: Float64, centres: Float64) -> Float64:
    """Return the centre of the densest bin, (rows, 1)."""
    densities = probabilities(scores) / np.diff(edges_of(centres))
    found = centres[densities.argmax(axis=1)]
    return np.where(np.isnan(densities[:, 0]), np.nan, found)[:, np.newaxis]


def odds_of(scores: Float64, centres: Float64, half_width: float) -> Float64:
    """Return the share of the distribution near its mode, (rows, 1)."""
    peak = mode_of(scores, centres)[:, 0]
    reach, edges = half_width * (1 + peak), edges_of(centres)
    upper, lower = (shares_below(scores, edges, peak + side * reach) for side in (1, -1))
    return (upper - lower)[:, np.newaxis]
