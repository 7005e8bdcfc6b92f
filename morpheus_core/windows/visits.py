"""How often windows visit each output pixel, known from the geometry alone."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morpheus_core.windows.grid import WindowGrid


class Visits:
    """How often windows visit each output pixel, from geometry alone.

    The counts are the same for every run over the same grid, so nothing need be counted while
    predictions are folded, unless some of them are left out.

    Parameters
    ----------
    grid : WindowGrid
        The windows.
    update_map : ndarray of float64, shape (height, width)
        Weight of each pixel of a window's prediction.
    combine : ufunc, default numpy.add
        What becomes of the weights of a pixel: their sum, or with numpy.maximum the largest.
    """

    # Rows repeat with the stride, so a few remembered sums serve the whole image.
    _REMEMBERED = 64
    # A map may have as many distinct rows as rows, and the image may be wide.
    _REMEMBERED_BYTES = 64 << 20

    def __init__(
        self, grid: WindowGrid, update_map: NDArray[np.float64], combine: np.ufunc = np.add
    ) -> None:
        self._grid, self._combine = grid, combine
        # Most maps repeat few distinct rows (a boolean crop has two), so each is summed once.
        self._distinct, self._row_kind = distinct_rows(update_map)
        self._tops = grid.tops.tolist()  # a list: every run of rows looks up a few
        self._starts = starts_of_runs(grid, self._row_kind)
        self._row_sums: dict[int, NDArray[np.float64]] = {}
        self._sums: dict[tuple[int, ...], NDArray[np.float64]] = {}

    def _row_sum(self, kind: int) -> NDArray[np.float64]:
        """Return the sum of one row of the map over all windows of a window row, (width,)."""
        if kind not in self._row_sums:
            known = sum_along_width(self._grid, self._distinct[kind], self._combine)
            if (len(self._row_sums) + 1) * known.nbytes > self._REMEMBERED_BYTES:
                self._row_sums.clear()
            self._row_sums[kind] = known
        return self._row_sums[kind]

    def _kinds(self, output_row: int, row_kind: list[int]) -> tuple[int, ...]:
        """Return which kind of map row each window that reaches `output_row` lays on it."""
        first = bisect_right(self._tops, output_row - len(row_kind))
        stop = bisect_right(self._tops, output_row)
        if len(self._distinct) == 1:
            return (0,) * (stop - first)
        return tuple(row_kind[output_row - top] for top in self._tops[first:stop])

    def row(self, output_row: int) -> NDArray[np.float64]:
        """Return the sum of weights over every window, for each pixel of one output row."""
        kinds = self._kinds(output_row, self._row_kind)
        if kinds not in self._sums:
            if len(self._sums) >= self._REMEMBERED:
                self._sums.clear()
            total = np.zeros(self._grid.output_shape[1])
            for kind in kinds:
                self._combine(total, self._row_sum(kind), out=total)
            self._sums[kinds] = total
        return self._sums[kinds]

    def rows(self, first: int, stop: int, columns: slice = slice(None)) -> NDArray[np.float64]:
        """Return the sum of weights for some columns of output rows ``[first, stop)``."""
        width = len(range(*columns.indices(self._grid.output_shape[1])))
        counts = np.empty((stop - first, width))
        for start, end in self._runs(first, stop):
            counts[start - first : end - first] = self.row(start)[columns]
        return counts

    def _runs(self, first: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield runs of output rows on which windows lay the same rows of the map."""
        inside = self._starts[bisect_right(self._starts, first) : bisect_left(self._starts, stop)]
        yield from pairwise([first, *inside, stop])

    def count_unreached(self) -> int:
        """Count the output pixels to which no window gives any weight."""
        # Only where weights are zero matters: every row of a smooth map is of one kind then.
        patterns, row_kind = distinct_rows(self._distinct != 0)
        row_kind = [row_kind[kind] for kind in self._row_kind]
        reached = [sum_along_width(self._grid, pattern) > 0 for pattern in patterns]
        unreached: dict[frozenset[int], int] = {}
        total = 0
        for first, stop in self._runs(0, self._grid.output_shape[0]):
            kinds = frozenset(self._kinds(first, row_kind))
            if kinds not in unreached:
                found = np.zeros(self._grid.output_shape[1], np.bool_)
                for kind in kinds:
                    found |= reached[kind]
                unreached[kinds] = int(np.count_nonzero(~found))
            total += (stop - first) * unreached[kinds]
        return total


def starts_of_runs(grid: WindowGrid, row_kind: list[int]) -> list[int]:
    """List the output rows, ascending, at which other rows of the map come to lie than above."""
    changes = [0, *(np.flatnonzero(np.diff(row_kind)) + 1).tolist(), len(row_kind)]
    is_start = np.zeros(grid.tops[-1] - grid.tops[0] + len(row_kind) + 1, np.bool_)
    for change in changes:
        is_start[grid.tops - grid.tops[0] + change] = True
    starts: list[int] = (np.flatnonzero(is_start) + grid.tops[0]).tolist()
    return starts


def distinct_rows(table: NDArray[Any]) -> tuple[NDArray[Any], list[int]]:
    """Return the distinct rows of a table, and for each row of it which of them it is.

    By hashes: to sort the rows of a map of 1,024 × 1,024 weights takes a fifth of a second.
    """
    repeats = np.concatenate([[False], (table[1:] == table[:-1]).all(axis=1)])
    known: dict[bytes, int] = {}
    firsts: list[int] = []
    kinds: list[int] = []
    for row, repeated in enumerate(repeats.tolist()):
        if not repeated:
            kind = known.setdefault(table[row].tobytes(), len(known))
            if kind == len(firsts):
                firsts.append(row)
        kinds.append(kind)
    return table[firsts], kinds


def sum_along_width(
    grid: WindowGrid, map_row: NDArray[Any], combine: np.ufunc = np.add
) -> NDArray[np.float64]:
    """Return the sum of a row of a map over all windows of a window row, (output width,)."""
    sums = np.zeros(grid.plane_width)
    for left in grid.lefts.tolist():
        reached = sums[left : left + len(map_row)]
        combine(reached, map_row, out=reached)
    return sums[grid.image_columns]
