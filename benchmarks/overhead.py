"""What `predict` adds to the model's own time, as multiples of one pass over the predictions.

The model returns predictions that are ready in memory. Its own time is subtracted; what is left is
given per predicted value (windows × height × width × classes), beside the least that any program
could do: one `np.sum` over the same values and one fill of the output arrays.
"""

from __future__ import annotations

import statistics
import time

import numpy as np

from morpheus_core import predict

CLASSES, BATCH, REPEATS = 5, 64, 3
CASES = [
    # window, stride, image side
    (40, 1, 360),
    (64, 16, 1024),
    (256, 128, 2048),
    (512, 256, 4096),
]


class ReadyMade:
    """Returns slices of one block of predictions and remembers how long that took."""

    def __init__(self, window: int, batch: int) -> None:
        rng = np.random.default_rng(0)
        self.predictions = rng.random((batch, window, window, CLASSES), dtype=np.float32)
        self.seconds = 0.0
        self.values = 0

    def __call__(self, batch: list[np.ndarray]) -> np.ndarray:
        start = time.perf_counter()
        answer = self.predictions[: len(batch[0])]
        self.values += answer.size
        self.seconds += time.perf_counter() - start
        return answer


def overhead(window: int, stride: int, side: int, method: str | list[str]) -> tuple[float, float]:
    """Return seconds per value of `predict` and of the limit, from one run each."""
    batch = max(1, min(BATCH, 40_000_000 // (window * window * CLASSES)))
    model = ReadyMade(window, batch)
    image = np.zeros((side, side), dtype=np.float32)
    start = time.perf_counter()
    _, arrays = predict(
        model,
        image,
        CLASSES,
        batch,
        (window, window),
        stride=(stride, stride),
        aggregate_method=method,
        progress=False,
    )
    spent = time.perf_counter() - start - model.seconds
    start = time.perf_counter()
    for _ in range(-(-model.values // model.predictions.size)):
        model.predictions.sum()
    for array in arrays:
        np.empty_like(array).fill(1)
    limit = time.perf_counter() - start
    return spent / model.values, limit / model.values


def main() -> None:
    """Print one line per case."""
    methods = {"mean_var": "mean_var", "rank_vote": "rank_vote", "both": ["mean_var", "rank_vote"]}
    print(f"{'window/stride':>14} {'method':>10} {'ns/value':>9} {'limit':>6} {'ratio':>6}")
    for window, stride, side in CASES:
        for name, method in methods.items():
            overhead(window, stride, min(side, 2 * window), method)  # compile and warm up
            runs = [overhead(window, stride, side, method) for _ in range(REPEATS)]
            ours, limit = (statistics.median(column) * 1e9 for column in zip(*runs, strict=True))
            case = f"{window}/{stride}"
            print(f"{case:>14} {name:>10} {ours:9.2f} {limit:6.2f} {ours / limit:6.1f}")


if __name__ == "__main__":
    main()
