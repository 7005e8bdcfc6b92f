"""How memory and time grow with the image, the batch and the classes, and with the kind of FITS.

Each run is a process of its own, FITS in and FITS out, with a model that costs next to nothing.
Peak memory is that of the whole process; time does not count its start.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from astropy.io import fits

RUN = """
import json, sys, time
from pathlib import Path
import numpy as np
from morpheus_core import predict

path, out_dir, classes, batch, window, stride = json.loads(sys.argv[1])

def model(batch):
    first = batch[0][..., :1].astype(np.float32)
    return np.concatenate([first] * classes, axis=-1)

start = time.perf_counter()
predict(model, path, classes, batch, (window, window), stride=(stride, stride), out_dir=out_dir,
        aggregate_method="mean_var", progress=False)
seconds = time.perf_counter() - start
(peak,) = [line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line]
print(json.dumps([int(peak.split()[1]) / 1024, seconds]))
"""


def run(path: Path, classes: int = 5, batch: int = 64, window: int = 64, stride: int = 32) -> None:
    """Print peak memory and time of one run, and those per million pixels."""
    with tempfile.TemporaryDirectory(dir=path.parent) as out_dir:
        arguments = json.dumps([str(path), out_dir, classes, batch, window, stride])
        printed = subprocess.run(
            [sys.executable, "-c", RUN, arguments], check=True, stdout=subprocess.PIPE, text=True
        ).stdout
    memory, seconds = json.loads(printed)
    with fits.open(path) as hdul:
        height, width = hdul[-1].shape
    print(
        f"{path.stem:>10} {height:6} x {width:<6} classes {classes:3} batch {batch:4} "
        f"{memory:7.0f} MiB {seconds:6.1f} s {seconds / (height * width) * 1e6:6.2f} s/Mpixel",
        flush=True,
    )


def image(directory: Path, height: int, width: int, name: str = "float32") -> Path:
    """Write noise as a plain image, with BZERO, or tile-compressed, and return where."""
    path = directory / f"{name}.fits"
    pixels = np.random.default_rng(0).normal(100, 10, (height, width)).astype(np.float32)
    if name == "uint16":
        fits.PrimaryHDU(pixels.astype(np.uint16)).writeto(path, overwrite=True)
    elif name == "rice":
        fits.CompImageHDU(pixels.astype(np.int16)).writeto(path, overwrite=True)
    else:
        fits.PrimaryHDU(pixels).writeto(path, overwrite=True)
    return path


def main() -> None:
    """Print one line per run, one table per question."""
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        for height in (1000, 4000, 16000, 32000):
            run(image(directory, height, 1024))
        for width in (1024, 4096, 16384):
            run(image(directory, 2048, width))
        path = image(directory, 2048, 2048)
        for batch in (1, 8, 64, 512):
            run(path, batch=batch)
        for classes in (1, 2, 5, 14, 40):
            run(path, classes=classes)
        for name in ("float32", "uint16", "rice"):
            run(image(directory, 4096, 4096, name), classes=1)


if __name__ == "__main__":
    main()
