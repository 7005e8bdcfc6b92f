"""What it costs that strips keep rows in files of their own: processor time, and where it goes.

The model waits for no GPU and computes nothing, so the time is that of this package. It is compared
with the time of folding, and a model that takes ten times that. The last way reads strips and
outputs from the disk, as from a file system that others share, not from what is remembered.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from morpheus_core import predict
from morpheus_core.results.outputs import FitsOutputs
from morpheus_core.storage import file_systems
from morpheus_core.workspace import completion

SHAPE, WINDOW, CLASSES, STRIPS = (4000, 2000), (40, 40), 5, 8
STRIDES, ROUNDS = ((10, 10), (5, 5)), 3
WAYS = ("direct", "apart", "apart, read anew")


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


@contextmanager
def profiled(spent: Counter[str]) -> Iterator[None]:
    """Add up the processor time of the steps of a completion."""
    own = completion.Completion

    def timed(step: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            start = time.process_time()
            try:
                found = real(*arguments)
                return found if step != "compare" else iter(list(found))
            finally:
                spent[step] += time.process_time() - start

        return call

    with ExitStack() as patches:
        for step, owner, name in (
            ("copy", own, "_copy"),
            ("add up seams", completion, "stitch"),
            ("write sums, force to disk", FitsOutputs, "seal"),
            ("compare", own, "_differences"),
        ):
            patches.enter_context(patch.object(owner, name, timed(step, getattr(owner, name))))
        yield


def seconds(way: str, stride: tuple[int, int], spent: Counter[str]) -> float:
    """Return the processor time of a run."""
    image = np.random.default_rng(1).random(SHAPE, dtype=np.float32)
    shared = way == WAYS[2]
    with (
        tempfile.TemporaryDirectory(dir=Path.cwd()) as folder,
        patch.object(file_systems, "is_shared", lambda _: shared),
        patch.object(completion, "is_shared", lambda _: shared),
        profiled(spent),
    ):
        os.sync()
        start = time.process_time()
        hduls, _ = predict(
            Model(),
            image,
            CLASSES,
            256,
            WINDOW,
            stride=stride,
            aggregate_method="mean_var",
            out_dir=folder,
            strips=STRIPS,
            rows_apart=way != WAYS[0],
            prefetch=0,
            progress=False,
        )
        took = time.process_time() - start
        for hdul in hduls:
            hdul.close()
    return took


def main() -> None:
    """Print all ways, and what they add to a run with a model that takes its time."""
    for stride in STRIDES:
        took: dict[str, list[tuple[float, Counter[str]]]] = {way: [] for way in WAYS}
        for _ in range(ROUNDS):  # by turns: the speed of machines changes
            for way in WAYS:
                spent: Counter[str] = Counter()
                took[way].append((seconds(way, stride, spent), spent))
        direct, steps = min(took[WAYS[0]], key=lambda run: run[0])
        print(f"stride {stride[0]}: {direct:.2f} s of folding and writing")
        for way in WAYS[1:]:
            _, spent = min(took[way], key=lambda run: run[1].total())
            more = spent.total() - steps.total()
            profile = ", ".join(f"{step} {spent[step]:.2f}" for step in spent)
            print(f"  {way}: {more:.2f} s more ({100 * more / (11 * direct):.1f} %): {profile}")


if __name__ == "__main__":
    main()
