"""Some rows of a result, and what can be told of their pixels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from morpheus_core.errors import InputError
from morpheus_core.pipeline.aggregators import AGGREGATION_METHODS
from morpheus_core.pipeline.models import ROUNDING

ThresholdRule = Literal[">=", ">"]
#: How probabilities are compared with thresholds.
THRESHOLD_RULES: dict[ThresholdRule, np.ufunc] = {">=": np.greater_equal, ">": np.greater}


class Rows(ABC):
    """Some rows, of which each class has a probability."""

    @abstractmethod
    def share(self, method: AGGREGATION_METHODS, index: int) -> NDArray[Any]:
        """Return the mean or the share of votes of one class, NaN where there is none."""

    def probability(self, method: AGGREGATION_METHODS, index: int) -> NDArray[Any]:
        """Return the mean or the share of votes of one class, NaN where there is none.

        Raises
        ------
        InputError
            If means are no probabilities.
        """
        share = self.share(method, index)
        complaint = no_probabilities(share)
        if complaint is not None:
            raise InputError(complaint)
        return share

    def reach(
        self,
        method: AGGREGATION_METHODS,
        index: int,
        threshold: float,
        rule: ThresholdRule = ">=",
    ) -> NDArray[np.bool_]:
        """Say where the probability of a class reaches a threshold; see :meth:`probability`."""
        reached: NDArray[np.bool_] = THRESHOLD_RULES[rule](
            self.probability(method, index), threshold
        )
        return reached


class Ranking(NamedTuple):
    """Which class is highest in each pixel; all arrays are (rows, width).

    Attributes
    ----------
    known : ndarray of bool
        Whether there is a result; the other arrays mean nothing where there is none.
    winner : ndarray of int
        The highest class, the lowest of several.
    top : ndarray
        Its mean, or share of votes.
    second : ndarray
        That of the class that follows it; minus infinity of a single class.
    """

    known: NDArray[np.bool_]
    winner: NDArray[np.int16]
    top: NDArray[Any]
    second: NDArray[Any]


@dataclass(frozen=True, slots=True)
class Block(Rows):
    """Some rows of a result, complete.

    Attributes
    ----------
    first : int
        The first row.
    results : dict of ndarray, (rows, width, classes) or (rows, width, classes, 2)
        By aggregate method.
    n : ndarray, (rows, width)
        Number of predictions.
    """

    first: int
    results: dict[AGGREGATION_METHODS, NDArray[Any]]
    n: NDArray[Any]
    _rankings: dict[AGGREGATION_METHODS, Ranking] = field(default_factory=dict, compare=False)

    def share(self, method: AGGREGATION_METHODS, index: int) -> NDArray[Any]:
        """Return the mean or the share of votes of one class, NaN where there is none."""
        return np.where(self.n > 0, self._shares(method)[..., index], np.nan)

    def shares(self, method: AGGREGATION_METHODS) -> NDArray[Any]:
        """Return the mean or the share of votes of each class, NaN where there is none."""
        return np.where(self.n[..., np.newaxis] > 0, self._shares(method), np.nan)

    def ranking(self, method: AGGREGATION_METHODS) -> Ranking:
        """Return which class is highest in each pixel."""
        if method not in self._rankings:
            self._rankings[method] = ranking_of(self._shares(method), self.n > 0)
        return self._rankings[method]

    def _shares(self, method: AGGREGATION_METHODS) -> NDArray[Any]:
        result = self.results[method]
        return result[..., 0] if method is AGGREGATION_METHODS.MEAN_VAR else result


def ranking_of(shares: NDArray[Any], reached: NDArray[np.bool_]) -> Ranking:
    """Compare classes, (rows, width, classes), of pixels that a prediction has reached.

    Class by class: `numpy.argmax` along a short axis takes five times as long.
    """
    top = np.array(shares[..., 0])
    second = np.full_like(top, -np.inf)
    winner = np.zeros(top.shape, np.int16)
    known = reached & np.isfinite(top)
    for index in range(1, shares.shape[-1]):
        share = np.ascontiguousarray(shares[..., index])
        known &= np.isfinite(share)
        np.maximum(second, np.minimum(share, top), out=second)
        np.copyto(winner, index, where=share > top)
        np.maximum(top, share, out=top)
    return Ranking(known, winner, top, second)


def no_probabilities(shares: NDArray[Any]) -> str | None:
    """Say what means are, (..., classes), if they are no probabilities."""
    lowest, highest = np.nanmin(shares, initial=0.0), np.nanmax(shares, initial=1.0)
    if lowest >= -ROUNDING and highest <= 1 + ROUNDING:
        return None
    return (
        f"probabilities, from 0 to 1, are needed, got means from {lowest:.3g} to {highest:.3g}; "
        f'does the model lack an activation, "sigmoid" or "softmax"?'
    )
