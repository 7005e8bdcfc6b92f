"""How fast rows with vectors are answered and written, and how memory grows with their number.

Positions on one image, and a model that returns 768 numbers for each. The same run without the
vector (``argmax`` alone) stands beside it. One model costs nothing: it has its answer already, of
windows of 8 × 8. The other is the least that makes an embedding, one product of a window of
32 × 32 and a matrix. Memory is the peak of a process of its own,
less what it had before the run and less the columns of the table; as in ``catalog.py`` what is
freed is given back at once.

``python benchmarks/vectors.py [ROWS]``; 1,000,000 by default, which needs 3 GiB of memory and 5 GiB
of disk.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import product as product_of
from pathlib import Path

import numpy as np
from astropy.table import Table
from catalog import status

from morpheus_core import predict_catalog

SIDE, WIDTH = 2000, 768
ROWS = 1_000_000
KINDS = {
    "without": ("argmax", "float32", ".parquet"),
    "parquet": ("vector", "float16", ".parquet"),
    "fits": ("vector", "float32", ".fits"),
}
VALUES = np.random.default_rng(0).random((1024, WIDTH), np.float32)


def nothing(batch: list[np.ndarray]) -> np.ndarray:
    """Return a vector for each window, which was there before."""
    return VALUES[: len(batch[0])]


def product(batch: list[np.ndarray]) -> np.ndarray:
    """Return the product of each window and a matrix."""
    return batch[0].reshape(len(batch[0]), -1) @ VALUES


#: Models, and the sides of their windows.
MODELS = {"nothing": (nothing, 8), "product": (product, 32)}


def run(model: str, kind: str, rows: int) -> Table:
    """Answer so many rows, and write the table."""
    (embed, side), (wanted, dtype, end) = MODELS[model], KINDS[kind]
    x, y = np.random.default_rng(1).uniform(side, SIDE - side, (2, rows))
    image = np.zeros((SIDE, SIDE), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        return predict_catalog(
            embed, image, Table({"x": x, "y": y}), WIDTH, 256, (side, side), columns=wanted,
            output_dtype=dtype, out=Path(folder) / f"out{end}", progress=False,
        )  # fmt: skip


def measure(model: str, kind: str, rows: int) -> dict[str, float]:
    """Return rows per second of the clock and of processors, and MiB beside the table."""
    run(model, kind, 1000)  # which loads what is loaded once
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before, start, busy = status("VmRSS"), time.perf_counter(), time.process_time()
    table = run(model, kind, rows)
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    held = sum(table[name].nbytes for name in table.colnames) / 2**20
    return {
        "rows/s": rows / seconds,
        "rows per second of processors": rows / busy,
        "MiB of table": held,
        "MiB beside it": status("VmHWM") - before - held,
    }


def main() -> None:
    """Print each kind of run, of all rows and of a tenth of them, in turn."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    for model, count, kind in product_of(MODELS, (rows // 10, rows), KINDS):
        command = [sys.executable, __file__, "--measure", model, kind, str(count)]
        found = json.loads(
            subprocess.run(command, check=True, capture_output=True, env=environment).stdout
        )
        shown = ", ".join(f"{name} {value:,.0f}" for name, value in found.items())
        print(f"{model} {kind:8} {count:>9,} rows: {shown}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(*sys.argv[2:4], int(sys.argv[4]))))
    else:
        main()
