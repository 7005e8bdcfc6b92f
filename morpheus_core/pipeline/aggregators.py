"""Folding overlapping predictions into statistics of each pixel.

An aggregator keeps additive *planes*: folding a batch is an addition, merging two strips is an
addition, and only the last step differs. Predictions become sums in one of two ways, to the same
bytes: :meth:`Aggregator.fold` adds window after window to the planes, :meth:`Aggregator.collect`
goes from output row to output row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from morpheus_core.pipeline.kernels import (
    Carried,
    Crop,
    Float64,
    Int64,
    Kernels,
    Predictions,
    Range,
    Results,
)


class AGGREGATION_METHODS(StrEnum):  # noqa: N801 - the name that users already know
    """How overlapping predictions of one pixel become one result; plain strings work as well."""

    MEAN_VAR = "mean_var"
    RANK_VOTE = "rank_vote"


@dataclass(frozen=True, slots=True)
class Fold:
    """Predictions of windows of one window row, and where they go.

    Attributes
    ----------
    predictions : ndarray, shape (windows, height, width, classes)
        Native, C-contiguous float32 or float64.
    spans : ndarray of int64, shape (spans, 3), or None
        The pixels that count, where all count alike; None where `weights` differ.
    weights : ndarray of float64, shape (1 or windows, height, width)
        Weight of every pixel.
    top : int
        Output row of the windows' first row.
    lefts : ndarray of int64, shape (windows,)
        Plane column of each window's first pixel.
    """

    predictions: Predictions
    spans: Int64 | None
    weights: Float64
    top: int
    lefts: Int64


@dataclass(frozen=True, slots=True)
class Collection:
    """Predictions of windows that stand in rows and columns, and where they go.

    Attributes
    ----------
    predictions : ndarray, shape (window rows * windows in a row, height, width, classes)
        Native, C-contiguous float32 or float64.
    crop : tuple of int
        The part of each that counts, and counts alike.
    tops : ndarray of int64, shape (window rows,)
        Output row of that part of each window row, ascending.
    lefts : ndarray of int64, shape (windows in a row,)
        Plane column of that part of each window, ascending.
    carried : tuple of int
        Planes hold sums of earlier windows in output rows before the first number, and in later
        ones in plane columns before the second.
    """

    predictions: Predictions
    crop: Crop
    tops: Int64
    lefts: Int64
    carried: Carried

    @property
    def stop(self) -> int:
        """The output row after the last that is reached."""
        return int(self.tops[-1]) + self.crop[1] - self.crop[0]

    @property
    def right(self) -> int:
        """The plane column after the last that is reached."""
        return int(self.lefts[-1]) + self.crop[3] - self.crop[2]


@dataclass(frozen=True, slots=True)
class Ending:
    """Pixels that are complete, and what their results look like.

    Attributes
    ----------
    first : int
        The first output row.
    left : int
        Plane column of the first pixel of a row.
    n : ndarray of float64, shape (rows, columns)
        Sum of weights.
    fill_value : float
        The result where n is zero.
    """

    first: int
    left: int
    n: Float64
    fill_value: float


class Aggregator(ABC):
    """One way to turn the predictions of a pixel into a result."""

    #: How many (ring rows, width, classes) planes are kept.
    n_planes: int
    #: To collect, rows of a window's predictions must have this many values; as `ring.py` says.
    collected_row: int
    #: Names and meanings of the axes of one pixel's result.
    axes: Mapping[str, str]

    @abstractmethod
    def fold(self, kernels: Kernels, planes: Float64, fold: Fold) -> None:
        """Add predictions to the planes, (plane, ring rows, width, classes)."""

    @abstractmethod
    def collecting(self, kernels: Kernels) -> tuple[Callable[..., None], Callable[..., None]]:
        """Return the kernels that add to the planes, and that write results, row by row."""

    def collect(
        self, kernels: Kernels, planes: Float64, folded: Collection, rows: Range, columns: Range
    ) -> None:
        """Add predictions of some output rows and plane columns to the planes."""
        add, _ = self.collecting(kernels)
        add(planes, *of(folded), rows, columns)

    def finish(
        self,
        kernels: Kernels,
        planes: Float64,
        folded: Collection,
        ending: Ending,
        results: Results,
        at: int,
    ) -> None:
        """Write what :meth:`collect` and then :meth:`finalize` would, and leave the planes."""
        _, write = self.collecting(kernels)
        write(
            planes,
            *of(folded),
            ending.first,
            ending.left,
            ending.n,
            ending.fill_value,
            results,
            at,
        )

    @abstractmethod
    def finalize(
        self,
        kernels: Kernels,
        planes: Float64,
        n: Float64,
        fill_value: float,
        results: Results,
        at: int = 0,
    ) -> None:
        """Turn finished rows into results.

        Parameters
        ----------
        kernels : Kernels
            The inner loops.
        planes : ndarray, shape (plane, rows, columns, classes)
            Sums over all windows.
        n : ndarray, shape (rows, columns)
            Sum of weights.
        fill_value : float
            The result where n is zero.
        results : ndarray, shape (rows, width, *result_shape(classes))
            C-contiguous. NaN in every class of a pixel that saw one class that is not finite.
        at : int
            The first column of `results` that is written.
        """

    @abstractmethod
    def result_shape(self, n_classes: int) -> tuple[int, ...]:
        """Return the shape of one pixel's result."""


