"""Rows that no later window touches become results, where these belong."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from morpheus_core.images.stack import ImageStack
from morpheus_core.pipeline import kernels
from morpheus_core.pipeline.aggregators import Ending
from morpheus_core.pipeline.job import Job
from morpheus_core.pipeline.kernels import Float64, Int64, Predictions
from morpheus_core.pipeline.ring import Complete, RowRing, Sums
from morpheus_core.pipeline.selection import OutputMask
from morpheus_core.pipeline.shelf import Shelf, is_shelved
from morpheus_core.windows.grid import StripRows, WindowGrid

#: Given the first of some output rows, and the one after the last, says where their results go:
#: one C-contiguous block per aggregator, then that of n, (rows, width, ...).
Room = Callable[[int, int], list[NDArray[Any]]]


#: Results of rows that are written some columns at a time take at most this memory, beside outputs
#: and files.
BEGUN_BYTES = 128 << 20


class Rows(NamedTuple):
    """Output rows of a strip, in order, that no later window of it can touch.

    Attributes
    ----------
    first, stop : int
        Which output rows; all lie inside the image.
    blocks : list of ndarray
        What is known of them, only until the next rows are asked for. The results: one block per
        aggregator, then the count, (rows, width, ...). Or, for a seam, the sums: one block of
        planes per aggregator, (plane, rows, width, classes), then the counted weights, if any.
    shared : bool
        Whether this is a seam: rows of which other strips hold a part.
    """

    first: int
    stop: int
    blocks: list[NDArray[Any]]
    shared: bool


class Scratch:
    """Room for results that are gone when it is asked for the next ones.

    Parameters
    ----------
    job : Job
        What is computed.
    """

    def __init__(self, job: Job) -> None:
        pixels = [aggregator.result_shape(job.n_classes) for aggregator in job.aggregators]
        self._width, self._pixels, self._dtype = (
            job.grid.output_shape[1],
            [*pixels, ()],
            job.output_dtype,
        )
        self._shelved = is_shelved(job.sums_bytes)
        self._shelf, self._rows = self._shelf_of(0), 0

    def _shelf_of(self, rows: int) -> Shelf:
        layouts = [((rows, self._width, *pixel), self._dtype) for pixel in self._pixels]
        return Shelf(layouts, rows * self._width, self._shelved)

    @property
    def row_bytes(self) -> int:
        """What the results of a row take."""
        values = self._width * sum(math.prod(pixel) for pixel in self._pixels)
        return values * np.dtype(self._dtype).itemsize

    def __call__(self, first: int, stop: int) -> list[NDArray[Any]]:
        """Return where results of output rows ``[first, stop)`` go."""
        rows = stop - first
        if rows > self._rows:
            self._shelf, self._rows = self._shelf_of(rows), rows
        return [block[:rows] for block in self._shelf.arrays]

    def touched(self, pixels: int) -> None:
        """Give memory back, now and then, when this many pixels have been read or written."""
        self._shelf.touched(pixels)


class Finisher:
    """Folds into the ring, takes rows that no later window touches, finalizes what is not shared.

    Parameters
    ----------
    job : Job
        What is computed.
    stack : ImageStack
        Knows the bad pixels.
    ring : RowRing
        Where rows are.
    strip_rows : StripRows
        Which of them are shared with other strips.
    first_row : int
        Output rows before this one are thrown away.
    on_rows : callable
        Given what is finished.
    room : callable, optional
        Where results go; without it to memory that is used again.
    """

    def __init__(
        self,
        job: Job,
        stack: ImageStack,
        ring: RowRing,
        strip_rows: StripRows,
        first_row: int,
        on_rows: Callable[[Rows], object],
        room: Room | None,
    ) -> None:
        self._job, self._ring, self._strip_rows = job, ring, strip_rows
        self._first_row, self._on_rows = first_row, on_rows
        self._scratch = Scratch(job)
        self._room = self._scratch if room is None else room
        window = self._scratch.row_bytes * job.grid.output_window_shape[0]
        # Bad pixels of output rows are looked up once, in order.
        in_parts = room is not None or window <= BEGUN_BYTES or is_shelved(job.sums_bytes)
        self._in_parts = stack.mask is None and in_parts
        self._mask: OutputMask | None = None
        if stack.mask is not None:
            self._mask = OutputMask(stack.mask, job.grid, ring.block_rows, strip_rows.stop)
        # Rows from `_begun` on whose first columns have their results already.
        self._begun, self._begun_blocks = 0, [np.empty(0)]

    def fold(self, rows: Int64, columns: Int64, predictions: Predictions) -> None:
        """Fold predictions of windows, and hand over what they complete."""
        grid, tops = self._job.grid, self._job.grid.tops
        until = top_after(grid, rows[-1], columns[-1])
        starts = [0]
        collects = self._ring.collects(predictions)
        if rows[0] != rows[-1] and not (collects and self._collects_whole(int(tops[rows[0]]))):
            starts += (np.flatnonzero(np.diff(rows)) + 1).tolist()
        for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
            first, last = rows[start], rows[stop - 1]
            across = (stop - start) // (last + 1 - first)
            at = tops[first : last + 1], grid.lefts[columns[start : start + across]]
            self.finish(int(at[0][0]))
            if not collects:
                self._ring.add(predictions[start:stop], *at)
            elif stop < len(rows):
                self._collect(predictions[start:stop], *at, int(tops[rows[stop]]), grid.plane_width)
            else:
                self._collect(predictions[start:], *at, *self._complete_after(last, columns[-1]))
        self.finish(until)

    def _collects_whole(self, top: int) -> bool:
        """Say whether several window rows from output row `top` on may be collected at once."""
        return not self._job.counted and top >= self._wanted

    def _complete_after(self, row: int, column: int) -> tuple[int, int]:
        """Return before which output row and plane column a window is the last to touch pixels."""
        grid = self._job.grid
        if column == len(grid.columns.origins) - 1 or not self._in_parts:
            return top_after(grid, row, column), grid.plane_width
        return grid.finished_before(int(row) + 1), int(grid.lefts[column + 1])

    @property
    def _wanted(self) -> int:
        """The first output row that may be finished while it is collected."""
        return max(self._strip_rows.own_start, self._first_row, 0)

    def _collect(
        self, predictions: Predictions, tops: Int64, lefts: Int64, until: int, column: int
    ) -> None:
        """Collect predictions, and write results of pixels of the strip alone that are complete."""
        stop = min(until, self._strip_rows.own_stop, self._job.grid.output_shape[0])
        if tops[0] < self._wanted:
            stop = int(tops[0])
        width = self._job.grid.plane_width
        if column < width and self._ring.first < stop:
            self._begin(self._ring.first, stop)
        for pixels in self._ring.collect(predictions, tops, lefts, stop, column):
            blocks = self._blocks(pixels.first, pixels.stop)
            self._write(pixels, blocks)
            if pixels.right == width:
                self._hand_on(pixels.first, pixels.stop, blocks)

    def _write(self, pixels: Complete, blocks: Sequence[NDArray[Any]]) -> None:
        """Write results, and n, of complete pixels inside the image."""
        inside = self._job.grid.image_columns
        left, right = max(pixels.left, inside.start), min(pixels.right, inside.stop)
        if left >= right:
            return
        columns = slice(left - inside.start, right - inside.start)
        if pixels.counted is None:
            n = self._job.visits.rows(pixels.first, pixels.stop, columns)
        else:
            n = pixels.counted[:, left - pixels.left : right - pixels.left]
            n = np.ascontiguousarray(self._good(pixels.first, pixels.stop, n))
        ending = Ending(pixels.first, left, n, self._job.fill_value)
        self._ring.finish(ending, blocks[:-1], columns.start)
        blocks[-1][:, columns] = n
        self._scratch.touched(n.size)

    def _hand_on(self, first: int, stop: int, blocks: Sequence[NDArray[Any]]) -> None:
        """Hand over results of rows, few at a time: what is made of them takes memory as well."""
        for start in range(first, stop, self._ring.block_rows):
            end = min(start + self._ring.block_rows, stop)
            part = [block[start - first : end - first] for block in blocks]
            self._on_rows(Rows(start, end, part, False))
            self._scratch.touched((end - start) * self._job.grid.output_shape[1])

    def _begin(self, first: int, stop: int) -> None:
        """Make room for output rows whose results are written some columns at a time."""
        if first >= self._begun + len(self._begun_blocks[0]):
            self._begun, self._begun_blocks = first, self._room(first, stop)

    def _blocks(self, first: int, stop: int) -> list[NDArray[Any]]:
        """Return where results of output rows go; some of them may be there."""
        begun = slice(first - self._begun, stop - self._begun)
        if begun.start < len(self._begun_blocks[0]):
            return [block[begun] for block in self._begun_blocks]
        return self._room(first, stop)

    def finish(self, until: int) -> None:
        """Hand over the output rows before `until` that have not been handed over."""
        if until <= self._ring.first:
            return  # as after most single windows
        for _ in self._ring.release(min(until, self._first_row)):
            pass  # not wanted, and incomplete where windows above were not run
        ends = self._strip_rows
        for stop, shared in ((ends.own_start, True), (ends.own_stop, False), (ends.stop, True)):
            for sums in self._ring.release(min(until, stop)):
                inside = in_image(self._job.grid, sums)
                if inside.stop > inside.first:
                    inside = self._without_bad_pixels(inside)
                    blocks = inside.blocks
                    if not shared:
                        blocks = self._blocks(inside.first, inside.stop)
                        write_results(self._job, inside, blocks)
                    self._on_rows(Rows(inside.first, inside.stop, blocks, shared))

    def _without_bad_pixels(self, sums: Sums) -> Sums:
        """Let bad pixels have no predictions."""
        if sums.counted is None:
            return sums
        return sums._replace(counted=self._good(sums.first, sums.stop, sums.counted))

    def _good(self, first: int, stop: int, counted: Float64) -> Float64:
        """Return the counts of output rows, zero for bad pixels."""
        if self._mask is None:
            return counted
        return np.where(self._mask.rows(first, stop), 0.0, counted)


def top_after(grid: WindowGrid, row: int, column: int) -> int:
    """Return the output row above which no window that follows this one touches anything."""
    row += column == len(grid.columns.origins) - 1
    return grid.finished_before(int(row))


def in_image(grid: WindowGrid, sums: Sums) -> Sums:
    """Cut off what lies in the padding; columns are those of the output then."""
    height = grid.output_shape[0]
    rows = slice(max(-sums.first, 0), max(height - sums.first, 0))
    inside = grid.image_columns
    columns = slice(max(inside.start - sums.left, 0), max(inside.stop - sums.left, 0))
    return Sums(
        sums.first + rows.start,
        [planes[:, rows, columns] for planes in sums.planes],
        None if sums.counted is None else sums.counted[rows, columns],
        min(max(sums.left - inside.start, 0), grid.output_shape[1]),
    )


def write_results(job: Job, sums: Sums, blocks: Sequence[NDArray[Any]]) -> None:
    """Finalize sums of output rows and columns for every aggregator, and write n."""
    columns = slice(sums.left, job.grid.output_shape[1])
    n = sums.counted
    if n is None:
        n = job.visits.rows(sums.first, sums.stop, columns)
    if n.size:
        for aggregator, planes, block in zip(
            job.aggregators, sums.planes, blocks[:-1], strict=True
        ):
            aggregator.finalize(kernels.fastest(), planes, n, job.fill_value, block, columns.start)
        blocks[-1][:, columns] = n


def shelved_bytes(job: Job, in_memory: bool) -> int:
    """Return what files for sums, and for results that are not in memory, take at most."""
    if not is_shelved(job.sums_bytes):
        return 0
    results = 0 if in_memory else job.grid.output_window_shape[0] * Scratch(job).row_bytes
    return job.sums_bytes + results
