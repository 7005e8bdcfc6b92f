"""What windows take: time, and memory of the process, from a run that is soon stopped."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from morpheus_core.errors import ModelError
from morpheus_core.inputs import ImageStack
from morpheus_core.models import Model, to_numpy
from morpheus_core.pipeline import Job, run_strip
from morpheus_core.windows import Strip

#: Seconds after which a trial ends, when the batch is done.
SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Trial:
    """What the first batches of a strip took.

    Attributes
    ----------
    model_seconds : float
        Time in the model, per window.
    other_seconds : float
        Time to read, cut, fold and finalize, per window.
    batch_bytes : int
        Size of the windows of one batch.
    prediction_bytes : int
        Size of the model's answer for it.
    peak_bytes : int
        The most memory that the process has had when the model had seen one batch.
    start_seconds : float
        What a worker takes before its first window.
    stored_bytes : int
        What a run keeps on disk of the model and the inputs until it ends.
    """

    model_seconds: float
    other_seconds: float
    batch_bytes: int
    prediction_bytes: int
    peak_bytes: int
    start_seconds: float = 0.0
    stored_bytes: int = 0


class Enough(BaseException):
    """Ends a trial; no error, so that nothing takes it for one of the model."""


class Stopwatch:
    """A model that notes what its calls take, and ends the run when that is known."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._calls: list[tuple[float, float, int]] = []
        self._sizes = (0, 0, 0)

    def __call__(self, batch: list[NDArray[Any]]) -> NDArray[Any]:
        """Predict, unless enough is known."""
        start = time.perf_counter()
        # The first call loads and compiles, and is not counted.
        if len(self._calls) > 1 and start - self._calls[1][0] > SECONDS:
            raise Enough
        answer = to_numpy(self._model(batch))
        self._calls.append((start, time.perf_counter(), len(batch[0])))
        if len(self._calls) == 1:
            size = sum(windows.nbytes for windows in batch)
            self._sizes = (size, answer.nbytes, peak_memory())
        return answer

    def trial(self) -> Trial:
        """Return what was found, when the run has just ended.

        Raises
        ------
        ModelError
            If the model was never called.
        """
        if not self._calls:
            raise ModelError("there is no window to try the model with: all of them are left out")
        counted = self._calls[1:] or self._calls
        windows = sum(call[2] for call in counted)
        total = time.perf_counter() - counted[0][0]
        in_model = sum(stop - start for start, stop, _ in counted)
        return Trial(in_model / windows, (total - in_model) / windows, *self._sizes)


def try_strip(job: Job, strip: Strip, stack: ImageStack, model: Model) -> Trial:
    """Run the first batches of a strip, and throw the results away."""
    stopwatch = Stopwatch(model)
    with suppress(Enough):
        run_strip(job, strip, stack, stopwatch, on_rows=ignore, on_windows=ignore)
    return stopwatch.trial()


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