class MeanVariance(Aggregator):
    """Mean and population variance of each class, from sums and sums of squares in float64."""

    n_planes = 2
    collected_row = 1
    axes = MappingProxyType({"CLASS": "index from 0", "STATISTIC": "0 mean, 1 variance"})

    def result_shape(self, n_classes: int) -> tuple[int, ...]:
        """Return (classes, 2): the mean, then the variance."""
        return (n_classes, 2)

    def fold(self, kernels: Kernels, planes: Float64, fold: Fold) -> None:
        """Add predictions and their squares."""
        total, squares = planes
        at = (fold.top, fold.lefts)
        if fold.spans is None:
            kernels.add_weighted_moments(total, squares, fold.predictions, fold.weights, *at)
        else:
            kernels.add_moments(total, squares, fold.predictions, fold.spans, *at)

    def collecting(self, kernels: Kernels) -> tuple[Callable[..., None], Callable[..., None]]:
        """Return the kernels of moments."""
        return kernels.collect_moments, kernels.finish_collected_moments

    def finalize(
        self,
        kernels: Kernels,
        planes: Float64,
        n: Float64,
        fill_value: float,
        results: Results,
        at: int = 0,
    ) -> None:
        """Divide by the count."""
        total, squares = planes
        kernels.finish_moments(total, squares, n, fill_value, results, at)


class RankVote(Aggregator):
    """Share of windows in which each class scored highest; the lowest class wins a tie."""

    n_planes = 1
    # To find winners window after window reads memory in its order. In rows of 64 pixels and five
    # classes, of 256 windows at a time, to collect takes 1.4 times as long; from 256 pixels on
    # 0.6 of the time.
    collected_row = 1024
    axes = MappingProxyType({"CLASS": "index from 0"})

    def result_shape(self, n_classes: int) -> tuple[int, ...]:
        """Return (classes,)."""
        return (n_classes,)

    def fold(self, kernels: Kernels, planes: Float64, fold: Fold) -> None:
        """Add one vote, or one weight, per pixel and window."""
        (votes,) = planes
        at = (fold.top, fold.lefts)
        if fold.spans is None:
            kernels.add_weighted_votes(votes, fold.predictions, fold.weights, *at)
        else:
            kernels.add_votes(votes, fold.predictions, fold.spans, *at)

    def collecting(self, kernels: Kernels) -> tuple[Callable[..., None], Callable[..., None]]:
        """Return the kernels of votes."""
        return kernels.collect_votes, kernels.finish_collected_votes

    def finalize(
        self,
        kernels: Kernels,
        planes: Float64,
        n: Float64,
        fill_value: float,
        results: Results,
        at: int = 0,
    ) -> None:
        """Divide by the count."""
        (votes,) = planes
        kernels.finish_votes(votes, n, fill_value, results, at)


def of(folded: Collection) -> tuple[Carried, Predictions, Crop, Int64, Int64]:
    """Return what kernels are told of a collection."""
    return folded.carried, folded.predictions, folded.crop, folded.tops, folded.lefts


AGGREGATORS: dict[AGGREGATION_METHODS, Aggregator] = {
    AGGREGATION_METHODS.MEAN_VAR: MeanVariance(),
    AGGREGATION_METHODS.RANK_VOTE: RankVote(),
}
