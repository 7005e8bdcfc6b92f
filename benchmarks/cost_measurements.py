"""What the cost model is fitted to: runs on a Dask cluster of one and two workers, and rates.

The model of these runs waits as long for each window as it is told, as a GPU would, so two workers
do not compete for cores and everything else shows.
"""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import distributed
import numpy as np
from astropy.io import fits
from dask.distributed import Client, LocalCluster
from numpy.typing import NDArray

from morpheus_core import predict
from morpheus_core import run as runs

WINDOW = 40
CLASSES = 5
#: Of the runs on Dask: five windows in a row, one row in a batch, 4 ms per window.
WIDTH, STRIDE, BATCH, WAIT = 120, 20, 5, 0.004
#: Window rows, and into how many strips they are cut.
CASES = ((65, 4), (65, 64), (129, 4), (129, 32), (129, 64), (129, 128))
REPEATS = 3


@dataclass(frozen=True, slots=True)
class Sample:
    """One run.

    Attributes
    ----------
    workers, windows, strips : int
        Of the run.
    seconds : float
        From the call of `predict` to its return.
    """

    workers: int
    windows: int
    strips: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Measurements:
    """Everything that is measured.

    Attributes
    ----------
    machine : str
        Where it was measured.
    samples : list of Sample
        Runs on Dask.
    start_seconds : float
        What the first run on a worker process takes longer than the second.
    ceilings : dict of str to float
        Windows per second of one process whose model costs nothing, by stride.
    stitch_bytes_per_second : float
        Bytes of seams that one process adds up, finalizes and writes.
    """

    machine: str
    samples: list[Sample]
    start_seconds: float
    ceilings: dict[str, float]
    stitch_bytes_per_second: float


class Waiting:
    """A model that waits for each window, and returns a part of one array."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.answer: NDArray[np.float32] | None = None

    def __call__(self, batch: list[NDArray[Any]]) -> NDArray[np.float32]:
        """Return scores that mean nothing."""
        count = len(batch[0])
        if self.answer is None or len(self.answer) < count:
            self.answer = np.full((count, WINDOW, WINDOW, CLASSES), 0.2, np.float32)
        time.sleep(count * self.seconds)
        return self.answer[:count]


def measure() -> Measurements:
    """Measure everything; it takes about two minutes on two cores."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with local_cluster(1) as one, local_cluster(2) as two:
            start_seconds = start(one, folder)
            start(two, folder)
            samples = fastest(
                run_on_dask(client, folder, workers, window_rows, strips)
                for window_rows, strips in CASES * REPEATS
                for workers, client in enumerate((one, two), start=1)  # both see the same machine
            )
        ceilings = {str(stride): ceiling(folder, stride) for stride in (1, 10)}
        return Measurements(machine(), samples, start_seconds, ceilings, stitch_rate(folder))


def fastest(samples: Iterable[Sample]) -> list[Sample]:
    """Return one sample of each kind: what else the machine does only makes runs slower."""
    by_kind: dict[tuple[int, int, int], Sample] = {}
    for sample in sorted(samples, key=lambda sample: sample.seconds):
        by_kind.setdefault((sample.workers, sample.windows, sample.strips), sample)
    return list(by_kind.values())


def start(client: Client, folder: Path) -> float:
    """Return what the first run on a cluster takes longer than the second."""
    first, second = (run_on_dask(client, folder, 1, 65, 4).seconds for _ in range(2))
    return first - second


def machine() -> str:
    """Name the processor and the programs."""
    cores = len(os.sched_getaffinity(0))
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    versions = f"Python {platform.python_version()}, numpy {np.__version__}"
    return f"{cores} cores of an {processor}, {versions}, Dask {distributed.__version__}"


@contextmanager
def local_cluster(workers: int) -> Iterator[Client]:
    """Start a scheduler and workers of one thread, each a process of its own."""
    options = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        yield client


def run_on_dask(
    client: Client, folder: Path, workers: int, window_rows: int, strips: int
) -> Sample:
    """Time one run."""
    path = noise(folder, (WINDOW + (window_rows - 1) * STRIDE, WIDTH))
    seconds = timed_run(Waiting(WAIT), path, BATCH, STRIDE, executor=client, strips=strips)
    windows = window_rows * ((WIDTH - WINDOW) // STRIDE + 1)
    return Sample(workers, windows, strips, seconds)


def ceiling(folder: Path, stride: int) -> float:
    """Return how many windows a second one process gets through whose model costs nothing."""
    shape = (400, 400) if stride == 1 else (2000, 2000)
    seconds = [timed_run(Waiting(0), noise(folder, shape), 64, stride) for _ in range(2)]
    height, width = shape
    windows = ((height - WINDOW) // stride + 1) * ((width - WINDOW) // stride + 1)
    return windows / min(seconds)


def stitch_rate(folder: Path) -> float:
    """Return how many bytes of seams a second are stitched, in rows of 20,000 pixels."""
    spent: list[float] = []
    original, row_bytes = runs.stitch, 20_000 * CLASSES * 2 * 8
    seam_rows = []

    def timed(job: Any, strips: Any, *arguments: Any) -> Any:
        start = time.perf_counter()
        answer = original(job, strips, *arguments)
        spent.append(time.perf_counter() - start)
        seam_rows.append(sum(stop - first for first, stop in job.grid.seams(strips)))
        return answer

    runs.stitch = timed
    try:
        timed_run(Waiting(0), noise(folder, (400, 20_000)), 64, STRIDE, strips=6)
    finally:
        runs.stitch = original
    return 2 * seam_rows[0] * row_bytes / spent[0]  # two strips hold a part of each row


def noise(folder: Path, shape: tuple[int, int]) -> Path:
    """Write an image of this shape, unless there is one, and return where."""
    path = folder / f"{shape[0]}x{shape[1]}.fits"
    if not path.exists():
        fits.writeto(path, np.random.default_rng(0).normal(size=shape).astype(np.float32))
    return path


def timed_run(model: Waiting, path: Path, batch_size: int, stride: int, **options: Any) -> float:
    """Return the wall time of one run into FITS files."""
    with tempfile.TemporaryDirectory(dir=path.parent) as out_dir:
        start = time.perf_counter()
        hduls, _ = predict(
            model,
            path,
            CLASSES,
            batch_size,
            (WINDOW, WINDOW),
            stride=(stride, stride),
            aggregate_method="mean_var",
            out_dir=out_dir,
            progress=False,
            **options,
        )
        seconds = time.perf_counter() - start
        for hdul in hduls:
            hdul.close()
    return seconds
