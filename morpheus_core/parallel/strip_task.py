"""What travels to the workers of an executor, and what they do there."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from morpheus_core.errors import ModelError, WorkerError
from morpheus_core.parallel.counters import PROGRESS_INTERVAL, WindowCounter
from morpheus_core.parallel.worker import load_model, run_stored_strip
from morpheus_core.pipeline.models import Model
from morpheus_core.storage.locks import is_held
from morpheus_core.version import __version__
from morpheus_core.workspace.folders import Workspace
from morpheus_core.workspace.plan import Plan

#: One strip at a time in each process: there is one model, and it may return the same memory
#: each time.
ONE_STRIP = threading.Lock()
#: That model, by its session; changed by who holds the lock.
KEPT_MODEL: dict[str, Model] = {}
#: What processes had kept from which this one was forked.
OF_THE_PARENT: list[dict[str, Model]] = []


def begin_anew() -> None:
    """Forget what a process was doing that has been forked: nobody goes on with it in the child."""
    global ONE_STRIP
    ONE_STRIP = threading.Lock()
    # Only forgotten, not freed: destructors would wait for threads that are not in the child.
    OF_THE_PARENT.append(dict(KEPT_MODEL))
    KEPT_MODEL.clear()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=begin_anew)


@dataclass(frozen=True, slots=True)
class StripTask:
    """A strip of a run on disk. All else is in the run's folders.

    Attributes
    ----------
    directory : str
        The user's `out_dir`, absolute.
    session : str
        The session that it belongs to; it ends when the session does.
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
    ModelError
        If the model fails, or ends the process.
    """
    hindrance = task.hindrance()
    if hindrance is not None:
        raise WorkerError(hindrance)
    workspace = Workspace(Path(task.directory))
    # It is not closed: its last note would come after the journal is free, when all may be over.
    count = WindowCounter(workspace.progress_path(task.index))
    heed = heeding(workspace, task.session, count)
    try:
        with turn(workspace.journal_path(task.index), heed):
            plan = workspace.load()
            if task.session not in KEPT_MODEL:  # once in each process
                with workspace.open_inputs() as stack:
                    stack.check_pixels(plan.inputs)
            model = kept_model(workspace, plan, task.session)
            heed(0)  # loading takes its time
            run_stored_strip(workspace, plan, task.index, model, task.prefetch, heed)
    except SystemExit as error:  # executors hand it on, and it would end the user's program
        raise ModelError(f"the model failed with {type(error).__name__}: {error}") from error


@contextmanager
def turn(journal: Path, heed: Callable[[int], object]) -> Iterator[None]:
    """Wait until this process runs no other strip, and no other process this one."""
    while not ONE_STRIP.acquire(timeout=PROGRESS_INTERVAL):
        heed(0)
    try:
        while is_held(journal):
            heed(0)
            time.sleep(PROGRESS_INTERVAL)
        yield
    finally:
        ONE_STRIP.release()


def kept_model(workspace: Workspace, plan: Plan, session: str) -> Model:
    """Return the model of a run, which the strips of a session share in each process."""
    if session not in KEPT_MODEL:
        KEPT_MODEL.clear()  # before there is another one: there may be no room for two
        KEPT_MODEL[session] = load_model(workspace, plan)
    return KEPT_MODEL[session]


def forget_model(session: str) -> None:
    """Free the model of a session, if strips of it were run in this process."""
    KEPT_MODEL.pop(session, None)


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
