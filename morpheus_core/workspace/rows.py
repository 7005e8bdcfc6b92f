"""Rows that belong to one strip alone, in files of the strip's own until the run is complete."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from morpheus_core.fits.blocks import UnitWriter, writing
from morpheus_core.results.outputs import Product
from morpheus_core.storage.file_systems import forget_pages
from morpheus_core.storage.resources import Resource
from morpheus_core.workspace.journal import Entry, attempt_path

#: Bytes that are read at once, which stay in the processor's cache until they are written again.
BLOCK_BYTES = 1 << 20


class Sink(Protocol):
    """Where the finished rows of a strip go."""

    def write(self, first: int, blocks: Sequence[NDArray[Any]]) -> list[int]:
        """Write rows, one block for each product, and return the data sum of each."""

    def sync(self) -> None:
        """Wait until what was written is on disk."""


class RowsLayout:
    """Where the rows of a strip are in its files: product after product, as in a FITS file.

    Parameters
    ----------
    products : sequence of Product
        What the rows are of.
    rows : range
        Which output rows.
    """

    def __init__(self, products: Sequence[Product], rows: range) -> None:
        self.units = [product.unit for product in products]
        self.rows = rows
        sizes = [unit.row_bytes * len(rows) for unit in self.units]
        #: Where row 0 of each product would be.
        self.starts = [
            before - unit.row_bytes * rows.start
            for before, unit in zip(accumulate(sizes, initial=0), self.units, strict=False)
        ]


class RowsFile(Resource):
    """The rows that one attempt at a strip writes.

    Parameters
    ----------
    path : Path
        Made if it does not exist.
    layout : RowsLayout
        Where rows are in it.
    """

    def __init__(self, path: Path, layout: RowsLayout) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        self._writers = [
            UnitWriter(path, self._descriptor, unit, 0, start)
            for unit, start in zip(layout.units, layout.starts, strict=True)
        ]

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def write(self, first: int, blocks: Sequence[NDArray[Any]]) -> list[int]:
        """Write rows, one block for each product, and return the data sum of each."""
        return [
            writer.write(first, block) for writer, block in zip(self._writers, blocks, strict=True)
        ]

    def sync(self) -> None:
        """Wait until what was written is on disk."""
        with writing(self._path):
            os.fsync(self._descriptor)


def read_rows(
    path: Path, layout: RowsLayout, entry: Entry
) -> Iterator[tuple[int, list[NDArray[Any]]]]:
    """Yield all rows of a strip, a few at a time, each from the attempt that has written it.

    Parameters
    ----------
    path : Path
        Where the files of attempts are.
    layout : RowsLayout
        Where rows are in them.
    entry : Entry
        Who has written them.

    Yields
    ------
    tuple of int and list of ndarray
        The first row, and one block for each product. Zeros where a file is too short.
    """
    step = max(1, BLOCK_BYTES // sum(unit.row_bytes for unit in layout.units))
    for segment in entry.segments:
        start = max(segment.start, layout.rows.start)
        stop = min(segment.stop, layout.rows.stop)
        if start >= stop:
            continue
        descriptor = os.open(attempt_path(path, segment.attempt), os.O_RDONLY)
        try:
            forget_pages(descriptor)
            for first in range(start, stop, step):
                yield first, read_blocks(descriptor, layout, first, min(first + step, stop))
        finally:
            os.close(descriptor)


def read_blocks(descriptor: int, layout: RowsLayout, first: int, stop: int) -> list[NDArray[Any]]:
    """Return rows ``[first, stop)`` of each product, big-endian as they are stored."""
    blocks = []
    for unit, start in zip(layout.units, layout.starts, strict=True):
        block = np.empty((stop - first, *unit.shape[1:]), unit.dtype.newbyteorder(">"))
        view = block.reshape(-1).view(np.uint8).data
        offset = start + first * unit.row_bytes
        while view and (count := os.preadv(descriptor, [view], offset)):
            view, offset = view[count:], offset + count
        view[:] = bytes(len(view))
        blocks.append(block)
    return blocks
