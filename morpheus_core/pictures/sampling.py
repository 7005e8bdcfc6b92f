"""Some pixels of images and results that are too large to be drawn whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

#: Left, right, bottom and top, in pixels whose centres are whole numbers, the first of them zero.
Extent = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Sampling:
    """Every so many pixels of an image, the same number along both axes.

    Pixels are taken from the middle of each step, and neither averaged nor interpolated.

    Attributes
    ----------
    shape : tuple of int
        Height and width of the image.
    step : int
        Rows between two rows that are taken, and columns between columns.
    """

    shape: tuple[int, int]
    step: int

    @classmethod
    def of(cls, shape: tuple[int, int], most: int) -> Self:
        """Take at most so many pixels along the longer axis."""
        return cls(shape, -(-max(shape) // most))

    @property
    def rows(self) -> range:
        """The rows that are taken."""
        return self._along(self.shape[0])

    @property
    def columns(self) -> range:
        """The columns that are taken."""
        return self._along(self.shape[1])

    @property
    def extent(self) -> Extent:
        """What the pixels that are taken stand for."""
        (left, right), (bottom, top) = self._edges(self.columns), self._edges(self.rows)
        return left, right, bottom, top

    def read(self, rows: Callable[[int, int], NDArray[Any]]) -> NDArray[Any]:
        """Read the pixels, (rows, columns, ...), one row at a time.

        `rows` returns whole rows ``[start, stop)`` of the image.
        """
        columns = slice(self.columns.start, None, self.step)
        # A copy, so that the rest of the row is let go.
        return np.concatenate([rows(row, row + 1)[:, columns].copy() for row in self.rows])

    def read_highest(self, rows: Callable[[int, int], NDArray[Any]]) -> NDArray[Any]:
        """Read all pixels, and return the highest of what each sample stands for, (rows, columns).

        `rows` returns whole rows ``[start, stop)`` of the image, (rows, width). NaN counts only
        where there is nothing else.
        """
        starts, columns = (
            np.arange(len(pixels)) * self.step for pixels in (self.rows, self.columns)
        )
        stops = [*starts[1:], self.shape[0]]
        bands = (rows(int(start), int(stop)) for start, stop in zip(starts, stops, strict=True))
        return np.stack([np.fmax.reduceat(np.fmax.reduce(band), columns) for band in bands])

    def _along(self, length: int) -> range:
        return range((min(self.step, length) - 1) // 2, length, self.step)

    def _edges(self, pixels: range) -> tuple[float, float]:
        return pixels[0] - self.step / 2, pixels[-1] + self.step / 2
