"""Where finished rows go: arrays in memory, or FITS files on disk.

A FITS file grows under the name ``<name>.fits.part`` and is renamed when it is complete, so a file
called ``<name>.fits`` is always whole.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from morpheus_core.errors import MorpheusError, OutputError
from morpheus_core.fits.blocks import (
    ImageUnit,
    place_units,
)
from morpheus_core.storage.names import is_there

#: Open files, and arrays of numpy or what gives them when it is sliced.
Results = tuple[list[fits.HDUList], list[Any]]


@dataclass(frozen=True, slots=True)
class Product:
    """One output.

    Attributes
    ----------
    name : str
        What it is called.
    unit : ImageUnit
        Its image.
    file : str
        The name of its file without ``.fits``, which others may share; its own by default.
    product : str
        What was asked for that it is an image of, perhaps of several.
    """

    name: str
    unit: ImageUnit
    file: str = ""
    product: str = ""

    @property
    def stem(self) -> str:
        """The name of its file without ``.fits``."""
        return self.file or self.name


@contextmanager
def output_errors(directory: Path) -> Iterator[None]:
    """Turn what the file system says of a run into an error of ours."""
    try:
        yield
    except OSError as error:
        if isinstance(error, MorpheusError):
            raise
        place = error.filename or directory
        raise OutputError(f"{place} cannot be read or written: {error.strerror}") from error


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
            self._stacks = [
                np.empty((len(images), *images[0].unit.shape), images[0].unit.dtype)
                for images in by_product(products)
            ]
        except MemoryError as error:
            size = sum(product.unit.data_bytes for product in products)
            raise OutputError(
                f"outputs in memory need {size / 2**30:.1f} GiB, which this machine does not "
                f"have; give out_dir= to write them to disk"
            ) from error
        self._images = [image for stack in self._stacks for image in stack]

    def room(self, first: int, stop: int) -> list[NDArray[Any]]:
        """Return where rows ``[first, stop)`` of each product go."""
        return [image[first:stop] for image in self._images]

    def write(self, first: int, blocks: Sequence[NDArray[Any]]) -> None:
        """Copy rows from output row `first` on, one block per product."""
        for image, block in zip(self._images, blocks, strict=True):
            image[first : first + len(block)] = block

    def results(self) -> Results:
        """Return the arrays, and HDULists over them if they were asked for."""
        arrays = [whole(stack) for stack in self._stacks]
        if not self._as_hduls:
            return [], arrays
        images = iter(self._images)
        return [self._hduls(members, images) for members in by_file(self._products)], arrays

    def _hduls(self, products: Sequence[Product], images: Iterator[NDArray[Any]]) -> fits.HDUList:
        """Return what a file would hold, of the next images."""
        hdus = [] if not products[0].unit.extension else [fits.PrimaryHDU()]
        for product in products:
            kind = fits.ImageHDU if product.unit.extension else fits.PrimaryHDU
            hdus.append(kind(next(images), product.unit.cards))
        return fits.HDUList(hdus)


def by_file(products: Sequence[Product]) -> list[list[Product]]:
    """Return the products of each file."""
    return [list(members) for _, members in groupby(products, lambda product: product.stem)]


def by_product(products: Sequence[Product]) -> list[list[Product]]:
    """Return the images of each product that was asked for; others are one image each."""
    return [
        list(members)
        for _, members in groupby(products, lambda product: product.product or product.name)
    ]


def whole(stack: NDArray[Any]) -> NDArray[Any]:
    """Return images of classes, (classes, height, width), as users get them: classes last."""
    return stack[0] if len(stack) == 1 else np.moveaxis(stack, 0, -1)


def units_of(products: Sequence[Product]) -> list[ImageUnit]:
    """Return all units of a file; extensions follow an empty primary HDU."""
    units = [product.unit for product in products]
    return [ImageUnit((), np.dtype(np.uint8)), *units] if units[0].extension else units


def file_bytes(products: Sequence[Product]) -> int:
    """Return the size of the files."""
    return sum(place_units(units_of(members))[1] for members in by_file(products))


def output_path(product: Product, directory: Path) -> Path:
    """Return where a product is when it is complete."""
    return directory / f"{product.stem}.fits"


def part_path(product: Product, directory: Path) -> Path:
    """Return where a product grows."""
    return directory / f"{product.stem}.fits.part"


def refuse_to_replace(paths: Sequence[Path], inputs: Sequence[Path], overwrite: bool) -> None:
    """Raise if an output would replace an input, or, without `overwrite`, any other file."""
    for path in paths:
        if not is_there(path):
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


def refuse_a_small_disk(products: Sequence[Product], directory: Path) -> None:
    """Raise if there is no space for the outputs and, until they are complete, as many rows more.

    Raises
    ------
    OutputError
        If there is less.
    """
    needed = 2 * file_bytes(products)
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
        if is_there(part):
            give_name(part, path, overwrite)


def give_name(part: Path, path: Path, overwrite: bool) -> None:
    """Rename a complete file, or a folder that is read like one.

    Raises
    ------
    OutputError
        If another one has appeared under that name meanwhile, or it cannot be given.
    """
    if not overwrite and is_there(path):
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
    paths = [output_path(members[0], directory) for members in by_file(products)]
    hduls = [fits.open(path) for path in paths]  # mapped, where pixels are not scaled
    if not products[0].unit.extension:
        return hduls, [hdul[0].data for hdul in hduls]
    pages = np.memmap(paths[0], np.uint8, "c")
    starts = iter([hdu.fileinfo()["datLoc"] for hdu in hduls[0][1:]])
    return hduls, [
        whole(stacked(pages, images[0].unit, [next(starts) for _ in images]))
        for images in by_product(products)
    ]


def stacked(pages: NDArray[np.uint8], unit: ImageUnit, starts: Sequence[int]) -> NDArray[Any]:
    """Return images of a file as one array, (images, height, width), of what is stored.

    Headers of the images of a product are equally long, so one image is as far from the next as
    any other.
    """
    between = starts[1] - starts[0] if len(starts) > 1 else 0
    steps = (between, unit.row_bytes, unit.dtype.itemsize)
    shape = (len(starts), *unit.shape)
    return np.ndarray(shape, unit.dtype.newbyteorder(">"), pages, starts[0], steps)
