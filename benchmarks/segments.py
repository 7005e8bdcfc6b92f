"""How fast regions are labelled, and what memory that takes beside the image of labels.

Votes of two classes, 40,000 × 40,000 pixels with 100,000 regions by default (give a smaller side as
an argument), are made row by row when they are read, so that neither disk nor memory holds them.
Memory is the peak of this process less what it has after the imports.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table

from morpheus_core.pipeline.aggregators import AGGREGATION_METHODS
from morpheus_core.results import segments
from morpheus_core.results.candidates import as_table, listed
from morpheus_core.results.finished import Output, Outputs
from morpheus_core.results.regions import Search

SIDE = int(sys.argv[1]) if len(sys.argv) > 1 else 40_000
#: Squares lie on a grid: this many along each axis, 316² being 100,000.
ALONG = max(1, round(316 * SIDE / 40_000))
SIZE = 9  # pixels along each side of a square


class Votes:
    """Votes in squares on a grid, made when they are sliced."""

    def __init__(self, depth: int) -> None:
        self.depth = depth

    def __getitem__(self, rows: slice) -> np.ndarray:
        step = SIDE // ALONG
        y = np.arange(rows.start, min(rows.stop, SIDE)) % step < SIZE
        x = (np.arange(SIDE) % step < SIZE) & (np.arange(SIDE) < ALONG * step)
        inside = (y[:, np.newaxis] & x).astype(np.float32) * 0.9
        inside[np.arange(rows.start, min(rows.stop, SIDE)) >= ALONG * step] = 0
        return np.stack([inside, 1 - inside], axis=-1) if self.depth else inside + 1


def peak() -> float:
    """Return the most memory that this process had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Label, and say how long that took."""
    outputs = Outputs(
        [
            Output("votes", (SIDE, SIDE, 2), fits.Header(), Votes(2)),
            Output("n", (SIDE, SIDE), fits.Header(), Votes(0)),
        ]
    )
    search = Search(outputs, AGGREGATION_METHODS.RANK_VOTE, 0, 0.5, 8)
    before, started = peak(), time.perf_counter()
    for _ in outputs.blocks():
        pass
    reading = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        regions, region_of_label = listed(search, 1)
        found = time.perf_counter() - started
        ids = np.zeros(region_of_label.max() + 1, np.int32)
        ids[regions["label"]] = np.arange(1, len(regions["label"]) + 1)
        unit = segments.ImageUnit((SIDE, SIDE), np.dtype(np.int32))
        path = Path(folder) / "labels.fits"
        segments.write_labels(search, ids[region_of_label], unit, path, overwrite=False)
        table: Table = as_table(regions, outputs, None)
        took = time.perf_counter() - started
    size = SIDE * SIDE * 4 / 2**20
    print(f"{SIDE} x {SIDE} pixels, {len(table)} regions, labels of {size:.0f} MiB")
    print(f"making the votes themselves: {reading:.0f} s for one pass of two")
    print(f"{SIDE / found:.0f} rows/s to find regions, {SIDE / took:.0f} rows/s with their labels")
    print(
        f"memory: {peak() - before:.0f} MiB, 1/{size / max(1, peak() - before):.0f} of the labels"
    )


if __name__ == "__main__":
    main()
