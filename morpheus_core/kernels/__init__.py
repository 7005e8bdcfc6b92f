"""The inner loops: folding predictions into accumulator planes, and finalizing finished rows.

Two modules hold the same functions and give the same bytes: `compiled` (numba) and `plain`
(numpy, several times slower).

==================== ===========================================================================
argument             meaning
==================== ===========================================================================
total, squares, ...  planes, (ring rows, width, classes) or (ring rows, width), float64, changed
                     in place; output row r lives in ring row ``r % ring rows``
predictions          (windows, height, width, classes), float32 or float64, C-contiguous: windows
                     of one window row
spans                (spans, 3): map row, first and stop column of each run of pixels that count
weights              (1 or windows, height, width), float64: one map for all windows, or one each
top                  output row of the windows' first row
lefts                (windows,): plane column of each window's first pixel
==================== ===========================================================================

Pixels outside the spans, or of weight zero, are never read. A pixel that saw one class that is not
finite is NaN in all of them.
"""

from __future__ import annotations

from functools import cache
from typing import Protocol, cast

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


@cache  # what is not there is not looked for again, and never by two threads at once
def fastest() -> Kernels:
    """Return the compiled kernels where numba is installed, the plain ones elsewhere."""
    try:
        from morpheus_core.kernels import compiled
    except ModuleNotFoundError as error:
        if error.name != "numba":
            raise
        from morpheus_core.kernels import plain

        return cast(Kernels, plain)
    return cast(Kernels, compiled)
