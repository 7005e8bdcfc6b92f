"""Folding overlapping predictions into statistics of each pixel.

An aggregator keeps additive *planes*: folding a batch is an addition, merging two strips is an
addition, and only :meth:`Aggregator.finalize` differs. Planes live in a :class:`RowRing` that is
as tall as the windows that can still touch a row, not as the image.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from morpheus_core.pipeline.kernels import Float64, Int64, Kernels, Predictions, Results

NanPolicy = Literal["propagate", "omit"]
NAN_POLICIES: tuple[NanPolicy, ...] = ("propagate", "omit")


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


class Aggregator(ABC):
    """One way to turn the predictions of a pixel into a result."""

    #: How many (ring rows, width, classes) planes are kept.
    n_planes: int
    #: Names and meanings of the axes of one pixel's result.
    axes: Mapping[str, str]

    @abstractmethod
    def fold(self, kernels: Kernels, planes: Float64, fold: Fold) -> None:
        """Add predictions to the planes, (plane, ring rows, width, classes)."""

    @abstractmethod
    def finalize(
        self, kernels: Kernels, planes: Float64, n: Float64, fill_value: float, dtype: np.dtype[Any]
    ) -> Results:
        """Turn finished rows into results.

        Parameters
        ----------
        kernels : Kernels
            The inner loops.
        planes : ndarray, shape (plane, rows, width, classes)
            Sums over all windows.
        n : ndarray, shape (rows, width)
            Sum of weights.
        fill_value : float
            The result where n is zero.
        dtype : dtype
            Of the results, float32 or float64.

        Returns
        -------
        ndarray, shape (rows, width, *result_shape(classes))
            NaN in every class of a pixel that saw one class that is not finite.
        """

    @abstractmethod
    def result_shape(self, n_classes: int) -> tuple[int, ...]:
        """Return the shape of one pixel's result."""


class MeanVariance(Aggregator):
    """Mean and population variance of each class, from sums and sums of squares in float64."""

    n_planes = 2
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

    def finalize(
        self, kernels: Kernels, planes: Float64, n: Float64, fill_value: float, dtype: np.dtype[Any]
    ) -> Results:
        """Divide by the count."""
        total, squares = planes
        results = np.empty((*total.shape, 2), dtype)
        kernels.finish_moments(total, squares, n, fill_value, results)
        return results


class RankVote(Aggregator):
    """Share of windows in which each class scored highest; the lowest class wins a tie."""

    n_planes = 1
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

    def finalize(
        self, kernels: Kernels, planes: Float64, n: Float64, fill_value: float, dtype: np.dtype[Any]
    ) -> Results:
        """Divide by the count."""
        (votes,) = planes
        results = np.empty(votes.shape, dtype)
        kernels.finish_votes(votes, n, fill_value, results)
        return results


AGGREGATORS: dict[AGGREGATION_METHODS, Aggregator] = {
    AGGREGATION_METHODS.MEAN_VAR: MeanVariance(),
    AGGREGATION_METHODS.RANK_VOTE: RankVote(),
}


class Sums(NamedTuple):
    """The planes of consecutive output rows that no later window can touch.

    Attributes
    ----------
    first : int
        The first output row.
    planes : list of ndarray, each (plane, rows, width, classes)
        One per aggregator: views that are cleared once the next rows are asked for.
    counted : ndarray, shape (rows, width), or None
        Sum of weights where predictions may have been left out, so that it had to be counted.
    """

    first: int
    planes: list[Float64]
    counted: Float64 | None

    @property
    def stop(self) -> int:
        """The row after the last."""
        return self.first + len(self.planes[0][0])

    @property
    def blocks(self) -> list[Float64]:
        """The planes of every aggregator, then the counted weights, if any."""
        return self.planes if self.counted is None else [*self.planes, self.counted]


