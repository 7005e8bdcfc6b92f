"""Images of other sizes, each pixel being the mean over its own area."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def overlaps(length: int, wanted: int) -> NDArray[np.float64]:
    """Return which share of each of the wanted pixels each of those that are there covers.

    Returns
    -------
    ndarray, (wanted, length)
        Rows that sum to one.
    """
    edges = np.arange(wanted + 1) * (length / wanted)
    pixels = np.arange(length)
    first = np.maximum(edges[:-1, np.newaxis], pixels)
    stop = np.minimum(edges[1:, np.newaxis], pixels + 1)
    return np.asarray(np.maximum(stop - first, 0) * (wanted / length))


def area_means(images: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """Return images of another height and width.

    Each new pixel is the mean of the old ones that lie in it, those at its borders by the area
    that does. One that touches a NaN, or infinity, is NaN.

    Parameters
    ----------
    images : ndarray, (..., height, width, bands)
        Of any type.
    shape : tuple of int
        Height and width that they shall have.

    Returns
    -------
    ndarray, (..., height, width, bands)
        Of the same type; whole numbers are rounded.
    """
    down, across = overlaps(images.shape[-3], shape[0]), overlaps(images.shape[-2], shape[1])

    def mean(values: NDArray[Any]) -> NDArray[np.float64]:
        # Bands last: (height, width, bands), then rows, then columns.
        rows = np.tensordot(values, down, (-3, -1))  # (..., width, bands, rows)
        return np.moveaxis(np.tensordot(rows, across, (-3, -1)), -3, -1)

    if images.dtype.kind != "f":
        return np.rint(mean(images.astype(np.float64))).astype(images.dtype)
    bad = ~np.isfinite(images)
    if not bad.any():
        return mean(images.astype(np.float64)).astype(images.dtype)
    means = mean(np.where(bad, 0, images).astype(np.float64))
    return np.where(mean(bad.astype(np.float64)) > 0, np.nan, means).astype(images.dtype)
