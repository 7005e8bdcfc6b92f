"""The inner loops: folding predictions into accumulator planes, and finalizing finished rows.

Two modules hold the same functions and give the same bytes: `compiled` (numba) and `plain`
(numpy, several times slower).

==================== ===========================================================================
argument             meaning
==================== ===========================================================================
total, squares, ...  planes, (ring rows, width, classes) or (ring rows, width), float64, changed
                     in place; output row r lives in ring row ``r % ring rows``
predictions          (windows, height, width, classes), float32 or float64, C-contiguous: windows
                     of one window row
spans                (spans, 3): map row, first and stop column of each run of pixels that count
weights              (1 or windows, height, width), float64: one map for all windows, or one each
top                  output row of the windows' first row
lefts                (windows,): plane column of each window's first pixel
==================== ===========================================================================

Pixels outside the spans, or of weight zero, are never read. A pixel that saw one class that is not
finite is NaN in all of them.
"""

from __future__ import annotations

from functools import cache
from typing import cast

from morpheus_core.pipeline.kernels.protocol import (
    Bytes,
    Carried,
    Crop,
    Float64,
    Int64,
    Kernels,
    Predictions,
    Range,
    Results,
)

__all__ = [
    "Bytes",
    "Carried",
    "Crop",
    "Float64",
    "Int64",
    "Kernels",
    "Predictions",
    "Range",
    "Results",
    "fastest",
]


@cache  # what is not there is not looked for again, and never by two threads at once
def fastest() -> Kernels:
    """Return the compiled kernels where numba is installed, the plain ones elsewhere."""
    try:
        from morpheus_core.pipeline.kernels import compiled
    except ModuleNotFoundError as error:
        if error.name != "numba":
            raise
        from morpheus_core.pipeline.kernels import plain

        return cast(Kernels, plain)
    return cast(Kernels, compiled)
