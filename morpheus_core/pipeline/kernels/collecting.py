"""The compiled kernels that stay at an output row and collect what windows predict of it.

Between the edges of windows the set of windows that cover a pixel is constant, so the results of a
run of pixels are made from a few long rows of predictions while they are in the nearest cache: no
plane is read and written for each window, and a row that is complete never reaches one.

The order of additions to a pixel is that of the kernels that stay at a window.
"""

from __future__ import annotations

import numpy as np

from morpheus_core.pipeline.kernels.compiling import compile_kernel, inline_kernel
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
    Offsets,
    Predictions,
    Range,
    Results,
)
from morpheus_core.pipeline.kernels.runs import find_offsets, runs_of
from morpheus_core.pipeline.kernels.winners import cast_votes, find_winners, unrolled

#: Sums of about this many values are finished together: with what they are made of, they stay in
#: a nearest cache of 32 KiB.
TILE_VALUES = 1024

#: Indices without a sign need no look at whether they count from the end.
ONE, TWO = np.uintp(1), np.uintp(2)


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
    flat = predictions.reshape(predictions.size)
    totals, squares = planes[0].reshape(ring * width * classes), planes[1].reshape(-1)
    runs = runs_of(lefts, crop[3] - crop[2], columns, carried[1])
    offsets = np.empty(len(tops) * len(lefts), np.uintp)
    for row in range(rows[0], rows[1]):
        for r in range(len(runs)):
            at = np.uintp((row % ring * width + runs[r, 0]) * classes)
            length = np.uintp((runs[r, 1] - runs[r, 0]) * classes)
            if row >= carried[0] and runs[r, 0] >= carried[1]:
                for j in range(length):
                    totals[at + j] = 0.0
                    squares[at + j] = 0.0
            found = find_offsets(predictions, crop, tops, lefts, row, runs, r, offsets)
            add_to_moments(flat, offsets, found, totals, squares, at, length)


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
    flat = predictions.reshape(predictions.size)
    totals, squares = planes[0].reshape(ring * width * classes), planes[1].reshape(-1)
    into = results.reshape(results.size)
    runs = runs_of(lefts, crop[3] - crop[2], (left, left + n.shape[1]), carried[1])
    offsets = np.empty(len(tops) * len(lefts), np.uintp)
    nothing = np.zeros(longest(runs) * classes)
    for i in range(len(n)):
        row = first + i
        for r in range(len(runs)):
            start, stop = runs[r, 0], runs[r, 1]
            length = np.uintp((stop - start) * classes)
            there = row < carried[0] or start < carried[1]
            total, square = (totals, squares) if there else (nothing, nothing)
            base = np.uintp((row % ring * width + start) * classes if there else 0)
            to = np.uintp((i * results.shape[1] + at - left + start) * classes * 2)
            found = find_offsets(predictions, crop, tops, lefts, row, runs, r, offsets)
            factor = exact_reciprocal(n, i, start - left, stop - left)
            if factor == 0.0 or not finish_few(
                flat, offsets, found, total, square, base, length, factor, into, to
            ):
                finish_many(
                    flat,
                    offsets[:found],
                    total[base : base + length],
                    square[base : base + length],
                    n[i, start - left : stop - left],
                    fill_value,
                    into[to : to + length * np.uintp(2)],
                )


@compile_kernel
def longest(runs: Int64) -> int:
    """Return the length of the longest run."""
    length = 0
    for run in runs:
        length = max(length, run[1] - run[0])
    return length


@inline_kernel
def add_to_moments(
    flat: Predictions,
    offsets: Offsets,
    found: int,
    total: Float64,
    squares: Float64,
    at: np.uintp,
    length: np.uintp,
) -> None:
    """Add predictions that begin at `offsets`, and their squares, to some sums from `at` on."""
    k = 0
    while k + 4 <= found:  # the sums are read and written once for four predictions
        a, b, c, d = offsets[k], offsets[k + 1], offsets[k + 2], offsets[k + 3]
        for j in range(length):
            p0, p1 = np.float64(flat[a + j]), np.float64(flat[b + j])
            p2, p3 = np.float64(flat[c + j]), np.float64(flat[d + j])
            total[at + j] = total[at + j] + p0 + p1 + p2 + p3
            squares[at + j] = squares[at + j] + p0 * p0 + p1 * p1 + p2 * p2 + p3 * p3
        k += 4
    if k + 2 <= found:
        a, b = offsets[k], offsets[k + 1]
        for j in range(length):
            p0, p1 = np.float64(flat[a + j]), np.float64(flat[b + j])
            total[at + j] = total[at + j] + p0 + p1
            squares[at + j] = squares[at + j] + p0 * p0 + p1 * p1
        k += 2
    if k < found:
        a = offsets[k]
        for j in range(length):
            p0 = np.float64(flat[a + j])
            total[at + j] += p0
            squares[at + j] += p0 * p0


