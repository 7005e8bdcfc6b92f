"""Windows around positions: where their corners are, and their pixels.

The corner of a window of n pixels around the position p, along either axis, is ``ceil(p - n / 2)``,
as in `astropy.nddata.Cutout2D`. A window of an odd number of pixels is centred on the pixel that
the position is in (on the lower one, half-way between two). A window of an even number has
the position between its two middle pixels, or on the centre of the upper one of them.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from morpheus_core.catalogs.sky_positions import Float64
from morpheus_core.errors import InputError
from morpheus_core.images.image import Image
from morpheus_core.pipeline.batches import gather
from morpheus_core.windows.grid import Padding, repeated_pixels

CatalogEdges = Literal["shift", "pad", "skip"]
CATALOG_EDGES: tuple[CatalogEdges, ...] = ("shift", "pad", "skip")

Int64 = NDArray[np.int64]


def corners_of(positions: Float64, window_shape: tuple[int, int]) -> Int64:
    """Return the first row and column of windows, (2, positions); see the module."""
    half = np.array(window_shape)[:, np.newaxis] / 2
    return np.ceil(positions - half).astype(np.int64)


def shifted(corners: Int64, image: Image, window_shape: tuple[int, int]) -> Int64:
    """Return corners of windows that are moved to lie inside of an image.

    Raises
    ------
    TooSmallError
        If the image is smaller than a window.
    """
    room = np.array(image.shape[:2]) - window_shape
    if room.min() < 0:
        raise TooSmallError(
            f"{image.name} must not be smaller than a window of {window_shape}, got "
            f'{image.shape[:2]}; edges="pad" continues it beyond its borders'
        )
    return np.clip(corners, 0, room[:, np.newaxis])


def is_inside(corners: Int64, image: Image, window_shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Say which windows lie inside of an image."""
    room = np.array(image.shape[:2]) - window_shape
    return np.asarray(np.all((corners >= 0) & (corners <= room[:, np.newaxis]), axis=0))


def borders_of(corners: Int64, image: Image, window_shape: tuple[int, int]) -> Int64:
    """Return where in windows the image begins and ends, (first and stop, row and column, windows).

    Stops are one after the last.
    """
    lengths, shape = (np.array(one)[:, np.newaxis] for one in (image.shape[:2], window_shape))
    return np.asarray(np.clip([-corners, lengths - corners], 0, shape))


class TooSmallError(InputError):
    """An image is smaller than a window."""


class WindowReader:
    """Cuts windows out of an image, and reads each of its rows about once if they come in order.

    Parameters
    ----------
    image : Image
        Where pixels come from.
    window_shape : tuple of int
        Height and width.
    padding : {"reflect", "symmetric", "edge", "constant"}, optional
        How the image goes on beyond its borders, as `numpy.pad` does; without it windows must lie
        inside.
    """

    # As in SlabReader: reads of this size keep a disk busy.
    _READ_BYTES = 4 << 20

    def __init__(
        self, image: Image, window_shape: tuple[int, int], padding: Padding | None
    ) -> None:
        self._image, self._window_shape, self._padding = image, window_shape, padding
        row_bytes = image.shape[1] * image.shape[2] * image.dtype.itemsize
        self._read_rows = max(self._READ_BYTES // row_bytes, 2 * window_shape[0])
        self._first, self._last = 0, image.shape[0]
        self._slab = np.empty((0, *image.shape[1:]), image.dtype)

    def expect(self, tops: Int64) -> None:
        """Take the first rows of the windows to come: nothing is read ahead beyond the last one."""
        last = int(tops.max(initial=0)) + self._window_shape[0]
        self._last = min(last, self._image.shape[0])

    def windows(self, corners: Int64) -> NDArray[Any]:
        """Return the windows at corners, (windows, height, width, bands)."""
        inside = is_inside(corners, self._image, self._window_shape)
        order = np.argsort(corners[0], kind="stable")
        within = order[inside[order]]
        parts = self._parts(corners[0, within])
        if inside.all() and len(parts) == 1:  # as most batches, of which one copy is enough
            return self._gathered(corners)
        windows = np.empty(
            (len(inside), *self._window_shape, self._image.shape[2]), self._image.dtype
        )
        for part in parts:
            windows[within[part]] = self._gathered(corners[:, within[part]])
        for row in order[~inside[order]]:
            windows[row] = self._padded(*corners[:, row].tolist())
        return windows

    def _gathered(self, corners: Int64) -> NDArray[Any]:
        """Return windows inside the image, so close that all their rows are read at once."""
        tops, lefts = corners
        first, slab = self._read(int(tops.min()), int(tops.max()) + self._window_shape[0])
        return gather(slab, tops - first, lefts, self._window_shape)

    def _parts(self, tops: Int64) -> list[slice]:
        """Cut sorted windows into runs that lie in as many rows as are read at once."""
        parts, start = [], 0
        while start < len(tops):
            last = tops[start] + self._read_rows - self._window_shape[0]
            stop = int(np.searchsorted(tops, last, side="right"))
            parts.append(slice(start, stop))
            start = stop
        return parts

    def _read(self, start: int, stop: int) -> tuple[int, NDArray[Any]]:
        """Return rows of the image that hold at least these, and the number of the first."""
        if start < self._first or stop > self._first + len(self._slab):
            end = max(stop, min(start + self._read_rows, self._last))
            self._first = start
            self._slab = np.ascontiguousarray(self._image.read(start, end), self._image.dtype)
        return self._first, self._slab

    def _padded(self, top: int, left: int) -> NDArray[Any]:
        """Return a window that reaches beyond the image."""
        height, width = self._window_shape
        rows = repeated_pixels(top, height, self._image.shape[0], self._padding)
        columns = repeated_pixels(left, width, self._image.shape[1], self._padding)
        seen = rows[rows >= 0]
        first, slab = self._read(int(seen.min()), int(seen.max()) + 1)
        window: NDArray[Any] = slab[np.maximum(rows - first, 0)][:, np.maximum(columns, 0)]
        beyond = np.logical_or.outer(rows < 0, columns < 0)
        # A blank part of an image goes on blank: the model is not to see the zeros alone.
        window[beyond] = np.nan if np.isnan(window[~beyond]).all() else 0
        return window
