"""What `torch_model` adds to a network of PyTorch, beside what PyTorch itself takes for the same.

``python benchmarks/adapters.py``: a module that returns scores it has, one thread, nanoseconds of
processor time per score, the least of interleaved calls. "copy" is the one from classes first to
classes last, by numpy; where they lie last already there is none.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from morpheus_core.adapters import torch_model
from morpheus_core.pipeline.batches import Batch
from morpheus_core.pipeline.models import CheckedModel

REPEATS = 20
SHAPES = ((64, 5, 40), (8, 5, 256), (8, 14, 256))
ACTIVATIONS: dict[str | None, Callable[[torch.Tensor], object]] = {
    None: lambda scores: None,
    "softmax": lambda scores: scores.softmax(1),
    "sigmoid": lambda scores: scores.sigmoid(),
}


class Fixed(torch.nn.Module):
    """A network that always says the same."""

    def __init__(self, scores: torch.Tensor) -> None:
        super().__init__()
        self._scores = scores

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        """Return the scores, (batch, classes, height, width)."""
        return self._scores


def least_seconds(calls: list[Callable[[], object]]) -> list[float]:
    """Return the least time of each call."""
    rounds = []
    for _ in range(REPEATS):
        times = []
        for call in calls:
            start = time.thread_time()
            call()
            times.append(time.thread_time() - start)
        rounds.append(times)
    return [min(times) for times in zip(*rounds, strict=True)]


def compare(scores: torch.Tensor, activation: str | None) -> list[float]:
    """Return what the adapter, the adapter in `predict`, PyTorch and the copy take."""
    windows = [np.zeros((len(scores), *scores.shape[2:], 1), np.float32)]
    batch = Batch(windows, np.arange(len(scores)), np.arange(len(scores)), may_hold_nan=False)
    adapter = torch_model(Fixed(scores), activation=activation)
    checked = CheckedModel(adapter, scores.shape[1], tuple(scores.shape[2:]))
    last = np.moveaxis(scores.numpy(), 1, -1)
    calls = [
        lambda: adapter(windows),
        lambda: checked(batch)(),
        lambda: ACTIVATIONS[activation](scores),
        lambda: np.ascontiguousarray(last),
    ]
    with torch.inference_mode():
        return [seconds / scores.numel() * 1e9 for seconds in least_seconds(calls)]


def main() -> None:
    """Print one line per shape, layout and activation."""
    torch.set_num_threads(1)
    print(f"{'':45} adapter  in predict  PyTorch   copy")
    for batch, classes, side in SHAPES:
        first = torch.randn(batch, classes, side, side)
        last = first.contiguous(memory_format=torch.channels_last)
        for layout, scores in (("classes first", first), ("classes last", last)):
            for activation in ACTIVATIONS:
                name = f"{batch} x {classes} x {side} x {side} {layout} {activation or '-'}"
                adapter, checked, own, copy = compare(scores, activation)
                print(f"{name:45} {adapter:7.2f} {checked:11.2f} {own:8.2f} {copy:6.2f}")


if __name__ == "__main__":
    main()
