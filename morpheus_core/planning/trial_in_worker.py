"""A trial in the process of a worker."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from morpheus_core.images.stack import ImageStack
from morpheus_core.parallel.devices import Environment
from morpheus_core.parallel.pieces import OnSteps, Watch
from morpheus_core.parallel.processes import Processes
from morpheus_core.pipeline.job import Job
from morpheus_core.pipeline.models import Model, pickle_model
from morpheus_core.planning.trials import Trial, try_strip
from morpheus_core.storage.names import is_there
from morpheus_core.storage.whole_files import write_text
from morpheus_core.windows.grid import Strip
from morpheus_core.workspace.folders import Workspace
from morpheus_core.workspace.plan import Plan
from morpheus_core.workspace.work import StripWork


@dataclass(frozen=True, kw_only=True)
class TrialWork(StripWork):
    """The one strip of a run, which is only tried.

    Attributes
    ----------
    started : float
        When its process was started, in seconds of the clock.
    """

    started: float

    def record_path(self, index: int) -> Path:
        """Return where it is written what the strip took."""
        return self.folders.folder(index) / "trial.json"

    def is_finished(self, index: int) -> bool:
        """Say whether the strip was tried."""
        return is_there(self.record_path(index))

    def do(self, index: int, loaded: Model, on_steps: OnSteps) -> None:
        """Write what the strip took, and what came before since the process was started."""
        with self.open_strip(index) as strip:
            start_seconds = time.time() - self.started
            trial = try_strip(strip.job, strip.strip, strip.stack, loaded, self.prefetch)
        found = asdict(replace(trial, start_seconds=start_seconds))
        write_text(self.record_path(index), json.dumps(found))


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
        plan = Plan.make(job, stack, [strip], factory, apart=False, sink="fits")
        workspace.create(plan, job.update_map, overwrite=False)
        workspace.store_inputs(stack)
        if pickled is not None:
            workspace.store_model(pickled)
        stored = sum(path.stat().st_size for path in workspace.folder(0).iterdir())
        work = TrialWork(directory=directory, prefetch=prefetch, started=time.time())
        Processes(work, [slot]).run([0], Watch(None), interval=1.0)
        trial = Trial(**json.loads(work.record_path(0).read_text()))
    speeds = {int(size): speed for size, speed in trial.speeds.items()}  # JSON made texts of them
    return replace(trial, stored_bytes=stored, speeds=speeds)
