"""The units of a FITS file, headers and data, as they are stored."""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from morpheus_core.fits.blocks import BITPIX, CARD, FITS_BLOCK

#: Types of stored numbers, by what headers call them.
DTYPES = {bits: np.dtype(f">{kind}") for kind, bits in BITPIX.items()}
#: The end of a header is one of its cards.
END = b"END" + b" " * (CARD - 3)


@dataclass(frozen=True, slots=True)
class Unit:
    """A header and its data, which is an image or nothing.

    Attributes
    ----------
    path : Path
        The file.
    header : Header
        To the letter.
    data_start : int
        Where the data begin in the file.
    shape : tuple of int
        (height, width, ...); empty where there are no data.
    dtype : dtype
        Of the stored numbers.
    """

    path: Path
    header: fits.Header
    data_start: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.dtype.itemsize * prod(self.shape[1:])

    @property
    def stop(self) -> int:
        """Where its last block ends in the file."""
        size = self.row_bytes * self.shape[0] if self.shape else 0
        return self.data_start + -(-size // FITS_BLOCK) * FITS_BLOCK

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return rows ``[start, stop)`` of stored numbers."""
        count = (stop - start) * prod(self.shape[1:])
        offset = self.data_start + start * self.row_bytes
        numbers: NDArray[Any] = np.fromfile(self.path, self.dtype, count, offset=offset)
        return numbers.reshape(stop - start, *self.shape[1:])

    def cut(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Return a part of all rows and columns, in native byte order."""
        # A map that is soon gone, and with it its pages: few bytes of each row may be wanted.
        pixels = np.memmap(self.path, self.dtype, "r", self.data_start, self.shape)
        return pixels[rows, columns].astype(self.dtype.newbyteorder("="))


def units_of(path: Path) -> list[Unit]:
    """Return the units of a file that holds images and nothing else, one extension perhaps."""
    units: list[Unit] = []
    with path.open("rb") as file:
        size, start = os.fstat(file.fileno()).st_size, 0
        while start < size:
            block = read_header(file.fileno(), start)
            header = fits.Header.fromstring(block)
            axes = range(header["NAXIS"], 0, -1)
            shape = tuple(header[f"NAXIS{axis}"] for axis in axes)
            units.append(Unit(path, header, start + len(block), shape, DTYPES[header["BITPIX"]]))
            start = units[-1].stop
    return units


def read_header(descriptor: int, start: int) -> bytes:
    """Return the blocks of a header; those of a file that ends too early are an `EOFError`."""
    blocks = b""
    while True:
        block = os.pread(descriptor, FITS_BLOCK, start + len(blocks))
        if len(block) < FITS_BLOCK:
            raise EOFError
        blocks += block
        if any(block[card : card + CARD] == END for card in range(0, FITS_BLOCK, CARD)):
            return blocks
