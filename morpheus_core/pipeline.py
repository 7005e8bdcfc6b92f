"""The straight line: images → windows → batches → model → sums → results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from morpheus_core import kernels
from morpheus_core.aggregators import (
    AGGREGATION_METHODS,
    AGGREGATORS,
    Aggregator,
    NanPolicy,
    RowRing,
    Sums,
)
from morpheus_core.batches import Batch, BatchReader
from morpheus_core.inputs import Image
from morpheus_core.models import CheckedModel, Model
from morpheus_core.windows import Strip, StripRows, Visits, WindowGrid


@dataclass(frozen=True, slots=True)
class Job:
    """Everything that decides the numbers, apart from the images and the model.

    Attributes
    ----------
    grid : WindowGrid
        The windows.
    n_classes, batch_size : int
        As in :func:`morpheus_core.predict`.
    update_map : ndarray of float64, shape (height, width)
        Weight of each pixel of a window's prediction.
    methods : tuple of AGGREGATION_METHODS
        What to make of the predictions, in the order of the outputs.
    nan_policy : {"propagate", "omit"}
        What a prediction that is not finite does.
    fill_value : float
        The result of pixels that no prediction reached.
    """

    grid: WindowGrid
    n_classes: int
    batch_size: int
    update_map: NDArray[np.float64]
    methods: tuple[AGGREGATION_METHODS, ...]
    nan_policy: NanPolicy
    fill_value: float

    @property
    def aggregators(self) -> list[Aggregator]:
        """The aggregators, in the order of the outputs."""
        return [AGGREGATORS[method] for method in self.methods]


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
    images: list[Image],
    model: Model,
    on_windows: Callable[[int], object],
    first_row: int | None = None,
) -> Iterator[Rows]:
    """Run the windows of a strip and yield its rows as they are finished.

    Parameters
    ----------
    job : Job
        What to compute.
    strip : Strip
        Which window rows.
    images : list of Image
        Equally large images.
    model : callable
        The user's model.
    on_windows : callable
        Told how many windows were just finished.
    first_row : int, optional
        Output rows before this one are not wanted; windows that touch only those are not run.

    Yields
    ------
    Rows
    """
    grid = job.grid
    rows = grid.strip_rows(strip)
    first_row = rows.start if first_row is None else first_row
    if first_row >= min(rows.stop, grid.output_shape[0]):
        return
    strip = grid.rest_of(strip, job.batch_size, first_row)
    checked_model = CheckedModel(model, job.n_classes, grid.output_window_shape)
    height = grid.group_height(job.batch_size, strip)
    reader = BatchReader(images, grid, job.batch_size, height)
    # A run that goes on may begin in a gap that no window touches, above its first window.
    ring = open_ring(job, min(int(grid.tops[strip.start]), first_row), grid.to_output(height))
    visits = Visits(grid, job.update_map)
    for group in grid.groups(job.batch_size, strip):
        yield from finished(job, visits, ring, rows, first_row, int(grid.tops[group.start]))
        for batch in reader.batches(group):
            # Not kept in a variable: the next batch is predicted when these are gone.
            ring.add(checked_model(batch), grid.tops[batch.rows], grid.lefts[batch.columns])
            on_windows(len(batch))
    yield from finished(job, visits, ring, rows, first_row, rows.stop)


def first_batch(job: Job, strip: Strip, images: list[Image]) -> Batch:
    """Return the batch that a strip begins with."""
    group = next(job.grid.groups(job.batch_size, strip))
    height = job.grid.group_height(job.batch_size, Strip(*group))
    return next(BatchReader(images, job.grid, job.batch_size, height).batches(group))


def open_ring(job: Job, first: int, rows: int) -> RowRing:
    """Make the ring for a strip whose first output row is `first`."""
    return RowRing(
        kernels.fastest(),
        job.aggregators,
        first=first,
        rows=rows,
        width=job.grid.plane_width,
        n_classes=job.n_classes,
        update_map=job.update_map,
        nan_policy=job.nan_policy,
    )


def finished(
    job: Job, visits: Visits, ring: RowRing, rows: StripRows, first_row: int, until: int
) -> Iterator[Rows]:
    """Take the output rows before `until` from the ring and finalize those that are not shared."""
    for _ in ring.release(min(until, first_row)):
        pass  # not wanted, and incomplete where windows above were not run
    for stop, shared in ((rows.own_start, True), (rows.own_stop, False), (rows.stop, True)):
        for sums in ring.release(min(until, stop)):
            inside = in_image(job.grid, sums)
            if inside.stop > inside.first:
                blocks = inside.blocks if shared else results(job, visits, inside)
                yield Rows(inside.first, inside.stop, blocks, shared)


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


def results(job: Job, visits: Visits, sums: Sums) -> list[NDArray[Any]]:
    """Finalize the sums of every aggregator, and add n; rows lie inside the image."""
    n = visits.rows(sums.first, sums.stop) if sums.counted is None else sums.counted
    blocks = [
        aggregator.finalize(kernels.fastest(), planes, n, job.fill_value)
        for aggregator, planes in zip(job.aggregators, sums.planes, strict=True)
    ]
    return [*blocks, n]
