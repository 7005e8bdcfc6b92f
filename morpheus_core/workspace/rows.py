"""Rows that belong to one strip alone, in files of the strip's own until the run is complete."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from morpheus_core.fits.blocks import ImageUnit, UnitWriter, sum_of_words, writing
from morpheus_core.results.fits_outputs import FitsOutputs
from morpheus_core.results.outputs import Product
from morpheus_core.storage.file_systems import open_anew
from morpheus_core.storage.resources import Resource
from morpheus_core.workspace.journal import Entry, attempt_path

#: Bytes that are read at once, which stay in the processor's cache until they are added up.
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


def copy_rows(path: Path, layout: RowsLayout, entry: Entry, outputs: FitsOutputs) -> bool:
    """Copy all rows of a strip to the outputs.

    Parameters
    ----------
    path : Path
        Where the files of attempts are.
    layout : RowsLayout
        Where rows are in them.
    entry : Entry
        Who has written them.
    outputs : FitsOutputs
        Where they go.

    Returns
    -------
    bool
        Whether the files are long enough.
    """
    is_all = True
    for descriptor, rows in files_of(path, layout, entry):
        for index, (unit, start) in enumerate(zip(layout.units, layout.starts, strict=True)):
            first = start + rows.start * unit.row_bytes
            is_all &= outputs.copy(index, rows.start, len(rows), descriptor, first)
    return is_all


def sums_of_rows(path: Path, layout: RowsLayout, entry: Entry) -> list[int]:
    """Read all rows of a strip, and return the data sum of each product."""
    sums = [0] * len(layout.units)
    for descriptor, rows in files_of(path, layout, entry):
        for index, (unit, start) in enumerate(zip(layout.units, layout.starts, strict=True)):
            sums[index] += sum_of_range(descriptor, unit, start, rows)
    return sums


def files_of(path: Path, layout: RowsLayout, entry: Entry) -> Iterator[tuple[int, range]]:
    """Yield the open file of each attempt at a strip, and the rows that it has written."""
    for segment in entry.segments:
        start = max(segment.start, layout.rows.start)
        stop = min(segment.stop, layout.rows.stop)
        if start >= stop:
            continue
        descriptor = open_anew(attempt_path(path, segment.attempt))
        try:
            yield descriptor, range(start, stop)
        finally:
            os.close(descriptor)


def sum_of_range(descriptor: int, unit: ImageUnit, start: int, rows: range) -> int:
    """Add up the words of rows of a product, whose row 0 would be at byte `start` of a file."""
    total, offset, end = 0, rows.start * unit.row_bytes, rows.stop * unit.row_bytes
    while offset < end:
        data = os.pread(descriptor, min(BLOCK_BYTES, end - offset), start + offset)
        if not data:
            break
        total += sum_of_words(np.frombuffer(data, np.uint8), offset)
        offset += len(data)
    return total
