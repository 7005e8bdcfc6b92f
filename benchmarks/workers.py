"""How much faster two workers are than one process, on a job of about a minute.

The model is bound by one core: a convolution by its definition, without threads. Start-up of the
workers counts.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

# Before numpy is imported: one process must not use the second core either.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import numpy as np

from morpheus_core import predict

PAIRS = 3
IMAGE = np.random.default_rng(0).random((2400, 2400), dtype=np.float32)


def convolve(batch: list[np.ndarray]) -> np.ndarray:
    """Score two classes by smoothing each window again and again."""
    pixels = batch[0]
    for _ in range(48):
        padded = np.pad(pixels, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
        height, width = pixels.shape[1:3]
        pixels = sum(
            padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)
        ) / np.float32(9)
    return np.concatenate([pixels, 1 - pixels], axis=-1)


def seconds(directory: Path, cpus: int | None) -> float:
    """Return the wall time of one run."""
    start = time.perf_counter()
    hduls, _ = predict(
        convolve,
        IMAGE,
        2,
        64,
        (40, 40),
        stride=(5, 5),
        aggregate_method="mean_var",
        out_dir=directory,
        cpus=cpus,
        progress=False,
    )
    spent = time.perf_counter() - start
    for hdul in hduls:
        hdul.close()
    return spent


def main() -> None:
    """Print the times of interleaved pairs of runs, and the median of their ratios."""
    ratios = []
    with tempfile.TemporaryDirectory() as directory:
        for pair in range(PAIRS):
            one = seconds(Path(directory) / f"one-{pair}", None)
            two = seconds(Path(directory) / f"two-{pair}", 2)
            ratios.append(one / two)
            print(f"one process {one:6.1f} s   two workers {two:6.1f} s   ratio {one / two:.2f}")
    print(f"median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
