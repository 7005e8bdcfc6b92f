"""The background of an image, and its noise, on a mesh."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morpheus_core import checks
from morpheus_core.errors import InputError
from morpheus_core.images.preparing_steps import ImageRows
from morpheus_core.pipeline.descriptions import described
from morpheus_core.preparing.splines import Float64, Int64, Surface

#: By which share of the standard deviation mean and median differ in crowded boxes.
CROWDED = 0.3


@dataclass(frozen=True, slots=True)
class Background:
    """What :class:`MeshBackground` finds.

    Attributes
    ----------
    level, noise : Surface
        Of background and standard deviation.
    least_noise : ndarray, (bands,)
        At any node: a spline may swing below.
    """

    level: Surface
    noise: Surface
    least_noise: Float64


@dataclass(frozen=True, slots=True, repr=False)
class MeshBackground:
    """Subtract the background of an image, and divide by its noise, as found in boxes of it.

    Pixels of a box are cut, again and again, that are far from their median. Of those that are left
    the mode, 2.5 × median − 1.5 × mean, is the background, or the median in crowded boxes, and the
    standard deviation is the noise. The medians of 3 × 3 boxes become natural bicubic splines. That
    is the method of SExtractor [1]_.

    Parameters
    ----------
    box : int or tuple of int, default 64
        About how many pixels high and wide boxes are, or (rows, columns) of them: so many of them
        divide the image evenly. They must be larger than the objects.
    clip : float, default 3
        Pixels are cut that are more than so many standard deviations from the median.
    smoothing : int, default 3
        Boxes in each direction of which medians are taken, an odd number; 1 takes none.
    divide : bool, default True
        Divide by the noise. False leaves the unit of the pixels.

    Raises
    ------
    InputError
        If a parameter is out of its range.

    Notes
    -----
    Boxes without a finite pixel have the background of the nearest boxes that have some, and boxes
    of equal pixels their noise. An image without any noise is not divided.

    Between the centres of boxes at its border and the border itself, splines go on as they are.

    References
    ----------
    .. [1] Bertin & Arnouts 1996, A&AS 117, 393.
    """

    box: int | tuple[int, int] = 64
    clip: float = 3.0
    smoothing: int = 3
    divide: bool = True

    def __post_init__(self) -> None:
        checks.positive_pair("box", both(self.box))
        checks.positive_number("clip", self.clip)
        if checks.whole_number("smoothing", self.smoothing) % 2 == 0:
            raise InputError(f"smoothing must be odd, got {self.smoothing}; take one more")
        checks.flag("divide", self.divide)

    __repr__ = described

    def fit(self, rows: ImageRows) -> Background:
        """Return background and noise on the mesh."""
        height, width, bands = rows.shape
        box = both(self.box)
        row_edges, column_edges = edges(height, box[0]), edges(width, box[1])
        found = np.empty((2, len(row_edges) - 1, len(column_edges) - 1, bands))
        for number, tall in enumerate(cut(rows, row_edges)):
            for column, (left, right) in enumerate(pairwise(column_edges.tolist())):
                for band in range(bands):
                    pixels = tall[:, left:right, band]
                    found[:, number, column, band] = mode_and_noise(pixels, self.clip)
        found[1][found[1] == 0] = np.nan
        level, noise = (
            np.stack([smoothed(filled(mesh, default), self.smoothing) for mesh in meshes], axis=-1)
            for meshes, default in zip(np.moveaxis(found, -1, 1), (0.0, 1.0), strict=True)
        )
        tops, lefts = ((some[:-1] + some[1:] - 1) / 2 for some in (row_edges, column_edges))
        return Background(
            Surface.through(tops, lefts, level),
            Surface.through(tops, lefts, noise),
            noise.min(axis=(0, 1)),
        )

    def apply(self, rows: NDArray[Any], first_row: int, state: Background) -> NDArray[np.float32]:
        """Return rows without background, divided by the noise."""
        place = first_row, len(rows), rows.shape[1]
        flat = rows - state.level.at(*place)
        if self.divide:
            flat /= np.maximum(state.noise.at(*place), state.least_noise)
        return flat.astype(np.float32)


def both(box: Any) -> Any:
    """Return one number as two."""
    return box if isinstance(box, (tuple, list)) else (box, box)


def edges(length: int, box: int) -> Int64:
    """Return where boxes of about a length begin that divide another, and where the last ends."""
    count = max(1, round(length / box))
    return np.arange(count + 1) * length // count


def cut(rows: ImageRows, row_edges: Int64) -> Iterator[NDArray[Any]]:
    """Yield the rows of one box after the other."""
    waiting: list[NDArray[Any]] = []
    for first, stop in pairwise(row_edges.tolist()):
        while sum(map(len, waiting)) < stop - first:
            waiting.append(next(rows))
        held = np.concatenate(waiting)
        yield held[: stop - first]
        waiting = [held[stop - first :]]


def mode_and_noise(pixels: NDArray[Any], clip: float) -> tuple[float, float]:
    """Return background and standard deviation of the pixels of a box, NaN if none is finite."""
    values = np.sort(pixels[np.isfinite(pixels)], axis=None).astype(np.float64)
    if not values.size:
        return np.nan, np.nan
    while True:
        middle = len(values) // 2
        median = (values[middle] + values[-1 - middle]) / 2
        mean, noise = values.mean(), values.std()
        low, high = (
            np.searchsorted(values, median - clip * noise),
            np.searchsorted(values, median + clip * noise, side="right"),
        )
        if high - low in (0, len(values)):
            break
        values = values[low:high]
    if noise == 0 or abs(mean - median) >= CROWDED * noise:
        return float(median), float(noise)
    return float(2.5 * median - 1.5 * mean), float(noise)


def filled(mesh: Float64, default: float) -> Float64:
    """Replace NaN by the mean of its neighbours, from the rim of holes inwards, or a default."""
    if np.isnan(mesh).all():
        return np.full_like(mesh, default)
    while np.isnan(mesh).any():
        around = neighbours(mesh, 3, constant_values=np.nan)
        known = np.isfinite(around)
        count = known.sum(axis=0)
        means = np.where(known, around, 0).sum(axis=0) / np.maximum(count, 1)
        mesh = np.where(np.isnan(mesh) & (count > 0), means, mesh)
    return mesh


def smoothed(mesh: Float64, size: int) -> Float64:
    """Return the medians of the neighbours of each node; the rim goes on, which keeps a slope."""
    medians: Float64 = np.median(neighbours(mesh, size, mode="edge"), axis=0)
    return medians


def neighbours(mesh: Float64, size: int, **beyond: Any) -> Float64:
    """Return the size × size neighbours of nodes, (neighbours, rows, columns).

    Those outside are as `numpy.pad` makes them.
    """
    padded = np.pad(mesh, size // 2, **beyond)
    rows, columns = mesh.shape
    return np.stack(
        [
            padded[row : row + rows, column : column + columns]
            for row in range(size)
            for column in range(size)
        ]
    )
