"""The compiled kernels that stay at an output row and collect what windows predict of it.

Between the edges of windows the set of windows that cover a pixel is constant, so the sums of a
run of pixels are made from a few long rows of predictions while they are in the nearest cache: no
plane is read and written for each window, and a row that is complete never reaches one.

The order of additions to a pixel is that of the kernels that stay at a window.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from morpheus_core.pipeline.kernels.compiling import compile_kernel
from morpheus_core.pipeline.kernels.finishing import (
    exact_reciprocal,
    finish_row,
    has_nonfinite,
    mend_row,
    multiply_moments,
    repeat_each,
)
from morpheus_core.pipeline.kernels.protocol import Crop, Float64, Int64, Predictions, Results
from morpheus_core.pipeline.kernels.winners import cast_votes, find_winners, unrolled

#: Sums of about this many values are finished together: with what they are made of, they stay in
#: a nearest cache of 32 KiB.
TILE_VALUES = 1024


@compile_kernel
def collect_moments(
    planes: Float64,
    carried: int,
    predictions: Predictions,
    crop: Crop,
    tops: Int64,
    lefts: Int64,
    first: int,
    stop: int,
) -> None:
    """See :meth:`Kernels.collect_moments`."""
    _, ring, width, classes = planes.shape
    flat = planes.reshape(2, ring, width * classes)
    start, end = lefts[0] * classes, (lefts[-1] + crop[3] - crop[2]) * classes
    for row in range(first, stop):
        total, squares = flat[0, row % ring], flat[1, row % ring]
        if row >= carried:
            total[:] = 0.0
            squares[:] = 0.0
        into = total[start:end], squares[start:end]
        add_row_of_moments(predictions, crop, tops, lefts, row, lefts[0], into[0], into[1])


@compile_kernel
def finish_collected_moments(
    planes: Float64,
    carried: int,
    predictions: Predictions,
    crop: Crop,
    tops: Int64,
    lefts: Int64,
    first: int,
    left: int,
    n: Float64,
    fill_value: float,
    results: Results,
) -> None:
    """See :meth:`Kernels.finish_collected_moments`."""
    rows, width, classes = results.shape[:3]
    ring = planes.shape[1]
    flat = planes.reshape(2, ring, planes.shape[2] * classes)
    tile = max(1, TILE_VALUES // classes)
    sums = np.empty((2, tile * classes))
    counts = np.empty(tile * classes)
    for i in range(rows):
        row = first + i
        for start in range(0, width, tile):
            stop = min(start + tile, width)
            length = (stop - start) * classes
            total, squares = sums[0, :length], sums[1, :length]
            if row < carried:
                at = (left + start) * classes
                total[:] = flat[0, row % ring, at : at + length]
                squares[:] = flat[1, row % ring, at : at + length]
            else:
                total[:] = 0.0
                squares[:] = 0.0
            add_row_of_moments(predictions, crop, tops, lefts, row, left + start, total, squares)
            into = results[i, start:stop].reshape(length * 2)
            factor = exact_reciprocal(n[i, start:stop])
            if factor > 0.0:
                multiply_moments(total, squares, factor, into)
            else:
                repeat_each(n[i, start:stop], classes, counts)
                finish_row(total, squares, counts, into)
            if factor == 0.0 or has_nonfinite(total):
                mend_row(
                    total.reshape(stop - start, classes),
                    n[i, start:stop],
                    fill_value,
                    into.reshape(stop - start, classes * 2),
                )


@compile_kernel
def add_row_of_moments(
    predictions: Predictions,
    crop: Crop,
    tops: Int64,
    lefts: Int64,
    row: int,
    start: int,
    total: Float64,
    squares: Float64,
) -> None:
    """Add what windows predict of an output row, from plane column `start` on.

    `total` and `squares` are (columns * classes,).
    """
    windows, height, width, classes = predictions.shape
    across = len(lefts)
    flat = predictions.reshape(windows * height * width * classes)
    tall, wide = crop[1] - crop[0], crop[3] - crop[2]
    # Window rows and windows in a row that cover what is looked at are [first, stop).
    first_row = np.searchsorted(tops, row - tall, side="right")
    stop_row = np.searchsorted(tops, row, side="right")
    stop = start + len(total) // classes
    first_left = stop_left = np.searchsorted(lefts, start - wide, side="right")
    x = start
    offsets = np.empty(4, np.int64)
    while x < stop:
        while first_left < across and lefts[first_left] + wide <= x:
            first_left += 1
        while stop_left < across and lefts[stop_left] <= x:
            stop_left += 1
        end = stop  # of the run
        if stop_left < across:
            end = min(end, lefts[stop_left])
        if first_left < stop_left:
            end = min(end, lefts[first_left] + wide)
        length = (end - x) * classes
        at = (x - start) * classes
        sums = total[at : at + length]
        powers = squares[at : at + length]
        found = 0
        for k in range(first_row, stop_row):
            i = row - tops[k] + crop[0]
            for b in range(first_left, stop_left):
                pixel = ((k * across + b) * height + i) * width + x - lefts[b] + crop[2]
                offsets[found] = pixel * classes
                found += 1
                if found == 4:  # the sums are read and written once for four predictions
                    one = flat[offsets[0] : offsets[0] + length]
                    two = flat[offsets[1] : offsets[1] + length]
                    three = flat[offsets[2] : offsets[2] + length]
                    four = flat[offsets[3] : offsets[3] + length]
                    for j in range(length):
                        p0, p1 = np.float64(one[j]), np.float64(two[j])
                        p2, p3 = np.float64(three[j]), np.float64(four[j])
                        sums[j] = sums[j] + p0 + p1 + p2 + p3
                        powers[j] = powers[j] + p0 * p0 + p1 * p1 + p2 * p2 + p3 * p3
                    found = 0
        if found >= 2:
            one = flat[offsets[0] : offsets[0] + length]
            two = flat[offsets[1] : offsets[1] + length]
            for j in range(length):
                p0, p1 = np.float64(one[j]), np.float64(two[j])
                sums[j] = sums[j] + p0 + p1
                powers[j] = powers[j] + p0 * p0 + p1 * p1
            offsets[0] = offsets[2]
            found -= 2
        if found == 1:
            one = flat[offsets[0] : offsets[0] + length]
            for j in range(length):
                p0 = np.float64(one[j])
                sums[j] += p0
                powers[j] += p0 * p0
        x = end


def collect_votes(
    planes: Float64,
    carried: int,
    predictions: Predictions,
    crop: Crop,
    tops: Int64,
    lefts: Int64,
    first: int,
    stop: int,
) -> None:
    """See :meth:`Kernels.collect_votes`."""
    classes = unrolled(predictions.shape[3])
    _collect_votes(planes, carried, predictions, classes, crop, tops, lefts, first, stop)


@compile_kernel
def _collect_votes(
    planes: Float64,
    carried: int,
    predictions: Predictions,
    classes: tuple[int, ...],
    crop: Crop,
    tops: Int64,
    lefts: Int64,
    first: int,
    stop: int,
) -> None:
    _, ring, width, n_classes = planes.shape
    flat = planes.reshape(ring, width * n_classes)
    winners = np.empty(crop[3] - crop[2], np.int32)
    ballots = np.empty(crop[3] - crop[2], predictions.dtype)
    for row in range(first, stop):
        votes = flat[row % ring]
        if row >= carried:
            votes[:] = 0.0
        add_row_of_votes(predictions, classes, crop, tops, lefts, row, winners, ballots, votes)


def finish_collected_votes(
    planes: Float64,
    carried: int,
    predictions: Predictions,
    crop: Crop,
    tops: Int64,
    lefts: Int64,
    first: int,
    left: int,
    n: Float64,
    fill_value: float,
    results: Results,
) -> None:
    """See :meth:`Kernels.finish_collected_votes`."""
    classes = unrolled(predictions.shape[3])
    at = (first, left, n, fill_value, results)
    _finish_collected_votes(planes, carried, predictions, classes, crop, tops, lefts, *at)


@compile_kernel
def _finish_collected_votes(
    planes: Float64,
    carried: int,
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
) -> None:
    rows, width, n_classes = results.shape
    ring = planes.shape[1]
    flat = planes.reshape(ring, planes.shape[2] * n_classes)
    votes = np.empty(flat.shape[1])
    counts = np.empty(width * n_classes)
    winners = np.empty(crop[3] - crop[2], np.int32)
    ballots = np.empty(crop[3] - crop[2], predictions.dtype)
    inside = votes[left * n_classes : (left + width) * n_classes]
    for i in range(rows):
        row = first + i
        if row < carried:
            votes[:] = flat[row % ring]
        else:
            votes[:] = 0.0
        add_row_of_votes(predictions, classes, crop, tops, lefts, row, winners, ballots, votes)
        into = results[i].reshape(width * n_classes)
        factor = exact_reciprocal(n[i])
        if factor > 0.0:
            for j in range(len(inside)):
                into[j] = inside[j] * factor
        else:
            repeat_each(n[i], n_classes, counts)
            for j in range(len(inside)):
                into[j] = inside[j] / counts[j]
        if factor == 0.0 or has_nonfinite(inside):
            mend_row(inside.reshape(width, n_classes), n[i], fill_value, results[i])


@compile_kernel
def add_row_of_votes(
    predictions: Predictions,
    classes: tuple[int, ...],
    crop: Crop,
    tops: Int64,
    lefts: Int64,
    row: int,
    winners: NDArray[np.int32],
    ballots: Predictions,
    votes: Float64,
) -> None:
    """Add what windows vote in an output row, (plane columns * classes,)."""
    windows, height, width, n_classes = predictions.shape
    across = len(lefts)
    flat = predictions.reshape(windows * height, width * n_classes)
    tall, start, length = crop[1] - crop[0], crop[2] * n_classes, len(winners) * n_classes
    for k in range(len(tops)):
        i = row - tops[k]
        if i < 0 or i >= tall:
            continue
        for b in range(across):
            source = flat[(k * across + b) * height + crop[0] + i, start : start + length]
            find_winners(source, n_classes, classes, winners, ballots)
            at = lefts[b] * n_classes
            into = votes[at : at + length]
            cast_votes(into, n_classes, winners, ballots)
