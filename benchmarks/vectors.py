"""How fast rows with vectors are answered and written, and how memory grows with their number.

Positions on one image, windows of 8 × 8, a model that returns 768 numbers for each. The same run
without the vector (``argmax`` alone) stands beside it. Memory is the peak of a process of its own,
less what it had before the run and less the column that the table holds.

``python benchmarks/vectors.py [ROWS]``; 1,000,000 by default, which needs 3 GiB of memory and 5 GiB
of disk.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from astropy.table import Table

from morpheus_core import predict_catalog

SIDE, WIDTH = 2000, 768
ROWS = 1_000_000
KINDS = {
    "without": ("argmax", "float32", ".parquet"),
    "parquet": ("vector", "float16", ".parquet"),
    "fits": ("vector", "float32", ".fits"),
}
VALUES = np.random.default_rng(0).random((256, WIDTH), np.float32)


def embed(batch: list[np.ndarray]) -> np.ndarray:
    """Return a vector for each window."""
    return VALUES[: len(batch[0])]


def measure(kind: str, rows: int) -> dict[str, float]:
    """Return rows per second, and MiB beside the column of the table."""
    wanted, dtype, end = KINDS[kind]
    x, y = np.random.default_rng(1).uniform(8, SIDE - 8, (2, rows))
    image = np.zeros((SIDE, SIDE), np.float32)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        table = predict_catalog(
            embed, image, Table({"x": x, "y": y}), WIDTH, 256, (8, 8), columns=wanted,
            output_dtype=dtype, out=Path(folder) / f"out{end}", progress=False,
        )  # fmt: skip
        seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    held = table["scores"].nbytes / 2**20 if wanted == "vector" else 0
    return {"rows per second": rows / seconds, "MiB beside the table": peak - before - held}


def main() -> None:
    """Print each kind of run, of all rows and of a tenth of them."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    for kind in KINDS:
        for count in (rows // 10, rows):
            command = [sys.executable, __file__, "--measure", kind, str(count)]
            found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            shown = ", ".join(f"{name} {value:,.0f}" for name, value in found.items())
            print(f"{kind:8} {count:>9,} rows: {shown}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(sys.argv[2], int(sys.argv[3]))))
    else:
        main()
