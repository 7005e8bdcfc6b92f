"""Runs whose strips are jobs of their own: nobody waits for them, and nobody hands them out."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from morpheus_core import checks
from morpheus_core.errors import InputError, OutputError
from morpheus_core.parallel.devices import prefetch_depth
from morpheus_core.parallel.threads import limited_threads
from morpheus_core.pipeline.nan_policy import warn_of_spread
from morpheus_core.pipeline.strip import windows_of_strip
from morpheus_core.progress import progress_bar
from morpheus_core.results.outputs import Results, output_errors
from morpheus_core.run import hand_over
from morpheus_core.storage.file_systems import is_shared
from morpheus_core.storage.names import comes_true, look_anew
from morpheus_core.workspace.completion import Completion, forget_strips
from morpheus_core.workspace.folders import FEW, Workspace
from morpheus_core.workspace.journal import read_journal
from morpheus_core.workspace.strip import windows_left
from morpheus_core.workspace.work import StripWork


def run_strip(
    out_dir: str | os.PathLike[str],
    strip: int,
    *,
    prefetch: int | None = None,
    progress: bool = True,
) -> None:
    """Run one strip of a run that ``predict(begin_only=True)`` has begun.

    What was finished of it before is kept, so a job that was ended may be run again, on any
    machine that sees `out_dir` and the inputs.

    Parameters
    ----------
    out_dir : path
        Where the run was begun.
    strip : int
        Which one, from 0.
    prefetch : int, optional
        As for :func:`morpheus_core.predict`.
    progress : bool, default True
        Show a progress bar, of windows.

    Raises
    ------
    InputError
        If there is no such strip, or the run is of another version.
    ModelError
        If the model fails.
    OutputError
        If there is no run, or it cannot be written to.
    """
    directory = checks.path("out_dir", out_dir)
    ahead = prefetch_depth(prefetch, 0, elsewhere=True)
    checks.flag("progress", progress)
    with output_errors(directory):
        work = open_run(directory, ahead)
        count = len(work.plan.strips)
        index = checks.whole_number("strip", strip, least=0)
        if index >= count:
            raise InputError(f"strip must be less than {count}, the strips of the run, got {index}")
        if work.is_finished(index):
            return
        with limited_threads(work.threads):
            loaded = work.load(lambda model: model)
            total, left = windows_of(work, index)
            with progress_bar(total, total - left, progress) as advance:
                work.do(index, loaded, advance)


def stitch(out_dir: str | os.PathLike[str]) -> Results:
    """Make the outputs of a run whose strips are all finished.

    Parameters
    ----------
    out_dir : path
        Where the run was begun, by ``predict(begin_only=True)``.

    Returns
    -------
    output_hduls, output_arrays
        As :func:`morpheus_core.predict` returns them; the files are those that it writes.

    Raises
    ------
    InputError
        If the run is of another version.
    OutputError
        If there is no run, strips are not finished, or an output cannot be written.
    """
    directory = checks.path("out_dir", out_dir)
    with output_errors(directory):
        work = open_run(directory)
        with work.folders.lock():
            return stitched(work)


def stitched(work: StripWork) -> Results:
    """Complete the outputs, unless that was done, and hand them over."""
    workspace, plan = work.folders, work.plan
    products = workspace.products()
    if not workspace.is_stitched():
        refuse_unfinished(work)
        damaged = Completion(workspace, plan, work.job, products).run()
        if damaged:
            forget_strips(workspace, plan, damaged)
            raise OutputError(
                f"what was written of strips {numbers(damaged)} does not read back as it was "
                f"computed; run them again, then stitch"
            )
        workspace.mark_stitched()
        warn_of_spread(*workspace.spread(plan))
    return hand_over(workspace, plan, products)


def open_run(directory: Path, prefetch: int = 0) -> StripWork:
    """Return the strips of a run that others have begun.

    Raises
    ------
    InputError
        If it is of another version.
    OutputError
        If there is none.
    """
    workspace = Workspace(directory)
    look_anew(workspace.folder(0))
    if not workspace.holds_a_run() or not workspace.has_products():
        raise OutputError(
            f"there is no run in {directory} whose strips are left to others; begin one there with "
            f"begin_only=True"
        )
    plan = workspace.load()
    other = plan.other_version()
    if other is not None:
        raise InputError(f"the run in {directory} is not of this version: {other}")
    return StripWork(
        directory=str(directory.absolute()),
        prefetch=prefetch,
        threads=plan.parameters["threads"],
    )


def refuse_unfinished(work: StripWork) -> None:
    """Raise if strips are not finished, of which other machines may know before this one."""
    found: list[int] = []

    def are_finished() -> bool:
        found[:] = [k for k in range(len(work.plan.strips)) if not work.is_finished(k)]
        return not found

    directory = work.folders.directory
    if are_finished() or (
        is_shared(directory) and comes_true(are_finished, "the end of all strips", directory)
    ):
        return
    raise OutputError(
        f"{len(found)} strips of the run in {directory} are not finished: {numbers(found)}; run "
        f"them, again perhaps, then stitch"
    )


def windows_of(work: StripWork, index: int) -> tuple[int, int]:
    """Count the windows of a strip, and those of them that are left."""
    plan, job = work.plan, work.job
    strip, entry = plan.strips[index], read_journal(work.record_path(index), plan.run)
    windows = np.zeros(len(job.grid.rows.origins), np.int64)
    with work.folders.open_inputs() as stack:
        windows[strip.start : strip.stop] = windows_of_strip(job, strip, stack)
    return int(windows.sum()), windows_left(job, strip, entry, windows)


def numbers(strips: list[int]) -> str:
    """Return some numbers as text, and how many more there are."""
    more = f" and {len(strips) - FEW} more" if len(strips) > FEW else ""
    return ", ".join(map(str, strips[:FEW])) + more
