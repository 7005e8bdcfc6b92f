"""FITS files as bytes: blocks, headers of a fixed size, rows at their place, checksums."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from morpheus_core.errors import OutputError

#: FITS files consist of blocks of this many bytes.
FITS_BLOCK = 2880

#: and headers of cards of this many characters.
CARD = 80

#: Into how many ranges rows are cut at most whose data sums a header has.
ROW_RANGES = 32

#: Bytes that the system is asked to copy at once, and those that are read where it cannot.
COPIED_BYTES, READ_BYTES = 1 << 26, 1 << 20
#: What a system says that cannot copy between two files.
CANNOT_COPY = (errno.ENOSYS, errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.EPERM)

BITPIX = {"u1": 8, "i2": 16, "i4": 32, "i8": 64, "f4": -32, "f8": -64}


@dataclass(frozen=True, slots=True)
class ImageUnit:
    """One image of a FITS file that is to be written: a header and data unit.

    Attributes
    ----------
    shape : tuple of int
        (height, width, ...), in numpy order; empty for a primary HDU without data.
    dtype : dtype
        Of the pixels.
    cards : Header
        What is to be said of it, besides its shape.
    extension : bool
        Whether it follows other HDUs in its file.
    summed : bool
        Whether its header has the data sums of ranges of rows, besides that of all.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.float32))
    cards: fits.Header = field(default_factory=fits.Header)
    extension: bool = False
    summed: bool = False

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of pixels."""
        return self.dtype.itemsize * prod(self.shape[1:])

    @property
    def data_bytes(self) -> int:
        """Bytes of all rows."""
        return self.row_bytes * self.shape[0] if self.shape else 0

    @property
    def padded_bytes(self) -> int:
        """Bytes of all rows, filled up to whole FITS blocks."""
        return -(-self.data_bytes // FITS_BLOCK) * FITS_BLOCK

    def header(self, run: str = "") -> fits.Header:
        """Return the header at its final size: checksums have their place but no value yet.

        The name of the run that makes it, if any, tells its files from others.
        """
        header = fits.Header()
        if self.extension:
            header["XTENSION"] = ("IMAGE", "image extension")
        else:
            header["SIMPLE"] = (True, "conforms to FITS standard")
        header["BITPIX"] = (BITPIX[self.dtype.str[1:]], "bits per pixel, negative for floats")
        header["NAXIS"] = len(self.shape)
        for axis, length in enumerate(reversed(self.shape), start=1):
            header[f"NAXIS{axis}"] = length
        if self.extension:
            header["PCOUNT"], header["GCOUNT"] = 0, 1
        elif not self.shape:  # astropy shows this card where the file has none; others need it
            header["EXTEND"] = (True, "images follow")
        header.extend(self.cards.cards, strip=False)  # or astropy leaves out BSCALE
        if any(len(card.image) > CARD for card in header.cards):
            header["LONGSTRN"] = ("OGIP 1.0", "some strings go on in CONTINUE cards")
        if run:
            header["RUNID"] = (run, "the run that made this file")
        now = datetime.now(UTC).isoformat(timespec="seconds").removesuffix("+00:00")
        header["DATE"] = (now, "UTC at the start of the run")
        for index in range(len(row_ranges(self.shape[0])) if self.summed else 0):
            header[row_sum_key(index)] = ("", "rows, and their data sum")
        header["CHECKSUM"] = ("0" * 16, "HDU checksum")
        header["DATASUM"] = ("0" * 10, "data checksum")
        return header

    def header_block(self, run: str = "") -> bytes:
        """Return the header as the bytes of whole blocks."""
        return header_bytes(self.header(run))

    def file_bytes(self) -> int:
        """Return the size of a file that holds nothing else."""
        return len(self.header_block("")) + self.padded_bytes


class UnitWriter:
    """Writes the rows of one HDU to their place in an open file, in any order.

    Parameters
    ----------
    path, descriptor
        The file, which is open for writing.
    unit : ImageUnit
        What is written.
    header_start, data_start : int
        Where the unit's header and data begin in the file.
    """

    def __init__(
        self, path: Path, descriptor: int, unit: ImageUnit, header_start: int, data_start: int
    ) -> None:
        self._path, self._descriptor = path, descriptor
        self._row_bytes, self._height = unit.row_bytes, unit.shape[0] if unit.shape else 0
        self._summed = unit.summed
        self._big_endian = unit.dtype.newbyteorder(">")
        #: Where the header begins in the file.
        self.start = header_start
        self._data_start = data_start

    def write(self, first: int, block: NDArray[Any]) -> int:
        """Write rows from row `first` on, and return what they add to the data sum."""
        return self.write_at(first * self._row_bytes, block)

    def write_at(self, offset: int, block: NDArray[Any]) -> int:
        """Write pixels from byte `offset` of the data on, and return what they add to the sum."""
        pixels = np.ascontiguousarray(block, dtype=self._big_endian)
        with writing(self._path):
            write_all(self._descriptor, pixels.data, self._data_start + offset)
        return sum_of_words(pixels, offset)

    def copy(self, first: int, count: int, source: int, start: int) -> bool:
        """Copy rows from row `first` on from byte `start` of another file.

        Returns
        -------
        bool
            Whether that has as many bytes.
        """
        size, place = count * self._row_bytes, self._data_start + first * self._row_bytes
        with writing(self._path):
            return copy_all(source, start, self._descriptor, place, size) == size

    def seal(self, data_sum: int, row_sums: Sequence[int] = ()) -> None:
        """Enter checksums into the header.

        Parameters
        ----------
        data_sum : int
            Of all data.
        row_sums : sequence of int
            Of each range of rows, if the unit's header is to have them.
        """
        with self._path.open("rb") as file:
            file.seek(self.start)
            header = fits.Header.fromstring(file.read(self._data_start - self.start))
        for index, row_sum in enumerate(row_sums if self._summed else ()):
            first, stop = row_ranges(self._height)[index]
            header[row_sum_key(index)] = f"{first}-{stop - 1} {ones_complement_sum(row_sum)}"
        with writing(self._path):
            write_all(self._descriptor, sealed(header, data_sum), self.start)


def place_units(
    units: Sequence[ImageUnit], run: str = "", end: int = 0
) -> tuple[list[tuple[bytes, int]], int]:
    """Return the header of each unit and where it begins, from byte `end` of a file on.

    Returns
    -------
    list of tuple of bytes and int
        Headers and places.
    int
        Where the last unit ends.
    """
    headers = []
    for unit in units:
        header = unit.header_block(run)
        headers.append((header, end))
        end += len(header) + unit.padded_bytes
    return headers, end


def row_ranges(height: int) -> list[tuple[int, int]]:
    """Return the ranges of rows, ``[first, stop)``, of which a header has data sums."""
    count = min(ROW_RANGES, height)
    return [(height * k // count, height * (k + 1) // count) for k in range(count)]


def row_sum_key(index: int) -> str:
    """Return the keyword of the data sum of a range of rows."""
    return f"ROWSUM{index}"


def header_bytes(header: fits.Header) -> bytes:
    """Return a header as the bytes of whole blocks."""
    text: str = header.tostring(padding=True)
    return text.encode("ascii")


def sealed(header: fits.Header, data_sum: int) -> bytes:
    """Return a header, as bytes, with the sum of its data and then its checksum in their places.

    See section 4.4.2.7 of the FITS standard 4.0.
    """
    complete = header.copy()
    data_sum = ones_complement_sum(data_sum)
    complete["DATASUM"] = str(data_sum).rjust(10, "0")
    complete["CHECKSUM"] = "0" * 16
    words = np.frombuffer(header_bytes(complete), dtype=">u4")
    total = ones_complement_sum(int(words.sum(dtype=np.uint64)) + data_sum)
    complete["CHECKSUM"] = encode_checksum(total)
    return header_bytes(complete)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the file system says while a file is written into an error of ours."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"writing {path} failed: {error.strerror}") from error


def sum_of_words(pixels: NDArray[Any], offset: int) -> int:
    """Add up the 32-bit words of contiguous data that begin `offset` bytes behind a word."""
    data = pixels.reshape(-1).view(np.uint8)
    before, after = offset % 4, -(offset + len(data)) % 4
    if before or after:
        data = np.pad(data, (before, after))
    return int(data.view(">u4").sum(dtype=np.uint64))


def ones_complement_sum(total: int) -> int:
    """Fold a sum of 32-bit words to 32 bits, adding what overflows to the lowest bit."""
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def encode_checksum(total: int) -> str:
    """Encode the complement of a 32-bit sum as 16 ASCII letters and digits.

    See appendix J of the FITS standard 4.0: each byte becomes four characters that add up to it,
    offset by ``"0"``; pairs of characters are moved apart until none is punctuation; and the
    string is rotated by one place, since a card's value starts one byte off a word.
    """
    offset = ord("0")
    columns = []
    for byte in (~total & 0xFFFFFFFF).to_bytes(4, "big"):
        quotient, remainder = divmod(byte, 4)
        characters = [quotient + remainder + offset, *[quotient + offset] * 3]
        for pair in (0, 2):
            while not (chr(characters[pair]) + chr(characters[pair + 1])).isalnum():
                characters[pair] += 1
                characters[pair + 1] -= 1
        columns.append(characters)
    text = "".join(chr(columns[byte][place]) for place in range(4) for byte in range(4))
    return text[-1] + text[:-1]


def allocate(descriptor: int, size: int) -> None:
    """Reserve the blocks of a file on disk, so that a full disk shows now and not hours later.

    Raises
    ------
    OSError
        If there is not enough space.
    """
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
            return
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
    if shutil.disk_usage(descriptor).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.ftruncate(descriptor, size)


def write_all(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """Write at an offset; a single call may write only part of it."""
    view = memoryview(data).cast("B")
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def copy_all(source: int, start: int, descriptor: int, place: int, size: int) -> int:
    """Copy a range of a file to another file, and return how many bytes there were.

    The system does it where it can, which hands no bytes to this process; a server of NFS 4.2 or
    of CIFS sends none to this machine.
    """
    copied = 0
    while copied < size:
        count = copy_some(source, start + copied, descriptor, place + copied, size - copied)
        if not count:
            break
        copied += count
    return copied


def copy_some(source: int, start: int, descriptor: int, place: int, size: int) -> int:
    """Copy the first bytes of a range, and return how many; 0 at the end of the file."""
    count = 0
    if hasattr(os, "copy_file_range"):
        try:
            count = os.copy_file_range(source, descriptor, min(size, COPIED_BYTES), start, place)
        except OSError as error:
            if error.errno not in CANNOT_COPY:
                raise
    if not count:  # some systems say so too where they cannot
        data = os.pread(source, min(size, READ_BYTES), start)
        write_all(descriptor, data, place)
        count = len(data)
    return count


def same_sum(first: int, second: int) -> bool:
    """Say whether two sums of words are the same in a FITS file; those of nothing are 0."""
    most = 0xFFFFFFFF
    return (ones_complement_sum(first) - ones_complement_sum(second)) % most == 0


def add_data_sums(sums: Sequence[int], more: Sequence[int]) -> list[int]:
    """Add the data sums of other rows, product by product; the order of rows does not matter."""
    return [a + b for a, b in zip(sums, more, strict=True)]
