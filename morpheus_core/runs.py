"""A run on disk from beginning to end: begun or resumed, computed, stitched, published."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from morpheus_core.errors import (
    InputError,
    ModelError,
    MorpheusWarning,
    OutputError,
    WorkerError,
)
from morpheus_core.inputs import ImageStack
from morpheus_core.journal import read_journal
from morpheus_core.models import Model, pickle_model, resolve, unpickle_model
from morpheus_core.outputs import (
    FitsOutputs,
    Product,
    Results,
    allocate_files,
    open_results,
    output_path,
    publish,
    refuse_to_replace,
)
from morpheus_core.parallel.devices import Environment
from morpheus_core.parallel.pool import Pool
from morpheus_core.pipeline import Job
from morpheus_core.plan import Plan
from morpheus_core.products import OUTPUT_NAMES
from morpheus_core.progress import progress_bar
from morpheus_core.stitch import SeamFile, stitch
from morpheus_core.strips import run_stored_strip, windows_left
from morpheus_core.workspace import Workspace

logger = logging.getLogger("morpheus_core")


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for besides the numbers.

    Attributes
    ----------
    directory : Path
        The users' `out_dir`.
    slots : list of dict
        Environment variables of each worker; empty to run in this process.
    resume, overwrite, progress : bool
        As in :func:`morpheus_core.predict`.
    interval : float
        Seconds between two looks at the progress of workers.
    """

    directory: Path
    slots: Sequence[Environment]
    resume: bool
    overwrite: bool
    progress: bool
    interval: float


def run_on_disk(
    job: Job, stack: ImageStack, model: Model | str, products: Sequence[Product], request: Request
) -> Results:
    """Run a job into FITS files.

    Parameters
    ----------
    job : Job
        What to compute.
    stack : ImageStack
        The images.
    model : callable or str
        The user's model, or the name of its factory.
    products : sequence of Product
        What becomes of it.
    request : Request
        Where and how.

    Returns
    -------
    tuple
        Open HDULists and arrays, one per product.
    """
    workspace = Workspace(request.directory)
    plan = reopen(job, stack, products, workspace) if request.resume else None
    if plan is None:
        plan = begin(job, stack, model, products, workspace, request)
    else:
        warn_of_another_model(model, workspace)
    with workspace.lock():
        if not workspace.is_marked("stitched"):
            compute(job, stack, model, products, workspace, plan, request)
            complete(job, products, workspace, plan)
            workspace.mark("stitched")
        publish(products, request.directory, workspace.is_marked("overwrite"))
        workspace.remove(plan)
    return open_results(products, request.directory)


def reopen(
    job: Job, stack: ImageStack, products: Sequence[Product], workspace: Workspace
) -> Plan | None:
    """Return the plan of the run that was interrupted, if there is one that had begun to compute.

    Raises
    ------
    InputError
        If it was asked for something else.
    """
    if not workspace.holds_a_run():
        return None
    plan = workspace.load()
    difference = plan.difference(Plan.make(job, stack.images, plan.strips, plan.factory))
    if difference:
        raise InputError(
            f"resume=True needs the arguments and inputs of the run in {workspace.directory}: "
            f"{difference}; give those, or begin a new run in another out_dir"
        )
    if not workspace.is_marked("ready"):
        with workspace.lock():
            workspace.discard(plan, products)
        return None
    if not workspace.is_marked("stitched"):
        workspace.check_folders(plan)
    return plan


def begin(
    job: Job,
    stack: ImageStack,
    model: Model | str,
    products: Sequence[Product],
    workspace: Workspace,
    request: Request,
) -> Plan:
    """Make room for a new run; nothing is left if that fails."""
    directory = workspace.directory
    strips = job.grid.strips(job.batch_size, max(1, len(request.slots)))
    if len(strips) < len(request.slots):
        logger.info("%d workers have nothing to do", len(request.slots) - len(strips))
    pickled = pickle_model(model) if request.slots and callable(model) else None
    paths = [output_path(product, directory) for product in products]
    refuse_to_replace(paths, stack.paths, request.overwrite)
    refuse_leftovers(paths, directory)
    workspace.refuse_what_is_in_the_way(products, len(strips))
    plan = Plan.make(job, stack.images, strips, None if callable(model) else model)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        workspace.create(plan, job.update_map, request.overwrite)
    except OSError as error:
        raise OutputError(f"cannot write outputs to {directory}: {error}") from error
    try:
        allocate_files(products, directory)
        if pickled is not None:
            workspace.store_model(pickled, len(strips))
        workspace.mark("ready")
    except BaseException:
        workspace.discard(plan, products)
        raise
    return plan


