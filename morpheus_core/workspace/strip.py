"""One strip of a run on disk: its rows go to the outputs and the seams, and are noted."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from morpheus_core.fits.blocks import row_ranges
from morpheus_core.images.stack import ImageStack
from morpheus_core.pipeline.finisher import Rows
from morpheus_core.pipeline.job import Job
from morpheus_core.pipeline.models import Model
from morpheus_core.pipeline.strip import first_batch, run_strip
from morpheus_core.results.chosen import row_maker
from morpheus_core.results.fits_outputs import FitsOutputs
from morpheus_core.results.outputs import Product
from morpheus_core.results.products import Origin, products_of
from morpheus_core.windows.grid import Strip
from morpheus_core.workspace.folders import Workspace
from morpheus_core.workspace.journal import Entry, Journal, attempt_path, new_attempt
from morpheus_core.workspace.plan import Plan
from morpheus_core.workspace.rows import RowsFile, RowsLayout, Sink
from morpheus_core.workspace.stitch import SeamFile, SeamLayout
from morpheus_core.workspace.witness import Witness


@dataclass(frozen=True, slots=True)
class StoredStrip:
    """A strip, and where the run keeps what it knows of it.

    Attributes
    ----------
    workspace : Workspace
        The run's folders.
    plan : Plan
        The run.
    index : int
        Which strip.
    job, stack
        As :func:`morpheus_core.pipeline.run_strip` takes them.
    """

    workspace: Workspace
    plan: Plan
    index: int
    job: Job
    stack: ImageStack

    @property
    def strip(self) -> Strip:
        """Its window rows."""
        return self.plan.strips[self.index]

    def check(self, model: Model) -> Witness:
        """Return the model as a witness, which has predicted what it did when the run began.

        Raises
        ------
        ModelError
            If it is another model.
        """
        witness = Witness(model, self.workspace.first_batch_path(self.index))
        witness.testify(lambda: first_batch(self.job, self.strip, self.stack))
        return witness

    def run(self, model: Model, on_windows: Callable[[int], object], prefetch: int) -> None:
        """Run what is left of the strip.

        Parameters
        ----------
        model : callable
            The user's model.
        on_windows : callable
            Told how many windows were just predicted.
        prefetch : int
            How many batches are read ahead of the model.

        Raises
        ------
        ModelError
            If the model fails, or is not the one that the run was begun with.
        """
        workspace, job = self.workspace, self.job
        attempt = new_attempt(self.plan.run)
        seam_path = attempt_path(workspace.seam_path(self.index), attempt)
        products, make = products_of(job, Origin()), row_maker(job)
        with (
            SeamFile(seam_path, SeamLayout(job, self.strip)) as seam,
            self._open_sink(products, attempt) as sink,
        ):

            def sync() -> None:
                sink.sync()
                seam.sync()
                self._sync_earlier(journal.entry, attempt)

            path = workspace.journal_path(self.index)
            first_row = job.grid.strip_rows(self.strip).start
            with (
                Journal(path, attempt, first_row, len(products) + 1, sync) as journal,
                forced_at_the_end(journal),
            ):
                if not workspace.has_model():
                    model = self.check(model)

                def keep(rows: Rows) -> None:
                    if rows.shared:
                        data_sum = seam.write(rows.first, rows.blocks)
                        journal.record(rows.stop, [*[0] * len(products), data_sum])
                        return
                    for part in parts_of(rows, job.grid.output_shape[0]):
                        sums = sink.write(part.first, make(part.blocks))
                        journal.record(part.stop, [*sums, 0])

                run_strip(
                    job,
                    self.strip,
                    self.stack,
                    model,
                    on_rows=keep,
                    on_windows=on_windows,
                    first_row=None if journal.entry is None else journal.entry.row,
                    prefetch=prefetch,
                    on_spread=lambda *counts: workspace.note_spread(self.index, *counts),
                )

    @contextmanager
    def _open_sink(self, products: Sequence[Product], attempt: str) -> Iterator[Sink]:
        """Open what takes the rows that no other strip touches."""
        if self.plan.apart:
            path = attempt_path(self.workspace.rows_path(self.index), attempt)
            layout = RowsLayout(products, own_rows(self.job, self.strip))
            with RowsFile(path, layout) as file:
                yield file
        else:
            with FitsOutputs(products, self.workspace.directory, self.plan.run) as outputs:
                yield outputs

    def _sync_earlier(self, entry: Entry | None, attempt: str) -> None:
        """Force to disk what earlier attempts have written, of which a journal says so then."""
        for segment in [] if entry is None else entry.segments:
            if segment.attempt != attempt:
                workspace, index = self.workspace, self.index
                for path in (workspace.seam_path(index), workspace.rows_path(index)):
                    sync_file(attempt_path(path, segment.attempt))


def own_rows(job: Job, strip: Strip) -> range:
    """Return the output rows inside the image that no other strip touches."""
    rows = job.grid.strip_rows(strip)
    return range(max(rows.own_start, 0), min(rows.own_stop, job.grid.output_shape[0]))


def parts_of(rows: Rows, height: int) -> Iterator[Rows]:
    """Cut rows where the ranges end whose data sums the outputs will have."""
    for start, stop in row_ranges(height):
        first, last = max(start, rows.first), min(stop, rows.stop)
        if first < last:
            part = slice(first - rows.first, last - rows.first)
            yield Rows(first, last, [block[part] for block in rows.blocks], rows.shared)


def sync_file(path: Path) -> None:
    """Wait until what was written to a file is on disk, if there is one."""
    with suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def forced_at_the_end(journal: Journal) -> Iterator[None]:
    """Force rows to disk also after an error: the strip may go on on another machine."""
    try:
        yield
    except Exception:
        with suppress(OSError):  # the first error says more
            journal.force()
        raise
    journal.force()


def is_finished(job: Job, strip: Strip, entry: Entry | None) -> bool:
    """Say whether all rows of a strip are written."""
    last = min(job.grid.strip_rows(strip).stop, job.grid.output_shape[0])
    return entry is not None and entry.row >= last


def windows_left(job: Job, strip: Strip, entry: Entry | None, windows: NDArray[np.int64]) -> int:
    """Count the windows of a strip that are still to be run, of those in each window row."""
    if is_finished(job, strip, entry):
        return 0
    if entry is not None:
        strip = job.grid.rest_of(strip, job.batch_size, entry.row)
    return int(windows[strip.start : strip.stop].sum())
