"""The straight line: images → windows → batches → model → sums → results."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from morpheus_core.errors import warn
from morpheus_core.images.stack import ImageStack
from morpheus_core.pipeline import kernels
from morpheus_core.pipeline.batches import Batch, BatchReader
from morpheus_core.pipeline.finisher import Finisher, Room, Rows
from morpheus_core.pipeline.halves import Halves
from morpheus_core.pipeline.job import Job
from morpheus_core.pipeline.kernels import Int64, Predictions
from morpheus_core.pipeline.models import CheckedModel, Model
from morpheus_core.pipeline.nan_policy import OnSpread, warn_of_spread
from morpheus_core.pipeline.overlap import Ahead, Behind
from morpheus_core.pipeline.ring import COLLECTED_VALUES, RowRing
from morpheus_core.pipeline.shelf import is_shelved
from morpheus_core.windows.grid import Strip


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
    room: Room | None = None,
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
    room : callable, optional
        Where results go; without it to memory that is used again.
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
    finisher = Finisher(job, stack, ring, strip_rows, first_row, on_rows, room)

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
        shelved=is_shelved(job.sums_bytes),
        weights_that_count=job.weights_that_count if job.has_faint else None,
    )
