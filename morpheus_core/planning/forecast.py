"""What a run would do and take, without running it."""

from __future__ import annotations

import functools
import heapq
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import signature
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from morpheus_core.fits.blocks import sum_of_words
from morpheus_core.images.expansion import Unpacking
from morpheus_core.images.prepared import PreparedImage
from morpheus_core.morpheus_core import predict
from morpheus_core.pipeline.finisher import shelved_bytes
from morpheus_core.pipeline.job import Job
from morpheus_core.pipeline.models import resolve
from morpheus_core.pipeline.strip import count_windows
from morpheus_core.planning.trial_in_worker import try_in_worker
from morpheus_core.planning.trials import Trial, peak_memory, try_strip
from morpheus_core.preparation import Arguments, Prepared, arguments_of, prepare
from morpheus_core.results.outputs import file_bytes
from morpheus_core.results.sinks import SinkName
from morpheus_core.run import keeps_rows_apart
from morpheus_core.windows.grid import Group, Strip
from morpheus_core.workspace.stitch import seam_bytes

#: How often bytes that are verified are read and added up: once when copied, once when read back.
PASSES = 2
#: Bytes by which the time of that is measured.
SAMPLE = 16 << 20

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run would do and take; its text is a table.

    Attributes
    ----------
    windows, batches : int
        How many the model would get.
    strips : list of tuple of int
        First window row, and the one after the last, of each strip.
    workers : int or None
        Processes beside this one; 0 runs in this one, None is not known.
    output_pixels, unreached_pixels : int
        Pixels of the outputs, and how many of them no window reaches.
    outputs : dict
        The shape of each output, by name.
    output_bytes : int
        Size of the outputs, in memory or, with `out_dir`, on disk; the most that it can be where
        they are packed.
    sink : str
        What kind of files they are.
    disk_bytes : int
        The most space that is taken in `out_dir`, outputs and what is removed at the end.
    verified_bytes : int
        What is copied from files of strips into the outputs, or from plain files into those of
        another sink, read back, and compared with what was computed; 0 where strips write straight
        into the outputs.
    verifying_seconds : float
        The processor time of that, without waiting for the disk or a server, and without packing.
    unpacked_bytes : int
        What compressed inputs take in the folder for temporary files while the run lasts.
    unpacking_seconds : float
        How long it takes to unpack them, once for all workers.
    prepared_bytes : int
        What images that a function has prepared as a whole take in the folder for temporary files,
        or once there are workers in `out_dir`, which `disk_bytes` counts.
    preparing_seconds : float
        How long it takes to prepare images, or to find out what a step must know of them, once for
        all workers.
    shelved_bytes : int
        What sums of wide images take in the folder for temporary files, of all processes together,
        while the run lasts.
    memory_bytes : int
        The most memory of one process that runs the model.
    total_memory_bytes : int
        The most memory of all processes.
    windows_per_second : float
        Of all workers together.
    seconds : float
        How long the run would take.
    batch_sizes : dict
        Windows per second that the model alone scores in one process, by the size of batches.
    memory_formats : dict
        The same by the memory format of the network, where that was left to be tried.
    """

    windows: int
    batches: int
    strips: list[tuple[int, int]]
    workers: int | None
    output_pixels: int
    unreached_pixels: int
    outputs: dict[str, tuple[int, ...]]
    output_bytes: int
    sink: SinkName
    disk_bytes: int
    verified_bytes: int
    verifying_seconds: float
    unpacked_bytes: int
    unpacking_seconds: float
    prepared_bytes: int
    preparing_seconds: float
    shelved_bytes: int
    memory_bytes: int
    total_memory_bytes: int
    windows_per_second: float
    seconds: float
    batch_sizes: dict[int, float]
    memory_formats: dict[str, float]

    def __str__(self) -> str:
        where = f"{self.workers} workers" if self.workers else "this process"
        if self.workers is None:
            where = "an unknown number of workers"
        shapes = ", ".join(f"{name} {shape}" for name, shape in self.outputs.items())
        most = "" if self.sink == "fits" else f" at most, as {self.sink}"
        lines = {
            "windows": f"{self.windows:,} in {self.batches:,} batches",
            "strips": f"{len(self.strips)}, run by {where}",
            "coverage": f"{self.unreached_pixels:,} of {self.output_pixels:,} output pixels are "
            "reached by no window",
            "outputs": f"{shapes}: {as_size(self.output_bytes)}{most}",
            "disk": as_size(self.disk_bytes),
            "verifying": self._verifying(),
            "unpacking": self._unpacking(),
            "preparing": self._preparing(),
            "sums": self._sums(),
            "memory": f"{as_size(self.memory_bytes)} in each process that runs the model, "
            f"{as_size(self.total_memory_bytes)} in all",
            "speed": f"{self.windows_per_second:,.0f} windows per second",
            "duration": as_duration(self.seconds),
            "sizes": as_speeds(self.batch_sizes),
        }
        if self.memory_formats:
            lines["formats"] = as_speeds(self.memory_formats)
        return "\n".join(f"{name:10}{text}" for name, text in lines.items() if text)

    def _verifying(self) -> str:
        if not self.verified_bytes:
            return "sums are compared, nothing is read back"
        return (
            f"{as_size(self.verified_bytes)} are copied and read back, "
            f"{as_duration(self.verifying_seconds)} of processor time beside the disk's"
        )

    def _unpacking(self) -> str:
        if not self.unpacked_bytes:
            return ""
        return (
            f"{as_size(self.unpacked_bytes)} in {tempfile.gettempdir()}, once, "
            f"{as_duration(self.unpacking_seconds)}"
        )

    def _preparing(self) -> str:
        if not self.preparing_seconds:
            return ""
        kept = f"{as_size(self.prepared_bytes)} kept, " if self.prepared_bytes else ""
        return f"{kept}once, {as_duration(self.preparing_seconds)}"

    def _sums(self) -> str:
        if not self.shelved_bytes:
            return ""
        return f"{as_size(self.shelved_bytes)} in {tempfile.gettempdir()}, while the run lasts"


def with_arguments_of(
    function: Callable[P, object],
) -> Callable[[Callable[[Arguments], R]], Callable[P, R]]:
    """Let a function take the arguments of `predict`, which is the other one."""

    def decorate(decorated: Callable[[Arguments], R]) -> Callable[P, R]:
        @functools.wraps(decorated)
        def call(*given: P.args, **named: P.kwargs) -> R:
            return decorated(arguments_of(function, *given, **named))

        returned = signature(decorated).return_annotation
        call.__signature__ = signature(function).replace(  # type: ignore[attr-defined]
            return_annotation=returned
        )
        return call

    return decorate


@with_arguments_of(predict)
def plan(arguments: Arguments) -> Forecast:
    """Say what :func:`morpheus_core.predict` would do and take, and write nothing there.

    Takes the arguments of `predict`; with ``resume=True`` it tells of the whole run. The model is
    tried for about two seconds, with the first batches of the strip that has most windows, and then
    for about ten with batches of 4 to 512 windows of the image: for `cpus` and `gpus` in a process
    that is started as a worker would be, otherwise, also for `executor`, in this one. For the
    former, inputs that are arrays are written to the folder for temporary files, and removed. The
    duration supposes that all windows take as long, and that workers do not slow each other down.
    It leaves out what inputs in large chunks (Dask, Zarr) take to read beyond the first of them.
    Memory is that of whole processes; of the model's own memory only what it took in the first
    trial is known. Inputs that are compressed are unpacked as for a run, and removed: that tells
    what it takes. Unreached pixels are those of windows and `update_map`; what `mask` and
    `skip_blank` leave without a result comes on top.

    Returns
    -------
    Forecast
        With a table as its text.

    Raises
    ------
    MorpheusError
        As `predict`, but for what is in `out_dir`.

    Warns
    -----
    MorpheusWarning
        As `predict`.

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
    with prepare(arguments) as ready:
        return forecast(ready)


