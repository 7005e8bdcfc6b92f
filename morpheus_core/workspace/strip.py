"""One strip of a run on disk: its rows go to the outputs and the seams, and are noted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from morpheus_core.images.stack import ImageStack
from morpheus_core.pipeline.job import Job
from morpheus_core.pipeline.models import Model
from morpheus_core.pipeline.strip import Rows, first_batch, run_strip
from morpheus_core.results.outputs import FitsOutputs
from morpheus_core.windows.grid import Strip
from morpheus_core.workspace.folders import Workspace
from morpheus_core.workspace.journal import Entry, Journal
from morpheus_core.workspace.stitch import SeamFile
from morpheus_core.workspace.witness import Witness


@dataclass(frozen=True, slots=True)
class StoredStrip:
    """A strip, and where the run keeps what it knows of it.

    Attributes
    ----------
    workspace : Workspace
        The run's folders.
    index : int
        Which strip.
    job, strip, stack
        As :func:`morpheus_core.pipeline.run_strip` takes them.
    """

    workspace: Workspace
    index: int
    job: Job
    strip: Strip
    stack: ImageStack

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

    def run(
        self,
        model: Model,
        outputs: FitsOutputs,
        on_windows: Callable[[int], object],
        prefetch: int,
    ) -> None:
        """Run what is left of the strip.

        Parameters
        ----------
        model : callable
            The user's model.
        outputs : FitsOutputs
            Takes the finished rows.
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
        with SeamFile(workspace.seam_path(self.index), job, self.strip) as seam:

            def sync() -> None:
                outputs.sync()
                seam.sync()

            path = workspace.journal_path(self.index)
            with (
                Journal(path, len(job.methods) + 1, sync) as journal,
                forced_at_the_end(journal),
            ):
                if not workspace.has_model():
                    model = self.check(model)

                def keep(rows: Rows) -> None:
                    if rows.shared:
                        seam.write(rows.first, rows.blocks)
                        journal.record(rows.stop)
                    else:
                        journal.record(rows.stop, outputs.write(rows.first, rows.blocks))

                run_strip(
                    job,
                    self.strip,
                    self.stack,
                    model,
                    on_rows=keep,
                    on_windows=on_windows,
                    first_row=None if journal.entry is None else journal.entry.row,
                    prefetch=prefetch,
                )


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
