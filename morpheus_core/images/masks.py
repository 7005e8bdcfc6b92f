"""Bad pixels: which ones masks mark, read row by row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morpheus_core.errors import InputError
from morpheus_core.images.image import Image

Bools = NDArray[np.bool_]


class PixelMask:
    """Which pixels are bad: those that any of its parts marks.

    It is read like an image of one band, True where a pixel is bad.

    Parameters
    ----------
    parts : sequence of Image
        Non-zero where a pixel is bad, in any band.
    bits : int or None
        The bits that count where a part has integers; all if None.
    shape : tuple of int
        Height and width that the parts must have.

    Raises
    ------
    InputError
        If they do not.
    """

    dtype = np.dtype(np.bool_)

    def __init__(self, parts: Sequence[Image], bits: int | None, shape: tuple[int, int]) -> None:
        self.parts, self.bits = parts, bits
        self.shape = (*shape, 1)
        for part in parts:
            if part.shape[:2] != shape:
                raise InputError(
                    f"a mask must have the height and width of the images, {shape}, got "
                    f"{part.shape[:2]} for {part.name}"
                )

    def read(self, start: int, stop: int) -> Bools:
        """Return rows ``[start, stop)``, (rows, width, 1)."""
        bad = np.zeros((stop - start, *self.shape[1:]), np.bool_)
        for part in self.parts:
            bad |= self._flagged(part.read(start, stop)).any(axis=-1, keepdims=True)
        return bad

    def _flagged(self, values: NDArray[Any]) -> Bools:
        if self.bits is None or values.dtype.kind not in "iu":
            bad: Bools = values != 0  # NaN is bad as well
            return bad
        flagged: Bools = (values.astype(np.int64) & self.bits) != 0
        return flagged

    def identity(self) -> dict[str, Any]:
        """Return what tells this mask from another, as JSON values."""
        return {"bits": self.bits, "parts": [part.identity() for part in self.parts]}

    def store(self, folder: Path) -> dict[str, Any]:
        """Return where other processes find the mask, as JSON values."""
        places = [part.store(folder / f"mask_{k}.npy") for k, part in enumerate(self.parts)]
        return {"bits": self.bits, "parts": places}
