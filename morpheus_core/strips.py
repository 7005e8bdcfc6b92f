"""One strip of a run on disk: its rows go to the outputs and the seams, and are noted."""

from __future__ import annotations

from collections.abc import Callable

from morpheus_core.inputs import Image
from morpheus_core.journal import Entry, Journal
from morpheus_core.models import Model, Witness
from morpheus_core.outputs import FitsOutputs
from morpheus_core.pipeline import Job, first_batch, run_strip
from morpheus_core.stitch import SeamFile
from morpheus_core.windows import Strip
from morpheus_core.workspace import Workspace


def run_stored_strip(
    workspace: Workspace,
    index: int,
    job: Job,
    strip: Strip,
    images: list[Image],
    model: Model,
    outputs: FitsOutputs,
    on_windows: Callable[[int], object],
) -> None:
    """Run what is left of a strip.

    Parameters
    ----------
    workspace : Workspace
        Where the run keeps its files.
    index : int
        Which strip.
    job, strip, images, model, on_windows
        As :func:`morpheus_core.pipeline.run_strip` takes them.
    outputs : FitsOutputs
        Takes the finished rows.

    Raises
    ------
    ModelError
        If the model is not the one that the run was begun with.
    """
    with SeamFile(workspace.seam_path(index), job, strip) as seam:

        def sync() -> None:
            outputs.sync()
            seam.sync()

        with Journal(workspace.journal_path(index), len(job.methods) + 1, sync) as journal:
            first_batch_path = workspace.first_batch_path(index)
            if first_batch_path.exists() or not workspace.model_path(index).exists():
                model = Witness(model, first_batch_path)
                model.testify(lambda: first_batch(job, strip, images))
            first_row = None if journal.entry is None else journal.entry.row
            for rows in run_strip(job, strip, images, model, on_windows, first_row):
                if rows.shared:
                    seam.write(rows.first, rows.blocks)
                    journal.record(rows.stop)
                else:
                    journal.record(rows.stop, outputs.write(rows.first, rows.blocks))


def windows_left(job: Job, strip: Strip, entry: Entry | None) -> int:
    """Count the windows of a strip that are still to be run."""
    grid = job.grid
    if entry is not None:
        if entry.row >= min(grid.strip_rows(strip).stop, grid.output_shape[0]):
            return 0
        strip = grid.rest_of(strip, job.batch_size, entry.row)
    return (strip.stop - strip.start) * len(grid.columns.origins)
