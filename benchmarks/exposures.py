"""What workers cost where there are many small exposures and a model that takes a second to load.

``python benchmarks/exposures.py [BUILD]``; BUILD is the folder of another version of the package,
which does the same beside this one.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from astropy.io import fits

N_EXPOSURES, N_IMAGES, SIDE, WORKERS = 30, 2, 64, 2


class Loading:
    """A model that takes a second to load, and tells when it does."""

    model = None

    def __init__(self, log):
        self.log = log

    def __call__(self, batch):
        if self.model is None:
            time.sleep(1)
            with Path(self.log).open("a") as file:
                file.write("loaded\n")
            self.model = True
        bright = 1 / (1 + np.exp(-batch[0]))
        return np.concatenate([bright, 1 - bright], axis=-1)


def make_exposures(folder):
    random = np.random.default_rng(1)
    for number in range(N_EXPOSURES):
        images = [
            fits.ImageHDU(random.normal(size=(SIDE, SIDE)).astype("f4")) for _ in range(N_IMAGES)
        ]
        fits.HDUList([fits.PrimaryHDU(), *images]).writeto(folder / f"{number:02}.fits")


def run(folder):
    """Write all masks, and print seconds and how often the model was loaded."""
    from morpheus_core import map_exposures

    log = folder / "log"
    start = time.perf_counter()
    outcomes = map_exposures(
        Loading(str(log)), folder / "night", 2, 64, (16, 16), (8, 8), cpus=WORKERS,
        out_dir=folder / "masks", progress=False,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    assert all(outcome.error is None for outcome in outcomes)
    print(f"{seconds:.1f} {log.read_text().count('loaded')}")


def timed(build):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "night").mkdir()
        make_exposures(folder / "night")
        answer = subprocess.run(
            [sys.executable, __file__, "--run", name],
            env={**os.environ, "PYTHONPATH": str(build)},
            capture_output=True,
            text=True,
            check=True,
        )
        seconds, loads = answer.stdout.split()[-2:]
        return float(seconds), int(loads)


def main():
    builds = [Path(__file__).parents[1], *map(Path, sys.argv[1:])]
    print(f"{N_EXPOSURES} exposures of {N_IMAGES} images, {WORKERS} workers")
    times = []
    for build in builds:
        seconds, loads = timed(build)
        times.append(seconds)
        print(f"{build.name:12} {seconds:7.1f} s, model loaded {loads} times")
    if len(times) > 1:
        print(f"{times[1] / times[0]:.1f} times as fast")


if __name__ == "__main__":
    if "--run" in sys.argv:
        run(Path(sys.argv[-1]))
    else:
        main()
