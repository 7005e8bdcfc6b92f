"""Which class wins a pixel, in compiled form."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from morpheus_core.pipeline.kernels.compiling import compile_kernel
from morpheus_core.pipeline.kernels.protocol import Float64, Predictions

#: For up to this many classes votes have a loop of their own, compiled when it is first needed.
UNROLLED_CLASSES = 32


def unrolled(n_classes: int) -> tuple[int, ...]:
    """Return the classes whose loop is unrolled: all, or none."""
    return tuple(range(n_classes)) if n_classes <= UNROLLED_CLASSES else ()


@compile_kernel
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


@compile_kernel
def find_winners(
    values: Predictions,
    n_classes: int,
    classes: tuple[int, ...],
    winners: NDArray[np.int32],
    votes: Predictions,
) -> None:
    """Write the winner of each pixel, and its vote: one, or NaN.

    The length of `classes` is known when this is compiled, so that the loop over classes is
    unrolled and the one over pixels works on several at a time; without any there is another one.
    """
    if len(classes) == 0:
        find_winners_of_many(values, n_classes, winners, votes)
        return
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


@compile_kernel
def find_winners_of_many(
    values: Predictions, classes: int, winners: NDArray[np.int32], votes: Predictions
) -> None:
    """Write the winner of each pixel, and its vote: one, or NaN.

    A pixel has enough classes to work on several of them at a time: its largest value comes from
    the largest of every eighth, then its place is looked for.
    """
    largest = np.empty(8, values.dtype)
    for x in range(len(winners)):
        pixel = values[x * classes : (x + 1) * classes]
        largest[:] = pixel[:8]
        whole = classes // 8 * 8
        for first in range(8, whole, 8):
            for k in range(8):
                value = pixel[first + k]
                largest[k] = value if value > largest[k] else largest[k]
        best = largest[0]
        for value in largest:
            best = value if value > best else best
        for k in range(whole, classes):
            best = pixel[k] if pixel[k] > best else best
        spoiled = np.int32(0)
        winner = np.int32(classes)
        for k in range(classes):
            spoiled |= np.int32(pixel[k] - pixel[k] != 0.0)
            winner = min(winner, np.int32(k) if pixel[k] == best else np.int32(classes))
        winners[x] = 0 if spoiled else winner
        votes[x] = np.float32(np.nan) if spoiled else np.float32(1.0)


@compile_kernel
def cast_votes(row: Float64, classes: int, winners: NDArray[np.int32], votes: Predictions) -> None:
    """Add the vote of each pixel to its winner."""
    for x in range(len(winners)):
        row[x * classes + winners[x]] += votes[x]