def refuse_leftovers(paths: Sequence[Path], directory: Path) -> None:
    """Raise if outputs of a run with other methods would be left beside the new ones."""
    for name in OUTPUT_NAMES:
        path = directory / f"{name}.fits"
        if path.exists() and path not in paths:
            raise OutputError(
                f"{path} is of a run with another aggregate_method and would be left beside a "
                f"count that is not its own; remove it or pass another out_dir"
            )


def compute(
    job: Job,
    stack: ImageStack,
    model: Model | str,
    products: Sequence[Product],
    workspace: Workspace,
    plan: Plan,
    request: Request,
) -> None:
    """Run what is left of every strip."""
    entries = [read_journal(workspace.journal_path(index)) for index in range(len(plan.strips))]
    left = [
        windows_left(job, strip, entry) for strip, entry in zip(plan.strips, entries, strict=True)
    ]
    indices = [index for index, windows in enumerate(left) if windows]
    logger.info(
        "%d of %d windows in %d strips, into %s",
        sum(left),
        len(job.grid),
        len(indices),
        request.directory,
    )
    try:
        with progress_bar(len(job.grid), len(job.grid) - sum(left), request.progress) as on_windows:
            if request.slots:
                prepare_for_workers(stack, model, workspace, plan)
                pool = Pool(workspace, plan.strips, request.slots)
                pool.run(indices, on_windows, request.interval)
            else:
                run_here(job, stack, model, products, workspace, plan, indices, on_windows)
    except BaseException as error:
        clean_up(error, workspace, plan, products)
        raise


def warn_of_another_model(model: Model | str, workspace: Workspace) -> None:
    """Warn if the model that was stored will run, and another one was passed."""
    stored = workspace.stored_model()
    if stored is None or isinstance(model, str):
        return
    try:
        same = pickle_model(model) == stored
    except ModelError:
        same = False
    if not same:
        warnings.warn(
            f"resume=True runs the model that was stored when the run in {workspace.directory} "
            f"began; the one that is passed now is not the same, byte for byte, and is ignored",
            MorpheusWarning,
            stacklevel=4,
        )


def prepare_for_workers(
    stack: ImageStack, model: Model | str, workspace: Workspace, plan: Plan
) -> None:
    """Store what workers need and a run in one process did not."""
    workspace.store_arrays(stack.images)
    if plan.factory is None and workspace.stored_model() is None:
        workspace.store_model(pickle_model(resolve(model)), len(plan.strips))


def run_here(
    job: Job,
    stack: ImageStack,
    model: Model | str,
    products: Sequence[Product],
    workspace: Workspace,
    plan: Plan,
    indices: Sequence[int],
    on_windows: Callable[[int], object],
) -> None:
    """Run strips in this process, one after the other."""
    pickled = workspace.stored_model()
    model = resolve(plan.factory or model) if pickled is None else unpickle_model(pickled)
    with FitsOutputs(products, workspace.directory) as outputs:
        for index in indices:
            strip = plan.strips[index]
            run_stored_strip(workspace, index, job, strip, stack.images, model, outputs, on_windows)


def clean_up(
    error: BaseException, workspace: Workspace, plan: Plan, products: Sequence[Product]
) -> None:
    """Leave nothing of a run that has finished no row, and say what is left of any other."""
    entries = [read_journal(workspace.journal_path(index)) for index in range(len(plan.strips))]
    if not any(entries):
        workspace.discard(plan, products, keep_logs=isinstance(error, WorkerError))
    else:
        error.add_note(
            f"What is finished is kept in {workspace.directory}: resume=True continues from there."
        )


def complete(job: Job, products: Sequence[Product], workspace: Workspace, plan: Plan) -> None:
    """Stitch the strips and enter the checksums: the files are whole then."""
    data_sums = [0] * len(products)
    for index, strip in enumerate(plan.strips):
        entry = read_journal(workspace.journal_path(index))
        if entry is None or windows_left(job, strip, entry):
            rows = f"{strip.start} to {strip.stop - 1}"
            raise WorkerError(f"the worker of window rows {rows} ended before they were finished")
        data_sums = [a + b for a, b in zip(data_sums, entry.data_sums, strict=True)]
    with FitsOutputs(products, workspace.directory) as outputs, ExitStack() as opened:
        seams = [
            opened.enter_context(SeamFile(workspace.seam_path(index), job, strip))
            for index, strip in enumerate(plan.strips)
        ]
        stitched = stitch(job, plan.strips, seams, outputs)
        outputs.seal([a + b for a, b in zip(data_sums, stitched, strict=True)])
