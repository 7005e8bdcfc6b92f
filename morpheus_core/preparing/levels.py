"""Levels of a whole image: its median and scatter, or percentiles of its pixels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morpheus_core import checks
from morpheus_core.errors import InputError, warn
from morpheus_core.images.preparing_steps import ImageRows
from morpheus_core.pipeline.descriptions import described

#: Pixels of a band of which levels are found; of a larger image a regular grid of pixels.
SAMPLE = 1 << 24
#: What turns a median absolute deviation of normal noise into its standard deviation.
NORMAL = 1.482602218505602

Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Levels:
    """Of each band what is subtracted, and what is divided by; (bands,)."""

    offset: Float64
    scale: Float64

    def __call__(self, rows: NDArray[Any]) -> Float64:
        """Scale rows, (rows, width, bands)."""
        scaled: Float64 = rows.astype(np.float64)
        scaled -= self.offset
        scaled /= self.scale
        return scaled


@dataclass(frozen=True, slots=True, repr=False)
class GlobalMedian:
    """Subtract the median of the image, and divide by the scatter of its pixels.

    Parameters
    ----------
    divide : bool, default True
        Divide by 1.4826 times the median absolute deviation from the median, which is the standard
        deviation of normal noise. False leaves the unit of the pixels.

    Warns
    -----
    MorpheusWarning
        If half of the pixels are equal, so that their scatter is 0; they are not divided then.

    Notes
    -----
    Of more than 16.8 million pixels a regular grid of them decides; the median of as many is known
    to 0.0003 of their scatter.
    """

    divide: bool = True

    def __post_init__(self) -> None:
        checks.flag("divide", self.divide)

    __repr__ = described

    def fit(self, rows: ImageRows) -> Levels:
        """Return median and scatter of each band."""
        return levels_of(rows, self._level)

    def _level(self, values: NDArray[Any]) -> tuple[float, float]:
        if not values.size:
            return 0.0, 1.0
        median = float(np.median(values))
        if not self.divide:
            return median, 1.0
        scatter = NORMAL * float(np.median(np.abs(values.astype(np.float64) - median)))
        if scatter == 0:
            warn(f"half of the pixels are {median:g}: they are not divided by their scatter of 0")
        return median, scatter or 1.0

    def apply(self, rows: NDArray[Any], first_row: int, state: Levels) -> NDArray[np.float32]:
        """Return rows without median, divided by the scatter."""
        return state(rows).astype(np.float32)


@dataclass(frozen=True, slots=True, repr=False)
class Percentiles:
    """Scale pixels so that two percentiles of the image become 0 and 1.

    Parameters
    ----------
    low, high : float, default 1 and 99
        Percentages of the pixels, from 0 to 100.
    clip : bool, default True
        Cut pixels off below 0 and above 1.

    Raises
    ------
    InputError
        If percentages are not in order; or, of an image, if both percentiles are the same number.

    Notes
    -----
    Of more than 16.8 million pixels a regular grid of them decides.
    """

    low: float = 1.0
    high: float = 99.0
    clip: bool = True

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            checks.finite_number(name, getattr(self, name))
        if not 0 <= self.low < self.high <= 100:
            raise InputError(
                f"low and high must be percentages in order, from 0 to 100, got {self.low:g} and "
                f"{self.high:g}"
            )
        checks.flag("clip", self.clip)

    __repr__ = described

    def fit(self, rows: ImageRows) -> Levels:
        """Return the percentiles of each band."""
        return levels_of(rows, self._level)

    def _level(self, values: NDArray[Any]) -> tuple[float, float]:
        if not values.size:
            return 0.0, 1.0
        low, high = np.percentile(values, [self.low, self.high]).tolist()
        if not low < high:
            raise InputError(
                f"percentiles {self.low:g} and {self.high:g} must be two numbers, got {low:g} for "
                f"both; take others, further apart"
            )
        return low, high - low

    def apply(self, rows: NDArray[Any], first_row: int, state: Levels) -> NDArray[np.float32]:
        """Return rows scaled to 0 ... 1."""
        scaled = state(rows)
        if self.clip:
            np.clip(scaled, 0, 1, out=scaled)
        return scaled.astype(np.float32)


def levels_of(rows: ImageRows, of_band: Callable[[NDArray[Any]], tuple[float, float]]) -> Levels:
    """Return what a function finds of the pixels of each band."""
    found = [of_band(values) for values in finite_pixels(rows)]
    return Levels(*(np.array(each) for each in zip(*found, strict=True)))


def finite_pixels(rows: ImageRows) -> list[NDArray[Any]]:
    """Return the finite pixels of each band, or where there are many those of a regular grid."""
    height, width, bands = rows.shape
    step = math.ceil(math.sqrt(height * width / SAMPLE))
    taken, first = [], 0
    for block in rows:
        taken.append(block[-first % step :: step, ::step].reshape(-1, bands))
        first += len(block)
    pixels = np.concatenate(taken)
    return [band[np.isfinite(band)] for band in pixels.T]
