"""What a picture shows: some pixels of a result, and of the image below it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morpheus_core.errors import InputError, warn
from morpheus_core.images.image import Image
from morpheus_core.pictures.sampling import Extent, Sampling
from morpheus_core.pipeline.aggregators import AGGREGATION_METHODS
from morpheus_core.results.blocks import Block, no_probabilities
from morpheus_core.results.finished import Outputs


@dataclass(frozen=True, slots=True)
class Look:
    """Some pixels of a result.

    Attributes
    ----------
    method : AGGREGATION_METHODS
        How predictions were folded.
    class_names : sequence of str
        One per class.
    sampling : Sampling
        Which pixels these are.
    shares : ndarray, (rows, columns, classes)
        Mean, or share of votes; NaN where there is no result.
    dispersion : ndarray, (rows, columns)
        How much windows disagree; NaN where there is no result.
    n : ndarray, (rows, columns)
        Predictions.
    flush : bool
        Whether last windows were set flush to the border, where n is higher then.
    class_name : str, optional
        The class that is drawn by itself.
    heat : ndarray, (rows, columns), optional
        The highest share of that class among the pixels that each one stands for.
    marks : ndarray, (2, objects)
        Columns and rows of objects.
    has_both : bool
        Whether there is a result of the other method as well.
    """

    method: AGGREGATION_METHODS
    class_names: Sequence[str]
    sampling: Sampling
    shares: NDArray[Any]
    dispersion: NDArray[Any]
    n: NDArray[Any]
    flush: bool
    class_name: str | None
    heat: NDArray[Any] | None
    marks: NDArray[np.float64]
    has_both: bool = False


@dataclass(frozen=True, slots=True)
class Backdrop:
    """Some pixels of an image.

    Attributes
    ----------
    pixels : ndarray of float64, (rows, columns)
        Of its first band.
    extent : tuple of float
        Left, right, bottom and top, in pixels of the result.
    """

    pixels: NDArray[np.float64]
    extent: Extent


def look_at(
    outputs: Outputs,
    method: AGGREGATION_METHODS,
    class_names: Sequence[str],
    most: int,
    class_name: str | None,
    marks: NDArray[np.float64],
) -> Look:
    """Read some pixels of a result, and all of a class that is drawn by itself."""
    sampling = Sampling.of(outputs.shape, most)
    result = sampling.read(outputs.results[method].read)
    n = sampling.read(outputs.n.read).astype(np.float64)
    shares = Block(0, {method: result}, n).shares(method)
    complaint = no_probabilities(shares)
    if complaint is not None:
        warn(complaint)
    shares[~np.isfinite(shares).all(axis=-1)] = np.nan
    if method is AGGREGATION_METHODS.MEAN_VAR:
        winner = shares.argmax(axis=-1)[..., np.newaxis]
        variance = np.take_along_axis(result[..., 1], winner, axis=-1)[..., 0]
        # Rounding may leave a little less than nothing.
        dispersion = np.where(np.isnan(shares[..., 0]), np.nan, np.sqrt(np.maximum(variance, 0)))
    else:
        dispersion = 1 - shares.max(axis=-1)
    heat = None
    if class_name is not None:
        heat = heat_of(outputs, method, class_names.index(class_name), sampling)
    return Look(
        method,
        class_names,
        sampling,
        shares,
        dispersion,
        n,
        is_flush(outputs),
        class_name,
        heat,
        marks,
        len(outputs.methods) > 1,
    )


def is_flush(outputs: Outputs) -> bool:
    """Say whether last windows were set flush to the border, as headers tell."""
    header = outputs.n.header
    if header.get("EDGES") != "cover" or header.get("PADDING", "none") != "none":
        return False
    dilation = Fraction(header.get("DILATION", 1))
    window, stride = (list(map(int, header[key].split(" x "))) for key in ("WINDOW", "STRIDE"))
    return any(
        (length / dilation - size) % step
        for length, size, step in zip(outputs.shape, window, stride, strict=True)
    )


def heat_of(
    outputs: Outputs, method: AGGREGATION_METHODS, index: int, sampling: Sampling
) -> NDArray[Any]:
    """Return the highest share of a class, where a sample of pixels would miss what is rare."""

    def rows(start: int, stop: int) -> NDArray[Any]:
        result = outputs.results[method].read(start, stop)
        block = Block(start, {method: result}, outputs.n.read(start, stop))
        return block.probability(method, index)

    return sampling.read_highest(rows)


def dilation_of(image: Image, outputs: Outputs) -> Fraction:
    """Return how many pixels of a result there are per pixel of the image along each axis."""
    height, width = (
        Fraction(mine, its) for mine, its in zip(outputs.shape, image.shape[:2], strict=True)
    )
    if height != width or Fraction(outputs.n.header.get("DILATION", height)) != height:
        raise InputError(
            f"image must show the sky of the result, {outputs.shape} divided by the dilation, got "
            f"{image.shape[:2]} for {image.name}"
        )
    return height


def backdrop_of(image: Image, dilation: Fraction, most: int) -> Backdrop:
    """Read some pixels of the first band of an image."""
    height, width, _ = image.shape
    sampling = Sampling.of((height, width), most)
    pixels = sampling.read(lambda start, stop: image.read(start, stop)[..., 0])
    # Pixel edges, not centres, lie at half-integers.
    left, right, bottom, top = ((edge + 0.5) * float(dilation) - 0.5 for edge in sampling.extent)
    return Backdrop(pixels.astype(np.float64), (left, right, bottom, top))
