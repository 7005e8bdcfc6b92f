"""Pieces of work on an executor: submitted, waited for, and made to end."""

from __future__ import annotations

import logging
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, suppress

from morpheus_core.errors import MorpheusError, OutputError, WorkerError
from morpheus_core.parallel.absence import Absence
from morpheus_core.parallel.counters import Progress
from morpheus_core.parallel.executors import Engine, Submitted
from morpheus_core.parallel.pieces import NotLoadedError, Watch, Work
from morpheus_core.parallel.tasks import Task, forget, run_task
from morpheus_core.pipeline.models import with_recipe
from morpheus_core.storage.locks import LOCK_PATIENCE, wait_until_free
from morpheus_core.storage.names import PROMPT, comes_true

logger = logging.getLogger("morpheus_core")

#: The longest time between two looks at whether there are workers, in seconds.
LOOK = 5.0


class Submissions:
    """Does the pieces of work on an engine, which may be on other machines.

    Parameters
    ----------
    engine : Engine
        Where they are done.
    work : Work
        Whose pieces; all workers see its folders.
    patience : float or None
        Seconds for which there may be no workers.
    """

    def __init__(self, engine: Engine, work: Work, patience: float | None = None) -> None:
        self._engine, self._work = engine, work
        self._absence = Absence(engine, patience)
        self._futures: dict[int, Submitted] = {}
        self._waiting: set[int] = set()
        self._ended: queue.SimpleQueue[int] = queue.SimpleQueue()

    def run(self, steps: Mapping[int, int], watch: Watch, interval: float) -> None:
        """Do pieces until all are done.

        Parameters
        ----------
        steps : mapping of int to int
            How many windows, or rows, are left of each piece that is to be done.
        watch : Watch
            What is to happen here.
        interval : float
            Seconds between two looks at the progress.

        Raises
        ------
        WorkerError
            As soon as one piece fails, unless the watch takes the loss; all others are ended
            then.
        """
        progress = Progress(self._work.folders, watch.on_steps, interval)
        session = self._work.folders.open_session()
        try:
            with executor_errors():
                for index in steps:
                    progress.begin(index)
                self._submit(session, list(steps))
            while self._waiting:
                try:
                    index = self._next_end(min(interval, LOOK))
                except queue.Empty:
                    self._absence.look(len(self._waiting))
                    progress.look_now_and_then(self._waiting)
                else:
                    self._finish(index, watch)
                    progress.reaches(index, steps[index])
        finally:
            self._end_all()
            forget(session)  # threads of this process share its memory

    def _submit(self, session: str, indices: Sequence[int]) -> None:
        tasks = [Task(self._work, session, index) for index in indices]
        self._engine.check_workers(tasks[0].hindrance)
        for index, task in zip(indices, tasks, strict=True):
            # Names may differ in signs alone, which dashboards do not show.
            name = f"{dashed(self._work.name(index))}-{index}-{session}"
            future = self._futures[index] = self._engine.submit(run_task, task, name)
            future.add_done_callback(self._note_end(index))
            self._waiting.add(index)

    def _note_end(self, index: int) -> Callable[[object], None]:
        return lambda future: self._ended.put(index)

    def _next_end(self, seconds: float) -> int:
        """Wait for the next future that has ended, which need not be so of its piece."""
        index = self._ended.get(timeout=max(0, min(seconds, threading.TIMEOUT_MAX)))
        self._waiting.discard(index)
        return index

    def _finish(self, index: int, watch: Watch) -> None:
        """Take note of a piece whose future has ended."""
        place = f"the worker of {self._work.name(index)}"
        try:
            self._futures[index].result()
        except BrokenExecutor as error:  # which pieces get that had not begun as well
            failure = f"a worker process of the executor died: {error}"
            raise WorkerError(with_recipe(failure)) from error
        except NotLoadedError as error:
            raise WorkerError(with_recipe(f"{place} failed: {error}")) from error
        except Exception as error:
            failure = f"{place} failed: {self._engine.explain(error)}"
            lost = WorkerError(with_recipe(failure))
            lost.__cause__ = error
            watch.on_lost(index, lost)
            return
        if self._is_finished(index):
            watch.on_finished(index)
        else:
            watch.on_lost(index, WorkerError(f"{place} ended before it was finished"))

    def _is_finished(self, index: int) -> bool:
        """Say whether a piece is finished, of which another machine may know before this one."""
        work = self._work
        if self._engine.is_here:
            return work.is_finished(index)
        folder = work.folders.folder(index)
        return comes_true(lambda: work.is_finished(index), f"the end of {work.name(index)}", folder)

    def _end_all(self) -> None:
        """End what is still running, and wait for that: nothing may write to the run after it."""
        self._work.folders.close_session()
        for future in self._futures.values():
            with suppress(Exception):  # not all executors can, and some are gone
                future.cancel()
        deadline = time.monotonic() + LOCK_PATIENCE
        self._wait_for_futures(deadline)
        try:
            for index in self._futures:  # a cluster may give up a piece that is still being done
                wait_until_free(self._work.record_path(index), deadline)
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
                    logger.warning(
                        "waiting for %d pieces that are still being done", len(self._waiting)
                    )
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


def dashed(name: str) -> str:
    """Return a name in the letters that all dashboards show."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", name).strip("-")
