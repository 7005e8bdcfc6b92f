"""How many windows a model is best given at once, found by trying."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import replace

from morpheus_core.images.stack import ImageStack
from morpheus_core.pipeline.halves import is_out_of_memory
from morpheus_core.pipeline.job import Job
from morpheus_core.pipeline.models import Model, failure, given, to_numpy
from morpheus_core.pipeline.strip import first_batch

logger = logging.getLogger("morpheus_core")

#: From few windows to so many that no call costs more than its windows do.
SIZES = (4, 8, 16, 32, 64, 128, 256, 512)
#: Bytes of the windows of a batch, which a network multiplies by the number of its channels.
MOST_BYTES = 256 << 20
#: Seconds after which no larger size is tried.
SECONDS = 10.0
#: A larger batch must be faster by this share, for it takes more memory.
GAIN = 1.05


def choose_batch_size(job: Job, stack: ImageStack, model: Model) -> int:
    """Return the smallest size that is about as fast as any, by the first windows of an image.

    Each size is tried twice, and the second call counts: the first may load and compile. Sizes end
    where memory does, where the image has no more windows, or after some seconds.

    Parameters
    ----------
    job : Job
        What to compute; its own size does not count.
    stack : ImageStack
        The images.
    model : callable
        The user's model.

    Raises
    ------
    ModelError
        If the model fails, but for want of memory.
    """
    best, most = SIZES[0], 0.0
    for size, speed in speeds(job, stack, model):
        if speed > GAIN * most:
            best, most = size, speed
    logger.info("batch_size=%d was the fastest, with %.0f windows per second", best, most)
    return best


def speeds(job: Job, stack: ImageStack, model: Model) -> Iterator[tuple[int, float]]:
    """Yield sizes, and how many windows per second the model scores in batches of them."""
    began, longest = time.perf_counter(), 0
    for size in SIZES:
        try:
            batch = first_batch(replace(job, batch_size=size), job.grid.whole(), stack)
        except StopIteration:  # no window holds a good pixel
            return
        # Batches are cut from whole rows of windows, so that some are shorter than they may be.
        if len(batch) <= longest or sum(one.nbytes for one in batch.windows) > MOST_BYTES:
            return
        longest, taken = len(batch), 0.0
        for _ in range(2):
            windows = [one.copy() for one in batch.windows]  # which the model may change
            start = time.perf_counter()
            try:
                to_numpy(model(windows))  # so that a GPU is done
            except Exception as error:
                if is_out_of_memory(error) and size > SIZES[0]:
                    return
                raise failure(error, given(batch.windows)) from error
            taken = time.perf_counter() - start
        yield size, longest / max(taken, 1e-9)
        if time.perf_counter() - began > SECONDS:
            return
