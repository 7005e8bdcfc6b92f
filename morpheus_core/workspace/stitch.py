"""Seams: rows that several strips touch, kept as partial sums and added up at the end."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from itertools import chain, starmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morpheus_core.fits.blocks import add_data_sums, write_all
from morpheus_core.pipeline.job import Job
from morpheus_core.pipeline.ring import Sums
from morpheus_core.pipeline.strip import results
from morpheus_core.results.outputs import FitsOutputs
from morpheus_core.storage.resources import Resource
from morpheus_core.windows.grid import Strip


class SeamFile(Resource):
    """A strip's partial sums of the rows that it shares with others.

    Each row is stored as the planes of every aggregator, then the counted weights if there are
    any, all float64.

    Parameters
    ----------
    path : Path
        Made if it does not exist.
    job : Job
        Which planes there are.
    strip : Strip
        Whose rows.
    """

    def __init__(self, path: Path, job: Job, strip: Strip) -> None:
        self._rows = job.grid.strip_rows(strip)
        width, classes = job.grid.output_shape[1], job.n_classes
        self._shapes: list[tuple[int, ...]] = [
            (aggregator.n_planes, width, classes) for aggregator in job.aggregators
        ]
        self._counted = job.counted
        if self._counted:
            self._shapes.append((width,))
        self._sizes = [int(np.prod(shape)) for shape in self._shapes]
        self._row_bytes = 8 * sum(self._sizes)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    @property
    def stop(self) -> int:
        """The row after the last one that the strip touches."""
        return self._rows.stop

    def _offset(self, row: int) -> int:
        """Return where a row is; the strip's own rows, between its two seams, take no place."""
        place = row - self._rows.start
        if row >= self._rows.own_stop:
            place -= self._rows.own_stop - self._rows.own_start
        return place * self._row_bytes

    def holds(self, row: int) -> bool:
        """Say whether the strip shares a row."""
        rows = self._rows
        return rows.start <= row < rows.own_start or rows.own_stop <= row < rows.stop

    def write(self, first: int, blocks: Sequence[NDArray[Any]]) -> None:
        """Store the sums of rows from `first` on, as :class:`Rows` holds them."""
        by_row = [np.moveaxis(block, 1, 0) if block.ndim == 4 else block for block in blocks]
        rows = np.concatenate([block.reshape(len(block), -1) for block in by_row], axis=1)
        write_all(self._descriptor, np.ascontiguousarray(rows).data, self._offset(first))

    def read(self, row: int) -> NDArray[np.float64]:
        """Return everything that is stored of a row, flat."""
        return np.frombuffer(os.pread(self._descriptor, self._row_bytes, self._offset(row)))

    def split(self, row: int, flat: NDArray[np.float64]) -> Sums:
        """Return flat sums of one row as planes."""
        parts = [
            part.reshape(shape)
            for part, shape in zip(
                np.split(flat, np.cumsum(self._sizes)[:-1]), self._shapes, strict=True
            )
        ]
        counted = parts.pop()[np.newaxis] if self._counted else None
        return Sums(row, [part[:, np.newaxis] for part in parts], counted)

    def sync(self) -> None:
        """Wait until what was written is on disk."""
        os.fsync(self._descriptor)


def seam_bytes(job: Job, strip: Strip) -> int:
    """Return the size of a strip's seam file when the strip is finished."""
    rows = job.grid.strip_rows(strip)
    shared = (rows.own_start - rows.start) + (rows.stop - rows.own_stop)
    return shared * job.grid.output_shape[1] * job.plane_bytes


def stitch(
    job: Job,
    strips: Sequence[Strip],
    open_seam: Callable[[int], SeamFile],
    outputs: FitsOutputs,
) -> list[int]:
    """Add up the seams, finalize their rows and write them.

    Parameters
    ----------
    job : Job
        What was computed.
    strips : sequence of Strip
        All strips of the grid, in order.
    open_seam : callable
        Opens the sums of a strip, given its index.
    outputs : FitsOutputs
        Takes the finished rows.

    Returns
    -------
    list of int
        The data sum of the rows that were written, for each product.
    """
    data_sums = [0] * (len(job.methods) + 1)
    with closing(shared_rows(job, strips, open_seam)) as rows:
        for row, seams in rows:
            with np.errstate(invalid="ignore"):  # infinities of both signs: the pixel is NaN
                total = np.sum([seam.read(row) for seam in seams], axis=0)
            written = outputs.write(row, results(job, seams[0].split(row, total)))
            data_sums = add_data_sums(data_sums, written)
    return data_sums


def shared_rows(
    job: Job, strips: Sequence[Strip], open_seam: Callable[[int], SeamFile]
) -> Generator[tuple[int, list[SeamFile]]]:
    """Yield each shared row with the seams that hold it.

    A file is open from its first row to its last: there may be more strips than a process may
    open files.
    """
    starts = [job.grid.strip_rows(strip).start for strip in strips]
    opened: list[SeamFile] = []
    n_begun = 0
    try:
        for row in chain.from_iterable(starmap(range, job.grid.seams(strips))):
            for seam in [seam for seam in opened if seam.stop <= row]:
                opened.remove(seam)
                seam.close()
            while n_begun < len(strips) and starts[n_begun] <= row:
                opened.append(open_seam(n_begun))
                n_begun += 1
            yield row, [seam for seam in opened if seam.holds(row)]
    finally:
        for seam in opened:
            seam.close()
