"""How often windows visit each output pixel, known from the geometry alone."""

from __future__ import annotations

from bisect import bisect_right

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
    """

    # Rows repeat with the stride, so a few remembered sums serve the whole image.
    _REMEMBERED = 64

    def __init__(self, grid: WindowGrid, update_map: NDArray[np.float64]) -> None:
        self._grid = grid
        # Most maps repeat few distinct rows (a boolean crop has two), so each is summed once.
        distinct, kinds = np.unique(update_map, axis=0, return_inverse=True)
        # As lists: every output row looks up a few of each.
        self._row_kind = kinds.reshape(-1).tolist()  # numpy 2.0.0 returns a column
        self._tops = grid.tops.tolist()
        self._row_sums = self._sum_along_width(distinct)  # (distinct rows, output width)
        self._sums: dict[tuple[int, ...], NDArray[np.float64]] = {}

    def _sum_along_width(self, map_rows: NDArray[np.float64]) -> NDArray[np.float64]:
        grid = self._grid
        sums = np.zeros((len(map_rows), grid.plane_width))
        for left in grid.lefts:
            sums[:, left : left + grid.output_window_shape[1]] += map_rows
        return sums[:, grid.image_columns]

    def _kinds(self, output_row: int) -> tuple[int, ...]:
        """Return which distinct row of the map each window that reaches `output_row` lays on it."""
        first = bisect_right(self._tops, output_row - len(self._row_kind))
        stop = bisect_right(self._tops, output_row)
        return tuple(self._row_kind[output_row - top] for top in self._tops[first:stop])

    def row(self, output_row: int) -> NDArray[np.float64]:
        """Return the sum of weights over every window, for each pixel of one output row."""
        kinds = self._kinds(output_row)
        if kinds not in self._sums:
            if len(self._sums) >= self._REMEMBERED:
                self._sums.clear()
            total = np.zeros(self._grid.output_shape[1])
            for kind in kinds:
                total += self._row_sums[kind]
            self._sums[kinds] = total
        return self._sums[kinds]

    def rows(self, first: int, stop: int) -> NDArray[np.float64]:
        """Return the sum of weights for output rows ``[first, stop)``, (rows, width)."""
        return np.stack([self.row(output_row) for output_row in range(first, stop)])

    def count_unreached(self) -> int:
        """Count the output pixels to which no window gives any weight."""
        unreached: dict[frozenset[int], int] = {}
        total = 0
        for output_row in range(self._grid.output_shape[0]):
            kinds = frozenset(self._kinds(output_row))
            if kinds not in unreached:
                reached = self._row_sums[sorted(kinds)].any(axis=0)
                unreached[kinds] = int(np.count_nonzero(~reached))
            total += unreached[kinds]
        return total
