"""Counts → metrics; scores are the values that they are rounded to."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from morpheus_core.evaluation.counts import LEVELS

Float64 = NDArray[np.float64]

#: The scores that there are.
SCORES = np.arange(LEVELS) / (LEVELS - 1)
#: Intervals of the score in which calibration is looked at, all equally wide.
INTERVALS = 10


def ratio(part: Any, whole: Any) -> Any:
    """Divide, where nothing of nothing is NaN."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.divide(part, whole, dtype=np.float64)


def decisions(confusion: NDArray[Any]) -> tuple[Float64, Float64, Float64]:
    """Return, of each class, what is rightly and what is wrongly taken for it, and what is missed.

    Parameters
    ----------
    confusion : ndarray, (classes, classes)
        By true and by predicted class.
    """
    right = np.diag(confusion)
    return right, confusion.sum(axis=0) - right, confusion.sum(axis=1) - right


def decisions_at_half(scores: NDArray[Any]) -> tuple[Float64, Float64, Float64]:
    """Return the same where each class is taken that has a score of at least one half."""
    (_, wrong), (missed, right) = (
        (row[:, SCORES < 0.5].sum(axis=1), row[:, SCORES >= 0.5].sum(axis=1))
        for row in (scores[:, 0], scores[:, 1])
    )
    return right, wrong, missed


def roc(scores: NDArray[Any]) -> tuple[Float64, Float64]:
    """Return the shares of what is not, and of what is, of a class, at or above each score.

    Parameters
    ----------
    scores : ndarray, (2, LEVELS)
        Of one class, as of :class:`Counts`.
    """
    negatives, positives = np.cumsum(scores[:, ::-1], axis=1)[:, ::-1]
    return ratio(negatives, negatives[0]), ratio(positives, positives[0])


def area_under_roc(scores: NDArray[Any]) -> float:
    """Return how probably a pixel of a class has a higher score than another; ties count half."""
    negatives, positives = scores.astype(np.float64)
    above = positives.sum() - np.cumsum(positives)
    pairs = (negatives * (above + positives / 2)).sum()
    return float(ratio(pairs, negatives.sum() * positives.sum()))


def average_precision(scores: NDArray[Any]) -> float:
    """Return Σ (R_k − R_{k−1}) P_k over falling thresholds, of recall R and precision P."""
    negatives, positives = np.cumsum(scores[:, ::-1], axis=1)
    steps = np.diff(ratio(positives, positives[-1]), prepend=0)
    precisions = ratio(positives, positives + negatives)
    return float(np.where(steps == 0, 0, steps * precisions).sum())


def brier(scores: NDArray[Any]) -> float:
    """Return the mean square of what a score lacks to 1 in a class, and of the score elsewhere."""
    squares = scores[0] * SCORES**2 + scores[1] * (1 - SCORES) ** 2
    return float(ratio(squares.sum(), scores.sum()))


def reliability(scores: NDArray[Any]) -> tuple[NDArray[Any], Float64, Float64]:
    """Return, by interval of the score, the pixels, their mean score, and the share of hits.

    Parameters
    ----------
    scores : ndarray, (2, LEVELS)
        By rounded score, of misses and of hits.
    """
    # The upper end belongs to an interval, as in sklearn.calibration.calibration_curve.
    edges = np.linspace(0, 1, INTERVALS + 1)[1:-1]
    members = np.searchsorted(edges, SCORES) == np.arange(INTERVALS)[:, np.newaxis]
    pixels = members @ scores.sum(axis=0)
    return (
        pixels,
        ratio(members @ (scores.sum(axis=0) * SCORES), pixels),
        ratio(members @ scores[1], pixels),
    )


def calibration_error(scores: NDArray[Any]) -> float:
    """Return the mean of how far shares of hits are from mean scores, by interval of the score."""
    pixels, means, shares = reliability(scores)
    apart = np.where(pixels > 0, abs(means - shares), 0)
    return float(ratio((pixels * apart).sum(), pixels.sum()))
