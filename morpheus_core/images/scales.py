"""What the stored numbers of FITS images stand for: BSCALE, BZERO and BLANK.

They become what astropy makes of them, but for two things that it leaves out: pixels of ``BLANK =
0``, and blank pixels of unsigned integers, are NaN as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

#: The type of what scaled integers become, by their bits: it holds all values exactly.
FLOATS = {8: np.float32, 16: np.float32, 32: np.float64, 64: np.float64}


@dataclass(frozen=True, slots=True)
class Reading:
    """How stored numbers are read; by default as `astropy.io.fits.open` does.

    Attributes
    ----------
    scaled : bool
        Whether BSCALE and BZERO apply; not with ``do_not_scale_image_data=True``.
    unsigned : bool
        Whether integers that are moved by half their range stay integers; ``uint=True``.
    blank : bool
        Whether pixels of the value BLANK become NaN; not with ``ignore_blank=True``.
    """

    scaled: bool = True
    unsigned: bool = True
    blank: bool = True

    @classmethod
    def of(cls, hdu: Any) -> Self:
        """Return how the user opened an HDU, which astropy keeps to itself."""
        # astropy also forgets a card that is no whole number, such as -32768.0.
        card = hdu.header.get("BLANK")
        ignored = isinstance(card, int) and getattr(hdu, "_blank", None) is None
        return cls(
            scaled=not getattr(hdu, "_do_not_scale_image_data", False),
            unsigned=bool(getattr(hdu, "_uint", True)),
            blank=not ignored,
        )


@dataclass(frozen=True, slots=True)
class Scale:
    """Turns stored numbers into what they stand for.

    Attributes
    ----------
    bits : int
        BITPIX; negative for floats.
    factor, offset : float
        BSCALE and BZERO.
    blank : int or None
        The stored number of pixels without a value.
    unsigned : bool
        Whether integers that are moved by half their range stay integers.
    """

    bits: int
    factor: float = 1
    offset: float = 0
    blank: int | None = None
    unsigned: bool = True

    @classmethod
    def of(cls, header: fits.Header, reading: Reading) -> Self:
        """Return what the cards of an image say."""
        bits = last_value(header, "BITPIX", 0)
        if not reading.scaled:
            return cls(bits)
        blank = blank_of(header) if reading.blank and bits > 0 else None
        factor, offset = last_value(header, "BSCALE", 1), last_value(header, "BZERO", 0)
        return cls(bits, factor, offset, blank, reading.unsigned)

    def __call__(self, stored: NDArray[Any]) -> NDArray[Any]:
        """Return pixels."""
        if self.blank is None:
            if (self.factor, self.offset) == (1, 0):
                return stored
            if self.is_moved_by_half and self.unsigned:
                return moved_by_half(stored)
        pixels = stored.astype(FLOATS.get(self.bits, stored.dtype))
        if self.factor != 1:
            np.multiply(pixels, self.factor, pixels)
        if self.offset != 0:
            pixels += self.offset
        if self.blank is not None:
            pixels[stored == self.blank] = np.nan
        return pixels

    @property
    def is_moved_by_half(self) -> bool:
        """Whether these are integers of the other kind, with a sign or without."""
        half = -128 if self.bits == 8 else 1 << abs(self.bits) - 1
        return self.bits > 0 and self.factor == 1 and self.offset == half


def blank_of(header: fits.Header) -> int | None:
    """Return the stored number of pixels without a value, if a header tells a whole one.

    As for CFITSIO, ``-32768.0`` and ``'-32768'`` are whole numbers.
    """
    blank = last_value(header, "BLANK", None)
    if isinstance(blank, int):
        return None if isinstance(blank, bool) else blank
    try:
        return int(float(blank)) if float(blank).is_integer() else None
    except (TypeError, ValueError):
        return None


def last_value(header: fits.Header, key: str, default: Any) -> Any:
    """Return the value of a card; of cards that stand there twice astropy takes the last."""
    count = header.count(key) if key in header else 0
    return header[key, count - 1] if count else default


def moved_by_half(stored: NDArray[Any]) -> NDArray[Any]:
    """Return integers of the other kind: all bits stay, but the first one turns."""
    bits = 8 * stored.dtype.itemsize
    native = stored.astype(stored.dtype.newbyteorder("="))
    turned = native.view(f"u{bits // 8}") ^ np.array(1 << (bits - 1), f"u{bits // 8}")
    return np.asarray(turned.view("i1") if bits == 8 else turned)


def loaded_pixels(hdu: Any, reading: Reading) -> NDArray[Any]:
    """Return the data of an HDU that are in memory; where BLANK was left out, it becomes NaN.

    Parameters
    ----------
    hdu : HDU
        Made in memory, or read already: then astropy has scaled its data.
    reading : Reading
        How it was opened.
    """
    pixels: NDArray[Any] = hdu.data
    blank = blank_of(hdu.header)
    if blank is None:  # astropy removes the card with those that it has applied
        blank = getattr(hdu, "_orig_blank", None)
    if blank is None or not (reading.blank and reading.scaled):
        return pixels
    kind, bits = pixels.dtype.kind, 8 * pixels.dtype.itemsize
    if kind in "iu":
        half = -128 if pixels.dtype == np.int8 else (1 << bits - 1) * (kind == "u" and bits > 8)
        found = pixels == blank + half
        pixels = pixels.astype(FLOATS[bits])
    elif getattr(hdu, "_orig_bitpix", -1) > 0:
        pixels = pixels.copy()
        scale, zero = getattr(hdu, "_orig_bscale", 1), getattr(hdu, "_orig_bzero", 0)
        found = pixels == np.asarray(blank, pixels.dtype) * pixels.dtype.type(scale) + zero
    else:
        return pixels
    pixels[found] = np.nan
    return pixels
