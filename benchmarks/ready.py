"""What the benchmarks share: a model whose predictions are ready, and the cases."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Case(NamedTuple):
    """Square windows over a square image, in pixels, and the classes of a prediction."""

    window: int
    stride: int
    side: int
    classes: int = 5

    @property
    def batch_size(self) -> int:
        """At most 64 windows, and 160 MB of predictions."""
        return max(1, min(64, 40_000_000 // (self.window**2 * self.classes)))

    @property
    def windows(self) -> int:
        """How many windows the image has."""
        return ((self.side - self.window) // self.stride + 1) ** 2

    @property
    def values(self) -> int:
        """How many values the model predicts."""
        return self.windows * self.window**2 * self.classes

    @property
    def name(self) -> str:
        """Window and stride, and classes if they are not five."""
        classes = "" if self.classes == 5 else f" {self.classes} classes"
        return f"{self.window}/{self.stride}{classes}"


CASES = [Case(40, 1, 360), Case(64, 16, 1024), Case(256, 128, 2048), Case(512, 256, 4096)]


class Ready:
    """A model that returns slices of one block of predictions, and knows the time it took.

    Parameters
    ----------
    case : Case
        Says how large the block is.
    seconds : float
        How long each call takes, most of which it sleeps.
    """

    def __init__(self, case: Case, seconds: float = 0.0) -> None:
        shape = (case.batch_size, case.window, case.window, case.classes)
        self.predictions = np.random.default_rng(0).random(shape, dtype=np.float32)
        self.sleep = seconds
        self.seconds = 0.0

    def __call__(self, batch: list[np.ndarray]) -> np.ndarray:
        start = time.perf_counter()
        answer = self.predictions[: len(batch[0])]
        if self.sleep:
            answer = answer.copy()  # as a GPU leaves it: in memory of its own
            time.sleep(max(0.0, self.sleep + start - time.perf_counter()))
        self.seconds += time.perf_counter() - start
        return answer


def interleaved(measures: dict[str, Callable[[], float]], repeats: int = 3) -> dict[str, float]:
    """Return the median of each measure, taken in turn so that all see the same machine."""
    for measure in measures.values():  # compile, and fill the caches
        measure()
    rounds = [{name: measure() for name, measure in measures.items()} for _ in range(repeats)]
    return {name: statistics.median(one[name] for one in rounds) for name in measures}
