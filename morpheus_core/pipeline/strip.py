"""The straight line: images → windows → batches → model → sums → results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from morpheus_core.errors import warn
from morpheus_core.images.stack import ImageStack
from morpheus_core.pipeline import kernels
from morpheus_core.pipeline.aggregators import Ending
from morpheus_core.pipeline.batches import Batch, BatchReader
from morpheus_core.pipeline.halves import Halves
from morpheus_core.pipeline.job import Job
from morpheus_core.pipeline.kernels import Float64, Int64, Predictions
from morpheus_core.pipeline.models import CheckedModel, Model
from morpheus_core.pipeline.nan_policy import OnSpread, warn_of_spread
from morpheus_core.pipeline.overlap import Ahead, Behind
from morpheus_core.pipeline.ring import COLLECTED_VALUES, Complete, RowRing, Sums
from morpheus_core.pipeline.selection import OutputMask
from morpheus_core.windows.grid import Strip, StripRows, WindowGrid


class Rows(NamedTuple):
    """Output rows of a strip, in order, that no later window of it can touch.

    Attributes
    ----------
    first, stop : int
        Which output rows; all lie inside the image.
    blocks : list of ndarray
        What is known of them, only until the next rows are asked for. The results: one block per
        aggregator, then the count, (rows, width, ...). Or, for a seam, the sums: one block of
        planes per aggregator, (plane, rows, width, classes), then the counted weights, if any.
    shared : bool
        Whether this is a seam: rows of which other strips hold a part.
    """

    first: int
    stop: int
    blocks: list[NDArray[Any]]
    shared: bool


def run_strip(
    job: Job,
    strip: Strip,
    stack: ImageStack,
    model: Model,
    *,
    on_rows: Callable[[Rows], object],
    on_windows: Callable[[int], object],
    first_row: int | None = None,
    prefetch: int = 0,
    on_spread: OnSpread = warn_of_spread,
) -> None:
    """Run the windows of a strip and hand over its rows as they are finished.

    Parameters
    ----------
    job : Job
        What to compute.
    strip : Strip
        Which window rows.
    stack : ImageStack
        The images.
    model : callable
        The user's model; called in this thread.
    on_rows : callable
        Given the finished :class:`Rows` in order, in the thread that folds.
    on_windows : callable
        Told how many windows were just predicted.
    first_row : int, optional
        Output rows before this one are not wanted; windows that touch only those are not run.
    prefetch : int
        How many batches are read ahead of the model; 0 does all in this thread.
    on_spread : callable
        Told, at the end, how many of how many windows were spoilt by NaN.
    """
    grid = job.grid
    strip_rows = grid.strip_rows(strip)
    first_row = strip_rows.start if first_row is None else first_row
    if first_row >= min(strip_rows.stop, grid.output_shape[0]):
        return
    strip = grid.rest_of(strip, job.batch_size, first_row)
    checked_model = CheckedModel(
        Halves.around(model),
        job.n_classes,
        grid.output_window_shape,
        asked_ahead=prefetch > 0,
        on_nan=job.on_nan,
    )
    # A run that goes on may begin in a gap that no window touches, above its first window.
    ring = open_ring(job, min(int(grid.tops[strip.start]), first_row))
    finisher = Finisher(job, stack, ring, strip_rows, first_row, on_rows)

    def fold(rows: Int64, columns: Int64, predictions: Callable[[], Predictions]) -> None:
        finisher.fold(rows, columns, predictions())

    with Ahead(batches_of(job, strip, stack), prefetch) as batches, Behind(prefetch > 0) as behind:
        for batch in batches:
            # Predictions are not kept in a variable: the next ones are made when these are gone.
            behind.do(fold, batch.rows, batch.columns, checked_model(batch))
            on_windows(len(batch))
        behind.do(finisher.finish, strip_rows.stop)
        behind.wait()
    checked_model.sum_up(on_spread)


def top_after(grid: WindowGrid, row: int, column: int) -> int:
    """Return the output row above which no window that follows this one touches anything."""
    row += column == len(grid.columns.origins) - 1
    return grid.finished_before(int(row))


def batches_of(job: Job, strip: Strip, stack: ImageStack) -> Iterator[Batch]:
    """Yield the batches of a strip."""
    reader = open_reader(job, strip, stack)
    for group in job.grid.groups(job.batch_size, strip):
        yield from reader.batches(group)


def first_batch(job: Job, strip: Strip, stack: ImageStack) -> Batch:
    """Return the batch that a strip begins with; some window of it is run."""
    return next(batches_of(job, strip, stack))


def count_windows(job: Job, stack: ImageStack) -> NDArray[np.int64]:
    """Count the windows of each window row that the model is to see, (window rows,).

    Where some may be left out, this reads the mask, and all images to find blank pixels.
    """
    counts = windows_of_strip(job, job.grid.whole(), stack)
    if not counts.any():
        warn(
            "no window holds a good pixel, so the model is never called and n is 0 everywhere; in "
            "a mask, what is not zero is bad"
        )
    return counts


def windows_of_strip(job: Job, strip: Strip, stack: ImageStack) -> NDArray[np.int64]:
    """Count the windows of each window row of a strip, of which it reads the rows it must."""
    grid = job.grid
    if not (job.skip_blank or job.masked):
        return np.full(strip.stop - strip.start, len(grid.columns.origins))
    reader = open_reader(job, strip, stack)
    groups = grid.groups(job.batch_size, strip)
    return np.concatenate([reader.count(group) for group in groups])


def open_reader(job: Job, strip: Strip, stack: ImageStack) -> BatchReader:
    """Make the reader of a strip's windows."""
    return BatchReader(stack, job.grid, job.batch_size, strip, job.skip_blank)


