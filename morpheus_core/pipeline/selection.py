"""Which windows hold a pixel that is neither bad nor blank, and which output pixels show one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morpheus_core.images.masks import Bools, PixelMask
from morpheus_core.pipeline.slabs import SlabReader
from morpheus_core.windows.grid import Group, WindowGrid

Int64 = NDArray[np.int64]


class ValidRows:
    """Knows which windows of a group hold a pixel of the image that is neither bad nor blank.

    Parameters
    ----------
    grid : WindowGrid
        The windows.
    mask : SlabReader or None
        Where bad pixels are read.
    skip_blank : bool
        Whether pixels are blank that are NaN in every band of every image.
    """

    def __init__(self, grid: WindowGrid, mask: SlabReader | None, skip_blank: bool) -> None:
        self._grid, self._mask, self._skip_blank = grid, mask, skip_blank
        self._first = 0
        # Rows are kept for the next group, which most often needs them as well.
        self._known = np.empty((0, grid.image_shape[1]), np.bool_)

    def windows(self, group: Group, slabs: list[NDArray[Any]]) -> Bools:
        """Say of each window of a group whether it is run, (window rows, windows in a row).

        `slabs` are the rows of the images that the group lies in.
        """
        start, stop = self._grid.rows_of(group)
        self._advance(max(start, 0), min(stop, self._grid.image_shape[0]), start, stop, slabs)
        rows, columns = self._grid.rows.origins, self._grid.columns.origins
        height, width = self._grid.window_shape
        lefts = np.clip(columns, 0, None)
        rights = np.clip(columns + width, None, self._grid.image_shape[1])
        found = []
        for top in rows[group.start : group.stop]:
            window_rows = slice(max(top, 0) - self._first, top + height - self._first)
            seen: Bools = np.any(self._known[window_rows], axis=0)
            found.append(any_between(seen, lefts, rights))
        return np.stack(found)

    def _advance(
        self, first: int, last: int, start: int, stop: int, slabs: list[NDArray[Any]]
    ) -> None:
        """Know image rows ``[first, last)``, of slabs that hold rows ``[start, stop)``."""
        kept = self._known[first - self._first :]
        new = slice(first + len(kept) - start, last - start)
        columns = slice(self._grid.columns.before, self._grid.columns.before + kept.shape[1])
        valid = np.ones((new.stop - new.start, kept.shape[1]), np.bool_)
        if self._mask is not None:
            valid &= ~self._mask.rows(start, stop)[new, columns, 0]
        if self._skip_blank:
            valid &= ~blank_pixels([slab[new, columns] for slab in slabs])
        self._first, self._known = first, np.concatenate([kept, valid])


class OutputMask:
    """Knows which output pixels show nothing but bad pixels.

    Parameters
    ----------
    mask : PixelMask
        Of the image.
    grid : WindowGrid
        Which output pixels there are.
    rows : int
        The most output rows that are wanted at once.
    last : int
        The row after the last that will be wanted.
    """

    def __init__(self, mask: PixelMask, grid: WindowGrid, rows: int, last: int) -> None:
        self._grid = grid
        height = math.ceil(rows / grid.dilation) + 2
        self._reader = SlabReader(mask, grid, height, math.ceil(last / grid.dilation), padded=False)
        self._columns = covered(np.arange(grid.output_shape[1]), grid.dilation)

    def rows(self, first: int, stop: int) -> Bools:
        """Return output rows ``[first, stop)``, (rows, width); `first` must not decrease."""
        starts, stops = covered(np.arange(first, stop), self._grid.dilation)
        valid = ~self._reader.rows(int(starts[0]), int(stops[-1]))[..., 0]
        valid = any_between(valid, *self._columns)
        return ~any_between(valid.T, starts - starts[0], stops - starts[0]).T


def covered(pixels: Int64, dilation: Fraction) -> tuple[Int64, Int64]:
    """Return the image pixels ``[start, stop)`` that each output pixel of an axis covers."""
    numerator, denominator = dilation.numerator, dilation.denominator
    return pixels * denominator // numerator, -(-(pixels + 1) * denominator // numerator)


def any_between(flags: Bools, starts: Int64, stops: Int64) -> Bools:
    """Say for each run ``[start, stop)`` of the last axis whether any flag in it is set."""
    counts = np.zeros((*flags.shape[:-1], flags.shape[-1] + 1), np.int64)
    np.cumsum(flags, axis=-1, out=counts[..., 1:])
    found: Bools = counts[..., stops] > counts[..., starts]
    return found


def blank_pixels(slabs: Sequence[NDArray[Any]]) -> Bools:
    """Say which pixels are NaN in every band of every image, (rows, width)."""
    blank = np.ones(slabs[0].shape[:2], np.bool_)
    for slab in slabs:
        if slab.dtype.kind != "f":
            return np.zeros_like(blank)
        for band in range(slab.shape[2]):
            blank &= np.isnan(slab[..., band])
            if not blank.any():  # most rows of most images end here
                return blank
    return blank
