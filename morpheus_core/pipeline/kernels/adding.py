"""The compiled kernels that add window after window to planes.

The outer loop runs over the rows of a window and the inner one over the windows of the batch:
neighbouring windows overlap, so the part of the planes that one row touches stays in the
processor's nearest cache while all windows of the batch are added to it.
"""

from __future__ import annotations

import numpy as np

from morpheus_core.pipeline.kernels.compiling import compile_kernel, inline_kernel
from morpheus_core.pipeline.kernels.protocol import Float64, Int64, Predictions
from morpheus_core.pipeline.kernels.winners import cast_votes, find_winners, unrolled, winner_of

#: Four windows of a row are added together where they have this many values of the row in common.
#: At 40/1 with five classes (185) that takes 0.87 of the time of one after the other, at 64/4 (260)
#: 0.75, at 64/16 (80) 0.92; with one class (37 and 16) 1.02 and 1.3.
COMMON_VALUES = 64


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
    ring, plane_width = total.shape[:2]
    # Width and classes are adjacent in memory: one long loop over both is what vectorises.
    flat = predictions.reshape(predictions.size)
    totals, sums = total.reshape(total.size), squares.reshape(squares.size)
    step = height * width * classes
    for span in range(spans.shape[0]):
        i = spans[span, 0]
        start = spans[span, 1] * classes
        length = spans[span, 2] * classes - start
        row = (top + i) % ring * plane_width * classes + start
        b = 0
        while b < batch:
            source = b * step + i * width * classes + start
            at = row + lefts[b] * classes
            if b + 4 <= batch and at + length - row - lefts[b + 3] * classes >= COMMON_VALUES:
                d0 = (lefts[b + 1] - lefts[b]) * classes
                d1 = (lefts[b + 2] - lefts[b]) * classes
                d2 = (lefts[b + 3] - lefts[b]) * classes
                add_four(flat, source, step, totals, sums, at, length, d0, d1, d2)
                b += 4
            else:
                add_one(flat, source, totals, sums, at, length)
                b += 1


@inline_kernel
def add_one(
    flat: Predictions, source: int, total: Float64, squares: Float64, into: int, length: int
) -> None:
    """Add predictions that begin at `source`, and their squares, to sums from `into` on."""
    a, at = np.uintp(source), np.uintp(into)  # without a sign nothing can count from the end
    for j in range(np.uintp(length)):
        value = np.float64(flat[a + j])
        total[at + j] += value
        squares[at + j] += value * value


@inline_kernel
def add_four(
    flat: Predictions,
    source: int,
    step: int,
    total: Float64,
    squares: Float64,
    into: int,
    length: int,
    second: int,
    third: int,
    fourth: int,
) -> None:
    """Add four windows of a row, of which the last three lie that many values to the right.

    The sums of what all four cover are read and written once. A pixel gets them in their order.
    """
    add_one(flat, source, total, squares, into, fourth)
    add_one(flat, source + step, total, squares, into + second, fourth - second)
    add_one(flat, source + 2 * step, total, squares, into + third, fourth - third)
    a, b = np.uintp(source + fourth), np.uintp(source + step + fourth - second)
    c, d = np.uintp(source + 2 * step + fourth - third), np.uintp(source + 3 * step)
    at = np.uintp(into + fourth)
    for j in range(np.uintp(length - fourth)):
        p0, p1 = np.float64(flat[a + j]), np.float64(flat[b + j])
        p2, p3 = np.float64(flat[c + j]), np.float64(flat[d + j])
        total[at + j] = total[at + j] + p0 + p1 + p2 + p3
        squares[at + j] = squares[at + j] + p0 * p0 + p1 * p1 + p2 * p2 + p3 * p3
    end = source + length
    add_one(flat, end + step - second, total, squares, into + length, second)
    add_one(flat, end + 2 * step - third, total, squares, into + length, third)
    add_one(flat, end + 3 * step - fourth, total, squares, into + length, fourth)


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
