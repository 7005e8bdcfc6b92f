"""The cost model: fitted to measurements, and carried on to a mosaic and GPUs that are not here."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from cost_measurements import CLASSES, WINDOW, Measurements, Sample
from numpy.typing import NDArray

from morpheus_core.parallel.strip_counts import LEAST_WINDOWS_HIGH, strips_for
from morpheus_core.pipeline.aggregators import AGGREGATION_METHODS
from morpheus_core.pipeline.job import Job
from morpheus_core.windows.grid import Strip, WindowGrid
from morpheus_core.workspace.stitch import seam_bytes

SIDE = 100_000
BANDS = 4
BATCH_SIZE = 64
#: The slowest worker is a tenth slower than the mean, the fastest a tenth faster.
SPREAD = 0.1


@dataclass(frozen=True, slots=True)
class Fit:
    """What a run takes on workers whose model waits.

    Attributes
    ----------
    begin : float
        Seconds of a run before and after its strips.
    rate : float
        Windows per second of one worker.
    per_strip : float
        Seconds of a worker for each strip, beside its windows.
    scheduling : float
        Seconds of the process that waits, for each strip.
    """

    begin: float
    rate: float
    per_strip: float
    scheduling: float

    def seconds(self, workers: float, windows: float, strips: float) -> float:
        """Return the wall time of a run."""
        busy = windows / self.rate + strips * self.per_strip
        return self.begin + busy / workers + strips * self.scheduling


def fitted(samples: Sequence[Sample]) -> Fit:
    """Return the least squares of relative errors, without negative costs."""
    rows = np.array([(1, s.windows / s.workers, s.strips / s.workers, s.strips) for s in samples])
    rows /= np.array([[s.seconds] for s in samples])
    costs, kept = np.zeros(4), np.arange(4)
    while True:
        solution = np.linalg.lstsq(rows[:, kept], np.ones(len(rows)))[0]
        if solution.min() >= 0:
            break
        kept = np.delete(kept, solution.argmin())  # too small to be seen among the noise
    costs[kept] = solution
    begin, window, per_strip, scheduling = costs.tolist()
    return Fit(begin, 1 / window, per_strip, scheduling)


@dataclass(frozen=True)
class Mosaic:
    """The image that nobody has on one machine.

    Parameters
    ----------
    stride : int
        Of its windows, along both axes.
    """

    stride: int

    @cached_property
    def grid(self) -> WindowGrid:
        """Its windows."""
        return WindowGrid((SIDE, SIDE), (WINDOW, WINDOW), (self.stride, self.stride))

    @cached_property
    def job(self) -> Job:
        """Mean and variance of five classes, in float32."""
        weights = np.ones((WINDOW, WINDOW))
        methods = (AGGREGATION_METHODS.MEAN_VAR,)
        return Job(self.grid, CLASSES, BATCH_SIZE, weights, methods, "propagate", np.nan)

    @cached_property
    def windows(self) -> NDArray[np.int64]:
        """Windows of each window row."""
        return np.full(len(self.grid.rows.origins), len(self.grid.columns.origins))

    def seam_bytes(self, strips: Sequence[Strip]) -> int:
        """Return what all strips keep of rows that they share."""
        return sum(seam_bytes(self.job, strip) for strip in strips)

    def input_bytes(self, strips: Sequence[Strip]) -> int:
        """Return what all strips read: rows at which they meet are read by both."""
        spans = [self.grid.rows_of(strip) for strip in strips]
        return sum(stop - start for start, stop in spans) * SIDE * BANDS * 4

    @property
    def output_bytes(self) -> int:
        """Return the size of ``output.fits`` and ``n.fits``."""
        return SIDE * SIDE * (CLASSES * 2 + 1) * 4

    def default_strips(self, workers: int) -> int:
        """Return into how many strips `predict` cuts it."""
        return strips_for(workers, self.grid)

    def choices(self, workers: int) -> list[int]:
        """Return numbers of strips among which to choose: parts and multiples of the workers."""
        most = max(workers, SIDE // (LEAST_WINDOWS_HIGH * WINDOW))
        halves = [workers >> k for k in range(workers.bit_length())]
        multiples = [workers * k for k in (2, 3, 4, 6, 8) if workers * k <= most]
        return [*halves, *multiples]


@cache
def strips_of(mosaic: Mosaic, count: int) -> list[Strip]:
    """Cut a mosaic into strips; it has very many groups."""
    return mosaic.grid.strips(BATCH_SIZE, count, mosaic.windows)


@dataclass(frozen=True, slots=True)
class Cluster:
    """What is assumed of machines that are not here.

    Attributes
    ----------
    workers : int
        One per GPU.
    rate : float
        Windows per second of one GPU.
    bandwidth : float
        Bytes per second of the shared file system, for all workers together.
    """

    workers: int
    rate: float
    bandwidth: float


@dataclass(frozen=True, slots=True)
class Projection:
    """Where the time of a run goes; all in seconds, but for the first two.

    Attributes
    ----------
    strips, seam_bytes : int
        How many strips, and what they keep of rows that they share.
    predicting : float
        Windows over the rate of all GPUs.
    folding : float
        Windows over the rate at which processes can fold what GPUs predict, if that is lower.
    computing : float
        Until the last worker is done with its strips, if files cost nothing.
    files : float
        Reading inputs, writing outputs and seams, at the bandwidth of the file system.
    stitching : float
        Adding up the seams in one process.
    total : float
        Computing or files, whichever is longer, then stitching, and start and end of the run.
    """

    strips: int
    seam_bytes: int
    predicting: float
    folding: float
    computing: float
    files: float
    stitching: float
    total: float

    @property
    def bottleneck(self) -> str:
        """What takes longest."""
        parts = {
            "GPUs": self.predicting,
            "folding": self.folding,
            "idle workers": self.computing - max(self.predicting, self.folding),
            "files": self.files,
            "stitching": self.stitching,
        }
        return max(parts, key=lambda name: parts[name])


def project(
    mosaic: Mosaic, cluster: Cluster, count: int, fit: Fit, measured: Measurements
) -> Projection:
    """Say what a run would take, in so many strips."""
    strips = strips_of(mosaic, count)
    ceiling = measured.ceilings[str(mosaic.stride)]
    rate = min(cluster.rate, ceiling)
    windows = [int(mosaic.windows[strip.start : strip.stop].sum()) for strip in strips]
    seams = mosaic.seam_bytes(strips)
    computing = makespan([n / rate + fit.per_strip for n in windows], cluster.workers)
    files = (mosaic.input_bytes(strips) + mosaic.output_bytes + seams) / cluster.bandwidth
    stitching = seams / min(measured.stitch_bytes_per_second, cluster.bandwidth)
    scheduling = fit.scheduling * len(strips)
    begin = fit.begin + measured.start_seconds
    return Projection(
        strips=len(strips),
        seam_bytes=seams,
        predicting=sum(windows) / cluster.rate / cluster.workers,
        folding=sum(windows) / ceiling / cluster.workers,
        computing=max(computing, scheduling),
        files=files,
        stitching=stitching,
        total=begin + max(computing, scheduling, files) + stitching,
    )


def makespan(seconds: Sequence[float], workers: int) -> float:
    """Return when the last worker is done, where each takes a strip whenever it has none."""
    slowness = 1 / np.linspace(1 - SPREAD, 1 + SPREAD, workers)
    ready = [(0.0, worker) for worker in range(workers)]
    last = 0.0
    for one in seconds:
        at, worker = ready[0]
        at += one * slowness[worker]
        heapq.heapreplace(ready, (at, worker))
        last = max(last, at)
    return last


def most_strips(mosaic: Mosaic, rate: float, measured: Measurements) -> float:
    """Return the strips beyond which the stitching of seams costs more than further workers save.

    With one strip per worker a run takes ``windows / (rate * strips) + strips * stitching``; this
    is where that is least.
    """
    strips = strips_of(mosaic, 512)
    stitching = mosaic.seam_bytes(strips) / len(strips) / measured.stitch_bytes_per_second
    return float(np.sqrt(mosaic.windows.sum() / rate / stitching))


def best(mosaic: Mosaic, cluster: Cluster, fit: Fit, measured: Measurements) -> Projection:
    """Return the projection with as many strips as make it shortest."""
    choices = mosaic.choices(cluster.workers)
    projections = [project(mosaic, cluster, count, fit, measured) for count in choices]
    return min(projections, key=lambda projection: projection.total)
