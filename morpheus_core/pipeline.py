"""The straight line: images → windows → batches → model → sums → results → outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

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
from morpheus_core.batches import BatchReader
from morpheus_core.inputs import Image
from morpheus_core.models import CheckedModel, Model
from morpheus_core.outputs import Outputs
from morpheus_core.windows import Strip, Visits, WindowGrid


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


def run_strip(
    job: Job,
    strip: Strip,
    images: list[Image],
    model: Model,
    outputs: Outputs,
    on_windows: Callable[[int], object],
) -> None:
    """Run every window of a strip and write its rows as soon as they are finished.

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
    outputs : Outputs
        Takes one block per aggregator, then the count.
    on_windows : callable
        Told how many windows were just finished.
    """
    grid = job.grid
    checked_model = CheckedModel(model, job.n_classes, grid.output_window_shape)
    height = grid.group_height(job.batch_size, strip)
    reader = BatchReader(images, grid, job.batch_size, height)
    first_column = grid.to_output(grid.columns.before)
    ring = RowRing(
        kernels.fastest(),
        job.aggregators,
        first=int(grid.tops[strip.start]),
        rows=grid.to_output(height),
        width=first_column + grid.output_shape[1] + grid.to_output(grid.columns.after),
        n_classes=job.n_classes,
        update_map=job.update_map,
        nan_policy=job.nan_policy,
    )
    visits = Visits(grid, job.update_map)
    for group in grid.groups(job.batch_size, strip):
        for batch in reader.batches(group):
            predictions = checked_model(batch)
            ring.add(predictions, grid.tops[batch.rows], grid.lefts[batch.columns] + first_column)
            on_windows(len(batch))
        for sums in ring.release(grid.finished_before(group.stop)):
            finish_rows(job, visits, sums, outputs)


def finish_rows(job: Job, visits: Visits, sums: Sums, outputs: Outputs) -> None:
    """Finalize the rows of a block that lie in the image, and write them."""
    grid = job.grid
    height, width = grid.output_shape
    first_column = grid.to_output(grid.columns.before)
    rows = slice(max(-sums.first, 0), max(height - sums.first, 0))
    columns = slice(first_column, first_column + width)
    planes = [plane[:, rows, columns] for plane in sums.planes]
    first, n_rows = sums.first + rows.start, planes[0].shape[1]
    if not n_rows:
        return
    n = visits.rows(first, first + n_rows) if sums.counted is None else sums.counted[rows, columns]
    outputs.write(first, [*results(job, planes, n), n])


def results(
    job: Job, planes: Sequence[NDArray[np.float64]], n: NDArray[np.float64]
) -> list[NDArray[Any]]:
    """Finalize the planes of every aggregator; pixels without predictions get the fill value."""
    blocks = []
    for aggregator, plane in zip(job.aggregators, planes, strict=True):
        block = aggregator.finalize(plane, n)
        block[n == 0] = job.fill_value
        blocks.append(block)
    return blocks