def open_ring(job: Job, first: int) -> RowRing:
    """Make the ring for a strip whose first output row is `first`."""
    between = job.grid.to_output(job.grid.stride[1]) * job.n_classes
    row = job.grid.output_window_shape[1] * job.n_classes
    long_enough = all(row >= aggregator.collected_row for aggregator in job.aggregators)
    return RowRing(
        kernels.fastest(),
        job.aggregators,
        first=first,
        rows=job.grid.output_window_shape[0],
        width=job.grid.plane_width,
        n_classes=job.n_classes,
        update_map=job.update_map,
        omit=job.nan_policy == "omit",
        counted=job.counted,
        collects=between >= COLLECTED_VALUES and long_enough,
        weights_that_count=job.weights_that_count if job.has_faint else None,
    )


class Finisher:
    """Folds into the ring, takes rows that no later window touches, finalizes what is not shared.

    Parameters
    ----------
    job : Job
        What is computed.
    stack : ImageStack
        Knows the bad pixels.
    ring : RowRing
        Where rows are.
    strip_rows : StripRows
        Which of them are shared with other strips.
    first_row : int
        Output rows before this one are thrown away.
    on_rows : callable
        Given what is finished.
    """

    def __init__(
        self,
        job: Job,
        stack: ImageStack,
        ring: RowRing,
        strip_rows: StripRows,
        first_row: int,
        on_rows: Callable[[Rows], object],
    ) -> None:
        self._job, self._ring, self._strip_rows = job, ring, strip_rows
        self._first_row, self._on_rows = first_row, on_rows
        self._mask: OutputMask | None = None
        if stack.mask is not None:
            self._mask = OutputMask(stack.mask, job.grid, ring.block_rows, strip_rows.stop)

    def fold(self, rows: Int64, columns: Int64, predictions: Predictions) -> None:
        """Fold predictions of windows, and hand over what they complete."""
        grid, tops = self._job.grid, self._job.grid.tops
        until = top_after(grid, rows[-1], columns[-1])
        starts = [0]
        collects = self._ring.collects(predictions)
        if rows[0] != rows[-1] and not (collects and self._collects_whole(int(tops[rows[0]]))):
            starts += (np.flatnonzero(np.diff(rows)) + 1).tolist()
        for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
            first, last = rows[start], rows[stop - 1]
            across = (stop - start) // (last + 1 - first)
            at = tops[first : last + 1], grid.lefts[columns[start : start + across]]
            self.finish(int(at[0][0]))
            if collects:
                after = until if stop == len(rows) else int(tops[rows[stop]])
                self._collect(predictions[start:stop], *at, after)
            else:
                self._ring.add(predictions[start:stop], *at)
        self.finish(until)

    def _collects_whole(self, top: int) -> bool:
        """Say whether several window rows from output row `top` on may be collected at once."""
        return not self._job.counted and top >= self._wanted

    @property
    def _wanted(self) -> int:
        """The first output row that may be finished while it is collected."""
        return max(self._strip_rows.own_start, self._first_row, 0)

    def _collect(self, predictions: Predictions, tops: Int64, lefts: Int64, until: int) -> None:
        """Collect predictions, and hand over the rows of the strip alone that are complete."""
        job = self._job
        stop = min(until, self._strip_rows.own_stop, job.grid.output_shape[0])
        if tops[0] < self._wanted:
            stop = int(tops[0])
        columns = job.grid.image_columns
        for rows in self._ring.collect(predictions, tops, lefts, stop):
            n = self._count(rows)
            dtype = np.dtype(job.output_dtype)
            ending = Ending(rows.first, columns.start, n, job.fill_value, dtype)
            blocks = [*self._ring.results(ending), n]
            self._on_rows(Rows(rows.first, rows.stop, blocks, False))

    def _count(self, rows: Complete) -> Float64:
        """Return n of complete rows inside the image."""
        if rows.counted is None:
            return self._job.visits.rows(rows.first, rows.stop)
        counted = rows.counted[:, self._job.grid.image_columns]
        return self._good(rows.first, rows.stop, counted)

    def finish(self, until: int) -> None:
        """Hand over the output rows before `until` that have not been handed over."""
        for _ in self._ring.release(min(until, self._first_row)):
            pass  # not wanted, and incomplete where windows above were not run
        ends = self._strip_rows
        for stop, shared in ((ends.own_start, True), (ends.own_stop, False), (ends.stop, True)):
            for sums in self._ring.release(min(until, stop)):
                inside = in_image(self._job.grid, sums)
                if inside.stop > inside.first:
                    inside = self._without_bad_pixels(inside)
                    blocks = inside.blocks if shared else results(self._job, inside)
                    self._on_rows(Rows(inside.first, inside.stop, blocks, shared))

    def _without_bad_pixels(self, sums: Sums) -> Sums:
        """Let bad pixels have no predictions."""
        if sums.counted is None:
            return sums
        return sums._replace(counted=self._good(sums.first, sums.stop, sums.counted))

    def _good(self, first: int, stop: int, counted: Float64) -> Float64:
        """Return the counts of output rows, zero for bad pixels."""
        if self._mask is None:
            return counted
        return np.where(self._mask.rows(first, stop), 0.0, counted)


def in_image(grid: WindowGrid, sums: Sums) -> Sums:
    """Cut off what lies in the padding."""
    height = grid.output_shape[0]
    rows = slice(max(-sums.first, 0), max(height - sums.first, 0))
    columns = grid.image_columns
    return Sums(
        sums.first + rows.start,
        [planes[:, rows, columns] for planes in sums.planes],
        None if sums.counted is None else sums.counted[rows, columns],
    )


def results(job: Job, sums: Sums) -> list[NDArray[Any]]:
    """Finalize the sums of every aggregator, and add n; rows lie inside the image."""
    n = job.visits.rows(sums.first, sums.stop) if sums.counted is None else sums.counted
    dtype = np.dtype(job.output_dtype)
    blocks = [
        aggregator.finalize(kernels.fastest(), planes, n, job.fill_value, dtype)
        for aggregator, planes in zip(job.aggregators, sums.planes, strict=True)
    ]
    return [*blocks, n]
