"""Rows of an image, read in order, each once, and padded on arrival."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from morpheus_core.images.image import Image
from morpheus_core.images.masks import PixelMask
from morpheus_core.pipeline.nan_policy import holds_nan, is_float
from morpheus_core.windows.grid import Axis, Padding, WindowGrid, repeated_pixels


class SlabReader:
    """Holds the rows of one image that the current windows need.

    Rows are read in order, each slab once, full width, and padded on arrival.

    Parameters
    ----------
    image : Image
        Where rows come from.
    grid : WindowGrid
        Which padding they get.
    height : int
        The most rows that are wanted at once.
    last : int
        The row after the last that will be wanted. None beyond is read: it may come from far away.
    padded : bool
        Whether they get it.
    """

    # Reads of this size keep a disk busy; what is read ahead is also what is not moved again.
    _READ_BYTES = 4 << 20

    def __init__(
        self,
        image: Image | PixelMask,
        grid: WindowGrid,
        height: int,
        last: int,
        padded: bool = True,
    ) -> None:
        padding = grid.padding if padded else None
        self._image = image
        self._rows = source_pixels(image.shape[0], grid.rows, padding)
        self._columns = source_pixels(image.shape[1], grid.columns, padding)
        self._unpadded = padding is None
        self._before = 0 if padding is None else grid.rows.before
        self._first = self._stop = self._clean_from = -self._before
        self._last = min(last, len(self._rows) - self._before)
        width = len(self._columns)
        self._read_rows = max(
            1, self._READ_BYTES // (width * image.shape[2] * image.dtype.itemsize)
        )
        capacity = min(height + max(height // 4, self._read_rows), len(self._rows))
        self._buffer = np.empty((capacity, width, image.shape[2]), image.dtype)

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """Return image rows ``[start, stop)``, (rows, padded width, bands).

        Rows may be negative or beyond the image inside the padding. `start` must not decrease from
        call to call; the result holds until the next one.
        """
        if stop > self._stop:
            self._advance(start)
        return self._buffer[start - self._first : stop - self._first]

    def may_hold_nan(self, start: int) -> bool:
        """Say whether rows from `start` on that have been read may hold NaN.

        Every pixel is asked once, when it is read, and not in each of the windows that show it.
        """
        return start < self._clean_from

    def _advance(self, start: int) -> None:
        """Forget the rows before `start` and fill the buffer with those that follow."""
        kept = max(self._stop - start, 0)
        gone = start - self._first
        for row in range(0, kept if gone else 0, max(gone, 1)):  # pieces that do not overlap
            piece = self._buffer[gone + row : gone + min(row + gone, kept)]
            self._buffer[row : row + len(piece)] = piece
        self._first = start
        self._stop = min(start + len(self._buffer), self._last)
        for row in range(start + kept, self._stop, self._read_rows):
            stop = min(row + self._read_rows, self._stop)
            piece = self._buffer[row - start : stop - start]
            self._fill(piece, row)
            if is_float(piece) and holds_nan(piece):
                self._clean_from = stop

    def _fill(self, target: NDArray[Any], first: int) -> None:
        """Read image rows, from `first` on, into all of `target`."""
        if self._unpadded:
            target[...] = self._image.read(first, first + len(target))
            return
        sources = self._rows[first + self._before :][: len(target)]
        target[sources < 0] = 0
        inside = sources[sources >= 0]
        if len(inside):
            start = int(inside.min())
            slab = self._image.read(start, int(inside.max()) + 1)
            target[sources >= 0] = pad_columns(slab[inside - start], self._columns)


def source_pixels(length: int, axis: Axis, padding: Padding | None) -> NDArray[np.int64]:
    """Return, for each pixel of a padded axis, the image pixel it repeats; -1 for a constant."""
    if padding is None:
        return np.arange(length)
    return repeated_pixels(-axis.before, axis.before + length + axis.after, length, padding)


def pad_columns(slab: NDArray[Any], sources: NDArray[np.int64]) -> NDArray[Any]:
    """Return the columns of a slab that a padded row repeats, zero where the source is -1."""
    padded: NDArray[Any] = slab[:, sources]
    padded[:, sources < 0] = 0
    return padded
