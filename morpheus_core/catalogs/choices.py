"""What a run over a catalogue chooses when it begins."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from morpheus_core.catalogs.batches import OpenSet, RowBatch, batches_of
from morpheus_core.catalogs.work import CatalogJob
from morpheus_core.images.image import Image
from morpheus_core.parallel.folders import Folders
from morpheus_core.pipeline.batch_sizes import SIZES, FirstWindows
from morpheus_core.pipeline.choices import choose, is_open
from morpheus_core.pipeline.models import FactoryModel
from morpheus_core.storage.names import is_there

#: Rows among which there are windows for the largest batch, also if some are off their images.
FIRST_ROWS = 8 * SIZES[-1]


def catalog_path(folders: Folders) -> Path:
    """Return where it is noted what is run."""
    return folders.folder(0) / "catalog.json"


def with_choices(
    job: CatalogJob,
    batch_size: int | None,
    images: list[Image] | None,
    rows: NDArray[Any],
    begun: Path | None,
) -> CatalogJob:
    """Return a job for which nothing is left open.

    Parameters
    ----------
    job : CatalogJob
        What to do.
    batch_size : int or None
        How many windows the model gets at once; None is to be chosen.
    images : list of Image or None
        The images of all rows, if they are the same.
    rows : ndarray of ROW
        In order.
    begun : Path or None
        The folder of a run that may go on.

    Raises
    ------
    ModelError
        If the model fails.
    """
    model = job.predictor.model
    if not is_open(model, batch_size):
        return job
    path = None if begun is None else catalog_path(Folders(begun))
    stored = json.loads(path.read_text()) if path is not None and is_there(path) else None
    with job.sources.opener() as opener:
        open_set: OpenSet = opener if images is None else lambda _: nullcontext(images)
        named = model.factory if isinstance(model, FactoryModel) else model
        chosen = choose(named, batch_size, windows_of(job, rows, open_set), stored)
    return replace(
        job,
        predictor=replace(
            job.predictor, model=model if isinstance(chosen.model, str) else chosen.model
        ),
        cut=replace(job.cut, batch_size=chosen.batch_size),
        memory_format=chosen.memory_format,
    )


def windows_of(job: CatalogJob, rows: NDArray[Any], open_set: OpenSet) -> FirstWindows:
    """Return what gives the windows of the first rows."""

    def first_windows(size: int) -> list[NDArray[Any]] | None:
        cut = replace(job.cut, batch_size=size)
        batches = batches_of(rows[:FIRST_ROWS], cut, open_set)
        found = (one.windows for one in batches if isinstance(one, RowBatch) and len(one))
        return next(found, None)

    return first_windows
