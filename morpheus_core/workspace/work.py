"""The strips of a run as pieces of work, which any process can do that sees its folders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from morpheus_core.parallel.pieces import OnSteps, Work
from morpheus_core.pipeline.job import Job
from morpheus_core.pipeline.models import Model, resolve, unpickle_model
from morpheus_core.workspace.folders import Workspace
from morpheus_core.workspace.journal import read_journal
from morpheus_core.workspace.plan import Plan
from morpheus_core.workspace.strip import StoredStrip, is_finished


class StripWork(Work):
    """The strips of a run, opened from what it has stored."""

    @property
    def folders(self) -> Workspace:
        """The folders of the run."""
        return Workspace(Path(self.directory))

    @cached_property
    def plan(self) -> Plan:
        """The run."""
        return self.folders.load()

    @cached_property
    def job(self) -> Job:
        """What is computed."""
        return self.plan.job(self.folders.update_map())

    def name(self, index: int) -> str:
        """Return the window rows of a strip."""
        strip = self.plan.strips[index]
        return f"window rows {strip.start} to {strip.stop - 1}"

    def record_path(self, index: int) -> Path:
        """Return the journal of a strip."""
        return self.folders.journal_path(index)

    def is_finished(self, index: int) -> bool:
        """Say whether all rows of a strip are written."""
        entry = read_journal(self.record_path(index), self.plan.run)
        return is_finished(self.job, self.plan.strips[index], entry)

    def input_paths(self) -> list[Path]:
        """Return the files of the images."""
        return self.folders.input_paths()

    def load(self, guard: Callable[[Model], Model]) -> Model:
        """Return the model: what was pickled, or what its factory makes.

        Raises
        ------
        InputError
            If the images have other pixels here.
        """
        self.folders.check_folders(self.plan)
        with self.folders.open_inputs() as stack:
            stack.check_pixels(self.plan.inputs)
        pickled = self.folders.stored_model()
        if pickled is None:
            assert self.plan.factory is not None, "a run without a stored model has a factory"
            return guard(resolve(self.plan.factory))
        return guard(unpickle_model(pickled))

    def do(self, index: int, loaded: Model, on_steps: OnSteps) -> None:
        """Run what is left of a strip."""
        with self.open_strip(index) as strip:
            strip.run(loaded, on_steps, self.prefetch)

    @contextmanager
    def open_strip(self, index: int) -> Iterator[StoredStrip]:
        """Open a strip with its inputs, as they were stored."""
        with self.folders.open_inputs() as stack:
            yield StoredStrip(self.folders, self.plan, index, self.job, stack)
