"""What sinks cost: rows per second, and bytes, beside those of plain FITS.

The model gives answers of the demonstration's network for windows of its sky, which it has computed
before and says again and again, so that pixels are as hard to pack as real ones and all that is
measured is beside the model. The last column is what becomes of the ratio where the network is run.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from ready import interleaved

from morpheus_core import predict
from morpheus_core.demo.network import DemoNetwork
from morpheus_core.demo.sky import simulate_sky

CLASSES, BATCH, WINDOW = 5, 64, 40
#: Stride and aggregate method.
CASES = ((20, "mean_var"), (20, "rank_vote"), (10, "mean_var"), (10, "rank_vote"), (4, "mean_var"))
SINKS = ("fits", "fits.fz", "zarr")


class Replay:
    """Answers of the network, in batches of neighbouring windows of its sky.

    Parameters
    ----------
    stride : int
        Rows and columns between windows.
    """

    def __init__(self, stride: int) -> None:
        sky = simulate_sky((256, 256), seed=1)
        answers: list[Any] = []
        network = DemoNetwork()
        start = time.perf_counter()

        def kept(batch: list[Any]) -> Any:
            answers.append(np.array(network(batch), np.float32))
            return answers[-1]

        window, step = (WINDOW, WINDOW), (stride, stride)
        predict(kept, sky.images, CLASSES, BATCH, window, stride=step, progress=False)
        self._answers = np.concatenate(answers)
        #: Seconds that the network takes for a window.
        self.seconds = (time.perf_counter() - start) / len(self._answers)
        self._first = 0

    def __call__(self, batch: list[Any]) -> Any:
        if self._first + len(batch[0]) > len(self._answers):
            self._first = 0
        first, self._first = self._first, self._first + len(batch[0])
        return self._answers[first : self._first]


def seconds_of(
    model: Replay, side: int, stride: int, method: str, sink: str, folder: Path
) -> float:
    """Return how long a run takes."""
    start = time.perf_counter()
    hduls, _ = predict(
        model,
        np.zeros((side, side), np.float32),
        CLASSES,
        BATCH,
        (WINDOW, WINDOW),
        stride=(stride, stride),
        aggregate_method=method,
        out_dir=folder / sink,
        sink=sink,
        overwrite=True,
        progress=False,
    )
    spent = time.perf_counter() - start
    for hdul in hduls:
        hdul.close()
    return spent


def bytes_in(folder: Path) -> int:
    """Return the size of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    """Print a line for each stride, method and sink."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=2000, help="rows and columns (%(default)s)")
    side = parser.parse_args().side
    print(f"{side} × {side} pixels, {CLASSES} classes, windows of {WINDOW}")
    print(
        f"{'stride':>6} {'method':>10} {'sink':>8} {'rows/s':>8} {'of plain':>8} {'bytes':>6} "
        f"{'with network':>12}"
    )
    for stride, method in CASES:
        model = Replay(stride)
        with tempfile.TemporaryDirectory() as directory:
            folder = Path(directory)

            def measured(sink: str, folder: Path = folder, model: Replay = model) -> float:
                return seconds_of(model, side, stride, method, sink, folder)  # noqa: B023

            spent = interleaved({sink: lambda sink=sink: measured(sink) for sink in SINKS})
            sizes = {sink: bytes_in(folder / sink) for sink in SINKS}
        network = model.seconds * len(range(0, side, stride)) ** 2
        for sink in SINKS:
            ratio = spent["fits"] / spent[sink]
            whole = (spent["fits"] + network) / (spent[sink] + network)
            print(
                f"{stride:>6} {method:>10} {sink:>8} {side / spent[sink]:>8.0f} {ratio:>8.2f} "
                f"{sizes[sink] / sizes['fits']:>6.2f} {whole:>12.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
