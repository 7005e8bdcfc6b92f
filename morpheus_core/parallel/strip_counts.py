"""Into how many strips an image is cut for workers."""

from __future__ import annotations

from typing import Any

from morpheus_core import checks
from morpheus_core.parallel.choice import Workers
from morpheus_core.parallel.executors import PIECES_OF_UNKNOWN, PIECES_PER_WORKER
from morpheus_core.windows.grid import WindowGrid

#: Least height of a strip, in windows: the rows that two strips share are written and read once
#: more, and are less than one window's height.
LEAST_WINDOWS_HIGH = 4


def count_strips(strips: Any, grid: WindowGrid, workers: Workers, begin_only: bool) -> int:
    """Return into how many strips a new run is cut, at most."""
    if strips is not None:
        return checks.whole_number("strips", strips)
    if begin_only:
        return strips_for(None, grid)
    if workers.engine is None:
        return max(1, len(workers.slots))
    return strips_for(workers.engine.count_workers(), grid)


def strips_for(workers: int | None, grid: WindowGrid) -> int:
    """Return into how many strips to cut a grid: several per worker, if they are not too low."""
    most = grid.image_shape[0] // (LEAST_WINDOWS_HIGH * grid.window_shape[0])
    if workers is None:
        return max(1, min(PIECES_OF_UNKNOWN, most))
    # As many for each, so that none works while all others wait.
    return workers * max(1, min(PIECES_PER_WORKER, most // workers))
