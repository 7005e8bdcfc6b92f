"""Strips of a run on an executor: submitted, waited for, and made to end."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, suppress

from morpheus_core.errors import MorpheusError, OutputError, WorkerError
from morpheus_core.parallel.counters import Progress
from morpheus_core.parallel.engines import Engine, Submitted
from morpheus_core.parallel.strip_task import StripTask, forget_model, run_task
from morpheus_core.pipeline.models import with_recipe
from morpheus_core.storage.locks import LOCK_PATIENCE, wait_until_free
from morpheus_core.workspace.folders import Workspace
from morpheus_core.workspace.plan import Plan

logger = logging.getLogger("morpheus_core")

#: Seconds that need no explanation.
PROMPT = 2.0


class Submissions:
    """Runs the strips of a run on an engine, which may be on other machines.

    Parameters
    ----------
    engine : Engine
        Where they run.
    workspace : Workspace
        Where the run is; all workers see it.
    plan : Plan
        The run.
    prefetch : int
        How many batches a worker reads ahead of the model.
    is_finished : callable
        Says of the index of a strip whether all its rows are written.
    """

    def __init__(
        self,
        engine: Engine,
        workspace: Workspace,
        plan: Plan,
        prefetch: int,
        is_finished: Callable[[int], bool],
    ) -> None:
        self._engine, self._workspace, self._plan = engine, workspace, plan
        self._prefetch, self._is_finished = prefetch, is_finished
        self._futures: dict[int, Submitted] = {}
        self._waiting: set[int] = set()
        self._ended: queue.SimpleQueue[int] = queue.SimpleQueue()

    def run(
        self, windows: Mapping[int, int], on_windows: Callable[[int], object], interval: float
    ) -> None:
        """Run strips until all are done.

        Parameters
        ----------
        windows : mapping of int to int
            How many windows are left of each strip that is to be run.
        on_windows : callable
            Told how many windows were just finished.
        interval : float
            Seconds between two looks at the progress.

        Raises
        ------
        WorkerError
            As soon as one strip fails; all others are ended then.
        """
        progress = Progress(self._workspace, windows)
        session = self._workspace.open_session()
        try:
            with executor_errors():
                self._submit(session, list(windows))
            while self._waiting:
                try:
                    index = self._next_end(interval)
                except queue.Empty:
                    on_windows(progress.news())
                else:
                    self._finish(index)
                    on_windows(progress.reaches(index, windows[index]))
        finally:
            self._end_all()
            forget_model(session)  # threads of this process share its memory

    def _submit(self, session: str, indices: Sequence[int]) -> None:
        directory = str(self._workspace.directory.absolute())
        tasks = [StripTask(directory, session, index, self._prefetch) for index in indices]
        self._engine.check_workers(tasks[0].hindrance)
        for index, task in zip(indices, tasks, strict=True):
            strip = self._plan.strips[index]
            name = f"strip-rows-{strip.start}-{strip.stop - 1}-{session}"
            future = self._futures[index] = self._engine.submit(run_task, task, name)
            future.add_done_callback(self._note_end(index))
            self._waiting.add(index)

    def _note_end(self, index: int) -> Callable[[object], None]:
        return lambda future: self._ended.put(index)

    def _next_end(self, seconds: float) -> int:
        """Wait for the next future that has ended, which need not be so of its strip."""
        index = self._ended.get(timeout=max(0, min(seconds, threading.TIMEOUT_MAX)))
        self._waiting.discard(index)
        return index

    def _finish(self, index: int) -> None:
        """Raise unless a strip that has ended is whole."""
        strip = self._plan.strips[index]
        place = f"the worker of window rows {strip.start} to {strip.stop - 1}"
        try:
            self._futures[index].result()
        except BrokenExecutor as error:  # which strips get that had not begun as well
            failure = f"a worker process of the executor died: {error}"
            raise WorkerError(with_recipe(failure)) from error
        except Exception as error:
            failure = f"{place} failed: {type(error).__name__}: {error}"
            raise WorkerError(with_recipe(failure)) from error
        if not self._is_finished(index):
            raise WorkerError(f"{place} ended before they were finished")

    def _end_all(self) -> None:
        """End what is still running, and wait for that: nothing may write to the run after it."""
        self._workspace.close_session()
        for future in self._futures.values():
            with suppress(Exception):  # not all executors can, and some are gone
                future.cancel()
        deadline = time.monotonic() + LOCK_PATIENCE
        self._wait_for_futures(deadline)
        try:
            for index in self._futures:  # a cluster may give up a strip that is still running
                wait_until_free(self._workspace.journal_path(index), deadline)
        except OutputError as error:
            logger.warning("%s", error)

    def _wait_for_futures(self, deadline: float) -> None:
        """Wait until all futures have ended, for a while, and say so where that takes time."""
        told = False
        while self._waiting and time.monotonic() < deadline:
            try:
                self._next_end(min(PROMPT, deadline - time.monotonic()))
            except queue.Empty:
                if not told:
                    logger.warning("waiting for %d strips that still run", len(self._waiting))
                told = True


@contextmanager
def executor_errors() -> Iterator[None]:
    """Turn what an executor raises into an error of ours."""
    try:
        yield
    except MorpheusError:
        raise
    except Exception as error:
        raise WorkerError(
            f"the executor does not accept work: {type(error).__name__}: {error}; pass one that is "
            f"running and connected"
        ) from error
