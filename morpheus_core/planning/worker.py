"""A trial in the process of a worker.

``python -m morpheus_core.planning.worker DIR RESULT PARENT_PID PREFETCH STARTED``, started at
that time, tries the strip that is stored in a folder and writes what it took to a file of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

from morpheus_core.errors import WorkerError
from morpheus_core.images.stack import ImageStack
from morpheus_core.parallel.devices import Environment
from morpheus_core.parallel.pool import end_group, how_it_ended, start_python, tail
from morpheus_core.parallel.worker import do_and_exit, open_run, open_strip
from morpheus_core.pipeline.job import Job
from morpheus_core.pipeline.models import Model, pickle_model
from morpheus_core.planning.trials import Trial, try_strip
from morpheus_core.storage.whole_files import write_text
from morpheus_core.windows.grid import Strip
from morpheus_core.workspace.folders import Workspace
from morpheus_core.workspace.plan import Plan


def try_in_worker(
    job: Job,
    stack: ImageStack,
    model: Model | str,
    strip: Strip,
    slot: Environment,
    prefetch: int,
) -> Trial:
    """Try a strip in a process that is started and limited as a worker is.

    Raises
    ------
    ModelError
        If the model cannot be sent.
    WorkerError
        If the worker fails.
    """
    factory = model if isinstance(model, str) else None
    pickled = None if isinstance(model, str) else pickle_model(model)
    with tempfile.TemporaryDirectory(prefix="morpheus_core-") as directory:
        workspace = Workspace(Path(directory))
        workspace.create(Plan.make(job, stack, [strip], factory), job.update_map, overwrite=False)
        workspace.store_inputs(stack)
        if pickled is not None:
            workspace.store_model(pickled)
        stored = sum(path.stat().st_size for path in workspace.folder(0).iterdir())
        trial = Trial(**json.loads(run(workspace, slot, prefetch)))
    return replace(trial, stored_bytes=stored)


def run(workspace: Workspace, slot: Environment, prefetch: int) -> str:
    """Return what the worker found."""
    result, log_path = workspace.directory / "trial.json", workspace.log_path(0)
    with log_path.open("wb") as log:
        arguments = [workspace.directory, result, os.getpid(), prefetch, time.time()]
        process = start_python("morpheus_core.planning.worker", arguments, slot, log)
    try:
        code = process.wait()
    finally:
        end_group(process)
    if code != 0 or not result.exists():
        raise WorkerError(f"the trial {how_it_ended(code)}; its log ends with\n{tail(log_path)}")
    return result.read_text()


def main(directory: str, result: str, parent: str, prefetch: str, started: str) -> None:
    """Try the strip."""
    workspace = Workspace(Path(directory))
    do_and_exit(
        lambda: write_trial(workspace, Path(result), int(prefetch), float(started)),
        workspace.error_path(0),
        int(parent),
    )


def write_trial(workspace: Workspace, result: Path, prefetch: int, started: float) -> None:
    """Write what the strip took, and what came before since this process was started."""
    plan, model = open_run(workspace)
    with open_strip(workspace, plan, 0) as strip:
        start_seconds = time.time() - started
        trial = try_strip(strip.job, strip.strip, strip.stack, model, prefetch)
    write_text(result, json.dumps(asdict(replace(trial, start_seconds=start_seconds))))


if __name__ == "__main__":
    main(*sys.argv[1:])
