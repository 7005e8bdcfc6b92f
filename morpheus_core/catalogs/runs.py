"""Running the rows of a catalogue: in memory, or with records on disk, here or in workers."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morpheus_core.catalogs.answers import Doubt, RowPredictor
from morpheus_core.catalogs.batches import ROW, Cut, OpenSet, batches_of
from morpheus_core.catalogs.folders import (
    file_states_path,
    folders,
    record_path,
    refuse_what_is_in_the_way,
    rows_path,
)
from morpheus_core.catalogs.positions import Positions
from morpheus_core.catalogs.records import RecordFile, bring_together, read_records
from morpheus_core.catalogs.sources import Int64, Sources, StoredImage
from morpheus_core.catalogs.statuses import Status
from morpheus_core.errors import InputError, OutputError, WorkerError
from morpheus_core.images.image import Image
from morpheus_core.parallel.devices import Environment
from morpheus_core.parallel.pool import Pool
from morpheus_core.pipeline.batches import Batch
from morpheus_core.pipeline.models import FactoryModel, pickle_model
from morpheus_core.pipeline.overlap import Ahead
from morpheus_core.progress import progress_bar
from morpheus_core.storage.whole_files import save_array, write_text
from morpheus_core.version import __version__
from morpheus_core.workspace.folders import LOG, Workspace, clear
from morpheus_core.workspace.witness import Witness

logger = logging.getLogger("morpheus_core")

#: Characters of values that are shown.
LONGEST_VALUE = 40
#: Rows that a resumed run tries again.
TRIED_AGAIN = (Status.MISSING_FILE, Status.UNREADABLE_FILE)

OnRecords = Callable[[NDArray[Any]], object]


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
    on_records: OnRecords,
    on_rows: Callable[[int], object],
) -> None:
    """Run rows and hand over their records."""
    doubt = Doubt()
    with Ahead(batches_of(rows, job.cut, opener), prefetch) as batches:
        for batch in batches:
            if len(batch):
                records = job.predictor.records(batch)
                doubt.look(records["status"])
                on_records(records)
                on_rows(len(batch))


@dataclass(frozen=True, slots=True)
class Rows:
    """What becomes of the rows of a catalogue before any image is read.

    Attributes
    ----------
    to_run : ndarray of ROW
        By image, and from one end of the sky on.
    statuses : ndarray of uint8, (rows of the catalogue,)
        Why the others are not run.
    """

    to_run: NDArray[Any]
    statuses: NDArray[np.uint8]


def in_order(positions: Positions, set_of_row: Int64) -> Rows:
    """Put rows in order, which are cut from these sets of images, -1 where they name no files."""
    first, second, there = positions.first, positions.second, positions.there
    order = np.lexsort((first, second, set_of_row))
    order = order[(there & (set_of_row >= 0))[order]]
    rows = np.empty(len(order), ROW)
    for name, values in {"set": set_of_row, "first": first, "second": second}.items():
        rows[name] = values[order]
    rows["row"] = order
    statuses = np.full(len(there), Status.NO_POSITION, np.uint8)
    statuses[there] = Status.MISSING_FILE
    statuses[positions.bad] = Status.BAD_POSITION
    return Rows(rows, statuses)


class CatalogRun:
    """A run of a catalogue, whose records may be kept in folders until they are in a table.

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
        self._record_type = job.predictor.record_type

    def run(self, on_records: OnRecords) -> None:
        """Finish all rows, and hand over their records; the directory must be held."""
        if self._request.directory is None:
            self._run_here(self._job, self._rows, on_records, len(self._rows))
            return
        workspace = Workspace(self._request.directory)
        self._begin(workspace)
        self._finish(workspace)
        for records in self._read(workspace):
            on_records(records)

    def _begin(self, workspace: Workspace) -> None:
        """Note what is run, or make sure that it is what was begun here."""
        path, fingerprint = workspace.folder(0) / "catalog.json", self._fingerprint()
        resumed = path.exists() and self._request.resume
        refuse_what_is_in_the_way(workspace.directory, resumed)
        if resumed:
            refuse_other_run(path, fingerprint)
            self._keep_what_counts(workspace)
            return
        states = self._file_states()
        workspace.folder(0).mkdir(mode=0o700, exist_ok=True)
        save_array(file_states_path(workspace), states)
        write_text(path, json.dumps(fingerprint))

    def _keep_what_counts(self, workspace: Workspace) -> None:
        """Forget the rows that a resumed run tries again."""
        states, before = self._file_states(), np.load(file_states_path(workspace))
        states = np.where(states < 0, before, states)  # what is not there has not changed
        changed = self._rows["row"][(states != before).any(axis=(1, 2))[self._rows["set"]]]
        if len(changed):
            logger.warning("rows run again, since their files have changed: %d", len(changed))
        has_changed: NDArray[np.bool_] = np.zeros(self._rows["row"].max(initial=-1) + 1, bool)
        has_changed[changed] = True

        def counts(records: NDArray[Any]) -> NDArray[np.bool_]:
            tried_again = np.isin(records["status"], TRIED_AGAIN)
            return np.asarray(~(tried_again | has_changed[records["row"]]))

        paths = [folder / "records" for folder in folders(workspace.directory)]
        bring_together(paths, self._record_type, counts)
        save_array(file_states_path(workspace), states)  # last: until then they have changed

    def _file_states(self) -> Int64:
        """Return size and time of the last change, (sets, files, 2), of files in templates."""
        sets = self._job.sources.paths
        states = [state_of(path) for paths in sets for path in paths]
        return np.array(states, np.int64).reshape(len(sets), len(sets[0]) if sets else 0, 2)

    def _finish(self, workspace: Workspace) -> None:
        """Run what is left."""
        left = self._rows[~np.isin(self._rows["row"], rows_of(self._read(workspace)))]
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
            "catalog": hashlib.sha256(self._rows.data).hexdigest(),
            **json.loads(json.dumps(asdict(job.cut))),
            "columns": job.predictor.names,
            "derived": hashlib.sha256(pickle_model(job.predictor.columns)).hexdigest(),
            "output_dtype": job.predictor.dtype,
            "aperture": job.predictor.aperture,
            "model": model.factory if isinstance(model, FactoryModel) else "an object",
            "model_inputs": inputs,
            "world_coordinates": self._headers() if job.cut.on_sky else None,
            "bands": job.sources.layout,
        }

    def _headers(self) -> list[str]:
        """Return digests of the headers of images, which may differ from those of their files."""
        texts = (image.header.tostring() for image in self._images or () if image.header)
        return [hashlib.sha256(text.encode()).hexdigest() for text in texts]

    def _run_here(
        self,
        job: CatalogJob,
        rows: NDArray[Any],
        on_records: OnRecords,
        total: int,
    ) -> None:
        images, shown = self._images, self._request.progress
        with (
            job.sources.opener() as opener,
            progress_bar(total, total - len(rows), shown, "rows") as on_rows,
        ):
            open_set = opener if images is None else lambda _: nullcontext(images)
            run_rows(job, rows, open_set, self._request.prefetch, on_records, on_rows)

    def _run_on_disk(self, workspace: Workspace, left: NDArray[Any]) -> None:
        job = witnessed(self._job, workspace)
        with RecordFile(record_path(workspace, 0), job.predictor.record_type) as file:
            self._run_here(job, left, file.append, len(self._rows))

    def _run_in_workers(self, workspace: Workspace, left: NDArray[Any]) -> None:
        shares = shares_of(left, len(self._request.slots))
        for index, share in enumerate(shares):
            workspace.folder(index).mkdir(mode=0o700, exist_ok=True)
            np.save(rows_path(workspace, index), share)
            workspace.log_path(index).unlink(missing_ok=True)  # of a run that was interrupted
        sources = self._job.sources
        if self._images is not None:
            folder = workspace.folder(0)
            stored = [
                StoredImage.of(image, folder / f"input_{k}.npy")
                for k, image in enumerate(self._images)
            ]
            sources = replace(sources, sets=[stored])
        workspace.store_model(pickle_model(replace(self._job, sources=sources)))
        pool = Pool(
            workspace,
            [f"{len(share)} rows of the catalogue" for share in shares],
            self._request.slots,
            self._request.prefetch,
            lambda index: self._is_finished(workspace, index, shares[index]),
            "morpheus_core.catalogs.worker",
        )
        total, done = len(self._rows), len(self._rows) - len(left)
        with progress_bar(total, done, self._request.progress, "rows") as on_rows:
            pool.run(range(len(shares)), on_rows, 1.0)
        for index in range(len(shares)):
            text = workspace.log_path(index).read_text(errors="replace").strip()
            if text:
                logger.warning("worker %d said: %s", index, text)

    def _is_finished(self, workspace: Workspace, index: int, share: NDArray[Any]) -> bool:
        """Say whether a worker has answered all its rows."""
        records = read_records(record_path(workspace, index), self._record_type)
        return bool(np.isin(share["row"], rows_of(records)).all())

    def _read(self, workspace: Workspace) -> Iterator[NDArray[Any]]:
        for folder in folders(workspace.directory):
            yield from read_records(folder / "records", self._record_type)

    def _clean_up(self, workspace: Workspace, error: BaseException) -> None:
        """Leave nothing of a run that has finished no row, and say what is left of any other."""
        if next(self._read(workspace), None) is not None:
            error.add_note(
                f"What is finished is kept in {workspace.directory}: resume=True continues from "
                f"there."
            )
            return
        for folder in folders(workspace.directory):
            clear(folder, {LOG} if isinstance(error, WorkerError) else set())