class RowRing:
    """Planes for the output rows that windows are still being added to.

    Output row r lives in ring row ``r % rows``; rows are released in order and then cleared.

    Parameters
    ----------
    kernels : Kernels
        The inner loops.
    aggregators : sequence of Aggregator
        What to keep.
    first, rows, width, n_classes : int
        First output row, number of ring rows, plane columns and classes.
    update_map : ndarray of float64, shape (height, width)
        Weight of each pixel of a prediction.
    omit : bool
        Whether a prediction that is not finite is left out, or spoils its pixel.
    counted : bool
        Whether the weights of predictions are to be added up as well.
    """

    # Rows are released in blocks of about this many plane values, to bound the temporaries of
    # finalizing without making the blocks of wide images single rows.
    _BLOCK_VALUES = 1 << 16

    def __init__(
        self,
        kernels: Kernels,
        aggregators: Sequence[Aggregator],
        *,
        first: int,
        rows: int,
        width: int,
        n_classes: int,
        update_map: Float64,
        omit: bool,
        counted: bool,
    ) -> None:
        self._kernels = kernels
        self._aggregators = aggregators
        self._next = first
        self._rows = rows
        self._planes = [np.zeros((a.n_planes, rows, width, n_classes)) for a in aggregators]
        self._omit = omit
        self._count = np.zeros((rows, width)) if counted else None
        self._weights = np.ascontiguousarray(update_map[np.newaxis])
        self._spans = spans_of(update_map) if is_binary(update_map) else None
        #: The most rows that are released at once.
        self.block_rows = max(1, self._BLOCK_VALUES // (width * n_classes))

    def add(self, predictions: Predictions, tops: Int64, lefts: Int64) -> None:
        """Fold a batch of predictions, (batch, height, width, classes), into every plane.

        `tops` and `lefts` give the output row and the plane column of each window's first pixel;
        windows of one window row stand together.
        """
        starts = [0]
        if tops[0] != tops[-1]:  # most batches lie in one window row
            starts += (np.flatnonzero(np.diff(tops)) + 1).tolist()
        for start, stop in zip(starts, [*starts[1:], len(tops)], strict=True):
            self._add_row(predictions[start:stop], int(tops[start]), lefts[start:stop])

    def _add_row(self, predictions: Predictions, top: int, lefts: Int64) -> None:
        fold = Fold(predictions, self._spans, self._weights, top, lefts)
        if self._omit:
            fold = without_nonfinite(fold)
        if self._count is not None:
            self._kernels.add_weights(self._count, fold.weights, top, lefts)
        for aggregator, planes in zip(self._aggregators, self._planes, strict=True):
            aggregator.fold(self._kernels, planes, fold)

    def release(self, stop: int) -> Iterator[Sums]:
        """Yield the sums of all rows before output row `stop`, and clear them."""
        while self._next < stop:
            row = self._next % self._rows
            rows = slice(row, min(row + self.block_rows, row + stop - self._next, self._rows))
            yield Sums(
                self._next,
                [planes[:, rows] for planes in self._planes],
                None if self._count is None else self._count[rows],
            )
            self._next += rows.stop - rows.start
            for planes in self._planes:
                planes[:, rows] = 0
            if self._count is not None:
                self._count[rows] = 0


def without_nonfinite(fold: Fold) -> Fold:
    """Give every pixel whose prediction is not finite in each class the weight zero."""
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(fold.predictions.sum()):  # so is every term: most batches end here
            return fold
    finite = np.isfinite(fold.predictions).all(axis=-1)
    if finite.all():
        return fold
    return Fold(fold.predictions, None, fold.weights * finite, fold.top, fold.lefts)


def is_binary(update_map: NDArray[np.float64]) -> bool:
    """Say whether every weight of a map is zero or one."""
    return bool(((update_map == 0.0) | (update_map == 1.0)).all())


def spans_of(update_map: NDArray[np.float64]) -> Int64:
    """List the runs of non-zero pixels of a map as rows of (map row, first column, stop column)."""
    counts = np.pad(update_map != 0, ((0, 0), (1, 1))).astype(np.int8)
    changes = np.diff(counts, axis=1)
    rows, starts = np.nonzero(changes == 1)
    _, stops = np.nonzero(changes == -1)
    return np.stack([rows, starts, stops], axis=1)
