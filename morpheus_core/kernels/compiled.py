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

from morpheus_core.kernels import Float64, Int64, Predictions, Results

Function = TypeVar("Function", bound=Callable[..., object])


def _compile(function: Function) -> Function:
    """Compile without the GIL, and keep the machine code on disk where a place for it exists."""
    try:
        compiled: Any = numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # neither the package nor a user cache folder can be written
        compiled = numba.njit(nogil=True)(function)
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
def add_votes(
    votes: Float64, predictions: Predictions, spans: Int64, top: int, lefts: Int64
) -> None:
    """See :meth:`Kernels.add_votes`."""
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
    for row in range(rows):
        for column in range(width):
            count = n[row, column]
            if count == 0.0:
                results[row, column, :, :] = fill_value
                continue
            spoiled = 0.0
            for k in range(classes):
                spoiled += total[row, column, k] - total[row, column, k]
            for k in range(classes):
                mean = total[row, column, k] / count
                variance = squares[row, column, k] / count - mean * mean
                # Rounding may leave a constant pixel a hair below zero.
                if variance < 0.0:
                    variance = 0.0
                results[row, column, k, 0] = mean + spoiled
                results[row, column, k, 1] = variance + spoiled


@_compile
def finish_votes(votes: Float64, n: Float64, fill_value: float, results: Results) -> None:
    """See :meth:`Kernels.finish_votes`."""
    rows, width, classes = votes.shape
    for row in range(rows):
        for column in range(width):
            count = n[row, column]
            if count == 0.0:
                results[row, column, :] = fill_value
                continue
            spoiled = 0.0
            for k in range(classes):
                spoiled += votes[row, column, k] - votes[row, column, k]
            for k in range(classes):
                results[row, column, k] = votes[row, column, k] / count + spoiled
