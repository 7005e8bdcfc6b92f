"""A run on disk from beginning to end: begun or resumed, computed, stitched, published."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from morpheus_core.errors import InputError, OutputError, WorkerError, warn
from morpheus_core.parallel.pieces import OnSteps, Watch
from morpheus_core.pipeline.models import (
    pickle_model,
    resolve,
    unpickle_model,
    warn_of_another_model,
)
from morpheus_core.pipeline.nan_policy import OnSpread
from morpheus_core.pipeline.strip import count_windows
from morpheus_core.preparation import Prepared
from morpheus_core.progress import both, progress_bar
from morpheus_core.results.fits_outputs import allocate_files
from morpheus_core.results.outputs import (
    Product,
    Results,
    output_errors,
    part_path,
    refuse_a_small_disk,
    refuse_to_replace,
)
from morpheus_core.results.products import FILE_NAMES
from morpheus_core.results.sinks import SINKS, final_paths, growing, publish_as
from morpheus_core.results.stored_images import ENDINGS
from morpheus_core.storage.file_systems import is_shared, kind_of
from morpheus_core.storage.names import is_there, names_in
from morpheus_core.workspace.completion import Completion, forget_strips
from morpheus_core.workspace.folders import FEW, Workspace
from morpheus_core.workspace.journal import read_journal
from morpheus_core.workspace.plan import Plan
from morpheus_core.workspace.strip import StoredStrip, windows_left
from morpheus_core.workspace.work import StripWork

logger = logging.getLogger("morpheus_core")


class Run:
    """A job on its way into FITS files.

    Parameters
    ----------
    ready : Prepared
        What to compute, and where.
    directory : Path
        The user's `out_dir`.
    on_windows : callable
        Told how many windows were just finished, beside the progress bar.
    on_spread : callable
        Told, at the end, how many of how many windows were spoilt by NaN.
    """

    def __init__(
        self, ready: Prepared, directory: Path, on_windows: OnSteps, on_spread: OnSpread
    ) -> None:
        self._ready, self._directory = ready, directory
        self._on_windows, self._on_spread = on_windows, on_spread
        self._arguments, self._model = ready.arguments, ready.arguments.model
        self._job, self._stack, self._products = ready.job, ready.stack, ready.products
        self._workspace = Workspace(directory)
        self._factory = self._model if isinstance(self._model, str) else None
        self._sink = ready.sink

    def results(self) -> Results:
        """Begin or resume the run, finish it, and open its files.

        Returns
        -------
        tuple
            Open HDULists and arrays, one per product.
        """
        with self._opened() as plan:
            if not self._workspace.is_stitched():
                self._compute(plan)
                self._complete(plan)
                self._workspace.mark_stitched()
                self._on_spread(*self._workspace.spread(plan))
            return hand_over(self._workspace, plan, self._products)

    def begin(self) -> None:
        """Begin or reopen the run, whose strips are left to others."""
        with self._opened() as plan:
            if self._workspace.is_stitched():
                return
            try:
                self._workspace.close_session()  # of an executor that may still be at it
                self._store_for_workers(plan, [0])
                self._workspace.store_products(self._products)
            except BaseException as error:
                self._clean_up(plan, error)
                raise

    @contextmanager
    def _opened(self) -> Iterator[Plan]:
        """Hold the directory, and the plan of a run that is begun or resumed."""
        workspace, resume = self._workspace, self._arguments.resume
        resuming = resume and workspace.holds_a_run()
        by_others = bool(self._ready.workers) or self._arguments.begin_only
        if by_others:
            self._stack.check_portable()  # before anything is made
        pickled = None
        if by_others and not isinstance(self._model, str) and not resuming:
            pickled = pickle_model(self._model)  # or refused, before anything is made
        with output_errors(self._directory):
            self._directory.mkdir(parents=True, exist_ok=True)
            with workspace.lock():
                plan = self._reopen() if resume else None
                yield plan or self._begin(pickled)

    def _reopen(self) -> Plan | None:
        """Return the plan of the run that was interrupted, if there is one that had begun.

        Raises
        ------
        InputError
            If it was asked for something else.
        """
        workspace = self._workspace
        if not workspace.holds_a_run():
            return None
        plan = workspace.load()
        asked = Plan.make(
            self._job, self._stack, plan.strips, self._factory, plan.apart, self._sink
        )
        difference = plan.difference(asked)
        if difference:
            raise InputError(
                f"resume=True needs the arguments and inputs of the run in {self._directory}: "
                f"{difference}; give those, or begin a new run in another out_dir"
            )
        if workspace.is_stitched():
            return plan
        if not workspace.is_marked("ready"):
            workspace.discard(plan, self._products)
            return None
        if self._apart and not plan.apart:
            raise InputError(
                f"the strips of the run in {self._directory} write into its outputs, which several "
                f"machines must not do; resume it with cpus= or gpus= on the machine where it "
                f"began, or begin a new run in another out_dir"
            )
        workspace.check_folders(plan)
        stored = workspace.stored_model()
        if stored is not None and not isinstance(self._model, str):
            warn_of_another_model(self._model, stored, str(self._directory))
        return plan

    def _begin(self, pickled: bytes | None) -> Plan:
        """Make room for a new run; nothing is left if that fails."""
        job, products, workspace = self._job, self._products, self._workspace
        overwrite, n_strips = self._arguments.overwrite, self._ready.n_strips
        paths = final_paths(products, self._directory, self._sink)
        if self._arguments.resume and not overwrite and all(map(is_there, paths)):
            raise OutputError(
                f"there is nothing to resume in {self._directory}: its outputs are complete; pass "
                f"overwrite=True to compute them anew"
            )
        # No strip is less than a window row.
        parts = [part_path(product, self._directory) for product in products]
        parts = list(dict.fromkeys([*parts, *map(growing, paths)]))
        workspace.refuse_what_is_in_the_way(parts, min(n_strips, len(job.grid.tops)))
        refuse_to_replace(paths, self._stack.paths, overwrite)
        refuse_leftovers(paths, self._directory)
        strips = job.grid.strips(job.batch_size, n_strips, self._windows)
        if len(strips) < n_strips:
            logger.info("the image can be cut into %d strips, not %d", len(strips), n_strips)
        plan = Plan.make(job, self._stack, strips, self._factory, self._apart, self._sink)
        try:
            workspace.create(plan, job.update_map, overwrite)
            if plan.apart:
                refuse_a_small_disk(products, self._directory)
            else:
                allocate_files(products, self._directory, plan.run)
            if pickled is not None:
                workspace.store_model(pickled)
            workspace.mark("ready")
        except BaseException:
            workspace.discard(plan, products)
            raise
        return plan

    @cached_property
    def _apart(self) -> bool:
        apart, directory = keeps_rows_apart(self._ready), self._directory
        if apart and self._arguments.rows_apart is None:
            kind = kind_of(directory)
            logger.info(
                "strips keep their rows in files of their own: %s is on %s", directory, kind
            )
        return apart

    def _compute(self, plan: Plan) -> None:
        """Run what is left of every strip."""
        self._workspace.close_session()  # of an executor that may still be at it
        indices = [index for index in range(len(plan.strips)) if not self._work.is_finished(index)]
        left = {index: self._windows_left(plan, index) for index in indices}
        to_do, total = sum(left.values()), int(self._windows.sum())
        logger.info(
            "%d of %d windows in %d strips, into %s", to_do, total, len(left), self._directory
        )
        try:
            with progress_bar(total, total - to_do, self._arguments.progress) as advance:
                on_windows = both(advance, self._on_windows)
                if self._ready.workers:
                    self._run_in_workers(plan, left, on_windows)
                else:
                    self._run_here(plan, indices, on_windows)
        except BaseException as error:
            self._clean_up(plan, error)
            raise

    @cached_property
    def _work(self) -> StripWork:
        """The strips, as other processes know them."""
        return StripWork(
            directory=str(self._directory.absolute()),
            prefetch=self._ready.workers.prefetch,
            threads=self._ready.workers.threads,
        )

    @cached_property
    def _windows(self) -> NDArray[np.int64]:
        """Windows of each window row that the model is to see."""
        return count_windows(self._job, self._stack)

    def _windows_left(self, plan: Plan, index: int) -> int:
        entry = read_journal(self._workspace.journal_path(index), plan.run)
        return windows_left(self._job, plan.strips[index], entry, self._windows)

    def _run_in_workers(self, plan: Plan, left: dict[int, int], on_windows: OnSteps) -> None:
        """Run strips, of which so many windows are left, in other processes."""
        if left:
            self._store_for_workers(plan, list(left))
            self._ready.workers.run(self._work, left, Watch(on_windows))

    def _store_for_workers(self, plan: Plan, indices: Sequence[int]) -> None:
        """Store what workers need, which a run that began in one process has not."""
        workspace = self._workspace
        workspace.store_inputs(self._stack)
        if plan.factory is None and workspace.stored_model() is None:
            model = resolve(self._model)
            for index in indices:
                self._open_strip(plan, index).check(model)
            workspace.store_model(pickle_model(model))

    def _run_here(self, plan: Plan, indices: Sequence[int], on_windows: OnSteps) -> None:
        """Run strips in this process, one after the other."""
        pickled = self._workspace.stored_model()
        model = resolve(self._model) if pickled is None else unpickle_model(pickled)
        for index in indices:
            strip = self._open_strip(plan, index)
            strip.run(model, on_windows, self._ready.workers.prefetch)

    def _open_strip(self, plan: Plan, index: int) -> StoredStrip:
        return StoredStrip(self._workspace, plan, index, self._job, self._stack)

    def _clean_up(self, plan: Plan, error: BaseException) -> None:
        """Leave nothing of a run that has finished no row, and say what is left of any other."""
        paths = [self._workspace.journal_path(index) for index in range(len(plan.strips))]
        if any(read_journal(path, plan.run) for path in paths):
            error.add_note(
                f"What is finished is kept in {self._directory}: resume=True continues from there."
            )
        else:
            keep_logs = isinstance(error, WorkerError)
            self._workspace.discard(plan, self._products, keep_logs)

    def _complete(self, plan: Plan) -> None:
        """Fill the outputs: the files are whole then. Strips that are damaged are run again."""

        def complete() -> list[int]:
            return Completion(self._workspace, plan, self._job, self._products).run()

        damaged = complete()
        if damaged:
            strips = [plan.strips[index] for index in damaged[:FEW]]
            lost = ", ".join(f"window rows {strip.start} to {strip.stop - 1}" for strip in strips)
            forget_strips(self._workspace, plan, damaged)
            warn(
                f"what was written of {len(damaged)} strips does not read back as it was computed "
                f"({lost}); they are computed again"
            )
            self._compute(plan)
            damaged = complete()
        if damaged:
            raise OutputError(
                f"what was written of {len(damaged)} strips does not read back as it was computed, "
                f"twice; use another file system than that of {self._directory}"
            )


def keeps_rows_apart(ready: Prepared) -> bool:
    """Say whether strips are to keep rows in files of their own until all are complete."""
    arguments, directory = ready.arguments, ready.directory
    if directory is None:
        return False
    if arguments.rows_apart is not None:
        return arguments.rows_apart
    return ready.workers.may_be_elsewhere or arguments.begin_only or is_shared(directory)


def hand_over(workspace: Workspace, plan: Plan, products: Sequence[Product]) -> Results:
    """Give complete outputs their names, remove the folders of the run, and open the outputs."""
    directory = workspace.directory
    workspace.remove_rows(plan)  # their disk space may be needed
    try:
        publish_as(plan.sink, products, directory, workspace.is_marked("overwrite"))
    except BaseException as error:
        error.add_note(
            f"What is finished is kept in {directory}: resume=True continues from there."
        )
        raise
    workspace.remove(plan)
    return SINKS[plan.sink].open(products, directory)


def refuse_leftovers(paths: Sequence[Path], directory: Path) -> None:
    """Raise if outputs of a run of another kind would be left beside the new ones."""
    names = names_in(directory)
    for path in [directory / f"{name}{ending}" for name in FILE_NAMES for ending in ENDINGS]:
        if path.name in names and path not in paths:
            raise OutputError(
                f"{path} is of a run with another aggregate_method, products or sink and would be "
                f"left beside results that are not its own; remove it or pass another out_dir"
            )
