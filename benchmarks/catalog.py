"""How fast rows of a catalogue are answered, and how memory grows with their number.

Positions on one image of 8000 × 8000 pixels, windows of 32 × 32, a model that picks one pixel.
Rates of a catalogue that is sorted by row and of one in random order are of interleaved runs.
Memory is the peak of a process of its own, of a catalogue in random order, less what the process
had before and less the columns of the result. It is told to give back at once what is freed: the C
library keeps some tens of MiB otherwise, which hides what is needed.
"""

from __future__ import annotations

import cProfile
import os
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table

from morpheus_core import predict_catalog

SIDE = 8000
ROWS = 1_000_000
PAIRS = 5


def centre(batch: list[np.ndarray]) -> np.ndarray:
    """Score a window by the pixel in its middle."""
    return batch[0][:, 16, 16, :]


def positions(n_rows: int, order: str) -> Table:
    """Return a catalogue, "sorted" by row or "random"."""
    x, y = np.random.default_rng(0).uniform(0, SIDE - 1, (2, n_rows))
    places = np.argsort(y) if order == "sorted" else slice(None)
    return Table({"x": x[places], "y": y[places]})


def run(path: Path, catalog: Table, prefetch: int | None = None) -> Table:
    """Answer a catalogue."""
    return predict_catalog(
        centre, path, catalog, 1, 256, (32, 32), progress=False, prefetch=prefetch
    )


def rate(path: Path, catalog: Table) -> float:
    """Return rows per second."""
    start = time.perf_counter()
    run(path, catalog)
    return len(catalog) / (time.perf_counter() - start)


def print_rates(path: Path) -> None:
    """Print the rates of both orders, and the median of their ratios."""
    ratios = []
    catalogs = [positions(ROWS, order) for order in ("sorted", "random")]
    for _ in range(PAIRS):
        in_order, at_random = (rate(path, catalog) for catalog in catalogs)
        ratios.append(in_order / at_random)
        print(f"sorted {in_order:8.0f} rows/s   random {at_random:8.0f} rows/s", flush=True)
    print(f"median ratio {statistics.median(ratios):.2f} (target < 1.5)")


def print_profile(path: Path) -> None:
    """Print where the time of a run in one thread goes."""
    profile = cProfile.Profile()
    profile.runcall(run, path, positions(ROWS, "random"), prefetch=0)
    pstats.Stats(profile).sort_stats("tottime").print_stats(12)


def status(name: str) -> float:
    """Return what the system knows of this process, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(name))
    return int(line.split()[1]) / 1024


def print_memory(path: Path, n_rows: int) -> None:
    """Print the memory that a run takes in this process."""
    run(path, positions(1000, "random"))  # which loads what is loaded once
    catalog = positions(n_rows, "random")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before = status("VmRSS")
    table = run(path, catalog)
    result = sum(table[name].nbytes for name in table.colnames) / 2**20
    grown = status("VmHWM") - before
    print(
        f"{n_rows:8} rows: {grown - result:4.0f} MiB beside the {result:.0f} MiB of the result",
        flush=True,
    )


def main() -> None:
    """Print rates, a profile, and memory for two lengths of the catalogue."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "image.fits"
        pixels = np.random.default_rng(0).random((SIDE, SIDE), dtype=np.float32)
        fits.writeto(path, pixels)
        del pixels
        run(path, positions(1000, "random"))
        print_rates(path)
        print_profile(path)
        for n_rows in (ROWS // 10, ROWS):
            subprocess.run(
                [sys.executable, __file__, path, str(n_rows)],
                env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"},
                check=True,
            )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print_memory(Path(sys.argv[1]), int(sys.argv[2]))
    else:
        main()
