"""Where finished rows go: arrays in memory, or FITS files on disk.

A FITS file grows under the name ``<name>.fits.part`` and is renamed when it is complete, so a file
called ``<name>.fits`` is always whole.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from morpheus_core.errors import OutputError

#: FITS files consist of blocks of this many bytes.
FITS_BLOCK = 2880

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

    def complete_header(self) -> fits.Header:
        """Return the header with the cards that describe the data."""
        header = fits.Header()
        header["SIMPLE"] = (True, "conforms to FITS standard")
        header["BITPIX"] = (-32, "32-bit floating point")
        header["NAXIS"] = len(self.shape)
        for axis, length in enumerate(reversed(self.shape), start=1):
            header[f"NAXIS{axis}"] = length
        header.extend(self.header.cards)
        return header


class Outputs(Protocol):
    """What takes finished rows; used as a context manager that cleans up after a failure."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def write(self, first: int, blocks: Sequence[NDArray[Any]]) -> None:
        """Take rows from output row `first` on, one block per product."""

    def finish(self) -> Results:
        """Return open HDULists and arrays, one per product, once every row was written."""


class MemoryOutputs:
    """Outputs as float32 arrays.

    Parameters
    ----------
    products : sequence of Product
        What to allocate.
    as_hduls : bool
        Whether :meth:`finish` also wraps the arrays in HDULists.

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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def write(self, first: int, blocks: Sequence[NDArray[Any]]) -> None:
        """Copy rows into the arrays."""
        for array, block in zip(self._arrays, blocks, strict=True):
            array[first : first + len(block)] = block

    def finish(self) -> Results:
        """Return the arrays, and HDULists over them if they were asked for."""
        hduls = []
        if self._as_hduls:
            hduls = [
                fits.HDUList([fits.PrimaryHDU(array, product.header)])
                for array, product in zip(self._arrays, self._products, strict=True)
            ]
        return hduls, self._arrays


class FitsOutputs:
    """Outputs as float32 FITS files in one directory.

    Parameters
    ----------
    products : sequence of Product
        What to write; the files appear in reverse order, so the first one is the sign that all
        are complete.
    directory : Path
        Made if it does not exist.
    inputs : sequence of Path
        Files that must never be replaced.
    overwrite : bool
        Whether existing outputs may be replaced, which happens when the new ones are complete.

    Raises
    ------
    OutputError
        If a file is in the way, is an input, or does not fit on the disk.
    """

    def __init__(
        self,
        products: Sequence[Product],
        directory: Path,
        *,
        inputs: Sequence[Path],
        overwrite: bool,
    ) -> None:
        self._products = products
        paths = [directory / f"{product.name}.fits" for product in products]
        refuse_to_replace(paths, inputs, overwrite)
        self._files: list[FitsFile] = []
        try:
            directory.mkdir(parents=True, exist_ok=True)
            for path, product in zip(paths, products, strict=True):
                self._files.append(FitsFile(path, product))
        except OSError as error:
            self._abandon()
            if isinstance(error, OutputError):
                raise
            raise OutputError(f"cannot write outputs to {directory}: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._abandon()

    def _abandon(self) -> None:
        for file in self._files:
            file.abandon()

    def write(self, first: int, blocks: Sequence[NDArray[Any]]) -> None:
        """Write rows to their place in each file."""
        for file, block in zip(self._files, blocks, strict=True):
            file.write(first, block)

    def finish(self) -> Results:
        """Give the files their names, the first product last, and open them."""
        for file in reversed(self._files):
            file.finish()
        # The default mode maps copy-on-write: changing an array never changes the file.
        hduls = [fits.open(file.path, memmap=True) for file in self._files]
        return hduls, [hdul[0].data for hdul in hduls]


def refuse_to_replace(paths: Sequence[Path], inputs: Sequence[Path], overwrite: bool) -> None:
    """Raise if an output would replace an input, or, without `overwrite`, any other file."""
    for path in paths:
        if not path.exists():
            continue
        for source in inputs:
            if path.samefile(source):
                raise OutputError(f"the output {path} would replace the input {source}")
        if not overwrite:
            raise OutputError(
                f"{path} exists already; pass overwrite=True to replace it, or another out_dir"
            )


class FitsFile:
    """A FITS file of known shape that is written row by row."""

    def __init__(self, path: Path, product: Product) -> None:
        self.path = path
        self._part = path.with_name(path.name + ".part")
        self._row_bytes = product.row_bytes
        header = product.complete_header().tostring(padding=True).encode("ascii")
        self._data_start = len(header)
        data_bytes = product.row_bytes * product.shape[0]
        size = len(header) + -(-data_bytes // FITS_BLOCK) * FITS_BLOCK
        try:
            self._descriptor: int | None = os.open(
                self._part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666
            )
        except FileExistsError as error:
            raise OutputError(
                f"{self._part} is in the way: another run is writing it, or one was killed; "
                f"remove it or pass another out_dir"
            ) from error
        try:
            allocate(self._descriptor, size)
            write_all(self._descriptor, header, 0)
        except OSError as error:
            self.abandon()
            raise OutputError(
                f"{self.path} needs {size / 2**30:.2f} GiB that cannot be had there: "
                f"{error.strerror}"
            ) from error

    def write(self, first: int, block: NDArray[Any]) -> None:
        """Write rows from row `first` on."""
        assert self._descriptor is not None
        pixels = np.ascontiguousarray(block, dtype=">f4")
        try:
            write_all(self._descriptor, pixels.data, self._data_start + first * self._row_bytes)
        except OSError as error:
            raise OutputError(f"writing {self._part} failed: {error.strerror}") from error

    def finish(self) -> None:
        """Make sure that the file is on disk, then give it its name."""
        assert self._descriptor is not None
        os.fsync(self._descriptor)
        self._close()
        self._part.replace(self.path)

    def abandon(self) -> None:
        """Remove a file that was not finished."""
        if self._descriptor is not None:
            self._close()
            self._part.unlink()

    def _close(self) -> None:
        assert self._descriptor is not None
        os.close(self._descriptor)
        self._descriptor = None


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
