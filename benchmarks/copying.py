"""What it costs that strips keep rows in files of their own: processor time of both ways.

The model waits for no GPU and computes nothing, so the time is that of this package. It is compared
with the time of folding, and a model that takes ten times that.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from morpheus_core import predict

SHAPE, WINDOW, STRIDE, CLASSES, STRIPS = (4000, 2000), (40, 40), (10, 10), 5, 8


class Model:
    """Answers at once, always the same."""

    def __init__(self) -> None:
        self.answers: dict[int, NDArray[np.float32]] = {}

    def __call__(self, batch: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Predict."""
        count = len(batch[0])
        if count not in self.answers:
            self.answers[count] = np.full((count, *WINDOW, CLASSES), 1 / CLASSES, np.float32)
        return self.answers[count]


def seconds(apart: bool) -> float:
    """Return the processor time of a run."""
    image = np.random.default_rng(1).random(SHAPE, dtype=np.float32)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        start = time.process_time()
        hduls, _ = predict(
            Model(),
            image,
            CLASSES,
            256,
            WINDOW,
            stride=STRIDE,
            aggregate_method="mean_var",
            out_dir=folder,
            strips=STRIPS,
            rows_apart=apart,
            prefetch=0,
            progress=False,
        )
        spent = time.process_time() - start
        for hdul in hduls:
            hdul.close()
    return spent


def main() -> None:
    """Print both, and what the difference is of a run with a model that takes its time."""
    direct, apart = (min(seconds(way) for _ in range(3)) for way in (False, True))
    share = (apart - direct) / (11 * direct)
    print(f"straight into outputs: {direct:.2f} s; rows apart, copied and compared: {apart:.2f} s")
    print(f"more, of a run whose model takes ten times that of folding: {100 * share:.1f} %")


if __name__ == "__main__":
    main()
