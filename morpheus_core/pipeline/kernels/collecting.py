"""The compiled kernels that stay at an output row and collect what windows predict of it.

Between the edges of windows the set of windows that cover a pixel is constant, so the results of a
run of pixels are made from a few long rows of predictions while they are in the nearest cache: no
plane is read and written for each window, and a row that is complete never reaches one.

The order of additions to a pixel is that of the kernels that stay at a window.
"""

from __future__ import annotations

import numpy as np

from morpheus_core.pipeline.kernels.compiling import compile_kernel
from morpheus_core.pipeline.kernels.finishing import (
    exact_reciprocal,
    finish_row,
    has_nonfinite,
    mend_row,
    multiply_moments,
    repeat_each,
)
from morpheus_core.pipeline.kernels.protocol import (
    Carried,
    Crop,
    Float64,
    Int64,
    Predictions,
    Range,
    Results,
)
from morpheus_core.pipeline.kernels.runs import find_offsets, runs_of
from morpheus_core.pipeline.kernels.winners import cast_votes, find_winners, unrolled

#: Sums of about this many values are finished together: with what they are made of, they stay in
#: a nearest cache of 32 KiB.
TILE_VALUES = 1024


@compile_kernel
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
    _, ring, width, classes = planes.shape
    sums = planes.reshape(2, ring, width * classes)
    flat = predictions.reshape(predictions.size)
    runs = runs_of(lefts, crop[3] - crop[2], columns, carried[1])
    offsets = np.empty(len(tops) * len(lefts), np.int64)
    for row in range(rows[0], rows[1]):
        for run in runs:
            start, stop = run[0] * classes, run[1] * classes
            total, squares = sums[0, row % ring, start:stop], sums[1, row % ring, start:stop]
            if row >= carried[0] and run[0] >= carried[1]:
                total[:] = 0.0
                squares[:] = 0.0
            found = find_offsets(predictions, crop, tops, lefts, row, run, offsets)
            add_to_moments(flat, offsets[:found], total, squares)


@compile_kernel
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
    _, ring, width, classes = planes.shape
    sums = planes.reshape(2, ring, width * classes)
    flat = predictions.reshape(predictions.size)
    runs = runs_of(lefts, crop[3] - crop[2], (left, left + n.shape[1]), carried[1])
    offsets = np.empty(len(tops) * len(lefts), np.int64)
    nothing = np.zeros(longest(runs) * classes)
    for i in range(len(n)):
        row = first + i
        into = results[i].reshape(results.shape[1] * classes * 2)
        for run in runs:
            start, stop = run[0] * classes, run[1] * classes
            if row < carried[0] or run[0] < carried[1]:
                total, squares = sums[0, row % ring, start:stop], sums[1, row % ring, start:stop]
            else:
                total, squares = nothing[: stop - start], nothing[: stop - start]
            counts = n[i, run[0] - left : run[1] - left]
            of_run = into[(at - left) * classes * 2 + start * 2 :][: 2 * (stop - start)]
            found = offsets[: find_offsets(predictions, crop, tops, lefts, row, run, offsets)]
            factor = exact_reciprocal(counts)
            if factor == 0.0 or not finish_few(flat, found, total, squares, factor, of_run):
                finish_many(flat, found, total, squares, counts, fill_value, of_run)


@compile_kernel
def longest(runs: Int64) -> int:
    """Return the length of the longest run."""
    length = 0
    for run in runs:
        length = max(length, run[1] - run[0])
    return length


