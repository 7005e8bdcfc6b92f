"""Running the rows of a catalogue: in memory, or with records on disk, here or in workers."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morpheus_core.batches import Batch
from morpheus_core.catalog_answers import RowPredictor
from morpheus_core.catalog_batches import ROW, Cut, OpenSet, Status, batches_of
from morpheus_core.catalog_journal import RecordFile, read_records
from morpheus_core.catalog_sources import Int64, Sources, open_set
from morpheus_core.errors import InputError, MorpheusError, OutputError, WorkerError
from morpheus_core.images import Image
from morpheus_core.models import FactoryModel, Witness, pickle_model
from morpheus_core.overlap import Ahead
from morpheus_core.parallel.devices import Environment
from morpheus_core.parallel.pool import Pool
from morpheus_core.progress import progress_bar
from morpheus_core.version import __version__
from morpheus_core.workspace import LOG, Workspace, clear, is_free, write_whole

logger = logging.getLogger("morpheus_core")

#: Rows that a resumed run tries again.
TRIED_AGAIN = (Status.MISSING_FILE, Status.UNREADABLE_FILE)


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
    """

    predictor: RowPredictor
    cut: Cut
    sources: Sources

    def open_set(self, index: int) -> AbstractContextManager[list[Image]]:
        """Open the images of a set from their files."""
        return open_set(self.sources.sets[index], self.sources.layout)


@dataclass(frozen=True, slots=True)
class CatalogRequest:
    """How a run is done: see :func:`morpheus_core.predict_catalog`."""

    directory: Path | None
    slots: Sequence[Environment]
    resume: bool
    progress: bool
    prefetch: int


def run_rows(
    job: CatalogJob,
    rows: NDArray[Any],
    opener: OpenSet,
    prefetch: int,
    on_records: Callable[[NDArray[Any]], object],
    on_rows: Callable[[int], object],
) -> None:
    """Run rows and hand over their records."""
    with Ahead(batches_of(rows, job.cut, opener), prefetch) as batches:
        for batch in batches:
            if len(batch):
                on_records(job.predictor.records(batch))
                on_rows(len(batch))