@inline_kernel
def finish_few(
    flat: Predictions,
    offsets: Offsets,
    found: int,
    total: Float64,
    squares: Float64,
    at: np.uintp,
    length: np.uintp,
    factor: float,
    results: Results,
    to: np.uintp,
) -> bool:
    """Write means and variances of sums and of one, two or four predictions, in registers.

    The sums begin at `at`, the predictions at `offsets`, the results at `to`. Returns whether that
    is done: not with another number of predictions, nor where one is not finite.
    """
    spoiled = 0
    if found == 4:
        a, b, c, d = offsets[0], offsets[1], offsets[2], offsets[3]
        for j in range(length):
            p0, p1 = np.float64(flat[a + j]), np.float64(flat[b + j])
            p2, p3 = np.float64(flat[c + j]), np.float64(flat[d + j])
            first = total[at + j] + p0 + p1 + p2 + p3
            second = squares[at + j] + p0 * p0 + p1 * p1 + p2 * p2 + p3 * p3
            mean = first * factor
            variance = second * factor - mean * mean
            results[to + TWO * j] = mean
            results[to + TWO * j + ONE] = 0.0 if variance < 0.0 else variance
            spoiled |= first - first != 0.0
    elif found == 2:
        a, b = offsets[0], offsets[1]
        for j in range(length):
            p0, p1 = np.float64(flat[a + j]), np.float64(flat[b + j])
            first = total[at + j] + p0 + p1
            second = squares[at + j] + p0 * p0 + p1 * p1
            mean = first * factor
            variance = second * factor - mean * mean
            results[to + TWO * j] = mean
            results[to + TWO * j + ONE] = 0.0 if variance < 0.0 else variance
            spoiled |= first - first != 0.0
    elif found == 1:
        a = offsets[0]
        for j in range(length):
            p0 = np.float64(flat[a + j])
            first = total[at + j] + p0
            mean = first * factor
            variance = (squares[at + j] + p0 * p0) * factor - mean * mean
            results[to + TWO * j] = mean
            results[to + TWO * j + ONE] = 0.0 if variance < 0.0 else variance
            spoiled |= first - first != 0.0
    else:
        spoiled = 1
    return spoiled == 0


@compile_kernel
def finish_many(
    flat: Predictions,
    offsets: Offsets,
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
        add_to_moments(flat, at, len(at), first, second, np.uintp(0), np.uintp(length))
        at += np.uintp(length)
        into = results[x * classes * 2 :][: length * 2]
        factor = exact_reciprocal(some.reshape(1, len(some)), 0, 0, len(some))
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
    offsets = np.empty(len(tops) * len(lefts), np.uintp)
    winners = np.empty(longest(runs), np.int32)
    ballots = np.empty(longest(runs), predictions.dtype)
    for row in range(rows[0], rows[1]):
        for r in range(len(runs)):
            start, stop = runs[r, 0], runs[r, 1]
            length = stop - start
            votes = sums[row % ring, start * n_classes : stop * n_classes]
            if row >= carried[0] and start >= carried[1]:
                votes[:] = 0.0
            for k in range(find_offsets(predictions, crop, tops, lefts, row, runs, r, offsets)):
                source = flat[offsets[k] : offsets[k] + np.uintp(length * n_classes)]
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
    offsets = np.empty(len(tops) * len(lefts), np.uintp)
    winners = np.empty(longest(runs), np.int32)
    ballots = np.empty(longest(runs), predictions.dtype)
    votes = np.empty(longest(runs) * n_classes)
    for i in range(len(n)):
        row = first + i
        for r in range(len(runs)):
            start, stop = runs[r, 0], runs[r, 1]
            length = stop - start
            of_run = votes[: length * n_classes]
            if row < carried[0] or start < carried[1]:
                of_run[:] = sums[row % ring, start * n_classes : stop * n_classes]
            else:
                of_run[:] = 0.0
            for k in range(find_offsets(predictions, crop, tops, lefts, row, runs, r, offsets)):
                source = flat[offsets[k] : offsets[k] + np.uintp(length * n_classes)]
                find_winners(source, n_classes, classes, winners[:length], ballots[:length])
                cast_votes(of_run, n_classes, winners[:length], ballots[:length])
            into = results[i, at - left + start : at - left + stop]
            share_votes(of_run, n[i, start - left : stop - left], fill_value, into)


@compile_kernel
def share_votes(votes: Float64, n: Float64, fill_value: float, results: Results) -> None:
    """Write the share of each class in the votes, (columns * classes,), of some pixels."""
    pixels, classes = results.shape
    shares = results.reshape(pixels * classes)
    factor = exact_reciprocal(n.reshape(1, len(n)), 0, 0, len(n))
    if factor > 0.0:
        for j in range(len(votes)):
            shares[j] = votes[j] * factor
    else:
        for x in range(pixels):
            for k in range(classes):
                shares[x * classes + k] = votes[x * classes + k] / n[x]
    if factor == 0.0 or has_nonfinite(votes):
        mend_row(votes.reshape(pixels, classes), n, fill_value, results)
