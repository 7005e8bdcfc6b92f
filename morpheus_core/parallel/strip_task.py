"""What travels to the workers of an executor, and what they do there."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from morpheus_core.errors import WorkerError
from morpheus_core.models import Model
from morpheus_core.parallel.counters import PROGRESS_INTERVAL, WindowCounter
from morpheus_core.parallel.worker import load_model, run_stored_strip
from morpheus_core.version import __version__
from morpheus_core.workspace import Workspace

#: One strip at a time in each process: there is one model, and it may return the same memory
#: each time.
ONE_STRIP = threading.Lock()


@dataclass(frozen=True, slots=True)
class StripTask:
    """A strip of a run on disk. All else is in the run's folders.

    Attributes
    ----------
    directory : str
        The users' `out_dir`, absolute.
    session : str
        For which going at the run it is; it ends when that does.
    index : int
        Which strip.
    prefetch : int
        How many batches are read ahead of the model.
    """

    directory: str
    session: str
    index: int
    prefetch: int

    def hindrance(self) -> str | None:
        """Say why the strip cannot be run here, if that is so."""
        here = f"process {os.getpid()} on {socket.gethostname()}"
        workspace = Workspace(Path(self.directory))
        session = workspace.session()
        if session is None:
            return (
                f"{here} cannot see the run in {self.directory}; out_dir must be on a file "
                f"system that all workers share"
            )
        if session != self.session:
            return f"{here} was given a strip of a run that has ended, in {self.directory}"
        version = workspace.load().version
        if version != __version__:
            return f"{here} has version {__version__} of morpheus_core; the run is of {version}"
        missing = [path for path in workspace.input_paths() if not path.exists()]
        if missing:
            return (
                f"{here} cannot see the input {missing[0]}; inputs must lie on a file system that "
                f"all workers share (gzip, bzip2 and xz files are unpacked to TMPDIR: set that to "
                f"such a place, or unpack them before)"
            )
        return None


def run_task(task: StripTask) -> None:
    """Run what is left of a strip.

    Raises
    ------
    WorkerError
        If this worker does not see the files of the run, or the run has ended.
    """
    with ONE_STRIP:
        hindrance = task.hindrance()
        if hindrance is not None:
            raise WorkerError(hindrance)
        workspace = Workspace(Path(task.directory))
        plan = workspace.load()
        model = kept_model(task.directory, task.session)
        with WindowCounter(workspace.progress_path(task.index)) as count:
            heed = heeding(workspace, task.session, count)
            run_stored_strip(workspace, plan, task.index, model, task.prefetch, heed)


@lru_cache(maxsize=1)
def kept_model(directory: str, session: str) -> Model:
    """Return the model of a run, which the strips of a session share in each process."""
    workspace = Workspace(Path(directory))
    return load_model(workspace, workspace.load())


def heeding(
    workspace: Workspace, session: str, count: Callable[[int], object]
) -> Callable[[int], object]:
    """Return a counter of windows that raises when the session is over.

    That is so when the process that waits for the strip has failed or was interrupted, or when
    another one resumes the run.
    """
    looked = 0.0

    def heed(windows: int) -> None:
        nonlocal looked
        count(windows)
        if time.monotonic() - looked > PROGRESS_INTERVAL:
            looked = time.monotonic()
            if workspace.session() != session:
                raise WorkerError(f"the run in {workspace.directory} has ended or is resumed")

    return heed
