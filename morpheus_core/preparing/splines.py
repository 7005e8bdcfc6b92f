"""Surfaces through values on a mesh: natural bicubic splines, as SExtractor has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Surface:
    """A natural bicubic spline through values at the nodes of a mesh.

    Attributes
    ----------
    rows, columns : ndarray
        Where the nodes are, in pixels.
    values, bends : ndarray of float64, (rows, columns, bands)
        At the nodes, and their second derivatives along columns of the image (from row to row).
    values_across, bends_across : ndarray of float64
        Second derivatives of both along rows of the image.
    """

    rows: Float64
    columns: Float64
    values: Float64
    bends: Float64
    values_across: Float64
    bends_across: Float64

    @classmethod
    def through(cls, rows: Float64, columns: Float64, values: Float64) -> Self:
        """Lay a surface through values, (rows, columns, bands)."""
        bends = second_derivatives(rows, values)
        across = [
            np.swapaxes(second_derivatives(columns, np.swapaxes(some, 0, 1)), 0, 1)
            for some in (values, bends)
        ]
        return cls(rows, columns, values, bends, across[0], across[1])

    def at(self, first_row: int, count: int, width: int) -> Float64:
        """Return some rows of the surface, (count, width, bands).

        Each pixel is computed for itself, so it has the same bits whatever rows it comes with.
        """
        places = weights(self.rows, np.arange(first_row, first_row + count))
        least, most = int(places.below.min()), int(places.above.max()) + 1
        across = weights(self.columns, np.arange(width))

        def wide(values: Float64, bends: Float64) -> Float64:
            return across.mix(values[least:most], bends[least:most], axis=1)

        values = wide(self.values, self.values_across)
        bends = wide(self.bends, self.bends_across)
        return places.shifted(least).mix(values, bends, axis=0)


class Weights(NamedTuple):
    """Of each place the nodes below and above it, and what their values and bends count."""

    below: Int64
    above: Int64
    values: tuple[Float64, Float64]
    bends: tuple[Float64, Float64]

    def shifted(self, first: int) -> Weights:
        """Count nodes from another one."""
        return self._replace(below=self.below - first, above=self.above - first)

    def mix(self, values: Float64, bends: Float64, axis: int) -> Float64:
        """Return what a spline is at the places, which take the place of the nodes on an axis."""
        shape = (-1, 1, 1) if axis == 0 else (1, -1, 1)
        mixed: Float64 = np.take(values, self.below, axis) * self.values[0].reshape(shape)
        for some, nodes, count in (
            (values, self.above, self.values[1]),
            (bends, self.below, self.bends[0]),
            (bends, self.above, self.bends[1]),
        ):
            mixed += np.take(some, nodes, axis) * count.reshape(shape)
        return mixed


def weights(nodes: Float64, pixels: Int64) -> Weights:
    """Return of which nodes a cubic spline is made at some pixels; beyond them it goes on."""
    if len(nodes) == 1:
        only, none = np.zeros(len(pixels), np.int64), np.zeros(len(pixels))
        return Weights(only, only, (none + 1, none), (none, none))
    below = np.clip(np.searchsorted(nodes, pixels, side="right") - 1, 0, len(nodes) - 2)
    length = nodes[below + 1] - nodes[below]
    first, second = (nodes[below + 1] - pixels) / length, (pixels - nodes[below]) / length
    bends = tuple((part**3 - part) * length**2 / 6 for part in (first, second))
    return Weights(below, below + 1, (first, second), (bends[0], bends[1]))


def second_derivatives(nodes: Float64, values: Float64) -> Float64:
    """Return those of the natural cubic spline through values along the first axis.

    They are 0 at both ends, and inside such that the first derivatives of neighbouring cubics are
    the same.
    """
    bends = np.zeros_like(values)
    if len(nodes) < 3:
        return bends
    lengths = np.diff(nodes)
    slopes = np.diff(values, axis=0) / lengths.reshape(-1, 1, 1)
    system = np.diag((lengths[:-1] + lengths[1:]) / 3)
    system += np.diag(lengths[1:-1] / 6, 1) + np.diag(lengths[1:-1] / 6, -1)
    jumps = np.diff(slopes, axis=0)
    bends[1:-1] = np.linalg.solve(system, jumps.reshape(len(jumps), -1)).reshape(jumps.shape)
    return bends
