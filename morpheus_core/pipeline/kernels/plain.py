"""The kernels in numpy, for installations without numba.

Each works window by window on whole rectangles; a window that wraps around the end of the ring is
added in two pieces. The order of additions to a pixel is that of the compiled kernels, so the
planes agree to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from morpheus_core.pipeline.kernels.protocol import (
    Bytes,
    Carried,
    Crop,
    Float64,
    Int64,
    Predictions,
    Range,
    Results,
)

Place = tuple[slice, slice]
AddTo = Callable[[Float64, Predictions], None]

#: Adding whole windows takes fewer calls of numpy than adding parts of them.
COLLECTING_PAYS = False


# Infinities of both signs in one pixel make it NaN, which is what it is meant to be.
_quietly = np.errstate(invalid="ignore", over="ignore")


@_quietly
def add_moments(
    total: Float64,
    squares: Float64,
    predictions: Predictions,
    spans: Int64,
    top: int,
    lefts: Int64,
) -> None:
    """See :meth:`Kernels.add_moments`."""
    for rows, columns in _rectangles(spans):
        part = predictions[:, rows, columns]
        for b, into, of in _places(len(total), part.shape, top + rows.start, lefts + columns.start):
            values = part[b][of].astype(np.float64)
            total[into] += values
            squares[into] += np.multiply(values, values, out=values)


@_quietly
def add_weighted_moments(
    total: Float64,
    squares: Float64,
    predictions: Predictions,
    weights: Float64,
    top: int,
    lefts: Int64,
) -> None:
    """See :meth:`Kernels.add_weighted_moments`."""
    for b, into, of in _places(len(total), predictions.shape, top, lefts):
        weight = _map_of(weights, b)[of][..., np.newaxis]
        values = np.where(weight > 0, predictions[b][of], 0).astype(np.float64)
        weighted = weight * values
        total[into] += weighted
        squares[into] += np.multiply(weighted, values, out=weighted)


def add_votes(
    votes: Float64, predictions: Predictions, spans: Int64, top: int, lefts: Int64
) -> None:
    """See :meth:`Kernels.add_votes`."""
    for rows, columns in _rectangles(spans):
        part = predictions[:, rows, columns]
        for b, into, of in _places(len(votes), part.shape, top + rows.start, lefts + columns.start):
            _vote(votes[into], part[b][of], np.ones(()))


def add_weighted_votes(
    votes: Float64, predictions: Predictions, weights: Float64, top: int, lefts: Int64
) -> None:
    """See :meth:`Kernels.add_weighted_votes`."""
    for b, into, of in _places(len(votes), predictions.shape, top, lefts):
        weight = _map_of(weights, b)[of]
        values = np.where(weight[..., np.newaxis] > 0, predictions[b][of], 0)
        _vote(votes[into], values, weight)


def add_weights(count: Float64, weights: Float64, top: int, lefts: Int64) -> None:
    """See :meth:`Kernels.add_weights`."""
    shape = (len(lefts), *weights.shape[1:])
    for b, into, of in _places(len(count), shape, top, lefts):
        count[into] += _map_of(weights, b)[of]


def finish_moments(
    total: Float64,
    squares: Float64,
    n: Float64,
    fill_value: float,
    results: Results,
    at: int = 0,
) -> None:
    """See :meth:`Kernels.finish_moments`."""
    results = results[:, at : at + n.shape[1]]
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        mean = total / n[..., np.newaxis]
        variance = squares / n[..., np.newaxis]
        variance -= mean * mean
        # Rounding may leave a constant pixel a hair below zero.
        results[..., 1] = np.maximum(variance, 0, out=variance)
        results[..., 0] = mean
    _spoil(results, total)
    results[n == 0] = fill_value


def finish_votes(
    votes: Float64, n: Float64, fill_value: float, results: Results, at: int = 0
) -> None:
    """See :meth:`Kernels.finish_votes`."""
    results = results[:, at : at + n.shape[1]]
    with np.errstate(invalid="ignore", divide="ignore"):
        np.divide(votes, n[..., np.newaxis], out=results, casting="same_kind")
    _spoil(results, votes)
    results[n == 0] = fill_value


def collect_moments(
    planes: Float64,
    carried: Carried,
    predictions: Predictions,
    crop: Crop,
    tops: Int64,
    lefts: Int64,
    rows: Range,
    columns: Range,
) -> None:
    """See :meth:`Kernels.collect_moments`."""
    folded = (planes, carried, predictions, crop, tops, lefts)
    _collect(_add_to_moments, *folded, rows, columns)


def finish_collected_moments(
    planes: Float64,
    carried: Carried,
    predictions: Predictions,
    crop: Crop,
    tops: Int64,
    lefts: Int64,
    first: int,
    left: int,
    n: Float64,
    fill_value: float,
    results: Results,
    at: int,
) -> None:
    """See :meth:`Kernels.finish_collected_moments`."""
    rows = np.arange(first, first + len(n))
    folded = (planes, carried, predictions, crop, tops, lefts)
    total, squares = _collected(_add_to_moments, *folded, rows)[:, :, left : left + n.shape[1]]
    finish_moments(total, squares, n, fill_value, results, at)


def collect_votes(
    planes: Float64,
    carried: Carried,
    predictions: Predictions,
    crop: Crop,
    tops: Int64,
    lefts: Int64,
    rows: Range,
    columns: Range,
) -> None:
    """See :meth:`Kernels.collect_votes`."""
    folded = (planes, carried, predictions, crop, tops, lefts)
    _collect(_add_to_votes, *folded, rows, columns)


def finish_collected_votes(
    planes: Float64,
    carried: Carried,
    predictions: Predictions,
    crop: Crop,
    tops: Int64,
    lefts: Int64,
    first: int,
    left: int,
    n: Float64,
    fill_value: float,
    results: Results,
    at: int,
) -> None:
    """See :meth:`Kernels.finish_collected_votes`."""
    rows = np.arange(first, first + len(n))
    folded = (planes, carried, predictions, crop, tops, lefts)
    (votes,) = _collected(_add_to_votes, *folded, rows)[:, :, left : left + n.shape[1]]
    finish_votes(votes, n, fill_value, results, at)


def gather(slab: Bytes, tops: Int64, lefts: Int64, windows: Bytes) -> None:
    """See :meth:`Kernels.gather`."""
    _, height, length = windows.shape
    for window, top, left in zip(windows, tops.tolist(), lefts.tolist(), strict=True):
        window[...] = slab[top : top + height, left : left + length]


def _collect(
    add_to: AddTo,
    planes: Float64,
    carried: Carried,
    predictions: Predictions,
    crop: Crop,
    tops: Int64,
    lefts: Int64,
    rows: Range,
    columns: Range,
) -> None:
    """Let planes hold the sums of some output rows and plane columns."""
    every = np.arange(*rows)
    sums = _collected(add_to, planes, carried, predictions, crop, tops, lefts, every)
    planes[:, every % planes.shape[1], slice(*columns)] = sums[:, :, slice(*columns)]


def _collected(
    add_to: AddTo,
    planes: Float64,
    carried: Carried,
    predictions: Predictions,
    crop: Crop,
    tops: Int64,
    lefts: Int64,
    rows: Int64,
) -> Float64:
    """Return the sums of consecutive output rows, (plane, rows, width, classes)."""
    sums = np.zeros((len(planes), len(rows), *planes.shape[2:]))
    above = int((rows < carried[0]).sum())
    sums[:, :above] = planes[:, rows[:above] % planes.shape[1]]
    sums[:, above:, : carried[1]] = planes[:, rows[above:] % planes.shape[1], : carried[1]]
    parts = predictions[:, crop[0] : crop[1], crop[2] : crop[3]]
    for window, part in enumerate(parts):
        top, left = tops[window // len(lefts)] - rows[0], lefts[window % len(lefts)]
        into = sums[:, max(top, 0) : max(top + len(part), 0), left : left + part.shape[1]]
        add_to(into, part[max(-top, 0) :][: into.shape[1]])
    return sums


@_quietly
def _add_to_moments(sums: Float64, predictions: Predictions) -> None:
    values = predictions.astype(np.float64)
    sums[0] += values
    sums[1] += np.multiply(values, values, out=values)


def _add_to_votes(sums: Float64, predictions: Predictions) -> None:
    _vote(sums[0], predictions, np.ones(()))


def _spoil(results: Results, sums: Float64) -> None:
    """Make a pixel NaN in every class if one of its sums is not finite."""
    finite = np.isfinite(sums)
    if not finite.all():
        results[~finite.all(axis=-1)] = np.nan


def _vote(votes: Float64, values: Predictions, weight: Float64) -> None:
    """Add the weight of each pixel to its winning class, NaN where a class is not finite."""
    winners = _winners(values)
    finite = np.isfinite(values)
    if not finite.all():
        weight = np.where(finite.all(axis=-1), weight, np.nan)
    if weight.ndim == 0:  # one vote each
        votes += winners
    else:
        votes += winners * weight[..., np.newaxis]


def _winners(values: Predictions) -> NDArray[np.bool_]:
    """Mark the first of the largest classes; class by class, since the axis is short."""
    classes = range(values.shape[-1])
    best = values[..., 0].copy()
    for k in classes[1:]:
        np.maximum(best, values[..., k], out=best)
    winners = np.empty(values.shape, np.bool_)
    undecided = np.ones(best.shape, np.bool_)
    for k in classes:
        wins = (values[..., k] == best) & undecided
        undecided ^= wins
        winners[..., k] = wins
    return winners


def _map_of(weights: Float64, b: int) -> Float64:
    weight: Float64 = weights[b if len(weights) > 1 else 0]
    return weight


def _rectangles(spans: Int64) -> Iterator[tuple[slice, slice]]:
    """Join spans of equal columns in consecutive rows; a cropped window is one rectangle."""

    def columns_and_offset(item: tuple[int, NDArray[np.int64]]) -> tuple[int, int, int]:
        position, (row, start, stop) = item
        return int(start), int(stop), int(row) - position

    for (start, stop, _), items in groupby(enumerate(spans), columns_and_offset):
        rows = [int(span[0]) for _, span in items]
        yield slice(rows[0], rows[-1] + 1), slice(start, stop)


def _places(
    ring: int, shape: tuple[int, ...], top: int, lefts: Int64
) -> Iterator[tuple[int, Place, Place]]:
    """Yield (window, place in the planes, place in the window) for each window of a row.

    A window comes twice where its rows wrap around the end of the ring.
    """
    height, width = shape[1:3]
    row = top % ring
    unwrapped = min(height, ring - row)
    for b, left in enumerate(lefts.tolist()):
        columns = slice(left, left + width)
        everything = slice(0, width)
        yield b, (slice(row, row + unwrapped), columns), (slice(0, unwrapped), everything)
        if unwrapped < height:
            rest = slice(0, height - unwrapped)
            yield b, (rest, columns), (slice(unwrapped, height), everything)