def forecast(ready: Prepared) -> Forecast:
    """Count what the geometry says, and try the model for the rest."""
    job, workers = ready.job, count_workers(ready)
    preparing = settle(ready)
    windows = count_windows(job, ready.stack)
    strips = job.grid.strips(job.batch_size, ready.n_strips, windows)
    at_a_time = min(len(strips), workers or 1)
    busiest = max(strips, key=lambda strip: windows_of(strip, windows))
    untried = Trial(0.0, 0, 0, peak_memory())
    trial = try_model(ready, busiest) if windows.any() else untried
    in_memory = ready.directory is None
    held = sum(product.unit.data_bytes for product in ready.products)
    outputs = held if in_memory else file_bytes(ready.products)
    copied = outputs if keeps_rows_apart(ready) else 0
    packed = outputs if ready.sink != "fits" else 0
    verified = copied + packed
    # Rows of strips are removed before files of another sink are made.
    stored = outputs + max(copied, packed) + sum(seam_bytes(job, strip) for strip in strips)
    shelved = shelved_bytes(job, in_memory)
    memory = trial.peak_bytes + (0 if shelved else growth(job, busiest, windows, trial))
    if in_memory:
        memory += outputs
    parts = ready.stack.images_and_masks
    unpacking = sum((part.unpacking for part in parts), start=Unpacking())
    most = most_windows([windows_of(strip, windows) for strip in strips], at_a_time)
    begin = unpacking.seconds + preparing.seconds + trial.start_seconds
    height, width = job.grid.output_shape
    return Forecast(
        windows=int(windows.sum()),
        batches=count_batches(job, windows),
        strips=[(strip.start, strip.stop) for strip in strips],
        workers=workers,
        output_pixels=height * width,
        unreached_pixels=job.visits.count_unreached(),
        outputs={product.name: product.unit.shape for product in ready.products},
        output_bytes=outputs,
        sink=ready.sink,
        disk_bytes=0 if in_memory else stored + trial.stored_bytes,
        verified_bytes=verified,
        verifying_seconds=verified * PASSES * seconds_per_byte() if verified else 0.0,
        unpacked_bytes=unpacking.bytes,
        unpacking_seconds=unpacking.seconds,
        prepared_bytes=preparing.bytes,
        preparing_seconds=preparing.seconds,
        shelved_bytes=shelved * at_a_time,
        memory_bytes=memory,
        total_memory_bytes=memory * at_a_time + (0 if workers == 0 else peak_memory()),
        windows_per_second=at_a_time / trial.seconds_per_window if trial.windows else 0.0,
        seconds=begin + most * trial.seconds_per_window,
        batch_sizes=trial.speeds,
        memory_formats={} if ready.tried is None else ready.tried.speeds,
    )


