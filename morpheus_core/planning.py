"""What a run would do and take, without running it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from inspect import signature
from typing import Any, ParamSpec

import numpy as np
from numpy.typing import NDArray

from morpheus_core import checks
from morpheus_core.inputs import ImageStack, open_inputs
from morpheus_core.models import Model, resolve
from morpheus_core.morpheus_core import make_job, predict
from morpheus_core.parallel.devices import Environment, plan_workers, prefetch_depth
from morpheus_core.pipeline import Job, count_windows, plane_bytes
from morpheus_core.products import origin_of, products_of
from morpheus_core.stitch import seam_bytes
from morpheus_core.trials import Trial, peak_memory, try_strip
from morpheus_core.windows import Strip

Parameters = ParamSpec("Parameters")


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run would do and take; its text is a table.

    Attributes
    ----------
    windows, batches : int
        How many the model would get.
    strips : list of tuple of int
        First window row, and the one after the last, of each strip; one per worker.
    workers : int
        Processes beside this one; 0 runs in this one.
    output_pixels, unreached_pixels : int
        Pixels of the outputs, and how many of them no window reaches.
    outputs : dict
        The shape of each output, by name.
    output_bytes : int
        Size of the outputs, in memory or, with `out_dir`, on disk.
    disk_bytes : int
        The most space that is taken in `out_dir`, outputs and what is removed at the end.
    memory_bytes : int
        The most memory of one process that runs the model.
    total_memory_bytes : int
        The most memory of all processes.
    windows_per_second : float
        Of all workers together.
    seconds : float
        How long the run would take.
    """

    windows: int
    batches: int
    strips: list[tuple[int, int]]
    workers: int
    output_pixels: int
    unreached_pixels: int
    outputs: dict[str, tuple[int, ...]]
    output_bytes: int
    disk_bytes: int
    memory_bytes: int
    total_memory_bytes: int
    windows_per_second: float
    seconds: float

    def __str__(self) -> str:
        where = f"{self.workers} workers" if self.workers else "this process"
        shapes = ", ".join(f"{name} {shape}" for name, shape in self.outputs.items())
        lines = {
            "windows": f"{self.windows:,} in {self.batches:,} batches",
            "strips": f"{len(self.strips)}, run by {where}",
            "coverage": f"{self.unreached_pixels:,} of {self.output_pixels:,} output pixels are "
            "reached by no window",
            "outputs": f"{shapes}: {as_size(self.output_bytes)}",
            "disk": as_size(self.disk_bytes),
            "memory": f"{as_size(self.memory_bytes)} in each process that runs the model, "
            f"{as_size(self.total_memory_bytes)} in all",
            "speed": f"{self.windows_per_second:,.0f} windows per second",
            "duration": as_duration(self.seconds),
        }
        return "\n".join(f"{name:10}{text}" for name, text in lines.items())


def as_predict(
    _: Callable[Parameters, Any],
) -> Callable[[Callable[..., Forecast]], Callable[Parameters, Forecast]]:
    """Say that a function takes the arguments of :func:`morpheus_core.predict`."""

    def decorate(function: Callable[..., Forecast]) -> Callable[Parameters, Forecast]:
        @wraps(function)
        def planned(*arguments: Parameters.args, **options: Parameters.kwargs) -> Forecast:
            given = signature(predict).bind(*arguments, **options)
            given.apply_defaults()
            return function(**given.arguments)

        del planned.__wrapped__
        planned.__signature__ = signature(predict).replace(  # type: ignore[attr-defined]
            return_annotation=Forecast
        )
        return planned

    return decorate


