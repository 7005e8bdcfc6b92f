"""How much of the work beside the model is hidden behind it, by threads that read and fold.

Two models: one waits without the GIL, as for a GPU, five times as long as the work beside it takes;
one keeps the processor busy, a network in numpy. Total times over the model's own time, without
threads (``prefetch=0``) and with them.
"""

from __future__ import annotations

import time
from functools import partial

import numpy as np
from ready import Case, Ready, interleaved

from morpheus_core import predict
from morpheus_core.demo.network import DemoNetwork
from morpheus_core.demo.sky import simulate_sky

CASES = [Case(40, 1, 256), Case(64, 16, 2048), Case(256, 128, 4096)]
WORK_NS = 2.0  # per predicted value, about what `predict` takes in one thread


def waiting(case: Case, prefetch: int) -> float:
    """Return the total time over the model's own time for a model that waits."""
    values = case.batch_size * case.window**2 * case.classes
    model = Ready(case, seconds=5 * WORK_NS * 1e-9 * values)
    image = np.zeros((case.side, case.side), np.float32)
    start = time.perf_counter()
    classify(model, [image], case, prefetch)
    return (time.perf_counter() - start) / model.seconds


def busy(prefetch: int) -> float:
    """Return seconds for a network that keeps the processor busy."""
    images = simulate_sky((160, 160), seed=1).images
    start = time.perf_counter()
    classify(DemoNetwork(), images, Case(40, 4, 160), prefetch)
    return time.perf_counter() - start


def classify(model: object, images: list[np.ndarray], case: Case, prefetch: int) -> None:
    """Run `predict`."""
    predict(
        model,
        images,
        case.classes,
        case.batch_size,
        (case.window, case.window),
        stride=(case.stride, case.stride),
        aggregate_method="mean_var",
        progress=False,
        prefetch=prefetch,
    )


def main() -> None:
    """Print both tables."""
    print("a model that waits: total time over the model's own")
    for case in CASES:
        ratios = interleaved({f"{depth}": partial(waiting, case, depth) for depth in (0, 2)})
        print(f"  {case.name:>9}  prefetch=0 {ratios['0']:.3f}  prefetch=2 {ratios['2']:.3f}")
    seconds = interleaved({f"{depth}": partial(busy, depth) for depth in (0, 2)}, repeats=7)
    print(f"a network in numpy: prefetch=2 takes {seconds['2'] / seconds['0']:.3f} of prefetch=0")


if __name__ == "__main__":
    main()
