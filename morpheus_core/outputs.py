"""Where finished rows go: arrays in memory, or FITS files on disk.

A FITS file grows under the name ``<name>.fits.part`` and is renamed when it is complete, so a file
called ``<name>.fits`` is always whole.
"""

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
from morpheus_core.inputs import FITS_BLOCK
from morpheus_core.resources import Resource

Results = tuple[list[fits.HDUList], list[NDArray[Any]]]


@dataclass(frozen=True, slots=True)
class Product:
    """One output.

    Attributes
    ----------
    name : str
        Its file name without ``.fits``.
    shape : tuple of int
        (height, width, ...), in numpy order.
    header : Header
        World coordinates and whatever else is to be said of it.
    """

    name: str
    shape: tuple[int, ...]
    header: fits.Header = field(default_factory=fits.Header)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of float32 pixels."""
        return 4 * prod(self.shape[1:])

    @property
    def padded_bytes(self) -> int:
        """Bytes of all rows, filled up to whole FITS blocks."""
        return -(-self.row_bytes * self.shape[0] // FITS_BLOCK) * FITS_BLOCK

    def complete_header(self, run: str) -> fits.Header:
        """Return the header at its final size: checksums have their place but no value yet.

        The name of the run stands beside them, so that its files can be told from others.
        """
        header = fits.Header()
        header["SIMPLE"] = (True, "conforms to FITS standard")
        header["BITPIX"] = (-32, "32-bit floating point")
        header["NAXIS"] = len(self.shape)
        for axis, length in enumerate(reversed(self.shape), start=1):
            header[f"NAXIS{axis}"] = length
        header.extend(self.header.cards)
        now = datetime.now(UTC).isoformat(timespec="seconds").removesuffix("+00:00")
        header["DATE"] = (now, "UTC at the start of the run")
        header["CHECKSUM"] = ("0" * 16, "HDU checksum")
        header["DATASUM"] = ("0" * 10, f"of run {run}")
        return header


class MemoryOutputs:
    """Outputs as float32 arrays.

    Parameters
    ----------
    products : sequence of Product
        What to allocate.
    as_hduls : bool
        Whether :meth:`results` also wraps the arrays in HDULists.

    Raises
    ------
    OutputError
        If the memory is not there.
    """

    def __init__(self, products: Sequence[Product], as_hduls: bool) -> None:
        self._products = products
        self._as_hduls = as_hduls
        try:
            self._arrays = [np.empty(product.shape, np.float32) for product in products]
        except MemoryError as error:
            size = sum(product.row_bytes * product.shape[0] for product in products)
            raise OutputError(
                f"outputs in memory need {size / 2**30:.1f} GiB, which this machine does not "
                f"have; give out_dir= to write them to disk"
            ) from error

    def write(self, first: int, blocks: Sequence[NDArray[Any]]) -> None:
        """Copy rows from output row `first` on, one block per product."""
        for array, block in zip(self._arrays, blocks, strict=True):
            array[first : first + len(block)] = block

    def results(self) -> Results:
        """Return the arrays, and HDULists over them if they were asked for."""
        hduls = []
        if self._as_hduls:
            hduls = [
                fits.HDUList([fits.PrimaryHDU(array, product.header)])
                for array, product in zip(self._arrays, self._products, strict=True)
            ]
        return hduls, self._arrays


class FitsOutputs(Resource):
    """Outputs as float32 FITS files in one directory, under their temporary names.

    Several processes may have the same files open and write different rows of them.

    Parameters
    ----------
    products : sequence of Product
        What is in the files, in the order of the blocks that are written.
    directory : Path
        Where they are; :func:`allocate_files` makes them.
    run : str
        The name of the run that they must be of.
    """

    def __init__(self, products: Sequence[Product], directory: Path, run: str) -> None:
        self._files: list[FitsFile] = []
        try:
            for product in products:
                self._files.append(FitsFile(product, directory, run))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()

    def write(self, first: int, blocks: Sequence[NDArray[Any]]) -> list[int]:
        """Write rows to their place in each file and return the data sum of each block."""
        return [file.write(first, block) for file, block in zip(self._files, blocks, strict=True)]

    def sync(self) -> None:
        """Wait until what was written is on disk."""
        for file in self._files:
            file.sync()

    def seal(self, data_sums: Sequence[int]) -> None:
        """Enter the sums over all data into the headers; the files are complete then."""
        for file, data_sum in zip(self._files, data_sums, strict=True):
            file.seal(data_sum)


def output_path(product: Product, directory: Path) -> Path:
    """Return where a product is when it is complete."""
    return directory / f"{product.name}.fits"


def part_path(product: Product, directory: Path) -> Path:
    """Return where a product grows."""
    return directory / f"{product.name}.fits.part"


def refuse_to_replace(paths: Sequence[Path], inputs: Sequence[Path], overwrite: bool) -> None:
    """Raise if an output would replace an input, or, without `overwrite`, any other file."""
    for path in paths:
        if not path.exists():
            continue
        if not path.is_file():
            raise OutputError(f"{path} is in the way: it is no file")
        for source in inputs:
            if path.samefile(source):
                raise OutputError(f"the output {path} would replace the input {source}")
        if not overwrite:
            raise OutputError(
                f"{path} exists already; pass overwrite=True to replace it, or another out_dir"
            )


def allocate_files(products: Sequence[Product], directory: Path, run: str) -> None:
    """Make the temporary files of a run at their final size, with their headers.

    Raises
    ------
    OutputError
        If one exists or there is no space for it; none is left then.
    """
    made: list[Path] = []
    try:
        for product in products:
            path = part_path(product, directory)
            header = product.complete_header(run).tostring(padding=True).encode("ascii")
            with path.open("xb") as file:
                made.append(path)
                size = len(header) + product.padded_bytes
                try:
                    allocate(file.fileno(), size)
                    write_all(file.fileno(), header, 0)
                except OSError as error:
                    raise OutputError(
                        f"{path} needs {size / 2**30:.2f} GiB that cannot be had there: "
                        f"{error.strerror}"
                    ) from error
    except BaseException:
        for path in made:
            path.unlink()
        raise


def publish(products: Sequence[Product], directory: Path, overwrite: bool) -> None:
    """Give complete files their names, the first product last: it is the sign that all is there.

    A file that has its name already, because an earlier run was ended in between, is left alone.

    Raises
    ------
    OutputError
        If a file has appeared under that name meanwhile, or it cannot be given; the complete file
        keeps its temporary name.
    """
    for product in reversed(products):
        part, path = part_path(product, directory), output_path(product, directory)
        if not part.exists():
            continue
        if path.exists() and not overwrite:
            raise OutputError(f"{path} has appeared during the run; the result is {part}")
        try:
            part.replace(path)
        except OSError as error:
            raise OutputError(f"{part} cannot be renamed to {path}: {error.strerror}") from error


def open_results(products: Sequence[Product], directory: Path) -> Results:
    """Open complete files; their arrays are copy-on-write memory maps, which never change them."""
    hduls = [fits.open(output_path(product, directory), memmap=True) for product in products]
    return hduls, [hdul[0].data for hdul in hduls]


class FitsFile:
    """A FITS file of known shape whose rows are written in any order."""

    def __init__(self, product: Product, directory: Path, run: str) -> None:
        self._path = part_path(product, directory)
        self._row_bytes = product.row_bytes
        try:
            self._descriptor = os.open(self._path, os.O_RDWR)
        except OSError as error:
            raise OutputError(f"{self._path} cannot be opened: {error.strerror}") from error
        self._data_start = os.fstat(self._descriptor).st_size - product.padded_bytes
        try:
            self._check(run)
        except BaseException:
            self.close()
            raise

    def _check(self, run: str) -> None:
        """Raise unless this is a file that the run has made, at its full size."""
        try:
            text = os.pread(self._descriptor, self._data_start, 0)
            header = fits.Header.fromstring(text)
            whole = len(header.tostring(padding=True)) == self._data_start
            ours = whole and header.comments["DATASUM"] == f"of run {run}"
        except Exception:  # there is no end to what a foreign file may hold
            ours = False
        if not ours:
            raise OutputError(f"{self._path} is not the file that this run has made; remove it")

    def write(self, first: int, block: NDArray[Any]) -> int:
        """Write rows from row `first` on, and return the sum of their 32-bit words."""
        pixels = np.ascontiguousarray(block, dtype=">f4")
        with self._writing():
            write_all(self._descriptor, pixels.data, self._data_start + first * self._row_bytes)
        return int(pixels.view(">u4").sum(dtype=np.uint64))

    def seal(self, data_sum: int) -> None:
        """Enter checksums into the header, see section 4.4.2.7 of the FITS standard 4.0."""
        header = fits.Header.fromstring(os.pread(self._descriptor, self._data_start, 0))
        data_sum = ones_complement_sum(data_sum)
        header["DATASUM"] = str(data_sum).rjust(10, "0")
        header["CHECKSUM"] = "0" * 16
        words = np.frombuffer(header.tostring(padding=True).encode("ascii"), dtype=">u4")
        total = ones_complement_sum(int(words.sum(dtype=np.uint64)) + data_sum)
        header["CHECKSUM"] = encode_checksum(total)
        with self._writing():
            write_all(self._descriptor, header.tostring(padding=True).encode("ascii"), 0)
        self.sync()

    def sync(self) -> None:
        """Wait until what was written is on disk."""
        with self._writing():
            os.fsync(self._descriptor)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"writing {self._path} failed: {error.strerror}") from error

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def add_data_sums(sums: Sequence[int], more: Sequence[int]) -> list[int]:
    """Add the data sums of other rows, product by product; the order of rows does not matter."""
    return [a + b for a, b in zip(sums, more, strict=True)]


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
