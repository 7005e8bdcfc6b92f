"""Sums of finished rows become results, in compiled form."""

from __future__ import annotations

import math

import numpy as np

from morpheus_core.pipeline.kernels.compiling import compile_kernel, inline_kernel
from morpheus_core.pipeline.kernels.protocol import Float64, Results

#: Counts between these have a reciprocal that is neither infinite nor denormal.
SMALLEST, LARGEST = 1e-300, 1e300


@compile_kernel
def finish_moments(
    total: Float64,
    squares: Float64,
    n: Float64,
    fill_value: float,
    results: Results,
    at: int = 0,
) -> None:
    """See :meth:`Kernels.finish_moments`."""
    rows, width, classes = total.shape
    counts = np.empty(width * classes)
    for row in range(rows):
        repeat_each(n[row], classes, counts)
        sums = np.ascontiguousarray(total[row]).reshape(width * classes)
        pixels = results[row].reshape(results.shape[1], classes * 2)[at : at + width]
        finish_row(
            sums,
            np.ascontiguousarray(squares[row]).reshape(width * classes),
            counts,
            pixels.reshape(width * classes * 2),
        )
        if has_nonfinite(sums) or n[row].min() == 0.0:
            mend_row(total[row], n[row], fill_value, pixels)


@compile_kernel
def finish_votes(
    votes: Float64, n: Float64, fill_value: float, results: Results, at: int = 0
) -> None:
    """See :meth:`Kernels.finish_votes`."""
    rows, width, classes = votes.shape
    counts = np.empty(width * classes)
    for row in range(rows):
        repeat_each(n[row], classes, counts)
        sums = np.ascontiguousarray(votes[row]).reshape(width * classes)
        pixels = results[row, at : at + width]
        shares = pixels.reshape(width * classes)
        for j in range(len(sums)):
            shares[j] = sums[j] / counts[j]
        if has_nonfinite(sums) or n[row].min() == 0.0:
            mend_row(votes[row], n[row], fill_value, pixels)


@compile_kernel
def finish_row(total: Float64, squares: Float64, counts: Float64, results: Results) -> None:
    """Write the mean and variance of each value of a row in turn."""
    for j in range(len(total)):
        mean = total[j] / counts[j]
        variance = squares[j] / counts[j] - mean * mean
        results[2 * j] = mean
        # Rounding may leave a constant pixel a hair below zero.
        results[2 * j + 1] = 0.0 if variance < 0.0 else variance


@compile_kernel
def multiply_moments(total: Float64, squares: Float64, factor: float, results: Results) -> None:
    """Write the mean and variance of each value of a row in turn, of one count."""
    for j in range(len(total)):
        mean = total[j] * factor
        variance = squares[j] * factor - mean * mean
        results[2 * j] = mean
        # Rounding may leave a constant pixel a hair below zero.
        results[2 * j + 1] = 0.0 if variance < 0.0 else variance


@inline_kernel
def exact_reciprocal(n: Float64, row: int, start: int, stop: int) -> float:
    """Return what multiplies as counts of a row divide, to the last bit, or zero if nothing does.

    To divide takes longer than all the rest, and most counts are one power of two.
    """
    first: float = n[row, start]
    same = 0
    for x in range(np.uintp(start), np.uintp(stop)):
        same += n[row, x] == first
    factor = 0.0
    if same == stop - start and SMALLEST < first < LARGEST and math.frexp(first)[0] == 0.5:
        factor = 1.0 / first
    return factor


@compile_kernel
def repeat_each(n: Float64, classes: int, counts: Float64) -> None:
    """Write the count of each pixel once per class."""
    for column in range(len(n)):
        for k in range(classes):
            counts[column * classes + k] = n[column]


@compile_kernel
def has_nonfinite(values: Float64) -> bool:
    """Say whether a value is NaN or infinite."""
    found = 0
    for j in range(len(values)):
        found |= values[j] - values[j] != 0.0
    return found != 0


@compile_kernel
def mend_row(sums: Float64, n: Float64, fill_value: float, results: Results) -> None:
    """Write what pixels get that saw nothing, or something that is not finite."""
    for column in range(len(n)):
        if n[column] == 0.0:
            results[column, :] = fill_value
        elif has_nonfinite(sums[column]):
            results[column, :] = np.nan
