"""The compiled kernels that add window after window to planes.

The outer loop runs over the rows of a window and the inner one over the windows of the batch:
neighbouring windows overlap, so the part of the planes that one row touches stays in the
processor's nearest cache while all windows of the batch are added to it.
"""

from __future__ import annotations

import numpy as np

from morpheus_core.pipeline.kernels.compiling import compile_kernel
from morpheus_core.pipeline.kernels.protocol import Float64, Int64, Predictions
from morpheus_core.pipeline.kernels.winners import cast_votes, find_winners, unrolled, winner_of


@compile_kernel
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


@compile_kernel
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


def add_votes(
    votes: Float64, predictions: Predictions, spans: Int64, top: int, lefts: Int64
) -> None:
    """See :meth:`Kernels.add_votes`."""
    _add_votes(votes, predictions, unrolled(predictions.shape[3]), spans, top, lefts)


@compile_kernel
def _add_votes(
    votes: Float64,
    predictions: Predictions,
    classes: tuple[int, ...],
    spans: Int64,
    top: int,
    lefts: Int64,
) -> None:
    batch, height, width, n_classes = predictions.shape
    ring = votes.shape[0]
    values = predictions.reshape(batch, height * width * n_classes)
    flat = votes.reshape(ring, votes.shape[1] * n_classes)
    winners = np.empty(height * width, np.int32)
    ballots = np.empty(height * width, predictions.dtype)
    whole = (spans[:, 2] - spans[:, 1]).sum() == height * width
    for b in range(batch):
        if whole:  # one long loop is faster than many short ones
            find_winners(values[b], n_classes, classes, winners, ballots)
        for span in range(spans.shape[0]):
            i, start, stop = spans[span, 0], spans[span, 1], spans[span, 2]
            first, last = i * width + start, i * width + stop
            if not whole:
                source = values[b, first * n_classes : last * n_classes]
                find_winners(source, n_classes, classes, winners[first:last], ballots[first:last])
            row = flat[(top + i) % ring, (lefts[b] + start) * n_classes :]
            cast_votes(row, n_classes, winners[first:last], ballots[first:last])


@compile_kernel
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


@compile_kernel
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
