"""The kernels in compiled form; the only module that imports numba.

The outer loop runs over the rows of a window and the inner one over the windows of the batch:
neighbouring windows overlap, so the part of the planes that one row touches stays in the
processor's nearest cache while all windows of the batch are added to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from morpheus_core.pipeline.kernels.protocol import Bytes, Float64, Int64, Predictions, Results

Function = TypeVar("Function", bound=Callable[..., object])


#: For up to this many classes votes have a loop of their own, compiled when it is first needed.
UNROLLED_CLASSES = 32


def _compile(function: Function) -> Function:
    """Compile without the GIL, and keep the machine code on disk where a place for it exists."""
    try:
        compiled: Any = numba.njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # neither the package nor a user cache folder can be written
        compiled = numba.njit(nogil=True, error_model="numpy")(function)
    return cast(Function, compiled)


@_compile
def add_moments(
    total: Float64,
    squares: Float64,
    predictions: Predictions,
    spans: Int64,
    top: int,
    lefts: Int64,
) -> None:
    """See :meth:`Kernels.add_moments`."""
    batch, height, width, classes = predictions.shape
    ring = total.shape[0]
    # Width and classes are adjacent in memory: one long loop over both is what vectorises.
    values = predictions.reshape(batch, height, width * classes)
    flat_total = total.reshape(ring, total.shape[1] * classes)
    flat_squares = squares.reshape(ring, squares.shape[1] * classes)
    for span in range(spans.shape[0]):
        i = spans[span, 0]
        start = spans[span, 1] * classes
        length = spans[span, 2] * classes - start
        row = (top + i) % ring
        for b in range(batch):
            left = lefts[b] * classes + start
            into_total = flat_total[row, left : left + length]
            into_squares = flat_squares[row, left : left + length]
            source = values[b, i, start : start + length]
            for j in range(length):
                value = np.float64(source[j])
                into_total[j] += value
                into_squares[j] += value * value


@_compile
def add_weighted_moments(
    total: Float64,
    squares: Float64,
    predictions: Predictions,
    weights: Float64,
    top: int,
    lefts: Int64,
) -> None:
    """See :meth:`Kernels.add_weighted_moments`."""
    batch, height, width, classes = predictions.shape
    ring = total.shape[0]
    each = 1 if weights.shape[0] == batch else 0
    for i in range(height):
        row = (top + i) % ring
        for b in range(batch):
            for x in range(width):
                weight = weights[b * each, i, x]
                if weight == 0.0:
                    continue
                column = lefts[b] + x
                for k in range(classes):
                    value = np.float64(predictions[b, i, x, k])
                    weighted = weight * value
                    total[row, column, k] += weighted
                    squares[row, column, k] += weighted * value


@_compile
def winner_of(values: Predictions) -> tuple[int, float]:
    """Return the first of the largest classes, and zero, or NaN if a class is not finite."""
    winner = 0
    best = values[0]
    spoiled = best - best
    for k in range(1, len(values)):
        spoiled += values[k] - values[k]
        if values[k] > best:
            best = values[k]
            winner = k
    return winner, spoiled


@_compile
def find_winners(
    values: Predictions, classes: tuple[int, ...], winners: NDArray[np.int32], votes: Predictions
) -> None:
    """Write the winner of each pixel, and its vote: one, or NaN.

    The length of `classes` is known when this is compiled, so that the loop over classes is
    unrolled and the one over pixels works on several at a time.
    """
    for x in range(len(winners)):
        first = x * len(classes)
        winner = np.int32(0)
        best = values[first]
        spoiled = best - best
        for k in range(1, len(classes)):
            value = values[first + k]
            spoiled += value - value
            larger = value > best
            winner = np.int32(k) if larger else winner
            best = value if larger else best
        winners[x] = winner
        votes[x] = np.float32(1.0) + spoiled


@_compile
def cast_votes(
    row: Float64, classes: tuple[int, ...], winners: NDArray[np.int32], votes: Predictions
) -> None:
    """Add the vote of each pixel to its winner."""
    for x in range(len(winners)):
        row[x * len(classes) + winners[x]] += votes[x]


def add_votes(
    votes: Float64, predictions: Predictions, spans: Int64, top: int, lefts: Int64
) -> None:
    """See :meth:`Kernels.add_votes`."""
    n_classes = predictions.shape[3]
    if n_classes <= UNROLLED_CLASSES:
        _add_votes(votes, predictions, tuple(range(n_classes)), spans, top, lefts)
    else:
        _add_votes_of_many(votes, predictions, spans, top, lefts)


@_compile
def _add_votes(
    votes: Float64,
    predictions: Predictions,
    classes: tuple[int, ...],
    spans: Int64,
    top: int,
    lefts: Int64,
) -> None:
    batch, height, width, _ = predictions.shape
    ring = votes.shape[0]
    n_classes = len(classes)
    values = predictions.reshape(batch, height * width * n_classes)
    flat = votes.reshape(ring, votes.shape[1] * n_classes)
    winners = np.empty(height * width, np.int32)
    ballots = np.empty(height * width, predictions.dtype)
    whole = (spans[:, 2] - spans[:, 1]).sum() == height * width
    for b in range(batch):
        if whole:  # one long loop is faster than many short ones
            find_winners(values[b], classes, winners, ballots)
        for span in range(spans.shape[0]):
            i, start, stop = spans[span, 0], spans[span, 1], spans[span, 2]
            first, last = i * width + start, i * width + stop
            if not whole:
                source = values[b, first * n_classes : last * n_classes]
                find_winners(source, classes, winners[first:last], ballots[first:last])
            row = flat[(top + i) % ring, (lefts[b] + start) * n_classes :]
            cast_votes(row, classes, winners[first:last], ballots[first:last])


@_compile
def _add_votes_of_many(
    votes: Float64, predictions: Predictions, spans: Int64, top: int, lefts: Int64
) -> None:
    batch = predictions.shape[0]
    ring = votes.shape[0]
    for span in range(spans.shape[0]):
        i = spans[span, 0]
        row = (top + i) % ring
        for b in range(batch):
            for x in range(spans[span, 1], spans[span, 2]):
                winner, spoiled = winner_of(predictions[b, i, x])
                votes[row, lefts[b] + x, winner] += 1.0 + spoiled


@_compile
def add_weighted_votes(
    votes: Float64, predictions: Predictions, weights: Float64, top: int, lefts: Int64
) -> None:
    """See :meth:`Kernels.add_weighted_votes`."""
    batch, height, width = predictions.shape[:3]
    ring = votes.shape[0]
    each = 1 if weights.shape[0] == batch else 0
    for i in range(height):
        row = (top + i) % ring
        for b in range(batch):
            for x in range(width):
                weight = weights[b * each, i, x]
                if weight == 0.0:
                    continue
                winner, spoiled = winner_of(predictions[b, i, x])
                votes[row, lefts[b] + x, winner] += weight + spoiled


@_compile
def add_weights(count: Float64, weights: Float64, top: int, lefts: Int64) -> None:
    """See :meth:`Kernels.add_weights`."""
    maps, height, width = weights.shape
    batch = len(lefts)
    ring = count.shape[0]
    each = 1 if maps == batch else 0
    for i in range(height):
        row = (top + i) % ring
        for b in range(batch):
            into = count[row, lefts[b] : lefts[b] + width]
            source = weights[b * each, i]
            for x in range(width):
                into[x] += source[x]


@_compile
def finish_moments(
    total: Float64, squares: Float64, n: Float64, fill_value: float, results: Results
) -> None:
    """See :meth:`Kernels.finish_moments`."""
    rows, width, classes = total.shape
    counts = np.empty(width * classes)
    for row in range(rows):
        repeat_each(n[row], classes, counts)
        sums = np.ascontiguousarray(total[row]).reshape(width * classes)
        finish_row(
            sums,
            np.ascontiguousarray(squares[row]).reshape(width * classes),
            counts,
            results[row].reshape(width * classes * 2),
        )
        if has_nonfinite(sums) or n[row].min() == 0.0:
            mend_row(total[row], n[row], fill_value, results[row].reshape(width, classes * 2))


@_compile
def finish_row(total: Float64, squares: Float64, counts: Float64, results: Results) -> None:
    """Write the mean and variance of each value of a row in turn."""
    for j in range(len(total)):
        mean = total[j] / counts[j]
        variance = squares[j] / counts[j] - mean * mean
        results[2 * j] = mean
        # Rounding may leave a constant pixel a hair below zero.
        results[2 * j + 1] = 0.0 if variance < 0.0 else variance


@_compile
def finish_votes(votes: Float64, n: Float64, fill_value: float, results: Results) -> None:
    """See :meth:`Kernels.finish_votes`."""
    rows, width, classes = votes.shape
    counts = np.empty(width * classes)
    for row in range(rows):
        repeat_each(n[row], classes, counts)
        sums = np.ascontiguousarray(votes[row]).reshape(width * classes)
        shares = results[row].reshape(width * classes)
        for j in range(len(sums)):
            shares[j] = sums[j] / counts[j]
        if has_nonfinite(sums) or n[row].min() == 0.0:
            mend_row(votes[row], n[row], fill_value, results[row])


@_compile
def repeat_each(n: Float64, classes: int, counts: Float64) -> None:
    """Write the count of each pixel once per class."""
    for column in range(len(n)):
        for k in range(classes):
            counts[column * classes + k] = n[column]


@_compile
def has_nonfinite(values: Float64) -> bool:
    """Say whether a value is NaN or infinite."""
    found = 0
    for j in range(len(values)):
        found |= values[j] - values[j] != 0.0
    return found != 0


@_compile
def mend_row(sums: Float64, n: Float64, fill_value: float, results: Results) -> None:
    """Write what pixels get that saw nothing, or something that is not finite."""
    for column in range(len(n)):
        if n[column] == 0.0:
            results[column, :] = fill_value
        elif has_nonfinite(sums[column]):
            results[column, :] = np.nan


@_compile
def gather(slab: Bytes, tops: Int64, lefts: Int64, windows: Bytes) -> None:
    """See :meth:`Kernels.gather`."""
    batch, height, length = windows.shape
    for b in range(batch):
        for i in range(height):
            source = slab[tops[b] + i, lefts[b] : lefts[b] + length]
            target = windows[b, i]
            for j in range(length):  # becomes one copy of memory
                target[j] = source[j]
