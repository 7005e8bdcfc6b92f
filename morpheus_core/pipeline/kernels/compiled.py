"""The kernels in compiled form, and how windows are cut."""

from __future__ import annotations

from morpheus_core.pipeline.kernels.adding import (
    add_moments,
    add_votes,
    add_weighted_moments,
    add_weighted_votes,
    add_weights,
)
from morpheus_core.pipeline.kernels.collecting import (
    collect_moments,
    collect_votes,
    finish_collected_moments,
    finish_collected_votes,
)
from morpheus_core.pipeline.kernels.compiling import compile_kernel
from morpheus_core.pipeline.kernels.finishing import finish_moments, finish_votes
from morpheus_core.pipeline.kernels.protocol import Bytes, Int64

__all__ = [
    "COLLECTING_PAYS",
    "add_moments",
    "add_votes",
    "add_weighted_moments",
    "add_weighted_votes",
    "add_weights",
    "collect_moments",
    "collect_votes",
    "finish_collected_moments",
    "finish_collected_votes",
    "finish_moments",
    "finish_votes",
    "gather",
]

COLLECTING_PAYS = True


@compile_kernel
def gather(slab: Bytes, tops: Int64, lefts: Int64, windows: Bytes) -> None:
    """See :meth:`Kernels.gather`."""
    batch, height, length = windows.shape
    for b in range(batch):
        for i in range(height):
            source = slab[tops[b] + i, lefts[b] : lefts[b] + length]
            target = windows[b, i]
            for j in range(length):  # becomes one copy of memory
                target[j] = source[j]
