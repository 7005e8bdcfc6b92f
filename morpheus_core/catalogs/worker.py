"""A worker that runs rows of a catalogue.

``python -m morpheus_core.catalogs.worker WORK_DIR INDEX PARENT_PID PREFETCH``
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace

import numpy as np

from morpheus_core.catalogs.folders import record_path, rows_path
from morpheus_core.catalogs.records import RecordFile
from morpheus_core.catalogs.runs import CatalogJob, run_rows, witnessed
from morpheus_core.parallel.counters import WindowCounter
from morpheus_core.parallel.worker import OnOneGpu, main
from morpheus_core.pipeline.models import unpickle_model
from morpheus_core.workspace.folders import Workspace


def run(workspace: Workspace, index: int, prefetch: int) -> None:
    """Run the rows of a worker."""
    job = open_job(workspace)
    if index == 0:
        job = witnessed(job, workspace)
    with (
        job.sources.opener() as open_set,
        RecordFile(record_path(workspace, index), job.predictor.record_type) as file,
        WindowCounter(workspace.progress_path(index)) as count,
    ):
        rows = np.load(rows_path(workspace, index))
        run_rows(job, rows, open_set, prefetch, file.append, count)


def open_job(workspace: Workspace) -> CatalogJob:
    """Load what was stored for all workers."""
    pickled = workspace.stored_model()
    assert pickled is not None, "it was stored before any worker began"
    job = unpickle_model(pickled)
    assert isinstance(job, CatalogJob)
    if os.environ["CUDA_VISIBLE_DEVICES"]:
        job = replace(job, predictor=replace(job.predictor, model=OnOneGpu(job.predictor.model)))
    return job


if __name__ == "__main__":
    main(run, *sys.argv[1:])
