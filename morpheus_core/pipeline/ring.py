"""The output rows that windows are still being added to.

Planes are as tall as a window, not as the image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from morpheus_core.pipeline.aggregators import Aggregator, Collection, Ending, Fold
from morpheus_core.pipeline.kernels import Crop, Float64, Int64, Kernels, Predictions, Results

#: Rows are collected where this many values lie between the edges of neighbouring windows. Below,
#: runs are too short: at 40/1 with five classes collecting takes three times as long as adding
#: window after window, at 64/16 with one class (16 values) 1.15 times; with five (80) it takes 0.8
#: of the time, at 256/128 (640) less than half.
COLLECTED_VALUES = 40

#: And where predictions have this many values: with single windows of 64 × 64 and five classes
#: (20,480 values) the calls for each take longer than what is saved.
COLLECTED_BATCH = 1 << 16


class Sums(NamedTuple):
    """The planes of consecutive output rows that no later window can touch.

    Attributes
    ----------
    first : int
        The first output row.
    planes : list of ndarray, each (plane, rows, width, classes)
        One per aggregator: views that hold until the next rows are asked for.
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


class Complete(NamedTuple):
    """Output rows that are complete with the predictions that are being collected.

    Attributes
    ----------
    first, stop : int
        Which.
    counted : ndarray, shape (rows, plane width), or None
        As of :class:`Sums`.
    """

    first: int
    stop: int
    counted: Float64 | None


