"""A trial in the process of a worker.

``python -m morpheus_core.parallel.trial OUT_DIR RESULT PARENT_PID`` tries the first strip of a run
and writes what it took to a file of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from morpheus_core.errors import WorkerError
from morpheus_core.inputs import ImageStack
from morpheus_core.models import Model, pickle_model
from morpheus_core.parallel.devices import Environment
from morpheus_core.parallel.pool import end_group, how_it_ended, start_python, tail
from morpheus_core.parallel.worker import end_with, open_strip
from morpheus_core.pipeline import Job
from morpheus_core.run_plan import Plan
from morpheus_core.trials import Trial, try_strip
from morpheus_core.windows import Strip
from morpheus_core.workspace import Workspace, write_whole


def try_in_worker(
    job: Job, stack: ImageStack, model: Model | str, strips: Sequence[Strip], slot: Environment
) -> Trial:
    """Try the first strip in a process that is started and limited as a worker is.

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
        plan = Plan.make(job, stack, list(strips), factory)
        workspace.create(plan, job.update_map, overwrite=False)
        workspace.store_inputs(stack)
        if pickled is not None:
            workspace.store_model(pickled, 1)
        stored = sum(path.stat().st_size for path in workspace.folder(0).iterdir())
        start = time.perf_counter()
        result = json.loads(run(workspace, slot))
        started = time.perf_counter() - start - result.pop("seconds")
    return Trial(**{**result, "start_seconds": started, "stored_bytes": stored})


def run(workspace: Workspace, slot: Environment) -> str:
    """Return what the worker found."""
    result, log_path = workspace.directory / "trial.json", workspace.log_path(0)
    with log_path.open("wb") as log:
        arguments = [workspace.directory, result, os.getpid()]
        process = start_python("morpheus_core.parallel.trial", arguments, slot, log)
    try:
        code = process.wait()
    finally:
        end_group(process)
    if code != 0 or not result.exists():
        raise WorkerError(f"the trial {how_it_ended(code)}; its log ends with\n{tail(log_path)}")
    return result.read_text()


def main(directory: str, result: str, parent: str) -> None:
    """Try the first strip."""
    threading.Thread(target=end_with, args=(int(parent),), daemon=True).start()
    with open_strip(Workspace(Path(directory)), 0) as (strip, model, _):
        start = time.perf_counter()
        trial = try_strip(strip.job, strip.strip, strip.stack, model)
        seconds = time.perf_counter() - start
    write_whole(Path(result), json.dumps({**asdict(trial), "seconds": seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:])
