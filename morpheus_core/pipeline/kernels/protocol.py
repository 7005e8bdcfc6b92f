"""What every module of kernels offers, and the arrays that it takes; see the package."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Results = NDArray[np.floating]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Offsets = NDArray[np.uintp]
Predictions = NDArray[np.floating]
#: The part of a prediction that counts: first and stop row, first and stop column.
Crop = tuple[int, int, int, int]
#: The first of rows or columns, and the one after the last.
Range = tuple[int, int]
#: Planes hold sums of earlier windows in output rows before the first number, and in later ones in
#: plane columns before the second. Elsewhere they hold anything.
Carried = tuple[int, int]


class Kernels(Protocol):
    """What both modules offer."""

    #: Whether to collect is faster than to add where windows overlap little.
    COLLECTING_PAYS: bool

    def add_moments(
        self,
        total: Float64,
        squares: Float64,
        predictions: Predictions,
        spans: Int64,
        top: int,
        lefts: Int64,
    ) -> None:
        """Add predictions and their squares."""

    def add_weighted_moments(
        self,
        total: Float64,
        squares: Float64,
        predictions: Predictions,
        weights: Float64,
        top: int,
        lefts: Int64,
    ) -> None:
        """Add weighted predictions and their weighted squares."""

    def add_votes(
        self, votes: Float64, predictions: Predictions, spans: Int64, top: int, lefts: Int64
    ) -> None:
        """Add one vote to the first of the largest classes, NaN where a class is not finite."""

    def add_weighted_votes(
        self, votes: Float64, predictions: Predictions, weights: Float64, top: int, lefts: Int64
    ) -> None:
        """Add the pixel's weight as a vote, NaN where a class is not finite."""

    def add_weights(self, count: Float64, weights: Float64, top: int, lefts: Int64) -> None:
        """Add the weights themselves."""

    def finish_moments(
        self,
        total: Float64,
        squares: Float64,
        n: Float64,
        fill_value: float,
        results: Results,
        at: int = 0,
    ) -> None:
        """Write mean and variance, (rows, width, classes, 2), or `fill_value` where n is zero.

        They go to columns of `results` from `at` on.
        """

    def finish_votes(
        self, votes: Float64, n: Float64, fill_value: float, results: Results, at: int = 0
    ) -> None:
        """Write vote shares, (rows, width, classes), or `fill_value` where n is zero.

        They go to columns of `results` from `at` on.
        """

    def gather(self, slab: Bytes, tops: Int64, lefts: Int64, windows: Bytes) -> None:
        """Copy windows, (batch, height, bytes), out of rows, (rows, bytes); `lefts` count bytes."""

    def collect_moments(
        self,
        planes: Float64,
        carried: Carried,
        predictions: Predictions,
        crop: Crop,
        tops: Int64,
        lefts: Int64,
        rows: Range,
        columns: Range,
    ) -> None:
        """Add sums and sums of squares of some output rows and plane columns to the planes."""

    def finish_collected_moments(
        self,
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
        """Write results of output rows from `first` on, from planes and predictions.

        Those of plane columns from `left` on go to columns of `results` from `at` on, as many as
        `n` has, (rows, columns).
        """

    def collect_votes(
        self,
        planes: Float64,
        carried: Carried,
        predictions: Predictions,
        crop: Crop,
        tops: Int64,
        lefts: Int64,
        rows: Range,
        columns: Range,
    ) -> None:
        """Add votes of some output rows and plane columns to the planes."""

    def finish_collected_votes(
        self,
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
        """Write results of output rows from `first` on, from planes and predictions.

        Those of plane columns from `left` on go to columns of `results` from `at` on, as many as
        `n` has, (rows, columns).
        """
