"""From the windows that `predict` hands out to the tensors that a network takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from morpheus_core import checks
from morpheus_core.adapters.normalizers import Float32, Normalizer, per_band
from morpheus_core.errors import InputError, ModelError
from morpheus_core.pipeline.descriptions import described

Channels = Literal["first", "last"]
CHANNELS: tuple[Channels, ...] = get_args(Channels)


@dataclass(frozen=True, repr=False)
class Preparation:
    """Stacks, fills, normalizes and lays out windows.

    Attributes
    ----------
    channels : {"first", "last"}
        Tensors are (batch, bands, height, width) or (batch, height, width, bands).
    stack_inputs : bool
        Whether the bands of all images make one tensor.
    fill_nan : float, tuple of float or "median", optional
        What takes the place of NaN: a number for all bands, one for each, or the median of its band
        in its window.
    normalize : callable, optional
        From (batch, height, width, bands) to the same shape.
    """

    channels: Channels
    stack_inputs: bool = True
    fill_nan: float | tuple[float, ...] | Literal["median"] | None = None
    normalize: Normalizer | None = None

    __repr__ = described

    def __call__(self, windows: list[NDArray[Any]]) -> list[Float32]:
        """Return one tensor, or one per image; they share no memory with the windows."""
        groups = [windows] if self.stack_inputs else [[window] for window in windows]
        return [self._tensor(group) for group in groups]

    def _tensor(self, group: list[NDArray[Any]]) -> Float32:
        pixels: Float32 = np.concatenate(group, axis=-1, dtype=np.float32, casting="unsafe")
        if self.fill_nan == "median":
            fill_with_medians(pixels)
        elif self.fill_nan is not None:
            fill_with_numbers(pixels, self.fill_nan)
        if self.normalize is not None:
            pixels = normalized(self.normalize, pixels)
        if self.channels == "first":
            pixels = np.moveaxis(pixels, -1, 1)
        return np.ascontiguousarray(pixels)


def normalized(normalize: Normalizer, pixels: Float32) -> Float32:
    """Return what a function of the user's makes of pixels."""
    result = np.asarray(normalize(pixels), np.float32)
    if result.shape != pixels.shape:
        raise ModelError(f"normalize must keep the shape, {pixels.shape}, got {result.shape}")
    return result


def make_preparation(
    channels: Any, stack_inputs: Any = True, fill_nan: Any = None, normalize: Any = None
) -> Preparation:
    """Check the arguments of a `Preparation`.

    Raises
    ------
    InputError
        If one is not what it should be.
    """
    if isinstance(fill_nan, str) and fill_nan != "median":
        raise InputError(f'fill_nan must be a number or "median", got {fill_nan!r}')
    if fill_nan is not None and not isinstance(fill_nan, str):
        numbers = per_band("fill_nan", fill_nan)
        fill_nan = numbers if len(numbers) > 1 else numbers[0]
    if normalize is not None and not callable(normalize):
        raise InputError(f"normalize must be callable, got {normalize!r}")
    return Preparation(
        checks.one_of("channels", channels, CHANNELS),
        checks.flag("stack_inputs", stack_inputs),
        fill_nan,
        normalize,
    )


def fill_with_numbers(pixels: Float32, numbers: float | tuple[float, ...]) -> None:
    """Replace NaN by a number, or by that of its band."""
    if np.size(numbers) not in (1, pixels.shape[-1]):
        raise ModelError(
            f"fill_nan must have one value, or one per band, {pixels.shape[-1]}, got "
            f"{np.size(numbers)}"
        )
    np.copyto(pixels, np.array(numbers, np.float32), where=np.isnan(pixels))


def fill_with_medians(pixels: Float32) -> None:
    """Replace NaN by the median of its band in its window, 0 where there is nothing else."""
    holes = np.isnan(pixels)
    for window, band in np.argwhere(holes.any(axis=(1, 2))):
        plane, hole = pixels[window, ..., band], holes[window, ..., band]
        plane[hole] = 0 if hole.all() else np.median(plane[~hole])