@compile_kernel
def add_to_moments(flat: Predictions, offsets: Int64, total: Float64, squares: Float64) -> None:
    """Add predictions that begin at `offsets`, and their squares, to sums, (columns * classes,)."""
    length = len(total)
    k = 0
    while k + 4 <= len(offsets):  # the sums are read and written once for four predictions
        one = flat[offsets[k] : offsets[k] + length]
        two = flat[offsets[k + 1] : offsets[k + 1] + length]
        three = flat[offsets[k + 2] : offsets[k + 2] + length]
        four = flat[offsets[k + 3] : offsets[k + 3] + length]
        for j in range(length):
            p0, p1 = np.float64(one[j]), np.float64(two[j])
            p2, p3 = np.float64(three[j]), np.float64(four[j])
            total[j] = total[j] + p0 + p1 + p2 + p3
            squares[j] = squares[j] + p0 * p0 + p1 * p1 + p2 * p2 + p3 * p3
        k += 4
    if k + 2 <= len(offsets):
        one = flat[offsets[k] : offsets[k] + length]
        two = flat[offsets[k + 1] : offsets[k + 1] + length]
        for j in range(length):
            p0, p1 = np.float64(one[j]), np.float64(two[j])
            total[j] = total[j] + p0 + p1
            squares[j] = squares[j] + p0 * p0 + p1 * p1
        k += 2
    if k < len(offsets):
        one = flat[offsets[k] : offsets[k] + length]
        for j in range(length):
            p0 = np.float64(one[j])
            total[j] += p0
            squares[j] += p0 * p0


@compile_kernel
def finish_few(
    flat: Predictions,
    offsets: Int64,
    total: Float64,
    squares: Float64,
    factor: float,
    results: Results,
) -> bool:
    """Write means and variances of sums and of one, two or four predictions, in registers.

    Returns whether that is done: not with another number of predictions, nor where one is not
    finite.
    """
    length = len(total)
    spoiled = 0
    if len(offsets) == 4:
        one = flat[offsets[0] : offsets[0] + length]
        two = flat[offsets[1] : offsets[1] + length]
        three = flat[offsets[2] : offsets[2] + length]
        four = flat[offsets[3] : offsets[3] + length]
        for j in range(length):
            p0, p1 = np.float64(one[j]), np.float64(two[j])
            p2, p3 = np.float64(three[j]), np.float64(four[j])
            first = total[j] + p0 + p1 + p2 + p3
            second = squares[j] + p0 * p0 + p1 * p1 + p2 * p2 + p3 * p3
            mean = first * factor
            variance = second * factor - mean * mean
            results[2 * j] = mean
            results[2 * j + 1] = 0.0 if variance < 0.0 else variance
            spoiled |= first - first != 0.0
    elif len(offsets) == 2:
        one = flat[offsets[0] : offsets[0] + length]
        two = flat[offsets[1] : offsets[1] + length]
        for j in range(length):
            p0, p1 = np.float64(one[j]), np.float64(two[j])
            first = total[j] + p0 + p1
            second = squares[j] + p0 * p0 + p1 * p1
            mean = first * factor
            variance = second * factor - mean * mean
            results[2 * j] = mean
            results[2 * j + 1] = 0.0 if variance < 0.0 else variance
            spoiled |= first - first != 0.0
    elif len(offsets) == 1:
        one = flat[offsets[0] : offsets[0] + length]
        for j in range(length):
            p0 = np.float64(one[j])
            first = total[j] + p0
            mean = first * factor
            variance = (squares[j] + p0 * p0) * factor - mean * mean
            results[2 * j] = mean
            results[2 * j + 1] = 0.0 if variance < 0.0 else variance
            spoiled |= first - first != 0.0
    else:
        return False
    return spoiled == 0


