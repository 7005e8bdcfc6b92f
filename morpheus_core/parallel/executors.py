"""Executors that users already have: how many workers they have, and how work is given to them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any, Protocol

from morpheus_core.errors import InputError, WorkerError, warn

#: Pieces per worker, so that the last ones do not keep all workers waiting for one.
PIECES_PER_WORKER = 4
#: Pieces for an executor that does not say how many workers it has.
PIECES_OF_UNKNOWN = 32
#: What it means where Dask has given up a piece whose workers ended.
KILLED = (
    "its workers ended one after the other, most often for want of memory: give each more, or pass "
    "a smaller batch_size"
)
#: What it means where the scheduler does not answer any more.
LOST = (
    "the connection to the Dask scheduler is lost; what workers are doing ends by itself, and what "
    "is finished is kept: connect to a cluster that runs, and pass resume=True"
)
#: How addresses of Dask's schedulers begin that only this machine can reach.
HERE = ("inproc://", "tcp://127.0.0.1:", "tls://127.0.0.1:")
#: How often Dask does a piece again that raised, beside those whose worker it has lost.
RETRIES = 2


class Submitted(Protocol):
    """A future, whoever's."""

    def add_done_callback(self, function: Callable[[Any], object]) -> object:
        """Call a function with the future when it has a result."""

    def cancel(self) -> object:
        """Do not begin."""

    def result(self) -> Any:
        """Return the result, or raise."""


class Engine:
    """Any executor in the manner of `concurrent.futures`.

    Parameters
    ----------
    executor : object
        Has ``submit(function, argument)``, which returns a future.
    """

    def __init__(self, executor: Any) -> None:
        self._executor = executor

    @property
    def is_here(self) -> bool:
        """Whether all its workers are sure to be on this machine."""
        classes = type(self._executor).__mro__
        # loky has processes of this machine, in a class of its own.
        return isinstance(self._executor, (ProcessPoolExecutor, ThreadPoolExecutor)) or any(
            "loky" in kind.__module__.split(".") for kind in classes
        )

    def count_workers(self) -> int | None:
        """Return how many pieces can be done at a time, if that is known."""
        # Standard executors, loky and mpi4py agree on the name.
        count = getattr(self._executor, "_max_workers", None)
        if isinstance(self._executor, ThreadPoolExecutor):
            return 1  # threads of one process take turns
        return count if isinstance(count, int) and count > 0 else None

    def submit(self, function: Callable[[Any], object], argument: object, name: str) -> Submitted:
        """Have a function called; `name` tells the call from others."""
        future: Submitted = self._executor.submit(function, argument)
        if not hasattr(future, "add_done_callback"):
            raise InputError(
                f"executor.submit must return a future, as those of concurrent.futures do, got "
                f"{type(future).__name__}"
            )
        return future

    def has_workers(self) -> bool:
        """Say whether there is anybody to do what is submitted, as far as that is known."""
        return True

    def explain(self, error: Exception) -> str:
        """Say what an error of a future means for the run, if it is none of the piece."""
        return f"{type(error).__name__}: {error}"

    def check_workers(self, check: Callable[[], str | None]) -> None:
        """Ask all workers at once for what stands in the way, where an executor can do that.

        Raises
        ------
        WorkerError
            If there is anything.
        """


class DaskEngine(Engine):
    """A client of a Dask cluster, or the executor that it makes of itself."""

    def __init__(self, executor: Any) -> None:
        super().__init__(executor)
        self._client = getattr(executor, "_client", executor)
        if self._client.asynchronous:
            raise InputError(
                "executor is an asynchronous Dask client; pass one made with asynchronous=False"
            )
        self._threads = self._count_threads()
        threads = max(self._threads, default=1)
        if threads > 1:
            warn(
                f"Dask workers with up to {threads} threads do one piece at a time each; start "
                f"more workers with threads_per_worker=1 instead"
            )

    def _count_threads(self) -> list[int]:
        """Ask the scheduler how many threads each worker has."""
        try:
            return list(self._client.nthreads().values())
        except Exception as error:
            raise InputError(
                f"executor must be connected to its scheduler: {type(error).__name__}: {error}"
            ) from error

    @property
    def is_here(self) -> bool:
        """Whether nobody from outside can reach the scheduler."""
        return str(self._client.scheduler.address).startswith(HERE)

    def count_workers(self) -> int | None:
        """Return how many worker processes there are; a cluster may have none so far."""
        return len(self._threads) or None

    def submit(self, function: Callable[[Any], object], argument: object, name: str) -> Submitted:
        """Have a function called under a name that the dashboard shows."""
        options: dict[str, Any] = {"key": name, "pure": False}
        if self._executor is self._client:  # an executor has options of its own
            options["retries"] = RETRIES
        future: Submitted = self._executor.submit(function, argument, **options)
        return future

    def has_workers(self) -> bool:
        """Ask the scheduler, as long as it answers: the end of its connection ends all futures."""
        try:
            return bool(self._client.nthreads())
        except Exception:
            return True

    def explain(self, error: Exception) -> str:
        """Tell a scheduler that is gone, and workers that were killed."""
        said = super().explain(error)
        if type(error).__name__ == "KilledWorker":
            return f"{said}; {KILLED}"
        if self._client.status != "running":
            return f"{said}; {LOST}"
        return said

    def check_workers(self, check: Callable[[], str | None]) -> None:
        """Ask all workers that are there."""
        for address, hindrance in self._client.run(check).items():
            if hindrance is not None:
                raise WorkerError(f"Dask worker {address}: {hindrance}")


def engine_of(executor: Any) -> Engine:
    """Return an executor as an engine.

    Raises
    ------
    InputError
        If it is not one.
    """
    if isinstance(executor, type) or not callable(getattr(executor, "submit", None)):
        raise InputError(
            f"executor must have a method submit that returns futures, as "
            f"concurrent.futures.ProcessPoolExecutor(4) or a Dask client has, got {executor!r}"
        )
    package = type(executor).__module__.partition(".")[0]
    if package == "pebble":
        raise InputError(
            f"executor must have a method submit(function, argument), got the "
            f"{type(executor).__name__} of pebble, which takes the second for a time limit; pass a "
            f"concurrent.futures.ProcessPoolExecutor"
        )
    return DaskEngine(executor) if package == "distributed" else Engine(executor)