class RowRing:
    """Planes for the output rows that windows are still being added to.

    Output row r lives in ring row ``r % rows``; rows are released in order.

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
    collects : bool
        Whether the windows lie so that collecting pays.
    weights_that_count : callable, optional
        Given the first and the stop row of a window row, returns the least weight with which a
        prediction spoils each pixel, (rows, plane columns); one that is not finite and weighs less
        is left out. Without it all spoil their pixels, unless they are omitted.
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
        collects: bool = False,
        weights_that_count: Callable[[int, int], Float64] | None = None,
    ) -> None:
        self._kernels = kernels
        self._aggregators = aggregators
        self._next = self._opened = first
        self._rows = rows
        # Rows from `_opened` on hold what earlier ones have left there.
        self._planes = [np.empty((a.n_planes, rows, width, n_classes)) for a in aggregators]
        self._crop = crop_of(update_map)
        self._omit, self._weights_that_count = omit, weights_that_count
        self._count = np.empty((rows, width)) if counted else None
        self._weights = np.ascontiguousarray(update_map[np.newaxis])
        self._spans = spans_of(update_map) if is_binary(update_map) else None
        self._collects = kernels.COLLECTING_PAYS and collects and self._crop is not None
        #: The most rows that are released at once.
        self.block_rows = max(1, self._BLOCK_VALUES // (width * n_classes))

    def add(self, predictions: Predictions, tops: Int64, lefts: Int64) -> None:
        """Fold predictions of windows of one window row, window after window.

        `tops` and `lefts` give the output row and the plane column of each window's first pixel;
        predictions are (windows, height, width, classes).
        """
        fold = Fold(predictions, self._spans, self._weights, int(tops[0]), lefts)
        if self._omit:
            fold = without_nonfinite(fold)
        elif self._weights_that_count is not None:
            fold = without_faint_nonfinite(fold, self._weights_that_count)
        self._add(fold)

    def _add(self, fold: Fold) -> None:
        self._open(fold.top + fold.predictions.shape[1])
        self._count_weights(fold)
        for aggregator, planes in zip(self._aggregators, self._planes, strict=True):
            aggregator.fold(self._kernels, planes, fold)

    def _count_weights(self, fold: Fold) -> None:
        if self._count is not None:
            self._kernels.add_weights(self._count, fold.weights, fold.top, fold.lefts)

    def collects(self, predictions: Predictions) -> bool:
        """Say whether predictions are to be collected, or to be added window after window."""
        return self._collects and predictions.size >= COLLECTED_BATCH

    def collect(
        self, predictions: Predictions, tops: Int64, lefts: Int64, stop: int
    ) -> Iterator[Complete]:
        """Fold predictions output row by output row, to the sums of :meth:`add`.

        Of each row of windows `tops` has one value, of each window in a row `lefts`. What is
        counted must come in single rows of windows. Output rows before `stop` are complete then:
        they are yielded in blocks, for :meth:`results`, and never reach the planes.
        """
        assert self._crop is not None
        fold = Fold(predictions, self._spans, self._weights, int(tops[0]), lefts)
        if self._omit and without_nonfinite(fold) is not fold:
            self._add(without_nonfinite(fold))
            return
        first_row, _, first_column, _ = self._crop
        at = (self._crop, tops + first_row, lefts + first_column, self._opened)
        folded = self._collected = Collection(predictions, *at)
        end = int(tops[-1]) + predictions.shape[1]
        if self._count is not None:
            self._clear([self._count], end)
            self._count_weights(fold)
        while self._next < min(stop, end):  # a gap that no window touches may follow
            rows = self._block(min(stop, end))
            first, self._next = self._next, self._next + rows.stop - rows.start
            yield Complete(first, self._next, None if self._count is None else self._count[rows])
        # Of what follows the planes get the sums, unless all rows are complete.
        first = max(self._next, int(tops[0]))
        for aggregator, planes in zip(self._aggregators, self._planes, strict=True):
            if first < end:
                aggregator.collect(self._kernels, planes, folded, first, end)
        self._opened = max(self._opened, end)

    def results(self, ending: Ending) -> list[Results]:
        """Return the results of the rows that :meth:`collect` has just yielded."""
        return [
            aggregator.finish(self._kernels, planes, self._collected, ending)
            for aggregator, planes in zip(self._aggregators, self._planes, strict=True)
        ]

    def release(self, stop: int) -> Iterator[Sums]:
        """Yield the sums of all rows before output row `stop`; no window may touch them again."""
        while self._next < stop:
            rows = self._block(stop)
            first, self._next = self._next, self._next + rows.stop - rows.start
            self._open(self._next)
            yield Sums(
                first,
                [planes[:, rows] for planes in self._planes],
                None if self._count is None else self._count[rows],
            )

    def _block(self, stop: int) -> slice:
        """Return the ring rows of the next rows before output row `stop` that go together."""
        row = self._next % self._rows
        return slice(row, min(row + self.block_rows, row + stop - self._next, self._rows))

    def _open(self, stop: int) -> None:
        """Let the planes of rows before `stop` hold nothing but what was added to them."""
        if stop <= self._opened:
            return
        counts = [] if self._count is None else [self._count]
        self._clear([plane for planes in self._planes for plane in planes] + counts, stop)
        self._opened = stop

    def _clear(self, planes: Sequence[Float64], stop: int) -> None:
        """Clear rows from the first that nothing was added to, up to `stop`."""
        for row in range(self._opened, stop):
            for plane in planes:
                plane[row % self._rows] = 0


def without_nonfinite(fold: Fold) -> Fold:
    """Give every pixel whose prediction is not finite in each class the weight zero."""
    finite = finite_pixels(fold.predictions)
    if finite is None:
        return fold
    return Fold(fold.predictions, None, fold.weights * finite, fold.top, fold.lefts)


def without_faint_nonfinite(fold: Fold, weights_that_count: Callable[[int, int], Float64]) -> Fold:
    """Give pixels the weight zero whose prediction is not finite, and nothing beside others."""
    finite = finite_pixels(fold.predictions)
    if finite is None:
        return fold
    height, width = fold.predictions.shape[1:3]
    least = weights_that_count(fold.top, fold.top + height)
    columns = fold.lefts[:, np.newaxis] + np.arange(width)
    counts = fold.weights >= least[:, columns].swapaxes(0, 1)  # (windows, height, width)
    return Fold(fold.predictions, None, fold.weights * (finite | counts), fold.top, fold.lefts)


def finite_pixels(predictions: Predictions) -> NDArray[np.bool_] | None:
    """Say which pixels are finite in every class, (windows, height, width); None if all are."""
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(predictions.sum()):  # so is every term: most batches end here
            return None
    finite: NDArray[np.bool_] = np.all(np.isfinite(predictions), axis=-1)
    if finite.all():
        return None
    return finite


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


def crop_of(update_map: NDArray[np.float64]) -> Crop | None:
    """Return the rectangle of ones that a map is, with zeros around it, if it is one."""
    rows, columns = np.nonzero(update_map)
    if not len(rows):
        return None
    crop = int(rows[0]), int(rows[-1]) + 1, int(columns.min()), int(columns.max()) + 1
    return crop if (update_map[crop[0] : crop[1], crop[2] : crop[3]] == 1.0).all() else None
