"""Where pieces of work are done: in workers that are started here, on an executor, or here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from morpheus_core import checks
from morpheus_core.errors import InputError
from morpheus_core.parallel.devices import Environment, plan_workers, prefetch_depth
from morpheus_core.parallel.executors import (
    PIECES_OF_UNKNOWN,
    PIECES_PER_WORKER,
    Engine,
    engine_of,
)
from morpheus_core.parallel.pieces import Watch, Work
from morpheus_core.parallel.processes import Processes
from morpheus_core.parallel.submissions import Submissions


@dataclass(frozen=True, slots=True)
class Workers:
    """Where pieces are done; false if that is this process.

    Attributes
    ----------
    slots : list of dict
        Environment variables of each worker that is started.
    engine : Engine or None
        The executor, in place of such workers.
    prefetch : int
        How many batches are read ahead of the model.
    interval : float
        Seconds between two looks at the progress.
    patience : float or None
        Seconds for which an engine may have no workers.
    threads : int or None
        How many threads each process has, where that was asked for.
    """

    slots: list[Environment]
    engine: Engine | None
    prefetch: int
    interval: float
    patience: float | None = None
    threads: int | None = None

    def __bool__(self) -> bool:
        return bool(self.slots) or self.engine is not None

    @property
    def may_be_elsewhere(self) -> bool:
        """Whether some may be on other machines."""
        return self.engine is not None and not self.engine.is_here

    def count(self) -> int | None:
        """Return how many processes there are beside this one, if that is known."""
        return len(self.slots) if self.engine is None else self.engine.count_workers()

    def pieces(self, most: int) -> int:
        """Return into how many pieces work is cut, `most` at most: several per worker."""
        count = self.count()
        return max(1, min(PIECES_OF_UNKNOWN if count is None else count * PIECES_PER_WORKER, most))

    def run(self, work: Work, steps: Mapping[int, int], watch: Watch) -> None:
        """Do pieces of work, not in this process, until all are done.

        Parameters
        ----------
        work : Work
            Whose pieces.
        steps : mapping of int to int
            How many windows, or rows, are left of each piece that is to be done.
        watch : Watch
            What is to happen here.

        Raises
        ------
        WorkerError
            As soon as one piece fails, unless the watch takes the loss; all others are ended
            then.
        """
        if not steps:
            return
        if self.engine is not None:
            Submissions(self.engine, work, self.patience).run(steps, watch, self.interval)
        else:
            Processes(work, self.slots).run(steps, watch, self.interval)


def choose_workers(
    cpus: Any,
    gpus: Any,
    executor: Any,
    prefetch: Any,
    interval: float = 1.0,
    patience: Any = None,
    threads: Any = None,
) -> Workers:
    """Return where the pieces are done that users ask for.

    Parameters
    ----------
    cpus, gpus, executor, prefetch, patience, threads
        As in :func:`morpheus_core.predict`.
    interval : float
        Seconds between two looks at the progress.

    Raises
    ------
    InputError
        If they do not go together, or one is not what it should be.
    """
    if executor is not None and (cpus is not None or gpus is not None):
        raise InputError(
            f"give one of cpus, gpus and executor, got cpus={cpus!r}, gpus={gpus!r} and "
            f"executor={executor!r}"
        )
    engine = None if executor is None else engine_of(executor)
    if threads is not None:
        threads = checks.whole_number("threads", threads)
    slots = plan_workers(cpus, gpus, threads)
    elsewhere = gpus is not None or engine is not None
    if patience is not None:
        patience = checks.positive_number("patience", patience)
    ahead = prefetch_depth(prefetch, len(slots), elsewhere)
    return Workers(slots, engine, ahead, interval, patience, threads)
