"""How many windows a model is best given at once, found by trying."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from morpheus_core.images.stack import ImageStack
from morpheus_core.pipeline.halves import is_out_of_memory
from morpheus_core.pipeline.job import Job
from morpheus_core.pipeline.models import Model, failure, given, to_numpy
from morpheus_core.pipeline.strip import first_batch

#: From few windows to so many that no call costs more than its windows do.
SIZES = (4, 8, 16, 32, 64, 128, 256, 512)
#: Bytes of the windows of a batch, which a network multiplies by the number of its channels.
MOST_BYTES = 256 << 20
#: Seconds after which no larger size is tried.
SECONDS = 10.0
#: What takes more memory, or has other last bits, must be faster by this share.
GAIN = 1.05

#: Gives the first windows, so many at most, as a batch of that size has them, if there are any.
FirstWindows = Callable[[int], list[NDArray[Any]] | None]


def fastest_size(speeds: dict[int, float]) -> int:
    """Return the smallest size that is about as fast as any.

    Parameters
    ----------
    speeds : dict
        Windows per second by size, from the smallest on.
    """
    best, most = SIZES[0], 0.0
    for size, speed in speeds.items():
        if speed > GAIN * most:
            best, most = size, speed
    return best


def speeds_of(model: Model, first_windows: FirstWindows) -> Iterator[tuple[int, float]]:
    """Yield sizes, and how many windows per second the model scores in batches of them.

    Each size is tried twice, and the second call counts: the first may load and compile. Sizes end
    where memory does, where there are no more windows, or after some seconds.

    Parameters
    ----------
    model : callable
        The user's model.
    first_windows : callable
        Gives what it is tried with.

    Raises
    ------
    ModelError
        If the model fails, but for want of memory.
    """
    began, longest = time.perf_counter(), 0
    for size in SIZES:
        batch = first_windows(size)
        if batch is None:
            return
        # Batches are cut from whole rows of windows, so that some are shorter than they may be.
        if len(batch[0]) <= longest or sum(one.nbytes for one in batch) > MOST_BYTES:
            return
        longest, taken = len(batch[0]), 0.0
        for _ in range(2):
            try:
                taken = seconds_of(model, batch)[0]
            except Exception as error:
                if is_out_of_memory(error) and size > SIZES[0]:
                    return
                raise failure(error, given(batch)) from error
        yield size, longest / taken
        if time.perf_counter() - began > SECONDS:
            return


def seconds_of(model: Model, batch: list[NDArray[Any]]) -> tuple[float, NDArray[Any]]:
    """Return what a call takes, more than nothing, and its answer."""
    windows = [one.copy() for one in batch]  # which the model may change
    start = time.perf_counter()
    answer = to_numpy(model(windows))  # so that a GPU is done
    return max(time.perf_counter() - start, 1e-9), answer


def windows_of(job: Job, stack: ImageStack) -> FirstWindows:
    """Return what gives the first windows of an image, none if no window holds a good pixel."""

    def first_windows(size: int) -> list[NDArray[Any]] | None:
        try:
            return first_batch(replace(job, batch_size=size), job.grid.whole(), stack).windows
        except StopIteration:
            return None

    return first_windows
