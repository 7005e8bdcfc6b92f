"""The images in files of outputs, of whatever kind, read a few rows at a time."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from morpheus_core.errors import InputError
from morpheus_core.extras import require_package
from morpheus_core.images.row_blocks import RowBlocks

#: What the names of files of outputs end in.
PLAIN, TILES, STORE = ENDINGS = (".fits", ".fits.fz", ".zarr")
#: The metadata of a group or an array of Zarr.
METADATA = "zarr.json"


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image in a file of outputs.

    Attributes
    ----------
    shape : tuple of int
        (height, width), and whatever follows.
    header : Header
        As in a plain FITS file.
    rows : Section or Rows
        Gives rows for a slice of them.
    """

    shape: tuple[int, ...]
    header: fits.Header
    rows: Any


class Rows:
    """Rows of an image that is stored in tiles or chunks, which are kept while they are read.

    Parameters
    ----------
    load : callable
        Returns rows ``[start, stop)``.
    height, chunk_rows : int
        Rows of the image, and of one chunk.
    """

    def __init__(
        self, load: Callable[[int, int], NDArray[Any]], height: int, chunk_rows: int
    ) -> None:
        edges = np.append(np.arange(0, height, chunk_rows), height)
        self._height, self._blocks = height, RowBlocks(load, edges)

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        start, stop, _ = rows.indices(self._height)
        return self._blocks.read(start, stop)


def ending_of(path: Path) -> str:
    """Return what a name of a file of outputs ends in, also of one that grows."""
    name = path.name.removesuffix(".part")
    return max((ending for ending in ENDINGS if name.endswith(ending)), key=len)


def stored_at(directory: Path, name: str) -> list[Path]:
    """Return the files of an output that are there, of whatever kind."""
    paths = [directory / f"{name}{ending}" for ending in ENDINGS]
    return [path for path in paths if path.exists()]


def open_images(
    path: Path, opened: ExitStack, scattered: bool = False, scaled: bool = True
) -> list[StoredImage]:
    """Open the images in a file of outputs.

    Parameters
    ----------
    path : Path
        The file.
    opened : ExitStack
        Closes it.
    scattered : bool
        Whether rows will be read that are far apart.
    scaled : bool
        Whether stored numbers become what they stand for.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    if ending_of(path) == STORE:
        return [image_of_array(array) for array in arrays_in(path)]
    try:
        file = opened.enter_context(path.open("rb"))
        if scattered and hasattr(os, "posix_fadvise"):
            # Or the system reads on after each row, which may amount to the whole file.
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is damaged shows when it is read
            # Without a memory map: its pages would count as memory of this process.
            kept = not scaled
            hdus = fits.open(file, memmap=False, do_not_scale_image_data=kept)
            opened.callback(hdus.close)
            return [image_of_hdu(hdu) for hdu in hdus if hdu.shape]
    except Exception as error:  # damaged headers raise half a dozen different classes
        raise InputError(f"{path} cannot be read as FITS: {error}") from error


def image_of_hdu(hdu: Any) -> StoredImage:
    """Return the image in an HDU."""
    rows = hdu.section
    if isinstance(hdu, fits.CompImageHDU):
        section = hdu.section
        rows = Rows(lambda start, stop: section[start:stop], hdu.shape[0], hdu.tile_shape[0])
    return StoredImage(tuple(hdu.shape), hdu.header, rows)


def image_of_array(array: Any) -> StoredImage:
    """Return the image in an array of Zarr."""
    rows = Rows(lambda start, stop: array[start:stop], array.shape[0], array.chunks[0])
    return StoredImage(tuple(array.shape), header_of(array.attrs["header"]), rows)


def rows_of(array: Any) -> Any:
    """Return what gives rows of an array of numpy or Zarr, or of the section of an HDU."""
    return image_of_array(array).rows if hasattr(array, "chunks") else array


def header_beside(array: Any) -> fits.Header:
    """Return the header of an array without an HDU, which those of Zarr have."""
    return header_of(getattr(array, "attrs", {}).get("header", []))


def header_of(lines: Sequence[str]) -> fits.Header:
    """Return the header whose cards are in the attributes of an array."""
    return fits.Header.fromstring("\n".join(lines), sep="\n")


def arrays_in(path: Path) -> list[Any]:
    """Return the arrays in a store, in the order in which they were written.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    group = open_store(path)
    try:
        return [group[name] for name in group.attrs["sha256"]]
    except Exception as error:  # there is no end to what damaged metadata lead to
        raise InputError(f"{path} cannot be read as Zarr: {error}") from error


def open_store(path: Path) -> Any:
    """Return the group in a store, which has a checksum of the metadata of each array.

    Raises
    ------
    InputError
        If it cannot be read.
    MissingPackageError
        If Zarr is not there.
    """
    require_package("zarr", "zarr", f"reading {path}")
    import zarr

    try:
        group = zarr.open_group(path, mode="r")
        if not isinstance(group.attrs["sha256"], dict):
            raise ValueError("it has no checksums of its arrays")
    except Exception as error:  # as above
        raise InputError(f"{path} cannot be read as Zarr: {error}") from error
    return group
