"""From rows of the images to batches of windows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morpheus_core.images.stack import ImageStack
from morpheus_core.pipeline import kernels
from morpheus_core.pipeline.kernels import Int64
from morpheus_core.pipeline.selection import ValidRows
from morpheus_core.pipeline.slabs import SlabReader
from morpheus_core.windows.grid import Group, Strip, WindowGrid


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows that the model sees together, in reading order.

    Attributes
    ----------
    windows : list of ndarray, each (batch, height, width, bands)
        One per image: native byte order, C-contiguous, writable, the image's dtype.
    rows, columns : ndarray of int64, shape (batch,)
        Where each window stands in the grid.
    may_hold_nan : bool
        Whether NaN has been read of the rows that the windows come from.
    """

    windows: list[NDArray[Any]]
    rows: Int64
    columns: Int64
    may_hold_nan: bool = True

    def __len__(self) -> int:
        return len(self.rows)


class BatchReader:
    """Cuts groups of window rows into batches.

    Parameters
    ----------
    stack : ImageStack
        The images.
    grid : WindowGrid
        The windows.
    batch_size : int
        The most windows in a batch.
    strip : Strip
        Whose groups are asked for.
    skip_blank : bool
        Whether windows are left out that hold nothing but NaN.
    """

    def __init__(
        self,
        stack: ImageStack,
        grid: WindowGrid,
        batch_size: int,
        strip: Strip,
        skip_blank: bool = False,
    ) -> None:
        self._grid = grid
        height, last = grid.group_height(batch_size, strip), grid.rows_of(strip)[1]
        self._batch_size, self._skip_blank = batch_size, skip_blank
        self._readers = [SlabReader(image, grid, height, last) for image in stack.images]
        self._valid: ValidRows | None = None
        if skip_blank or stack.mask is not None:
            mask = None if stack.mask is None else SlabReader(stack.mask, grid, height, last)
            self._valid = ValidRows(grid, mask, skip_blank)

    def batches(self, group: Group) -> Iterator[Batch]:
        """Yield the batches of a group; groups must be asked for in order."""
        grid = self._grid
        slabs = self._slabs(group)
        chosen = self._choose(group, slabs)
        per_row = len(grid.columns.origins)
        may_hold_nan = any(r.may_hold_nan(grid.rows_of(group)[0]) for r in self._readers)
        for first in range(0, len(chosen), self._batch_size):
            rows, columns = np.divmod(chosen[first : first + self._batch_size], per_row)
            rows += group.start
            tops = grid.rows.origins[rows] - grid.rows.origins[group.start]
            lefts = grid.columns.origins[columns] + grid.columns.before
            windows = [gather(slab, tops, lefts, grid.window_shape) for slab in slabs]
            yield Batch(windows, rows, columns, may_hold_nan)

    def count(self, group: Group) -> Int64:
        """Count the windows of each window row of a group that are run, (window rows,)."""
        per_row = len(self._grid.columns.origins)
        slabs = self._slabs(group) if self._skip_blank else []
        chosen = self._choose(group, slabs)
        return np.bincount(chosen // per_row, minlength=group.stop - group.start)

    def _slabs(self, group: Group) -> list[NDArray[Any]]:
        """Return the rows of each image that the windows of a group lie in."""
        return [reader.rows(*self._grid.rows_of(group)) for reader in self._readers]

    def _choose(self, group: Group, slabs: list[NDArray[Any]]) -> Int64:
        """Return which windows of a group are run, counted from its first, in reading order."""
        if self._valid is None:
            return np.arange((group.stop - group.start) * len(self._grid.columns.origins))
        return np.flatnonzero(self._valid.windows(group, slabs))


def gather(slab: NDArray[Any], tops: Int64, lefts: Int64, shape: tuple[int, int]) -> NDArray[Any]:
    """Copy windows of a shape out of a slab, (rows, width, bands), → (batch, *shape, bands)."""
    windows = np.empty((len(tops), *shape, slab.shape[2]), slab.dtype)
    pixel = slab.shape[2] * slab.itemsize
    rows = slab.reshape(len(slab), -1).view(np.uint8)
    kernels.fastest().gather(
        rows, tops, lefts * pixel, windows.reshape(*windows.shape[:2], -1).view(np.uint8)
    )
    return windows
