"""What windows take: time, and memory of the process, from a run that is soon stopped."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from morpheus_core.images.stack import ImageStack
from morpheus_core.pipeline.batch_sizes import speeds_of, windows_of
from morpheus_core.pipeline.job import Job
from morpheus_core.pipeline.models import Model, to_numpy
from morpheus_core.pipeline.strip import run_strip
from morpheus_core.windows.grid import Strip

#: Seconds after which a trial ends, when the batch is done.
SECONDS = 2.0
#: Calls that are not timed: the first ones load, compile, and fill what is read ahead.
SETTLED = 2


@dataclass(frozen=True, slots=True)
class Trial:
    """What the first batches of a strip took.

    Attributes
    ----------
    seconds_per_window : float
        Time from reading to folding; threads hide a part of it.
    windows : int
        How many the model has seen.
    prediction_bytes : int
        Size of the model's answer for a batch.
    peak_bytes : int
        The most memory that the process has had.
    start_seconds : float
        What a worker takes before its first window.
    stored_bytes : int
        What a run keeps on disk of the model and the inputs until it ends.
    speeds : dict
        Windows per second that the model alone scores, by the size of batches.
    """

    seconds_per_window: float
    windows: int
    prediction_bytes: int
    peak_bytes: int
    start_seconds: float = 0.0
    stored_bytes: int = 0
    speeds: dict[int, float] = field(default_factory=dict)


class Enough(BaseException):
    """Ends a trial; no error, so that nothing takes it for one of the model."""


class Stopwatch:
    """A model that notes when it is called, and ends the run when enough is known."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._starts: list[float] = []
        self._sizes: list[int] = []
        self._prediction_bytes = 0

    def __call__(self, batch: list[NDArray[Any]]) -> Any:
        """Predict, unless enough is known."""
        now = time.perf_counter()
        if len(self._starts) > SETTLED and now - self._starts[SETTLED] > SECONDS:
            raise Enough
        answer = self._model(batch)
        if not self._starts:
            self._prediction_bytes = to_numpy(answer).nbytes
        self._starts.append(now)
        self._sizes.append(len(batch[0]))
        return answer  # as it is: it may still be on its way from a GPU

    def trial(self) -> Trial:
        """Return what was found, when the run has just ended; the model was called."""
        first = SETTLED if len(self._starts) > SETTLED else 0
        seconds = time.perf_counter() - self._starts[first]
        return Trial(
            seconds / sum(self._sizes[first:]),
            sum(self._sizes),
            self._prediction_bytes,
            peak_memory(),
        )


def try_strip(job: Job, strip: Strip, stack: ImageStack, model: Model, prefetch: int) -> Trial:
    """Run the first batches of a strip, which has some, and then batches of other sizes."""
    stopwatch = Stopwatch(model)
    with suppress(Enough):
        run_strip(
            job, strip, stack, stopwatch, on_rows=ignore, on_windows=ignore, prefetch=prefetch
        )
    trial = stopwatch.trial()  # before larger batches take more memory
    return replace(trial, speeds=dict(speeds_of(model, windows_of(job, stack))))


def ignore(_: object) -> None:
    """Do nothing."""


def peak_memory() -> int:
    """Return the most memory that this process has had, in bytes."""
    if sys.platform == "linux":
        # The resource usage of a process begins with that of its parent; this does not.
        status = Path("/proc/self/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
