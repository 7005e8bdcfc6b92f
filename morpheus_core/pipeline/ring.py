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
from morpheus_core.pipeline.shelf import Shelf

#: Rows are collected where this many values lie between the edges of neighbouring windows. Below,
#: runs are too short: at 40/1 with five classes collecting takes three times as long as adding
#: window after window, at 64/16 with one class (16 values) 1.15 times; with five (80) it takes 0.8
#: of the time, at 256/128 (640) less than half.
COLLECTED_VALUES = 40

#: And where predictions have this many values: with 16 windows of 64 × 64 and five classes
#: (327,680 values) the calls for each take longer than what is saved, with 64 no more.
COLLECTED_BATCH = 1 << 19


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
    left : int
        The first plane column: those before it were complete when they were collected.
    """

    first: int
    planes: list[Float64]
    counted: Float64 | None
    left: int = 0

    @property
    def stop(self) -> int:
        """The row after the last."""
        return self.first + len(self.planes[0][0])

    @property
    def blocks(self) -> list[Float64]:
        """The planes of every aggregator, then the counted weights, if any."""
        return self.planes if self.counted is None else [*self.planes, self.counted]


class Complete(NamedTuple):
    """Output rows, in some plane columns, that are complete with what is being collected.

    Attributes
    ----------
    first, stop : int
        Which rows.
    left, right : int
        The first column, and the one after the last.
    counted : ndarray, shape (rows, right - left), or None
        As of :class:`Sums`.
    """

    first: int
    stop: int
    left: int
    right: int
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
    shelved : bool
        Whether the planes are to lie in a file.
    weights_that_count : callable, optional
        Given the first and the stop row of a window row, returns the least weight with which a
        prediction spoils each pixel, (rows, plane columns); one that is not finite and weighs less
        is left out. Without it all spoil their pixels, unless they are omitted.
    """

    # Rows are released in blocks of about this many plane values, to bound what is made of them
    # without making the blocks of wide images single rows.
    _BLOCK_VALUES = 1 << 18

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
        shelved: bool = False,
        weights_that_count: Callable[[int, int], Float64] | None = None,
    ) -> None:
        self._kernels = kernels
        self._aggregators = aggregators
        self._next = self._opened = self._counted_to = first
        self._rows, self._width = rows, width
        # Rows from `_opened` on hold what earlier ones have left there, but for those before
        # `_half_opened`, which hold sums in columns before `_reached`.
        self._half_opened, self._reached = first, 0
        # Rows before `_half_done` have been handed over in columns before `_done`.
        self._half_done, self._done = first, 0
        shapes: list[tuple[int, ...]] = [(a.n_planes, rows, width, n_classes) for a in aggregators]
        if counted:
            shapes.append((rows, width))
        self._shelf = Shelf([(shape, np.float64) for shape in shapes], rows * width, shelved)
        self._planes = self._shelf.arrays[: len(aggregators)]
        self._crop = crop_of(update_map)
        self._omit, self._weights_that_count = omit, weights_that_count
        self._count = self._shelf.arrays[-1] if counted else None
        self._weights = np.ascontiguousarray(update_map[np.newaxis])
        self._spans = spans_of(update_map) if is_binary(update_map) else None
        self._collects = kernels.COLLECTING_PAYS and collects and self._crop is not None
        #: The most whole rows that are released at once.
        self.block_rows = max(1, self._BLOCK_VALUES // (width * n_classes))

    @property
    def first(self) -> int:
        """The first output row that has not been released."""
        return self._next

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
        end = fold.top + fold.predictions.shape[1]
        self._open(end)
        self._count_weights(fold, end)
        for aggregator, planes in zip(self._aggregators, self._planes, strict=True):
            aggregator.fold(self._kernels, planes, fold)
        self._shelf.touched(fold.predictions.shape[1] * int(fold.lefts[-1] - fold.lefts[0] + 1))

    def _count_weights(self, fold: Fold, end: int) -> None:
        if self._count is not None:
            self._clear_count(end)
            self._kernels.add_weights(self._count, fold.weights, fold.top, fold.lefts)

    def collects(self, predictions: Predictions) -> bool:
        """Say whether predictions are to be collected, or to be added window after window."""
        return self._collects and predictions.size >= COLLECTED_BATCH

    def collect(
        self, predictions: Predictions, tops: Int64, lefts: Int64, stop: int, column: int
    ) -> Iterator[Complete]:
        """Fold predictions output row by output row, to the sums of :meth:`add`.

        Of each row of windows `tops` has one value, of each window in a row `lefts`. What is
        counted must come in single rows of windows, and so must windows that others of their row
        follow. Output rows before `stop` are complete then in plane columns before `column`: they
        are yielded in blocks, for :meth:`finish`, and never reach the planes.
        """
        assert self._crop is not None
        fold = Fold(predictions, self._spans, self._weights, int(tops[0]), lefts)
        if self._omit and without_nonfinite(fold) is not fold:
            self._add(without_nonfinite(fold))
            return
        end = int(tops[-1]) + predictions.shape[1]
        self._count_weights(fold, end)
        if end > self._half_opened > self._opened:
            self._open(self._half_opened)
        first_row, _, first_column, _ = self._crop
        carried = self._opened, self._reached
        at = (self._crop, tops + first_row, lefts + first_column, carried)
        folded = self._collected = Collection(predictions, *at)
        stop = min(stop, end)  # a gap that no window touches may follow
        if self._next < stop and column > self._done:
            yield from self._complete(stop, column)
        self._carry(folded, stop, end, column)

    def _complete(self, stop: int, column: int) -> Iterator[Complete]:
        """Yield what is complete of the rows before `stop`, in columns before `column`."""
        first, left = self._next, self._done
        while self._next < stop:
            rows = self._block(stop, column - left)
            start, self._next = self._next, self._next + rows.stop - rows.start
            counted = None if self._count is None else self._count[rows, left:column]
            yield Complete(start, self._next, left, column, counted)
            self._shelf.touched((self._next - start) * (column - left))
        self._half_done, self._done = stop, column
        if column < self._width:
            self._next = min(first, self._next)
        else:
            self._done = 0

    def _carry(self, folded: Collection, stop: int, end: int, column: int) -> None:
        """Let the planes have the sums of what later windows add to."""
        left = int(folded.lefts[0])
        if self._opened < end:
            left = min(left, self._reached)  # windows that are left out leave nothing
        parts = [((max(self._next, stop), end), (left, folded.right))]
        if self._next < stop:
            parts.append(((self._next, stop), (max(column, left), folded.right)))
        for rows, columns in parts:
            if rows[0] < rows[1] and columns[0] < columns[1]:
                for aggregator, planes in zip(self._aggregators, self._planes, strict=True):
                    aggregator.collect(self._kernels, planes, folded, rows, columns)
                self._shelf.touched((rows[1] - rows[0]) * (columns[1] - columns[0]))
        if end > self._opened:
            self._half_opened, self._reached = end, max(self._reached, folded.right)
            if column == self._width:
                self._open(end)

    def finish(self, ending: Ending, results: Sequence[Results], at: int) -> None:
        """Write results of what :meth:`collect` has just yielded, to columns from `at` on."""
        for aggregator, planes, block in zip(self._aggregators, self._planes, results, strict=True):
            aggregator.finish(self._kernels, planes, self._collected, ending, block, at)

    def release(self, stop: int) -> Iterator[Sums]:
        """Yield the sums of all rows before output row `stop`; no window may touch them again."""
        while self._next < stop:
            left = self._done if self._next < self._half_done else 0
            rows = self._block(min(stop, self._half_done) if left else stop, self._width)
            first, self._next = self._next, self._next + rows.stop - rows.start
            self._open(self._next)
            self._clear_count(self._next)
            yield Sums(
                first,
                [planes[:, rows, left:] for planes in self._planes],
                None if self._count is None else self._count[rows, left:],
                left,
            )
            self._shelf.touched((self._next - first) * (self._width - left))
        if self._next >= self._half_done:
            self._done = 0

    def _block(self, stop: int, width: int) -> slice:
        """Return the ring rows of the next rows before output row `stop` that go together."""
        row = self._next % self._rows
        most = self.block_rows * self._width // width
        return slice(row, min(row + most, row + stop - self._next, self._rows))

    def _open(self, stop: int) -> None:
        """Let the planes of rows before `stop` hold nothing but what was added to them."""
        stop = max(stop, self._half_opened)
        for row in range(self._opened, stop):
            left = self._reached if row < self._half_opened else 0
            for planes in self._planes:
                planes[:, row % self._rows, left:] = 0
            self._shelf.touched(self._width - left)
        if stop > self._opened:
            self._opened = self._half_opened = stop
            self._reached = 0

    def _clear_count(self, stop: int) -> None:
        """Let rows before `stop` hold nothing but the weights that were added to them."""
        if self._count is not None:
            for row in range(self._counted_to, stop):
                self._count[row % self._rows] = 0
            self._counted_to = max(self._counted_to, stop)


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
