"""Outputs as tile-compressed FITS files, of which nothing is lost."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from astropy.io import fits

from morpheus_core.errors import OutputError
from morpheus_core.fits.blocks import (
    FITS_BLOCK,
    ImageUnit,
    header_bytes,
    same_sum,
    sealed,
    sum_of_words,
    write_all,
    writing,
)
from morpheus_core.fits.tiles import compressed_header, packed_tiles, rows_of_a_tile
from morpheus_core.fits.units import Unit, units_of
from morpheus_core.parallel.devices import available_cores
from morpheus_core.results.image_files import new_file

#: Bytes of rows that a thread packs at once, if one tile has not more.
BLOCK_BYTES = 4 << 20
#: Blocks that wait to be written, for each thread.
WAITING = 2

S = TypeVar("S")
T = TypeVar("T")


def make_tile_file(plain: Path, part: Path) -> None:
    """Make a tile-compressed file of the images of a plain one, in extensions of the same order.

    A table, as which an image is stored then, is never the first unit.

    Parameters
    ----------
    plain : Path
        A complete file.
    part : Path
        What is made; it is not there afterwards if that fails.

    Raises
    ------
    OutputError
        If it cannot be written, or the plain one has not the data sums that it should have.
    """
    with new_file(part, overwrite=True) as descriptor:
        append_tiles(part, descriptor, plain)
        with writing(part):
            os.fsync(descriptor)


def append_tiles(path: Path, descriptor: int, plain: Path) -> list[int]:
    """Write the images of another file behind what a file holds, and return where units begin.

    Behind nothing an empty primary HDU comes first.
    """
    units = units_of(plain)
    end = os.fstat(descriptor).st_size
    if end == 0 and units[0].shape:
        end = write_header(path, descriptor, 0, ImageUnit(()).header())
    starts = []
    for unit in units:
        starts.append(end)
        if unit.shape:
            end = write_tiles(path, descriptor, end, unit)
        else:
            end = write_header(path, descriptor, end, unit.header)
    return starts


def write_header(path: Path, descriptor: int, start: int, header: fits.Header) -> int:
    """Write the header of a unit without data, and return where it ends."""
    block = sealed(header, 0)
    with writing(path):
        write_all(descriptor, block, start)
    return start + len(block)


def write_tiles(path: Path, descriptor: int, start: int, unit: Unit) -> int:
    """Write an image in tiles, and return where its unit ends."""
    rows = rows_of_a_tile(unit.shape, unit.dtype)
    tile = (rows, *unit.shape[1:])
    count = -(-unit.shape[0] // rows)
    header_size = len(header_bytes(compressed_header(unit.header, tile, unit.dtype, [0] * count)))
    table = start + header_size
    sizes: list[int] = []
    heap, data_sum, pixel_sum = 16 * count, 0, 0
    for block in in_order(lambda first: packed(unit, rows, first), range(0, count, step(unit))):
        pixel_sum += block.pixel_sum
        for content in block.tiles:
            with writing(path):
                write_all(descriptor, content, table + heap)
            data_sum += sum_of_words(np.frombuffer(content, np.uint8), heap)
            heap += len(content)
            sizes.append(len(content))
    if not same_sum(pixel_sum, int(unit.header["DATASUM"])):
        raise OutputError(
            f"{unit.path} does not read back as it was computed; begin a new run, on another file "
            f"system than that of {unit.path.parent}"
        )
    descriptors = np.empty((count, 2), ">i8")
    descriptors[:, 0] = sizes
    descriptors[:, 1] = np.cumsum([0, *sizes[:-1]])
    data_sum += sum_of_words(descriptors, 0)
    header = compressed_header(unit.header, tile, unit.dtype, sizes)
    end = table + -(-heap // FITS_BLOCK) * FITS_BLOCK
    with writing(path):
        os.ftruncate(descriptor, end)
        write_all(descriptor, descriptors.data, table)
        write_all(descriptor, sealed(header, data_sum), start)
    return end


def step(unit: Unit) -> int:
    """Return how many tiles are packed at once."""
    rows = rows_of_a_tile(unit.shape, unit.dtype)
    return max(1, BLOCK_BYTES // (rows * unit.row_bytes))


class PackedBlock(NamedTuple):
    """Some tiles.

    Attributes
    ----------
    pixel_sum : int
        The data sum of the pixels before they were packed.
    tiles : list of bytes
        What they became.
    """

    pixel_sum: int
    tiles: list[bytes]


def packed(unit: Unit, rows: int, first: int) -> PackedBlock:
    """Return some tiles of an image, from one of them on."""
    start, stop = first * rows, min((first + step(unit)) * rows, unit.shape[0])
    pixels = unit.read(start, stop)
    return PackedBlock(sum_of_words(pixels, start * unit.row_bytes), packed_tiles(pixels, rows))


def in_order(function: Callable[[S], T], arguments: Iterable[S]) -> Iterator[T]:
    """Call a function in threads, and yield what it returns, in the order of arguments.

    Unlike :func:`map` of an executor this keeps only a few results that wait.
    """
    threads = available_cores()
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[T]] = deque()
        for argument in arguments:
            waiting.append(pool.submit(function, argument))
            if len(waiting) > WAITING * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
