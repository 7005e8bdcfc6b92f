"""What products save: bytes, time beside the model and memory, beside a run and its export.

    python benchmarks/products.py [SIZE] [FOLDER]

Each way runs in a process of its own, with the same windows of a SIZE x SIZE image. The model
answers from memory, and what it takes is left out.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

CLASSES, WINDOW, STRIDE, BATCH = 5, 256, 128, 16
WAYS = {
    "mean, variance and n, then export_planes": {},
    "class map and top, float32": {"products": ["class_map", "top"]},
    "class map and top, uint8": {"products": ["class_map", "top"], "product_dtype": "uint8"},
}


class Model:
    """Predictions that are there already."""

    def __init__(self):
        scores = np.random.default_rng(0).random((BATCH, WINDOW, WINDOW, CLASSES), np.float32)
        self.predictions = scores / scores.sum(axis=-1, keepdims=True)
        self.seconds = 0.0

    def __call__(self, batch):
        start = time.perf_counter()
        answer = self.predictions[: len(batch[0])]
        self.seconds += time.perf_counter() - start
        return answer


class Blank:
    """An image of which nothing is in memory."""

    dtype = np.dtype(np.float32)

    def __init__(self, size):
        self.shape = (size, size)

    def __getitem__(self, key):
        rows = key[0] if isinstance(key, tuple) else key
        return np.zeros((len(range(*rows.indices(self.shape[0]))), self.shape[1]), self.dtype)


def measure(size, folder, options):
    """Run one way, and return what it took."""
    from morpheus_core import export_planes, predict
    from morpheus_core.planning.trials import peak_memory

    model, folder = Model(), Path(folder)
    arguments = {"stride": (STRIDE, STRIDE), "aggregate_method": "mean_var", "progress": False}
    predict(model, np.zeros((600, 600)), CLASSES, BATCH, (WINDOW, WINDOW), **arguments)  # compile
    model.seconds, start = 0.0, time.perf_counter()
    hduls, arrays = predict(
        model,
        Blank(size),
        CLASSES,
        BATCH,
        (WINDOW, WINDOW),
        out_dir=folder,
        **arguments,
        **options,
    )
    del arrays
    for hdul in hduls:
        hdul.close()
    if not options:
        export_planes(folder, folder / "planes.fits")
    seconds = time.perf_counter() - start - model.seconds
    size_of = {path.name: path.stat().st_size for path in folder.iterdir()}
    kept = sum(size for name, size in size_of.items() if name != "planes.fits")
    return {"seconds": seconds, "bytes": kept, "memory": peak_memory()}


def main():
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
    place = sys.argv[2] if len(sys.argv) > 2 else None
    print(f"{size} x {size}, {CLASSES} classes, window {WINDOW}, stride {STRIDE}")
    print(f"{'':42} {'MB':>8} {'ratio':>6} {'s':>7} {'ratio':>6} {'peak MB':>8}")
    first = None
    for name, options in WAYS.items():
        with tempfile.TemporaryDirectory(dir=place) as folder:
            command = [sys.executable, __file__, "--one", str(size), folder, json.dumps(options)]
            found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        first = first or found
        print(
            f"{name:42} {found['bytes'] / 1e6:8.1f} {first['bytes'] / found['bytes']:6.1f} "
            f"{found['seconds']:7.2f} {first['seconds'] / found['seconds']:6.2f} "
            f"{found['memory'] / 1e6:8.0f}",
            flush=True,
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure(int(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4]))))
    else:
        main()
