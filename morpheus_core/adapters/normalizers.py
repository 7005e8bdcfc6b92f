"""What networks expect pixels to be scaled to.

A normalizer is called with pixels, float32 of (batch, height, width, bands), and returns as many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from morpheus_core import checks
from morpheus_core.errors import InputError, ModelError
from morpheus_core.pipeline.descriptions import described

Float32 = NDArray[np.float32]
Normalizer = Callable[[Float32], Float32]
PerBand = float | Sequence[float]

#: Half a megabyte of float32.
CACHED_VALUES = 1 << 17


@dataclass(frozen=True, repr=False)
class Scaling:
    """Subtract an offset from each band and divide by a scale.

    Attributes
    ----------
    offset, scale : tuple of float
        One for all bands, or one per band.
    clip : bool
        Whether results are cut off below 0 and above 1.
    """

    offset: tuple[float, ...]
    scale: tuple[float, ...]
    clip: bool

    def __post_init__(self) -> None:
        with np.errstate(over="ignore", under="ignore"):
            stored = np.array([self.offset, self.scale], np.float32)  # as pixels are
        if not np.isfinite(stored).all() or stored[1].min() <= 0:
            raise InputError(
                f"offsets and scales must be finite in float32, and scales > 0, got offsets "
                f"{self.offset} and scales {self.scale}"
            )

    __repr__ = described

    def __call__(self, pixels: Float32) -> Float32:
        """Scale pixels, (batch, height, width, bands)."""
        if len(self.offset) not in (1, pixels.shape[-1]):
            raise ModelError(
                f"normalize must have one value, or one per band, {pixels.shape[-1]}, got "
                f"{len(self.offset)}"
            )
        offset, scale = (np.array(values, np.float32) for values in (self.offset, self.scale))
        line = pixels.shape[2] * pixels.shape[3]
        if len(offset) > 1:  # numpy is several times faster with rows than with a few bands
            offset, scale = np.resize(offset, line), np.resize(scale, line)
        scaled = np.empty(pixels.shape, np.float32)
        for some in few_windows(pixels):
            rows = scaled[some].reshape(-1, line)
            np.subtract(pixels[some].reshape(-1, line), offset, out=rows)
            np.divide(rows, scale, out=rows)
            if self.clip:
                np.clip(rows, 0, 1, out=rows)
        return scaled


@dataclass(frozen=True, repr=False)
class Standardization:
    """Give each window zero mean and unit standard deviation."""

    __repr__ = described

    def __call__(self, pixels: Float32) -> Float32:
        """Scale pixels, (batch, height, width, bands)."""
        axes = (1, 2, 3)
        scaled = np.empty(pixels.shape, np.float32)
        for some in few_windows(pixels):
            centred = scaled[some]
            # A mean in float32 may be off by more than the deviation, in windows of bright sky.
            mean = pixels[some].mean(axes, np.float64, keepdims=True)
            np.subtract(pixels[some], mean, out=centred, casting="same_kind")
            deviation = centred.std(axes, np.float64, keepdims=True).astype(np.float32)
            deviation[deviation == 0] = 1
            np.divide(centred, deviation, out=centred)
        return scaled


def few_windows(pixels: Float32) -> Iterator[slice]:
    """Yield runs of windows that stay in the processor's cache from one step to the next."""
    step = max(1, CACHED_VALUES // max(1, pixels[:1].size))
    for first in range(0, len(pixels), step):
        yield slice(first, first + step)


def min_max(min_pixel: PerBand, max_pixel: PerBand) -> Normalizer:
    """Scale pixels so that `min_pixel` becomes 0 and `max_pixel` becomes 1, and clip the rest.

    Parameters
    ----------
    min_pixel, max_pixel : float or sequence of float
        In the units of the image, for all bands or one per band.

    Returns
    -------
    callable
        For ``normalize=`` of an adapter.

    Raises
    ------
    InputError
        If one is not finite, or a maximum is not above its minimum, also in float32.
    """
    lowest, highest = paired("min_pixel", min_pixel, "max_pixel", max_pixel)
    if not (np.array(lowest, np.float32) < np.array(highest, np.float32)).all():
        raise InputError(
            f"max_pixel must be > min_pixel, also in float32, got {max_pixel!r} and {min_pixel!r}"
        )
    spread = tuple(high - low for low, high in zip(lowest, highest, strict=True))
    return Scaling(lowest, spread, clip=True)


def z_score(mean: PerBand, std: PerBand) -> Normalizer:
    """Subtract the mean of each band and divide by its standard deviation.

    Parameters
    ----------
    mean, std : float or sequence of float
        Of the images that the network was trained on, for all bands or one per band.

    Returns
    -------
    callable
        For ``normalize=`` of an adapter.

    Raises
    ------
    InputError
        If one is not finite, or a standard deviation is not positive, also in float32.
    """
    means, deviations = paired("mean", mean, "std", std)
    if min(deviations) <= 0:
        raise InputError(f"std must be > 0, got {std!r}")
    return Scaling(means, deviations, clip=False)


def standardize() -> Normalizer:
    """Give each window zero mean and unit standard deviation, over all its pixels and bands.

    Constant windows become 0. A window that holds NaN becomes NaN; see ``fill_nan``.

    Returns
    -------
    callable
        For ``normalize=`` of an adapter.
    """
    return Standardization()


def paired(
    first_name: str, first: PerBand, second_name: str, second: PerBand
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the values of two arguments, as many of the one as of the other."""
    values = [per_band(first_name, first), per_band(second_name, second)]
    length = max(map(len, values))
    a, b = (given * length if len(given) == 1 else given for given in values)
    if len(a) != len(b):
        raise InputError(
            f"{first_name} and {second_name} must have as many values, got {first!r} and {second!r}"
        )
    return a, b


def per_band(name: str, value: PerBand) -> tuple[float, ...]:
    """Return one or several finite numbers."""
    values = tuple(checks.finite_number(name, number) for number in np.atleast_1d(value).tolist())
    if not values:
        raise InputError(f"{name} must be a number, or one per band, got {value!r}")
    return values
