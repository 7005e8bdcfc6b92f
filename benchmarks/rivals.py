"""What `predict` adds to the model's own time, beside other packages that do a part of its job.

``python benchmarks/rivals.py PYTHON_OF_0.1.13 PLOT.png``; `make bench` prepares both environments.

morpheus-core 0.1.13 computes what `predict` computes. MONAI, pytorch-toolbelt and tiler compute a
weighted mean, without variance and without votes, in float32, in memory. Their models return
ready-made tensors, channels first, as theirs do. PyTorch may use all cores; `predict` uses one. In
nanoseconds per predicted value.
"""

from __future__ import annotations

import importlib.util
import math
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from overhead import limit, overhead
from ready import CASES, Case, Ready, interleaved
from tiler import Merger, Tiler


def toolbelt_tiles() -> ModuleType:
    """Load one module of pytorch-toolbelt: the whole wants torchvision for the same PyTorch."""
    package = importlib.util.find_spec("pytorch_toolbelt")
    path = Path(package.origin).parent / "inference" / "tiles.py"
    spec = importlib.util.spec_from_file_location("tiles", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class ReadyTensors(Ready):
    """The same for frameworks that want (batch, class, height, width)."""

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        channels_first = np.ascontiguousarray(np.moveaxis(self.predictions, -1, 1))
        self.predictions = torch.from_numpy(channels_first)

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        return super().__call__([batch])


def morpheus_0_1(python: str, case: Case, method: str) -> float:
    """Return what 0.1.13 takes, on an image of about 20 million values, since it takes long."""
    windows = math.isqrt(20_000_000 // (case.window**2 * case.classes))  # along each axis
    smaller = case._replace(side=case.window + (windows - 1) * case.stride)
    script = Path(__file__).with_name("morpheus_0_1.py")
    arguments = [python, script, *map(str, smaller), method]
    environment = {**os.environ, "PYTHONPATH": ""}  # which may lead to this package instead
    printed = subprocess.run(
        arguments, check=True, capture_output=True, text=True, env=environment
    ).stdout
    return float(printed)


def monai(case: Case, **options: object) -> float:
    """Return what MONAI takes."""
    model = ReadyTensors(case)
    image = torch.zeros(1, 1, case.side, case.side)
    start = time.perf_counter()
    result = sliding_window_inference(
        image,
        (case.window, case.window),
        case.batch_size,
        model,
        overlap=1 - case.stride / case.window,
        **options,
    )
    spent = time.perf_counter() - start - model.seconds
    assert result.shape == (1, case.classes, case.side, case.side)
    return spent / case.values * 1e9


def toolbelt(case: Case) -> float:
    """Return what cutting and merging tiles with pytorch-toolbelt takes."""
    tiles_module = toolbelt_tiles()
    model = ReadyTensors(case)
    image = np.zeros((case.side, case.side, 1), np.float32)
    start = time.perf_counter()
    slicer = tiles_module.ImageSlicer(image.shape, case.window, case.stride, weight="mean")
    merger = tiles_module.TileMerger(slicer.target_shape, case.classes, slicer.weight)
    tiles = slicer.split(image)
    for first in range(0, len(tiles), case.batch_size):
        batch = torch.from_numpy(np.stack(tiles[first : first + case.batch_size]))
        crops = slicer.crops[first : first + case.batch_size]
        merger.integrate_batch(model(batch.permute(0, 3, 1, 2)), crops)
    merger.merge()
    return (time.perf_counter() - start - model.seconds) / case.values * 1e9


def tiler(case: Case) -> float:
    """Return what cutting and merging tiles with tiler takes."""
    model = ReadyTensors(case)
    model.predictions = model.predictions.numpy()
    image = np.zeros((1, case.side, case.side), np.float32)
    start = time.perf_counter()
    tiles = Tiler(
        image.shape,
        (1, case.window, case.window),
        overlap=(0, case.window - case.stride, case.window - case.stride),
        channel_dimension=0,
    )
    shape, tile_shape = (case.classes, *image.shape[1:]), (case.classes, case.window, case.window)
    merger = Merger(
        Tiler(shape, tile_shape, overlap=tiles.overlap, channel_dimension=0), save_visits=False
    )
    for number, batch in tiles(image, batch_size=case.batch_size):
        merger.add_batch(number, case.batch_size, model(batch))
    merger.merge()
    return (time.perf_counter() - start - model.seconds) / case.values * 1e9


def contenders(case: Case, python: str) -> dict[str, partial[float]]:
    """Return what is measured for a case, by name."""
    small = case._replace(side=min(case.side, 160)) if case.stride == 1 else case
    return {
        "limit": partial(limit, case, "mean_var"),
        "predict mean_var": partial(overhead, case, "mean_var"),
        "predict rank_vote": partial(overhead, case, "rank_vote"),
        "0.1.13 mean_var": partial(morpheus_0_1, python, case, "mean_var"),
        "0.1.13 rank_vote": partial(morpheus_0_1, python, case, "rank_vote"),
        "MONAI mean": partial(monai, case),
        "MONAI buffered mean": partial(monai, case, buffer_steps=1),
        "TileMerger mean": partial(toolbelt, small),
        "tiler mean": partial(tiler, small),
    }


def plot(table: dict[str, dict[str, float]], path: Path) -> None:
    """Draw the table."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.5), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    names = list(next(iter(table.values())))
    width = 0.8 / len(names)
    for k, name in enumerate(names):
        at = np.arange(len(table)) + (k - (len(names) - 1) / 2) * width
        axes.bar(at, [row[name] for row in table.values()], width, label=name)
    axes.set_yscale("log")
    axes.set_xticks(range(len(table)), list(table))
    axes.set_xlabel("window / stride (pixels)")
    axes.set_ylabel("overhead per predicted value (ns)")
    axes.legend(ncols=3, fontsize=8, frameon=False)
    axes.set_ylim(top=axes.get_ylim()[1] * 6)  # room for the legend
    figure.savefig(path)


def main(python: str, picture: str) -> None:
    """Print ns per value, and how many times more that is than `predict` with mean_var."""
    table = {}
    for case in CASES:
        measured = table[case.name] = interleaved(contenders(case, python))
        print(case.name)
        for name, value in measured.items():
            ours = "predict rank_vote" if "rank_vote" in name else "predict mean_var"
            print(f"  {name:20} {value:9.2f} ns {value / measured[ours]:8.2f} x", flush=True)
    plot(table, Path(picture))


if __name__ == "__main__":
    main(*sys.argv[1:])
