"""Runs of pixels that the same windows cover, and where these have predicted them.

Windows stand in rows and columns, so one list of runs serves every output row.
"""

from __future__ import annotations

import numpy as np

from morpheus_core.pipeline.kernels.compiling import compile_kernel, inline_kernel
from morpheus_core.pipeline.kernels.protocol import Crop, Int64, Offsets, Predictions, Range


@compile_kernel
def runs_of(lefts: Int64, wide: int, columns: Range, edge: int) -> Int64:
    """List the runs that plane columns fall into, none of them across column `edge`.

    Returns rows of first and stop column, and first and stop window of those that cover it.
    """
    across = len(lefts)
    runs = np.empty((2 * across + 3, 4), np.int64)
    found = first = stop = 0
    x = columns[0]
    while x < columns[1]:
        while first < across and lefts[first] + wide <= x:
            first += 1
        while stop < across and lefts[stop] <= x:
            stop += 1
        end = columns[1]
        if stop < across:
            end = min(end, lefts[stop])
        if first < stop:
            end = min(end, lefts[first] + wide)
        if x < edge:
            end = min(end, edge)
        runs[found] = x, end, first, stop
        found += 1
        x = end
    return runs[:found]


@inline_kernel
def find_offsets(
    predictions: Predictions,
    crop: Crop,
    tops: Int64,
    lefts: Int64,
    row: int,
    runs: Int64,
    r: int,
    offsets: Offsets,
) -> int:
    """Write where the predictions begin that windows make of run `r`, in order, and count them."""
    height, width, classes = predictions.shape[1], predictions.shape[2], predictions.shape[3]
    found = 0
    for k in range(len(tops)):
        i = row - tops[k]
        if 0 <= i < crop[1] - crop[0]:
            for b in range(runs[r, 2], runs[r, 3]):
                line = (k * len(lefts) + b) * height + crop[0] + i
                offsets[found] = (line * width + crop[2] + runs[r, 0] - lefts[b]) * classes
                found += 1
    return found
