"""What is counted of pixels, from which all metrics follow: sums, so that order does not matter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

#: Scores are rounded to this many values, evenly from 0 to 1.
LEVELS = 1024


@dataclass(frozen=True, slots=True)
class Pixels:
    """Some pixels that have a result and a truth.

    Attributes
    ----------
    scores : ndarray, (pixels, classes)
        From 0 to 1.
    truth : ndarray
        The class of each pixel, (pixels,), or whether it is of each class, (pixels, classes).
    strata : ndarray of int64, (pixels,)
        The stratum of each, of which the last is that of no stratum.
    weights : ndarray of float64, (pixels,), or None
        How much each counts; once if None.
    """

    scores: NDArray[Any]
    truth: NDArray[Any]
    strata: NDArray[np.int64]
    weights: NDArray[np.float64] | None


@dataclass(frozen=True, slots=True)
class Counts:
    """Sums of weights of pixels: whole numbers where all weigh the same.

    Attributes
    ----------
    scores : ndarray, (strata, classes, 2, LEVELS)
        By rounded score of a class, of pixels that are not of it and of those that are.
    winners : ndarray, (strata, 2, LEVELS)
        By rounded score of the highest class, where that is wrong and where it is right.
    confusion : ndarray, (strata, classes, classes)
        By the true class and the one with the highest score; the lowest class wins a tie. Zero, as
        are `winners`, if pixels may be of several classes.
    """

    scores: NDArray[Any]
    winners: NDArray[Any]
    confusion: NDArray[Any]

    @classmethod
    def none(cls, n_strata: int, n_classes: int, is_weighted: bool) -> Self:
        """Return the counts of no pixels."""
        kind = np.float64 if is_weighted else np.int64
        shapes = (n_classes, 2, LEVELS), (2, LEVELS), (n_classes, n_classes)
        return cls(*(np.zeros((n_strata, *shape), kind) for shape in shapes))

    def add(self, pixels: Pixels) -> None:
        """Count some pixels more."""
        n_classes = self.scores.shape[1]
        levels = levels_of(pixels.scores)
        single = pixels.truth.ndim == 1
        for index in range(n_classes):
            positive = pixels.truth == index if single else pixels.truth[:, index]
            place = pixels.strata, index, positive.astype(np.int64), levels[:, index]
            tally(self.scores, place, pixels.weights)
        if single:
            winner = pixels.scores.argmax(axis=1)
            right = (winner == pixels.truth).astype(np.int64)
            highest = levels[np.arange(len(winner)), winner]
            tally(self.winners, (pixels.strata, right, highest), pixels.weights)
            tally(self.confusion, (pixels.strata, pixels.truth, winner), pixels.weights)

    def of(self, stratum: int | None) -> Self:
        """Return the counts of one stratum, or of all pixels, without the axis of strata."""
        arrays = self.scores, self.winners, self.confusion
        return type(self)(
            *(array.sum(axis=0) if stratum is None else array[stratum] for array in arrays)
        )


def levels_of(scores: NDArray[Any]) -> NDArray[np.int64]:
    """Return which of the values from 0 to 1 a score is rounded to."""
    return np.asarray(np.rint(np.clip(scores, 0, 1) * np.float64(LEVELS - 1)), np.int64)


def tally(array: NDArray[Any], place: tuple[Any, ...], weights: NDArray[np.float64] | None) -> None:
    """Add ones, or weights, to places of an array, of which some may be the same."""
    flat = np.ravel_multi_index(place, array.shape) if len(place[0]) else np.empty(0, np.int64)
    array += np.bincount(flat, weights, array.size).reshape(array.shape).astype(array.dtype)
