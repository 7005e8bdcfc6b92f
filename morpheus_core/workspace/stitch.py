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

from morpheus_core.fits.blocks import sum_of_words, write_all, writing
from morpheus_core.pipeline.finisher import Scratch, write_results
from morpheus_core.pipeline.job import Job
from morpheus_core.pipeline.ring import Sums
from morpheus_core.results.chosen import row_maker
from morpheus_core.results.fits_outputs import FitsOutputs
from morpheus_core.storage.file_systems import open_anew
from morpheus_core.storage.resources import Resource
from morpheus_core.windows.grid import Strip
from morpheus_core.workspace.journal import Entry, Segment, attempt_path


class SeamLayout:
    """Where the sums of rows that a strip shares with others are in its seam files.

    Each row is stored as the planes of every aggregator, then the counted weights if there are
    any, all float64.

    Parameters
    ----------
    job : Job
        Which planes there are.
    strip : Strip
        Whose rows.
    """

    def __init__(self, job: Job, strip: Strip) -> None:
        self._rows = job.grid.strip_rows(strip)
        width, classes = job.grid.output_shape[1], job.n_classes
        self._shapes: list[tuple[int, ...]] = [
            (aggregator.n_planes, width, classes) for aggregator in job.aggregators
        ]
        self._counted = job.counted
        if self._counted:
            self._shapes.append((width,))
        self._sizes = [int(np.prod(shape)) for shape in self._shapes]
        self.row_bytes = 8 * sum(self._sizes)

    @property
    def stop(self) -> int:
        """The row after the last one that the strip touches."""
        return self._rows.stop

    def offset(self, row: int) -> int:
        """Return where a row is; the strip's own rows, between its two seams, take no place."""
        place = row - self._rows.start
        if row >= self._rows.own_stop:
            place -= self._rows.own_stop - self._rows.own_start
        return place * self.row_bytes

    def holds(self, row: int) -> bool:
        """Say whether the strip shares a row."""
        rows = self._rows
        return rows.start <= row < rows.own_start or rows.own_stop <= row < rows.stop

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


class SeamFile(Resource):
    """The sums of shared rows that one attempt at a strip writes.

    Parameters
    ----------
    path : Path
        Made if it does not exist.
    layout : SeamLayout
        Where rows are in it.
    """

    def __init__(self, path: Path, layout: SeamLayout) -> None:
        self._path, self._layout = path, layout
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def write(self, first: int, blocks: Sequence[NDArray[Any]]) -> int:
        """Store the sums of rows from `first` on, as :class:`Rows` holds them.

        Returns
        -------
        int
            The data sum of what was written.
        """
        by_row = [np.moveaxis(block, 1, 0) if block.ndim == 4 else block for block in blocks]
        rows = np.concatenate([block.reshape(len(block), -1) for block in by_row], axis=1)
        rows = np.ascontiguousarray(rows)
        with writing(self._path):
            write_all(self._descriptor, rows.data, self._layout.offset(first))
        return sum_of_words(rows, 0)

    def sync(self) -> None:
        """Wait until what was written is on disk."""
        with writing(self._path):
            os.fsync(self._descriptor)


class Seam(Resource):
    """The sums of the shared rows of a strip, whoever has written them.

    Parameters
    ----------
    path : Path
        Where the files of attempts are.
    layout : SeamLayout
        Where rows are in them.
    entry : Entry
        Who has written them.
    """

    def __init__(self, path: Path, layout: SeamLayout, entry: Entry) -> None:
        self.layout = layout
        self._wanted, self._found = entry.data_sums[-1], 0
        self._opened: list[tuple[Segment, int]] = []
        try:
            for segment in entry.segments:
                if any(layout.holds(row) for row in range(segment.start, segment.stop)):
                    descriptor = open_anew(attempt_path(path, segment.attempt))
                    self._opened.append((segment, descriptor))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the files."""
        for _, descriptor in self._opened:
            os.close(descriptor)

    def read(self, row: int) -> NDArray[np.float64]:
        """Return everything that is stored of a row, flat; zeros where a file is too short."""
        descriptor = next(d for segment, d in self._opened if segment.start <= row < segment.stop)
        size = self.layout.row_bytes
        content = os.pread(descriptor, size, self.layout.offset(row)).ljust(size, b"\0")
        flat = np.frombuffer(content)
        self._found += sum_of_words(flat, 0)
        return flat

    @property
    def is_whole(self) -> bool:
        """Whether the rows that were read, all of them, are those that were computed."""
        return self._found == self._wanted


def seam_bytes(job: Job, strip: Strip) -> int:
    """Return the size of a strip's seam file when the strip is finished."""
    rows = job.grid.strip_rows(strip)
    shared = (rows.own_start - rows.start) + (rows.stop - rows.own_stop)
    return shared * job.grid.output_shape[1] * job.plane_bytes


def stitch(
    job: Job, strips: Sequence[Strip], open_seam: Callable[[int], Seam], outputs: FitsOutputs
) -> tuple[list[tuple[int, list[int]]], list[int]]:
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
    list of tuple of int and list of int
        Each row that was written, and its data sums, one for each product.
    list of int
        The strips whose sums are not those that were computed.
    """
    written: list[tuple[int, list[int]]] = []
    damaged: list[int] = []
    room, make = Scratch(job), row_maker(job)
    with closing(shared_rows(job, strips, open_seam, damaged.append)) as rows:
        for row, seams in rows:
            with np.errstate(invalid="ignore"):  # infinities of both signs: the pixel is NaN
                total = np.sum([seam.read(row) for seam in seams], axis=0)
            blocks = room(row, row + 1)
            write_results(job, seams[0].layout.split(row, total), blocks)
            written.append((row, outputs.write(row, make(blocks))))
    return written, damaged


def shared_rows(
    job: Job,
    strips: Sequence[Strip],
    open_seam: Callable[[int], Seam],
    on_damage: Callable[[int], object],
) -> Generator[tuple[int, list[Seam]]]:
    """Yield each shared row with the seams that hold it; all of these must be read then.

    A file is open from its first row to its last: there may be more strips than a process may
    open files. Its end tells whether it was whole.
    """
    starts = [job.grid.strip_rows(strip).start for strip in strips]
    opened: dict[int, Seam] = {}
    n_begun = 0

    def end(index: int) -> None:
        with opened.pop(index) as seam:
            if not seam.is_whole:
                on_damage(index)

    try:
        for row in chain.from_iterable(starmap(range, job.grid.seams(strips))):
            for index in [index for index, seam in opened.items() if seam.layout.stop <= row]:
                end(index)
            while n_begun < len(strips) and starts[n_begun] <= row:
                opened[n_begun] = open_seam(n_begun)
                n_begun += 1
            yield row, [seam for seam in opened.values() if seam.layout.holds(row)]
        for index in list(opened):
            end(index)
    finally:
        for seam in opened.values():
            seam.close()
