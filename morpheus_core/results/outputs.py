"""Where finished rows go: arrays in memory, or FITS files on disk.

A FITS file grows under the name ``<name>.fits.part`` and is renamed when it is complete, so a file
called ``<name>.fits`` is always whole.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from morpheus_core.errors import OutputError
from morpheus_core.fits.blocks import (
    ImageUnit,
    UnitWriter,
    allocate,
    header_bytes,
    write_all,
    writing,
)
from morpheus_core.storage.file_systems import is_shared
from morpheus_core.storage.names import comes_true
from morpheus_core.storage.resources import Resource

#: Open files, and arrays of numpy or what gives them when it is sliced.
Results = tuple[list[fits.HDUList], list[Any]]


@dataclass(frozen=True, slots=True)
class Product:
    """One output.

    Attributes
    ----------
    name : str
        Its file name without ``.fits``.
    unit : ImageUnit
        What is in the file.
    """

    name: str
    unit: ImageUnit


class MemoryOutputs:
    """Outputs as arrays.

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
            self._arrays = [
                np.empty(product.unit.shape, product.unit.dtype) for product in products
            ]
        except MemoryError as error:
            size = sum(product.unit.data_bytes for product in products)
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
                fits.HDUList([fits.PrimaryHDU(array, product.unit.cards)])
                for array, product in zip(self._arrays, self._products, strict=True)
            ]
        return hduls, self._arrays


class FitsOutputs(Resource):
    """Outputs as FITS files in one directory, under their temporary names.

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

    def seal(self, row_sums: Sequence[Sequence[int]]) -> None:
        """Enter data sums into the headers; the files are complete then.

        Parameters
        ----------
        row_sums : sequence of sequence of int
            Of each product, the sum of each of its ranges of rows.
        """
        for file, sums in zip(self._files, row_sums, strict=True):
            file.seal(sums)


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
        if not path.is_file() and not (path / "zarr.json").is_file():
            raise OutputError(f"{path} is in the way: it is not a file")
        for source in inputs:
            if path.samefile(source):
                raise OutputError(f"the output {path} would replace the input {source}")
        if not overwrite:
            raise OutputError(
                f"{path} exists already; pass overwrite=True to replace it, or another place"
            )


def allocate_files(
    products: Sequence[Product], directory: Path, run: str, reserve: bool = True
) -> None:
    """Make the temporary files of a run at their final size, with their headers.

    Parameters
    ----------
    products, directory, run
        As :class:`FitsOutputs` takes them.
    reserve : bool
        Whether their blocks are reserved, since they will be written for hours.

    Raises
    ------
    OutputError
        If one exists or there is no space for it; none is left then.
    """
    made: list[Path] = []
    try:
        for product in products:
            path = part_path(product, directory)
            header = product.unit.header_block(run)
            with path.open("xb") as file:
                made.append(path)
                size = len(header) + product.unit.padded_bytes
                try:
                    if reserve:
                        allocate(file.fileno(), size)
                    else:
                        os.ftruncate(file.fileno(), size)
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


def refuse_a_small_disk(products: Sequence[Product], directory: Path) -> None:
    """Raise if there is no space for the outputs and, until they are complete, as many rows more.

    Raises
    ------
    OutputError
        If there is less.
    """
    needed = 2 * sum(product.unit.file_bytes() for product in products)
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise OutputError(
            f"{directory} needs {needed / 2**30:.2f} GiB, for the outputs and for rows of strips "
            f"until they are complete, and has {free / 2**30:.2f} GiB"
        )


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
        if part.exists():
            give_name(part, path, overwrite)


def give_name(part: Path, path: Path, overwrite: bool) -> None:
    """Rename a complete file, or a folder that is read like one.

    Raises
    ------
    OutputError
        If another one has appeared under that name meanwhile, or it cannot be given.
    """
    if path.exists() and not overwrite:
        raise OutputError(f"{path} has appeared during the run; the result is {part}")
    try:
        if path.is_dir():  # which is not replaced by renaming another one
            remove_replaced(path)
            path.replace(replaced_path(path))
        part.replace(path)
    except OSError as error:
        raise OutputError(f"{part} cannot be renamed to {path}: {error.strerror}") from error
    remove_replaced(path)


def replaced_path(path: Path) -> Path:
    """Return where a folder is that was just replaced."""
    return path.with_name(f".{path.name}.replaced")


def remove_replaced(path: Path) -> None:
    """Remove a folder that was replaced, perhaps by a process that was killed then."""
    shutil.rmtree(replaced_path(path), ignore_errors=True)


def open_results(products: Sequence[Product], directory: Path) -> Results:
    """Open complete files; their arrays are copy-on-write memory maps, which never change them."""
    hduls = [fits.open(output_path(product, directory), memmap=True) for product in products]
    return hduls, [hdul[0].data for hdul in hduls]


class FitsFile:
    """A FITS file of known shape whose rows are written in any order."""

    def __init__(self, product: Product, directory: Path, run: str) -> None:
        self._path = part_path(product, directory)
        self._descriptor = -1

        def is_ours() -> bool:
            self.close()
            return self._open(run, product.unit.padded_bytes)

        try:
            # Where several machines share it, an older file may answer to the name for a while.
            if not is_ours() and not (
                is_shared(directory) and comes_true(is_ours, str(self._path), directory)
            ):
                raise OutputError(
                    f"{self._path} is not the file that this run has made, or not all of it; put "
                    f"that back, or begin a new run in another out_dir"
                )
        except BaseException:
            self.close()
            raise
        size = os.fstat(self._descriptor).st_size
        data_start = size - product.unit.padded_bytes
        self._writer = UnitWriter(self._path, self._descriptor, product.unit, 0, data_start)

    def _open(self, run: str, padded_bytes: int) -> bool:
        """Open the file, and say whether the run has made it, at its full size."""
        try:
            # Not for reading: a client of NFS that reads what else is in a page writes it back.
            self._descriptor = os.open(self._path, os.O_WRONLY)
        except OSError as error:
            raise OutputError(f"{self._path} cannot be opened: {error.strerror}") from error
        header_size = os.fstat(self._descriptor).st_size - padded_bytes
        try:
            with self._path.open("rb") as file:
                header = fits.Header.fromstring(file.read(header_size))
            return bool(len(header_bytes(header)) == header_size and header["RUNID"] == run)
        except Exception:  # there is no end to what a foreign file may hold
            return False

    def write(self, first: int, block: NDArray[Any]) -> int:
        """Write rows from row `first` on, and return what they add to the data sum."""
        return self._writer.write(first, block)

    def seal(self, row_sums: Sequence[int]) -> None:
        """Enter checksums into the header."""
        self._writer.seal(sum(row_sums), row_sums)
        self.sync()

    def sync(self) -> None:
        """Wait until what was written is on disk."""
        with writing(self._path):
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