@compile_kernel
def finish_many(
    flat: Predictions,
    offsets: Int64,
    total: Float64,
    squares: Float64,
    n: Float64,
    fill_value: float,
    results: Results,
) -> None:
    """Write means and variances of sums and of any predictions, by way of sums in the cache."""
    classes = len(total) // len(n)
    tile = max(1, TILE_VALUES // classes)
    sums = np.empty((2, tile * classes))
    counts = np.empty(tile * classes)
    at = offsets.copy()
    for x in range(0, len(n), tile):
        some = n[x : x + tile]
        length = len(some) * classes
        first, second = sums[0, :length], sums[1, :length]
        first[:] = total[x * classes :][:length]
        second[:] = squares[x * classes :][:length]
        add_to_moments(flat, at, first, second)
        at += length
        into = results[x * classes * 2 :][: length * 2]
        factor = exact_reciprocal(some)
        if factor > 0.0:
            multiply_moments(first, second, factor, into)
        else:
            repeat_each(some, classes, counts)
            finish_row(first, second, counts, into)
        if factor == 0.0 or has_nonfinite(first):
            pixels = into.reshape(len(some), classes * 2)
            mend_row(first.reshape(len(some), classes), some, fill_value, pixels)


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
    classes = unrolled(predictions.shape[3])
    _collect_votes(planes, carried, predictions, classes, crop, tops, lefts, rows, columns)


@compile_kernel
def _collect_votes(
    planes: Float64,
    carried: Carried,
    predictions: Predictions,
    classes: tuple[int, ...],
    crop: Crop,
    tops: Int64,
    lefts: Int64,
    rows: Range,
    columns: Range,
) -> None:
    _, ring, width, n_classes = planes.shape
    sums = planes.reshape(ring, width * n_classes)
    flat = predictions.reshape(predictions.size)
    runs = runs_of(lefts, crop[3] - crop[2], columns, carried[1])
    offsets = np.empty(len(tops) * len(lefts), np.int64)
    winners = np.empty(longest(runs), np.int32)
    ballots = np.empty(longest(runs), predictions.dtype)
    for row in range(rows[0], rows[1]):
        for run in runs:
            length = run[1] - run[0]
            votes = sums[row % ring, run[0] * n_classes : run[1] * n_classes]
            if row >= carried[0] and run[0] >= carried[1]:
                votes[:] = 0.0
            for k in range(find_offsets(predictions, crop, tops, lefts, row, run, offsets)):
                source = flat[offsets[k] : offsets[k] + length * n_classes]
                find_winners(source, n_classes, classes, winners[:length], ballots[:length])
                cast_votes(votes, n_classes, winners[:length], ballots[:length])


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
    classes = unrolled(predictions.shape[3])
    where = (first, left, n, fill_value, results, at)
    _finish_collected_votes(planes, carried, predictions, classes, crop, tops, lefts, *where)


@compile_kernel
def _finish_collected_votes(
    planes: Float64,
    carried: Carried,
    predictions: Predictions,
    classes: tuple[int, ...],
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
    _, ring, width, n_classes = planes.shape
    sums = planes.reshape(ring, width * n_classes)
    flat = predictions.reshape(predictions.size)
    runs = runs_of(lefts, crop[3] - crop[2], (left, left + n.shape[1]), carried[1])
    offsets = np.empty(len(tops) * len(lefts), np.int64)
    winners = np.empty(longest(runs), np.int32)
    ballots = np.empty(longest(runs), predictions.dtype)
    votes = np.empty(longest(runs) * n_classes)
    for i in range(len(n)):
        row = first + i
        for run in runs:
            length = run[1] - run[0]
            of_run = votes[: length * n_classes]
            if row < carried[0] or run[0] < carried[1]:
                of_run[:] = sums[row % ring, run[0] * n_classes : run[1] * n_classes]
            else:
                of_run[:] = 0.0
            for k in range(find_offsets(predictions, crop, tops, lefts, row, run, offsets)):
                source = flat[offsets[k] : offsets[k] + length * n_classes]
                find_winners(source, n_classes, classes, winners[:length], ballots[:length])
                cast_votes(of_run, n_classes, winners[:length], ballots[:length])
            into = results[i, at - left + run[0] : at - left + run[1]]
            share_votes(of_run, n[i, run[0] - left : run[1] - left], fill_value, into)


@compile_kernel
def share_votes(votes: Float64, n: Float64, fill_value: float, results: Results) -> None:
    """Write the share of each class in the votes, (columns * classes,), of some pixels."""
    pixels, classes = results.shape
    shares = results.reshape(pixels * classes)
    factor = exact_reciprocal(n)
    if factor > 0.0:
        for j in range(len(votes)):
            shares[j] = votes[j] * factor
    else:
        for x in range(pixels):
            for k in range(classes):
                shares[x * classes + k] = votes[x * classes + k] / n[x]
    if factor == 0.0 or has_nonfinite(votes):
        mend_row(votes.reshape(pixels, classes), n, fill_value, results)
