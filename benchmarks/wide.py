"""Memory and time of wide images: windows of 400 at stride 200, 14 classes, mean and variance.

``python benchmarks/wide.py FOLDER_OF_A_BUILD WIDTH [WIDTH ...]`` runs a build over images of 600
rows, files in and out, with a model that costs next to nothing. At 100,000 columns outputs take 7
GB of the disk, and sums 12 GB more where they lie in a file.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from astropy.io import fits

HEIGHT, WINDOW, CLASSES, BATCH = 600, 400, 14, 16
RUN = f"""
import resource, sys, time
from pathlib import Path
import numpy as np
from morpheus_core import predict
scores = np.random.default_rng(0).random(({BATCH}, {WINDOW}, {WINDOW}, {CLASSES}), np.float32)
start = time.perf_counter()
predict(lambda batch: scores[: len(batch[0])], sys.argv[1], {CLASSES}, {BATCH},
        ({WINDOW}, {WINDOW}), stride=({WINDOW // 2}, {WINDOW // 2}), out_dir=sys.argv[2],
        aggregate_method="mean_var", progress=False)
seconds, usage = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
peak = Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]
user, system = usage.ru_utime, usage.ru_stime
print(f"{{int(peak) / 1024:8.0f}} MiB {{user:6.1f}} s user {{system:6.1f}} s system",
      f"{{seconds:6.1f}} s in all")
"""


def main(build: str, *widths: str) -> None:
    """Print one line per width."""
    environment = {**os.environ, "PYTHONPATH": build}
    for width in map(int, widths):
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "image.fits"
            fits.PrimaryHDU(np.zeros((HEIGHT, width), np.float32)).writeto(path)
            print(
                f"{width:8} columns, group {4 * WINDOW * width / 2**20:5.0f} MiB",
                end=" ",
                flush=True,
            )
            # -P: the build of the current folder would come before that of the environment.
            command = [sys.executable, "-P", "-c", RUN, str(path), str(Path(scratch) / "out")]
            subprocess.run(command, check=True, env=environment)


if __name__ == "__main__":
    main(*sys.argv[1:])