@as_predict(predict)
def plan(**given: Any) -> Forecast:
    """Say what :func:`morpheus_core.predict` would do and take, and write nothing.

    Takes the arguments of `predict`. The model is tried for about two seconds, with the first
    batches, in this process or in one that is started as a worker would be. The duration supposes
    that all windows take as long, and that workers do not slow each other down. Memory is that of
    whole processes; of the model's own memory only what it took for a batch is known. What
    compressed files unpack to in the folder for temporary files is not counted.

    Returns
    -------
    Forecast
        With a table as its text.

    Raises
    ------
    MorpheusError
        As `predict`, but for what is in the way in `out_dir`.

    Examples
    --------
    >>> import numpy as np
    >>> from morpheus_core import plan
    >>> def model(batch):
    ...     return np.concatenate([batch[0], 1 - batch[0]], axis=-1)
    >>> forecast = plan(model, np.zeros((50, 60)), 2, 16, (10, 10), stride=(5, 5))
    >>> forecast.windows, forecast.batches, forecast.unreached_pixels
    (99, 9, 0)
    >>> forecast.outputs
    {'output': (50, 60, 2), 'n': (50, 60)}
    """
    slots = plan_workers(given["cpus"], given["gpus"])
    prefetch = prefetch_depth(given["prefetch"], len(slots), given["gpus"] is not None)
    bits = checks.mask_bits(given["mask_bits"])
    with open_inputs(given["model_inputs"], given["bands"], given["mask"], bits) as stack:
        job = make_job(stack, **given)
        checks.model(given["model"])
        windows = count_windows(job, stack)
        strips = job.grid.strips(job.batch_size, max(1, len(slots)), windows)
        trial = try_model(job, stack, given["model"], strips, slots)
        products = products_of(job, origin_of(job, stack, given["model"]))
    in_memory = given["out_dir"] is None
    units = [product.unit for product in products]
    outputs = sum(unit.data_bytes if in_memory else unit.file_bytes() for unit in units)
    seams = sum(seam_bytes(job, strip) for strip in strips)
    memory = trial.peak_bytes + growth(job, strips, trial, prefetch) + (outputs if in_memory else 0)
    per_window = seconds_per_window(trial, prefetch)
    height, width = job.grid.output_shape
    return Forecast(
        windows=int(windows.sum()),
        batches=count_batches(job, windows),
        strips=[(strip.start, strip.stop) for strip in strips],
        workers=len(slots),
        output_pixels=height * width,
        unreached_pixels=job.visits.count_unreached(),
        outputs={product.name: product.unit.shape for product in products},
        output_bytes=outputs,
        disk_bytes=0 if in_memory else outputs + seams + trial.stored_bytes,
        memory_bytes=memory,
        total_memory_bytes=memory * len(strips) + (peak_memory() if slots else 0),
        windows_per_second=len(strips) / per_window,
        seconds=trial.start_seconds + largest(strips, windows) * per_window,
    )


def try_model(
    job: Job,
    stack: ImageStack,
    model: Model | str,
    strips: Sequence[Strip],
    slots: Sequence[Environment],
) -> Trial:
    """Try the model where the first strip would run."""
    if not slots:
        trial = try_strip(job, strips[0], stack, resolve(model))
        return replace(trial, stored_bytes=trial.prediction_bytes)  # by which it is known again
    from morpheus_core.parallel.trial import try_in_worker  # needs what Windows does not have

    return try_in_worker(job, stack, model, strips, slots[0])


def count_batches(job: Job, windows: NDArray[np.int64]) -> int:
    """Count the batches of all groups."""
    groups = job.grid.groups(job.batch_size, job.grid.whole())
    sizes = (int(windows[group.start : group.stop].sum()) for group in groups)
    return sum(-(-size // job.batch_size) for size in sizes)


def growth(job: Job, strips: Sequence[Strip], trial: Trial, prefetch: int) -> int:
    """Return the memory that a strip takes after its first batch: sums, and what is prefetched."""
    rows = job.grid.to_output(max(job.grid.group_height(job.batch_size, s) for s in strips))
    sums = rows * job.grid.plane_width * plane_bytes(job)
    # Predictions are copied to one of two buffers while the other one is folded.
    return sums + prefetch * trial.batch_bytes + (2 if prefetch else 0) * trial.prediction_bytes


def seconds_per_window(trial: Trial, prefetch: int) -> float:
    """Return the time of a window in one process; threads hide the shorter part."""
    parts = (trial.model_seconds, trial.other_seconds)
    return max(parts) if prefetch else sum(parts)


def largest(strips: Sequence[Strip], windows: NDArray[np.int64]) -> int:
    """Return how many windows the strip has that has most."""
    return max(int(windows[strip.start : strip.stop].sum()) for strip in strips)


def as_size(size: int) -> str:
    """Return bytes as text."""
    unit = min(max(size.bit_length() - 1, 0) // 10, 4)
    return f"{size / 1024**unit:,.1f} {('bytes', 'KiB', 'MiB', 'GiB', 'TiB')[unit]}"


def as_duration(seconds: float) -> str:
    """Return a time as text, in the units that people would use."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"
