"""Outputs on disk while they grow: FITS files whose rows are written in any order."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from astropy.io import fits
from numpy.typing import NDArray

from morpheus_core.errors import OutputError
from morpheus_core.fits.blocks import (
    ImageUnit,
    UnitWriter,
    allocate,
    place_units,
    write_all,
    writing,
)
from morpheus_core.results.outputs import Product, by_file, part_path, units_of
from morpheus_core.storage.file_systems import is_shared
from morpheus_core.storage.names import comes_true
from morpheus_core.storage.resources import Resource


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
            for members in by_file(products):
                self._files.append(FitsFile(members, directory, run))
        except BaseException:
            self.close()
            raise
        self._writers = [writer for file in self._files for writer in file.writers]

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()

    def write(self, first: int, blocks: Sequence[NDArray[Any]]) -> list[int]:
        """Write rows to their place in each file and return the data sum of each block."""
        return [
            writer.write(first, block) for writer, block in zip(self._writers, blocks, strict=True)
        ]

    def copy(self, index: int, first: int, count: int, source: int, start: int) -> bool:
        """Copy rows of a product, as :meth:`UnitWriter.copy` does."""
        return self._writers[index].copy(first, count, source, start)

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
        for writer, sums in zip(self._writers, row_sums, strict=True):
            writer.seal(sum(sums), sums)
        for file in self._files:
            file.seal()


class FitsFile:
    """A FITS file of images of known shapes whose rows are written in any order."""

    def __init__(self, products: Sequence[Product], directory: Path, run: str) -> None:
        self._path = part_path(products[0], directory)
        self._descriptor = -1
        units = units_of(products)
        starts: list[tuple[int, int]] = []

        def is_ours() -> bool:
            self.close()
            starts[:] = self._open(run, units)
            return len(starts) == len(units)

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
        self._all_writers = [
            UnitWriter(self._path, self._descriptor, unit, *start)
            for unit, start in zip(units, starts, strict=True)
        ]
        #: One per product.
        self.writers = self._all_writers[-len(products) :]

    def _open(self, run: str, units: Sequence[ImageUnit]) -> list[tuple[int, int]]:
        """Open the file, and return where headers and data begin, if the run has made it whole."""
        try:
            # Not for reading: a client of NFS that reads what else is in a page writes it back.
            self._descriptor = os.open(self._path, os.O_WRONLY)
        except OSError as error:
            raise OutputError(f"{self._path} cannot be opened: {error.strerror}") from error
        starts, end = [], 0
        try:
            with self._path.open("rb") as file:
                for unit in units:
                    file.seek(end)
                    if fits.Header.fromfile(file)["RUNID"] != run:
                        return []
                    starts.append((end, file.tell()))
                    end = file.tell() + unit.padded_bytes
        except Exception as error:  # there is no end to what a foreign file may hold
            if isinstance(error, OSError) and error.errno is not None:  # the disk or the server
                raise
            return []
        return starts if end == os.fstat(self._descriptor).st_size else []

    def seal(self) -> None:
        """Enter the checksum of an empty primary HDU, and wait until all is on disk."""
        for writer in self._all_writers[: -len(self.writers)]:
            writer.seal(0)
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
        for members in by_file(products):
            path = part_path(members[0], directory)
            headers, size = place_units(units_of(members), run)
            with path.open("xb") as file:
                made.append(path)
                try:
                    if reserve:
                        allocate(file.fileno(), size)
                    else:
                        os.ftruncate(file.fileno(), size)
                    for header, start in headers:
                        write_all(file.fileno(), header, start)
                except OSError as error:
                    raise OutputError(
                        f"{path} needs {size / 2**30:.2f} GiB that cannot be had there: "
                        f"{error.strerror}"
                    ) from error
    except BaseException:
        for path in made:
            path.unlink()
        raise