def settle(ready: Prepared) -> Unpacking:
    """Prepare what is to be prepared, and return what that took."""
    prepared = [image for image in ready.stack.images if isinstance(image, PreparedImage)]
    for image in prepared:
        image.settle()
    return sum((image.preparing for image in prepared), start=Unpacking())


def count_workers(ready: Prepared) -> int | None:
    """Return how many processes there are beside this one; an executor may not know its own."""
    return None if ready.arguments.begin_only else ready.workers.count()


def seconds_per_byte() -> float:
    """Return how long it takes to copy some memory and add up its words."""
    page = np.ones(SAMPLE // 4, np.uint32)
    start = time.perf_counter()
    sum_of_words(page.copy(), 0)
    return (time.perf_counter() - start) / SAMPLE


def most_windows(strips: Sequence[int], workers: int) -> int:
    """Return the windows of the busiest worker, where each takes a strip whenever it has none."""
    busy = [0] * workers
    for windows in strips:
        heapq.heapreplace(busy, busy[0] + windows)
    return max(busy)


def try_model(ready: Prepared, strip: Strip) -> Trial:
    """Try the model where the strip would run."""
    job, stack, model = ready.job, ready.stack, ready.arguments.model
    if not ready.workers.slots:
        trial = try_strip(job, strip, stack, resolve(model), ready.workers.prefetch)
        return replace(trial, stored_bytes=trial.prediction_bytes)  # by which it is known again
    return try_in_worker(job, stack, model, strip, ready.workers.slots[0], ready.workers.prefetch)


def count_batches(job: Job, windows: NDArray[np.int64]) -> int:
    """Count the batches of all groups."""
    groups = job.grid.groups(job.batch_size, job.grid.whole())
    return sum(-(-windows_of(group, windows) // job.batch_size) for group in groups)


def growth(job: Job, strip: Strip, windows: NDArray[np.int64], trial: Trial) -> int:
    """Return the memory of sums that the trial did not get to; a whole group gets to all."""
    groups = job.grid.groups(job.batch_size, strip)
    most = max(windows_of(group, windows) for group in groups)
    return job.sums_bytes * max(0, most - trial.windows) // max(1, most)


def windows_of(rows: Strip | Group, windows: NDArray[np.int64]) -> int:
    """Return how many windows some window rows have."""
    return int(windows[rows.start : rows.stop].sum())


def as_size(size: int) -> str:
    """Return bytes as text."""
    unit = min(max(size.bit_length() - 1, 0) // 10, 4)
    return f"{size / 1024**unit:,.1f} {('bytes', 'KiB', 'MiB', 'GiB', 'TiB')[unit]}"


def as_speeds(speeds: Mapping[Any, float]) -> str:
    """Return what the model does in batches of several sizes, or in several ways."""
    told = ", ".join(f"{name}: {speed:,.0f}" for name, speed in speeds.items())
    return f"{told} windows per second of the model alone" if told else "none were tried"


def as_duration(seconds: float) -> str:
    """Return a time as text, in the units that people would use."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"