def refuse_other_run(path: Path, fingerprint: dict[str, Any]) -> None:
    """Raise unless what was noted of a run is what is to be run."""
    try:
        stored = json.loads(path.read_text())
    except ValueError as error:
        raise OutputError(f"{path} is damaged, so that run cannot be continued") from error
    changed = [
        change_of(name, stored.get(name), value)
        for name, value in fingerprint.items()
        if stored.get(name) != value
    ]
    if changed:
        raise InputError(
            f"resume=True needs the arguments and inputs of the run in {path.parent.parent}, got "
            f"other {', '.join(changed)}; give those, or begin a new run in another work_dir"
        )


def change_of(name: str, before: Any, now: Any) -> str:
    """Name an argument that has changed, with its values if they are short, as digests are not."""
    texts = [json.dumps(value) for value in (now, before)]
    short = max(map(len, texts)) <= LONGEST_VALUE
    return f"{name} ({texts[0]} in place of {texts[1]})" if short else name


def state_of(path: Path) -> tuple[int, int]:
    """Return size and time of the last change of a file, -1 if there is none."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # a name that no file can have, for instance
        return -1, -1
    return status.st_size, status.st_mtime_ns


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


def rows_of(records: Iterable[NDArray[Any]]) -> Int64:
    """Return the numbers of the rows of records."""
    # Copies: a view would keep all of its record in memory.
    return np.concatenate([np.empty(0, np.int64), *(part["row"].copy() for part in records)])
