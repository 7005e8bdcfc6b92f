"""The rows of a catalogue as pieces of work: blocks, which any process can answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from morpheus_core.catalogs.answers import Doubt, RowPredictor
from morpheus_core.catalogs.batches import Cut, OpenSet, RowBatch, batches_of
from morpheus_core.catalogs.folders import record_path, rows_path
from morpheus_core.catalogs.records import RecordFile, read_records
from morpheus_core.catalogs.sources import Int64, Sources
from morpheus_core.catalogs.statuses import Status
from morpheus_core.parallel.folders import Folders
from morpheus_core.parallel.pieces import OnSteps, Work
from morpheus_core.pipeline.models import Model, unpickle_model
from morpheus_core.pipeline.nan_policy import NanWatch
from morpheus_core.pipeline.overlap import Ahead
from morpheus_core.workspace.witness import LoneWitness

OnRecords = Callable[[NDArray[Any]], object]
CatalogOnNan = Literal["warn", "raise"]
CATALOG_ON_NAN: tuple[CatalogOnNan, ...] = get_args(CatalogOnNan)


@dataclass(frozen=True, slots=True)
class CatalogJob:
    """What a worker needs besides its rows.

    Attributes
    ----------
    predictor : RowPredictor
        With the model.
    cut : Cut
        How windows are cut.
    sources : Sources
        Where from.
    on_nan : {"warn", "raise"}
        Whether NaN of windows that spoils the answers of their rows ends the run.
    threads : int or None
        How many threads each process has, where that was asked for.
    memory_format : str or None
        How the network's tensors lie in memory, where that was left to be tried.
    """

    predictor: RowPredictor
    cut: Cut
    sources: Sources
    on_nan: CatalogOnNan = "warn"
    threads: int | None = None
    memory_format: str | None = None


def run_rows(
    job: CatalogJob,
    rows: NDArray[Any],
    opener: OpenSet,
    prefetch: int,
    on_records: OnRecords,
    on_rows: Callable[[int], object],
) -> None:
    """Run rows and hand over their records."""
    # Otherwise statuses say so of each row, and the summary of all.
    doubt, watch = Doubt(), NanWatch("raise" if job.on_nan == "raise" else "ignore")
    with Ahead(batches_of(rows, job.cut, opener), prefetch) as batches:
        for batch in batches:
            if len(batch):
                records = job.predictor.records(batch)
                doubt.look(records["status"])
                if isinstance(batch, RowBatch):
                    spoilt = records["status"] == Status.NOT_FINITE
                    watch.look(batch.windows, np.where(spoilt, np.nan, 0)[:, np.newaxis])
                on_records(records)
                on_rows(len(batch))


@dataclass(frozen=True, kw_only=True)
class CatalogWork(Work):
    """Blocks of rows, opened from what their run has stored.

    Attributes
    ----------
    record_type : dtype
        Of the records of finished rows.
    inputs : tuple of str
        Files that all rows are cut from; those that templates name may be missing.
    is_resumed : bool
        Whether the run was begun before.
    """

    record_type: np.dtype[Any]
    inputs: tuple[str, ...]
    is_resumed: bool

    def name(self, index: int) -> str:
        """Return how many rows a block has."""
        rows = np.load(rows_path(self.folders, index), mmap_mode="r")
        return f"block {index}, {len(rows)} rows of the catalogue"

    def record_path(self, index: int) -> Path:
        """Return the records of a block."""
        return record_path(self.folders, index)

    def is_finished(self, index: int) -> bool:
        """Say whether all rows of a block have their answers."""
        finished = rows_of(read_records(self.record_path(index), self.record_type))
        return bool(np.isin(np.load(rows_path(self.folders, index))["row"], finished).all())

    def input_paths(self) -> list[Path]:
        """Return the files that all rows are cut from."""
        return [Path(path) for path in self.inputs]

    def load(self, guard: Callable[[Model], Model]) -> CatalogJob:
        """Return what was stored for all blocks.

        Raises
        ------
        ModelError
            If the model is not the one that the run was begun with.
        """
        pickled = self.folders.stored_model()
        assert pickled is not None, "it was stored before any block was begun"
        job = unpickle_model(pickled)
        assert isinstance(job, CatalogJob)
        if self.is_resumed:  # else another block may just have noted its first batch
            LoneWitness(job.predictor.model, self.folders.first_batch_path(0)).compare()
        return replace(job, predictor=replace(job.predictor, model=guard(job.predictor.model)))

    def do(self, index: int, loaded: CatalogJob, on_steps: OnSteps) -> None:
        """Answer the rows of a block."""
        job = witnessed(loaded, self.folders) if index == 0 else loaded
        with (
            job.sources.opener() as open_set,
            RecordFile(self.record_path(index), job.predictor.record_type) as file,
        ):
            rows = np.load(rows_path(self.folders, index))
            left = rows[~np.isin(rows["row"], rows_of(file.read()))]
            run_rows(job, left, open_set, self.prefetch, file.append, on_steps)


def witnessed(job: CatalogJob, folders: Folders) -> CatalogJob:
    """Return a job whose model has predicted what it did when the run began.

    Raises
    ------
    ModelError
        If it is another model.
    """
    witness = LoneWitness(job.predictor.model, folders.first_batch_path(0))
    witness.compare()
    return replace(job, predictor=replace(job.predictor, model=witness))


def blocks_of(rows: NDArray[Any], n_blocks: int) -> list[NDArray[Any]]:
    """Cut rows into blocks, between sets if there are enough of them."""
    cuts = np.arange(1, n_blocks) * len(rows) // n_blocks
    if rows["set"][-1] - rows["set"][0] >= n_blocks:
        cuts = np.searchsorted(rows["set"], rows["set"][cuts])
    return [block for block in np.split(rows, cuts) if len(block)]


def rows_of(records: Iterable[NDArray[Any]]) -> Int64:
    """Return the numbers of the rows of records."""
    # Copies: a view would keep all of its record in memory.
    return np.concatenate([np.empty(0, np.int64), *(part["row"].copy() for part in records)])