def in_order(sources: Sources, first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    """Return the rows that have a position and images, by image and from one end of the sky on."""
    rows = np.zeros(len(first), ROW)
    rows["row"], rows["set"] = np.arange(len(first)), sources.set_of_row
    rows["first"], rows["second"] = first, second
    rows = rows[np.isfinite(first) & np.isfinite(second) & (sources.set_of_row >= 0)]
    order = np.lexsort((rows["first"], rows["second"], rows["set"]))
    return np.asarray(rows[order])


class CatalogRun:
    """A run of a catalogue, and the folders in which its records are until they are in a table.

    Parameters
    ----------
    job : CatalogJob
        What to do.
    images : list of Image or None
        The images of all rows, if they are the same.
    rows : ndarray of ROW
        In order.
    request : CatalogRequest
        Where and how.
    """

    def __init__(
        self,
        job: CatalogJob,
        images: list[Image] | None,
        rows: NDArray[Any],
        request: CatalogRequest,
    ) -> None:
        self._job, self._images, self._rows, self._request = job, images, rows, request
        self._directory = request.directory

    def records(self) -> Iterator[NDArray[Any]]:
        """Finish all rows, and yield their records; later ones replace earlier ones.

        Raises
        ------
        OutputError
            If they cannot be kept.
        """
        if self._directory is None:
            found: list[NDArray[Any]] = []
            self._run_here(self._job, self._rows, found.append, len(self._rows))
            yield from found
            return
        workspace = Workspace(self._directory)
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with workspace.lock():
                self._begin(workspace)
                self._finish(workspace)
        except OSError as error:
            if isinstance(error, MorpheusError):
                raise
            raise OutputError(f"cannot write to {self._directory}: {error}") from error
        finally:
            remove_if_empty(self._directory)
        for again in (True, False):  # what a second try has found counts, in whichever folder it is
            for records in self._read(workspace):
                yield records[np.isin(records["status"], TRIED_AGAIN) == again]

    def remove(self) -> None:
        """Remove the folders of the run, and the directory if nothing else is in it."""
        if self._directory is not None:
            for folder in folders(self._directory):
                clear(folder, set())
            remove_if_empty(self._directory)

    def _begin(self, workspace: Workspace) -> None:
        """Note what is run, or make sure that it is what was begun here."""
        path, fingerprint = workspace.folder(0) / "catalog.json", self._fingerprint()
        if path.exists() and self._request.resume:
            try:
                stored = json.loads(path.read_text())
            except ValueError as error:
                raise OutputError(f"{path} is damaged, so that run cannot be continued") from error
            changed = [name for name in fingerprint if stored.get(name) != fingerprint[name]]
            if changed:
                raise InputError(
                    f"resume=True needs the arguments and inputs of the run in "
                    f"{workspace.directory}, got other {', '.join(changed)}; give those, or begin "
                    f"a new run in another work_dir"
                )
            return
        in_the_way = [folder for folder in folders(workspace.directory) if not is_free(folder)]
        if in_the_way:
            raise OutputError(
                f"{workspace.directory} is in the way, of a run that is going on or was "
                f"interrupted: it holds {in_the_way[0].name}; pass resume=True to continue that "
                f"run, or remove all of it, or pass another work_dir"
            )
        workspace.folder(0).mkdir(mode=0o700, exist_ok=True)
        write_whole(path, json.dumps(fingerprint))

    def _finish(self, workspace: Workspace) -> None:
        """Run what is left."""
        left = self._rows[~np.isin(self._rows["row"], self._finished(workspace))]
        try:
            if self._request.slots and len(left):
                self._run_in_workers(workspace, left)
            elif len(left):
                self._run_on_disk(workspace, left)
        except BaseException as error:
            self._clean_up(workspace, error)
            raise

    def _fingerprint(self) -> dict[str, Any]:
        """Return what decides the numbers, as JSON values."""
        job, model = self._job, self._job.predictor.model
        if self._images is None:
            inputs: Any = hashlib.sha256(json.dumps(job.sources.sets).encode()).hexdigest()
        else:
            inputs = [image.identity() for image in self._images]
        return {
            "version": __version__,
            "catalog": hashlib.sha256(self._rows.tobytes()).hexdigest(),
            "arguments": json.loads(json.dumps(asdict(job.cut))),
            "columns": job.predictor.names,
            "derived": hashlib.sha256(pickle_model(job.predictor.columns)).hexdigest(),
            "output_dtype": job.predictor.dtype,
            "aperture": job.predictor.aperture,
            "model": model.factory if isinstance(model, FactoryModel) else "an object",
            "model_inputs": inputs,
            "bands": job.sources.layout,
        }

    def _run_here(
        self,
        job: CatalogJob,
        rows: NDArray[Any],
        on_records: Callable[[NDArray[Any]], object],
        total: int,
    ) -> None:
        images = self._images
        opener = job.open_set if images is None else lambda _: nullcontext(images)
        with progress_bar(total, total - len(rows), self._request.progress, "rows") as on_rows:
            run_rows(job, rows, opener, self._request.prefetch, on_records, on_rows)

    def _run_on_disk(self, workspace: Workspace, left: NDArray[Any]) -> None:
        job = witnessed(self._job, workspace)
        with RecordFile(record_path(workspace, 0), job.predictor.record_type) as file:
            self._run_here(job, left, file.append, len(self._rows))

    def _run_in_workers(self, workspace: Workspace, left: NDArray[Any]) -> None:
        shares = shares_of(left, len(self._request.slots))
        for index, share in enumerate(shares):
            workspace.folder(index).mkdir(mode=0o700, exist_ok=True)
            np.save(rows_path(workspace, index), share)
        sources = replace(self._job.sources, set_of_row=np.empty(0, np.int64))  # they have rows
        if self._images is not None:
            folder = workspace.folder(0)
            places = [
                image.store(folder / f"input_{k}.npy") for k, image in enumerate(self._images)
            ]
            sources = replace(sources, sets=[places])
        workspace.store_model(pickle_model(replace(self._job, sources=sources)), len(shares))
        pool = Pool(
            workspace,
            [f"{len(share)} rows of the catalogue" for share in shares],
            self._request.slots,
            self._request.prefetch,
            lambda index: bool(
                np.isin(shares[index]["row"], self._rows_in(workspace, index)).all()
            ),
            "morpheus_core.parallel.catalog_worker",
        )
        total, done = len(self._rows), len(self._rows) - len(left)
        with progress_bar(total, done, self._request.progress, "rows") as on_rows:
            pool.run(range(len(shares)), on_rows, 1.0)
        for index in range(len(shares)):
            text = workspace.log_path(index).read_text(errors="replace").strip()
            if text:
                logger.warning("worker %d said: %s", index, text)

    def _rows_in(self, workspace: Workspace, index: int) -> Int64:
        records = read_records(record_path(workspace, index), self._job.predictor.record_type)
        return records["row"]

    def _read(self, workspace: Workspace) -> Iterator[NDArray[Any]]:
        for folder in folders(workspace.directory):
            yield read_records(folder / "records", self._job.predictor.record_type)

    def _finished(self, workspace: Workspace) -> Int64:
        """Return the numbers of the rows that need not be run again."""
        rows = [r["row"][~np.isin(r["status"], TRIED_AGAIN)] for r in self._read(workspace)]
        return np.concatenate([np.empty(0, np.int64), *rows])

    def _clean_up(self, workspace: Workspace, error: BaseException) -> None:
        """Leave nothing of a run that has finished no row, and say what is left of any other."""
        if any(len(records) for records in self._read(workspace)):
            error.add_note(
                f"What is finished is kept in {workspace.directory}: resume=True continues from "
                f"there."
            )
            return
        for folder in folders(workspace.directory):
            clear(folder, {LOG} if isinstance(error, WorkerError) else set())


def witnessed(job: CatalogJob, workspace: Workspace) -> CatalogJob:
    """Return a job whose model has predicted what it did when the run began.

    Raises
    ------
    ModelError
        If it is another model.
    """
    witness = CatalogWitness(job.predictor.model, workspace.first_batch_path(0))
    witness.compare()
    return replace(job, predictor=replace(job.predictor, model=witness))


class CatalogWitness(Witness):
    """A witness that keeps its first windows too: rows are in other batches when a run goes on."""

    @property
    def _windows_path(self) -> Path:
        return self._path.with_name("first_windows.npz")

    def compare(self) -> None:
        """Raise unless the model predicts what was predicted before, if anything was."""
        self.testify(self._stored)

    def _stored(self) -> Batch:
        with np.load(self._windows_path) as arrays:
            windows = [arrays[f"arr_{k}"] for k in range(len(arrays))]
        none = np.empty(0, np.int64)
        return Batch(windows, none, none)

    def __call__(self, windows: list[NDArray[Any]]) -> Any:
        """Predict, and keep the first windows and predictions."""
        if not self._path.exists():
            np.savez(self._windows_path, *windows)
        return super().__call__(windows)


def shares_of(rows: NDArray[Any], n_workers: int) -> list[NDArray[Any]]:
    """Cut rows into a share for each worker, between sets if there are enough of them."""
    cuts = np.arange(1, n_workers) * len(rows) // n_workers
    if rows["set"][-1] - rows["set"][0] >= n_workers:
        cuts = np.searchsorted(rows["set"], rows["set"][cuts])
    return [share for share in np.split(rows, cuts) if len(share)]


def remove_if_empty(directory: Path) -> None:
    """Remove a directory that holds nothing."""
    with suppress(OSError):
        directory.rmdir()


def folders(directory: Path) -> list[Path]:
    """Return the folders of a run, "0", "1", ..."""
    found = directory.iterdir() if directory.is_dir() else ()
    numbers = sorted(int(path.name) for path in found if path.name.isdecimal() and path.is_dir())
    return [directory / str(number) for number in numbers]


def rows_path(workspace: Workspace, index: int) -> Path:
    """Return where the rows of a worker are."""
    return workspace.folder(index) / "rows.npy"


def record_path(workspace: Workspace, index: int) -> Path:
    """Return where the records of a worker are."""
    return workspace.folder(index) / "records"
