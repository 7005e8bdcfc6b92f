"""Running the rows of a catalogue: in memory, or with records on disk, here or in workers."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morpheus_core.catalogs.answers import RowPredictor, Values
from morpheus_core.catalogs.batches import ROW
from morpheus_core.catalogs.choices import catalog_path
from morpheus_core.catalogs.folders import (
    file_states_path,
    folders_of,
    record_path,
    refuse_what_is_in_the_way,
    rows_path,
)
from morpheus_core.catalogs.positions import Positions
from morpheus_core.catalogs.records import RecordFile, bring_together, read_records
from morpheus_core.catalogs.sources import Int64, StoredImage
from morpheus_core.catalogs.statuses import Status
from morpheus_core.catalogs.work import (
    CatalogJob,
    CatalogWork,
    OnRecords,
    blocks_of,
    rows_of,
    run_rows,
    witnessed,
)
from morpheus_core.errors import WorkerError
from morpheus_core.images.image import Image
from morpheus_core.images.stack import stored_paths
from morpheus_core.parallel.choice import Workers
from morpheus_core.parallel.folders import LOG, Folders, clear
from morpheus_core.parallel.pieces import Watch
from morpheus_core.pipeline.models import FactoryModel, pickle_model
from morpheus_core.progress import progress_bar
from morpheus_core.storage.names import is_there
from morpheus_core.storage.whole_files import save_array, write_text
from morpheus_core.workspace.fingerprints import BUILD, refuse_other_run, state_of

logger = logging.getLogger("morpheus_core")

#: Rows that a resumed run tries again.
TRIED_AGAIN = (Status.MISSING_FILE, Status.UNREADABLE_FILE)
#: Batches of a block of rows, at least: a block opens its images anew.
LEAST_BATCHES = 4


@dataclass(frozen=True, slots=True)
class CatalogRequest:
    """How a run is done: see :func:`morpheus_core.predict_catalog`."""

    directory: Path | None
    workers: Workers
    resume: bool
    progress: bool


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
        self._is_resumed = False

    def run(self, on_records: OnRecords) -> None:
        """Finish all rows, and hand over their records; the directory must be held."""
        if self._request.directory is None:
            self._run_here(self._job, self._rows, on_records, len(self._rows))
            return
        folders = Folders(self._request.directory)
        self._begin(folders)
        self._finish(folders)
        for records in self._read(folders):
            on_records(records)

    def _begin(self, folders: Folders) -> None:
        """Note what is run, or make sure that it is what was begun here."""
        path, fingerprint = catalog_path(folders), self._fingerprint()
        resumed = is_there(path) and self._request.resume
        refuse_what_is_in_the_way(folders.directory, resumed)
        # Without how files were, it was being removed: all else had gone before.
        self._is_resumed = resumed and is_there(file_states_path(folders))
        if self._is_resumed:
            folders.close_session()  # of an executor that may still be at it
            refuse_other_run(path, fingerprint)
            self._keep_what_counts(folders)
            return
        states = self._file_states()
        folders.folder(0).mkdir(mode=0o700, exist_ok=True)
        save_array(file_states_path(folders), states)
        write_text(path, json.dumps(fingerprint))

    def _keep_what_counts(self, folders: Folders) -> None:
        """Forget the rows that a resumed run tries again."""
        states, before = self._file_states(), np.load(file_states_path(folders))
        states = np.where(states < 0, before, states)  # what is not there has not changed
        changed = self._rows["row"][(states != before).any(axis=(1, 2))[self._rows["set"]]]
        if len(changed):
            logger.warning("rows run again, since their files have changed: %d", len(changed))
        has_changed: NDArray[np.bool_] = np.zeros(self._rows["row"].max(initial=-1) + 1, bool)
        has_changed[changed] = True

        def counts(records: NDArray[Any]) -> NDArray[np.bool_]:
            tried_again = np.isin(records["status"], TRIED_AGAIN)
            return np.asarray(~(tried_again | has_changed[records["row"]]))

        paths = [folder / "records" for folder in folders_of(folders.directory)]
        bring_together(paths, self._record_type, counts)
        save_array(file_states_path(folders), states)  # last: until then they have changed

    def _file_states(self) -> Int64:
        """Return size and time of the last change, (sets, files, 2), of files in templates."""
        sets = self._job.sources.paths
        states = [state_of(path) for paths in sets for path in paths]
        return np.array(states, np.int64).reshape(len(sets), len(sets[0]) if sets else 0, 2)

    def _finish(self, folders: Folders) -> None:
        """Run what is left."""
        left = self._rows[~np.isin(self._rows["row"], rows_of(self._read(folders)))]
        try:
            if self._request.workers and len(left):
                self._run_in_workers(folders, left)
            elif len(left):
                self._run_on_disk(folders, left)
        except BaseException as error:
            self._clean_up(folders, error)
            raise

    def _fingerprint(self) -> dict[str, Any]:
        """Return what decides the numbers, as JSON values."""
        job, model = self._job, self._job.predictor.model
        if self._images is None:
            inputs: Any = hashlib.sha256(json.dumps(job.sources.sets).encode()).hexdigest()
        else:
            inputs = [image.identity() for image in self._images]
        return {
            **BUILD,
            "catalog": hashlib.sha256(self._rows.data).hexdigest(),
            **json.loads(json.dumps(asdict(job.cut))),
            "columns": job.predictor.names,
            "derived": hashlib.sha256(pickle_model(job.predictor.columns)).hexdigest(),
            "output_dtype": job.predictor.dtype,
            "aperture": job.predictor.aperture,
            "threads": job.threads,
            "memory_format": job.memory_format,
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
            run_rows(job, rows, open_set, self._request.workers.prefetch, on_records, on_rows)

    def _run_on_disk(self, folders: Folders, left: NDArray[Any]) -> None:
        job = witnessed(self._job, folders)
        with RecordFile(record_path(folders, 0), job.predictor.record_type) as file:
            self._run_here(job, left, file.append, len(self._rows))

    def _run_in_workers(self, folders: Folders, left: NDArray[Any]) -> None:
        workers = self._request.workers
        most = -(-len(left) // (LEAST_BATCHES * self._job.cut.batch_size))
        blocks = blocks_of(left, workers.pieces(most))
        for index, block in enumerate(blocks):
            folders.folder(index).mkdir(mode=0o700, exist_ok=True)
            np.save(rows_path(folders, index), block)
            folders.log_path(index).unlink(missing_ok=True)  # of a run that was interrupted
        sources, inputs = self._job.sources, list[Path]()
        if self._images is not None:
            folder = folders.folder(0)
            stored = [
                StoredImage.of(image, folder / f"input_{k}.npy")
                for k, image in enumerate(self._images)
            ]
            sources = replace(sources, sets=[stored])
            inputs = stored_paths({"images": [one.place for one in stored], "mask": None})
        folders.store_model(pickle_model(replace(self._job, sources=sources)))
        work = CatalogWork(
            directory=str(folders.directory.absolute()),
            prefetch=workers.prefetch,
            threads=workers.threads,
            record_type=self._record_type,
            inputs=tuple(map(str, inputs)),
            is_resumed=self._is_resumed,
        )
        steps = {index: len(block) for index, block in enumerate(blocks)}
        total, done = len(self._rows), len(self._rows) - len(left)
        with progress_bar(total, done, self._request.progress, "rows") as on_rows:
            workers.run(work, steps, Watch(on_rows))
        for index in range(len(workers.slots)):
            text = self._log_of(folders, index)
            if text:
                logger.info("worker %d said: %s", index, text)

    def _log_of(self, folders: Folders, index: int) -> str:
        """Return what a worker has printed."""
        path = folders.log_path(index)
        return path.read_text(errors="replace").strip() if is_there(path) else ""

    def _read(self, folders: Folders) -> Iterator[NDArray[Any]]:
        for folder in folders_of(folders.directory):
            yield from read_records(folder / "records", self._record_type)

    def _clean_up(self, folders: Folders, error: BaseException) -> None:
        """Leave nothing of a run that has finished no row, and say what is left of any other."""
        if next(self._read(folders), None) is not None:
            error.add_note(
                f"What is finished is kept in {folders.directory}: resume=True continues from "
                f"there."
            )
            return
        for folder in folders_of(folders.directory):
            clear(folder, {LOG} if isinstance(error, WorkerError) else set())


def collect(
    run: CatalogRun, predictor: RowPredictor, statuses: NDArray[np.uint8]
) -> tuple[Values, NDArray[np.uint8]]:
    """Run, and return values and statuses, (rows,), in the catalogue's order."""
    values, left = predictor.empty(len(statuses)), np.ones(len(statuses), bool)

    def take(records: NDArray[Any]) -> None:
        for name, found in values.items():
            found[records["row"]] = records[name]
        statuses[records["row"]] = records["status"]
        left[records["row"]] = False

    run.run(take)
    for found in values.values():
        found[left] = np.nan
    return values, statuses
