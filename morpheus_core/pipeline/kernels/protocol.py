"""What every module of kernels offers, and the arrays that it takes; see the package."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Results = NDArray[np.floating]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Predictions = NDArray[np.floating]


class Kernels(Protocol):
    """What both modules offer."""

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
        self, total: Float64, squares: Float64, n: Float64, fill_value: float, results: Results
    ) -> None:
        """Write mean and variance, (rows, width, classes, 2), or `fill_value` where n is zero."""

    def finish_votes(self, votes: Float64, n: Float64, fill_value: float, results: Results) -> None:
        """Write vote shares, (rows, width, classes), or `fill_value` where n is zero."""

    def gather(self, slab: Bytes, tops: Int64, lefts: Int64, windows: Bytes) -> None:
        """Copy windows, (batch, height, bytes), out of rows, (rows, bytes); `lefts` count bytes."""
