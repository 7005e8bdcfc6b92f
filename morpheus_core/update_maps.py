"""Update maps: how much each pixel of a window's prediction counts.

Every function takes the shape of the *prediction* of one window, in output pixels and in
(height, width) order: the window shape times the dilation.

Examples
--------
>>> from morpheus_core import update_maps
>>> update_maps.centre_crop((4, 5), border=1).astype(int)
array([[0, 0, 0, 0, 0],
       [0, 1, 1, 1, 0],
       [0, 1, 1, 1, 0],
       [0, 0, 0, 0, 0]])
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from morpheus_core.errors import InputError

#: Weight of a border that is kept: enough where nothing else is, and next to nothing elsewhere.
KEPT = 1e-6


def centre_crop(
    shape: tuple[int, int], border: int | tuple[int, int], *, keep_border: bool = False
) -> NDArray[np.bool_] | NDArray[np.float64]:
    """Count only the centre of each window.

    Parameters
    ----------
    shape : tuple of int
        Height and width of a window's prediction, in output pixels.
    border : int or tuple of int
        Pixels on each side that do not count, or (rows, columns) of them.
    keep_border : bool, default False
        Give the border a weight of 1e-6 in place of none, and its corners, which lie in it along
        both axes, 1e-12. Where centres of windows reach, they alone decide, to about 1e-6; at the
        edge of the image, which they do not reach, the borders of its windows give the result, so
        that the image needs no padding. n, the sum of weights, is about 1 per centre, 1e-6 at the
        edge and 1e-12 in the corners of the image.

    Returns
    -------
    ndarray of bool or float64, shape `shape`
        False within the border, or with `keep_border` weights, 1 inside.

    Raises
    ------
    InputError
        If nothing is left.
    """
    rows, columns = (border, border) if isinstance(border, int) else border
    height, width = shape
    if min(rows, columns) < 0 or 2 * rows >= height or 2 * columns >= width:
        raise InputError(
            f"border must be >= 0 and leave some of the window, got border={border} for a window "
            f"of {tuple(shape)}"
        )
    inside = np.zeros(height, bool), np.zeros(width, bool)
    inside[0][rows : height - rows] = True
    inside[1][columns : width - columns] = True
    if keep_border:
        return np.outer(*(np.where(part, 1.0, KEPT) for part in inside))
    return np.outer(*inside)


def gaussian(shape: tuple[int, int], sigma: float = 0.125) -> NDArray[np.float64]:
    """Weigh each window by a Gaussian around its centre.

    Parameters
    ----------
    shape : tuple of int
        Height and width of a window's prediction, in output pixels.
    sigma : float
        Standard deviation as a fraction of the window's length along each axis. The default is
        the one that nnU-Net uses [1]_.

    Returns
    -------
    ndarray of float64, shape `shape`
        Weights in (0, 1], 1 at the centre of windows of odd size.

    Raises
    ------
    InputError
        If sigma is not positive, or so small that weights vanish.

    References
    ----------
    .. [1] Isensee et al. 2021, Nature Methods 18, 203.
    """
    if not sigma > 0:
        raise InputError(f"sigma must be > 0, got {sigma}")

    def profile(length: int) -> NDArray[np.float64]:
        offset = np.arange(length) - (length - 1) / 2
        weights: NDArray[np.float64] = np.exp(-0.5 * (offset / (sigma * length)) ** 2)
        return weights

    weights = np.outer(profile(shape[0]), profile(shape[1]))
    if not weights.min() > np.finfo(np.float32).tiny:
        raise InputError(f"sigma={sigma} gives the window's corners no weight; use a larger one")
    return weights


def hann(shape: tuple[int, int]) -> NDArray[np.float64]:
    """Weigh each window by a Hann (raised cosine) profile along each axis.

    The zeros of the textbook window lie one pixel outside, so that every pixel has some weight.

    Parameters
    ----------
    shape : tuple of int
        Height and width of a window's prediction, in output pixels.

    Returns
    -------
    ndarray of float64, shape `shape`
        Weights ``sin²(π (i + 1) / (height + 1)) sin²(π (j + 1) / (width + 1))``.
    """
    height, width = shape
    return np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1])
