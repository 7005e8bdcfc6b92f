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
from typing import Any

from morpheus_core.errors import ModelError, WorkerError
from morpheus_core.parallel.counters import PROGRESS_INTERVAL, WindowCounter
from morpheus_core.parallel.folders import Folders
from morpheus_core.parallel.pieces import NotLoadedError, Work
from morpheus_core.parallel.threads import limited_threads
from morpheus_core.storage.file_systems import is_shared
from morpheus_core.storage.locks import is_held
from morpheus_core.storage.names import comes_true, look_anew
from morpheus_core.version import __version__

#: One piece at a time in each process: there is one model, and it may return the same memory
#: each time.
ONE_PIECE = threading.Lock()
#: What work has loaded, by its session; changed by who holds the lock.
LOADED: dict[str, Any] = {}
#: What processes had loaded from which this one was forked.
OF_THE_PARENT: list[dict[str, Any]] = []


def begin_anew() -> None:
    """Forget what a process was doing that has been forked: nobody goes on with it in the child."""
    global ONE_PIECE
    ONE_PIECE = threading.Lock()
    # Only forgotten, not freed: destructors would wait for threads that are not in the child.
    OF_THE_PARENT.append(dict(LOADED))
    LOADED.clear()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=begin_anew)


@dataclass(frozen=True, slots=True)
class Task:
    """A piece of work.

    Attributes
    ----------
    work : Work
        Of which it is a piece.
    session : str
        The session that it belongs to; it ends when the session does.
    index : int
        Which piece.
    """

    work: Work
    session: str
    index: int

    def hindrance(self) -> str | None:
        """Say why the piece cannot be done here, if that is so."""
        here = f"process {os.getpid()} on {socket.gethostname()}"
        directory = self.work.directory
        # Of another run that was here, this machine may remember the files by these names.
        look_anew(Path(directory))
        look_anew(self.work.folders.folder(0))
        session = self.work.folders.session()
        if session is None:
            return (
                f"{here} cannot see the run in {directory}; out_dir must be on a file "
                f"system that all workers share"
            )
        if session != self.session:
            return f"{here} was given a piece of a run that has ended, in {directory}"
        if self.work.version != __version__:
            return (
                f"{here} has version {__version__} of morpheus_core; the run is of "
                f"{self.work.version}"
            )
        missing = self._missing_input()
        if missing:
            return (
                f"{here} cannot see the input {missing}; inputs must lie on a file system that "
                f"all workers share (gzip, bzip2 and xz files are unpacked to TMPDIR: set that to "
                f"such a place, or unpack them before)"
            )
        return None

    def _missing_input(self) -> Path | None:
        """Return an input that this process does not see, however long it looks for it."""

        def is_seen() -> bool:
            return path.exists()

        for path in self.work.input_paths():
            folder = path.parent
            if not is_seen() and not (is_shared(folder) and comes_true(is_seen, str(path), folder)):
                return path
        return None


def run_task(task: Task) -> None:
    """Do what is left of a piece.

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
    work = task.work
    # It is not closed: its last note would come after the record is free, when all may be over.
    count = WindowCounter(work.folders.progress_path(task.index))
    heed = heeding(work.folders, task.session, count)
    try:
        with turn(work.record_path(task.index), heed), limited_threads(work.threads):
            loaded = loaded_once(work, task.session)
            heed(0)  # loading takes its time
            work.do(task.index, loaded, heed)
    except SystemExit as error:  # executors hand it on, and it would end the user's program
        raise ModelError(f"the model failed with {type(error).__name__}: {error}") from error


@contextmanager
def turn(record: Path, heed: Callable[[int], object]) -> Iterator[None]:
    """Wait until this process does no other piece, and no other process this one."""
    while not ONE_PIECE.acquire(timeout=PROGRESS_INTERVAL):
        heed(0)
    try:
        while is_held(record):
            heed(0)
            time.sleep(PROGRESS_INTERVAL)
        yield
    finally:
        ONE_PIECE.release()


def loaded_once(work: Work, session: str) -> Any:
    """Return what the pieces of a session share in each process.

    Raises
    ------
    NotLoadedError
        If it cannot be loaded.
    """
    if session not in LOADED:
        LOADED.clear()  # before there is another model: there may be no room for two
        try:
            LOADED[session] = work.load(lambda model: model)
        except Exception as error:
            raise NotLoadedError(f"{type(error).__name__}: {error}") from error
    return LOADED[session]


def forget(session: str) -> None:
    """Free what a session has loaded, if pieces of it were done in this process."""
    LOADED.pop(session, None)


def heeding(
    folders: Folders, session: str, count: Callable[[int], object]
) -> Callable[[int], object]:
    """Return a counter of windows that raises when the session is over.

    That is so when the process that waits for the piece has failed or was interrupted, or when
    another one resumes the run.
    """
    looked = 0.0

    def heed(windows: int) -> None:
        nonlocal looked
        count(windows)
        if time.monotonic() - looked > PROGRESS_INTERVAL:
            looked = time.monotonic()
            if folders.session() != session:
                raise WorkerError(f"the run in {folders.directory} has ended or is resumed")

    return heed
