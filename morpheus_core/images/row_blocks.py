"""Rows of whole chunks or tiles, which are kept until they are done with."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Rows of chunks that are kept. A mask is read in two places, one not far behind the other.
KEPT_BLOCKS = 2


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of an image that are in memory, (rows, width, bands), from row `first` on."""

    first: int
    rows: NDArray[Any]

    @property
    def stop(self) -> int:
        """The row after the last."""
        return self.first + len(self.rows)


class RowBlocks:
    """Reads rows of whole chunks and keeps the last ones: most sources unpack whole chunks.

    Parameters
    ----------
    load : callable
        Returns rows ``[start, stop)``, (rows, width, bands).
    edges : ndarray of int, optional
        The rows at which chunks begin, and where the last one ends; without them just the rows
        that are wanted are read.
    """

    def __init__(
        self,
        load: Callable[[int, int], NDArray[Any]],
        edges: NDArray[np.int64] | None = None,
    ) -> None:
        self._load, self._edges = load, edges
        self._blocks: deque[Block] = deque()

    @property
    def chunk_rows(self) -> int:
        """The most rows in a chunk, 0 where there are none."""
        return 0 if self._edges is None else int(np.diff(self._edges).max())

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return the rows, of which those in chunks that were just read are in memory."""
        if self._edges is None:
            return self._load(start, stop)
        pieces = []
        while start < stop:
            block = self._block(start, stop, self._edges)
            pieces.append(block.rows[start - block.first : stop - block.first])
            start = block.stop
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def _block(self, start: int, stop: int, edges: NDArray[np.int64]) -> Block:
        """Return the block that holds row `start`, and if it has to be read the ones after it."""
        for block in self._blocks:
            if block.first <= start < block.stop:
                return block
        if len(self._blocks) == KEPT_BLOCKS:
            self._blocks.popleft()  # before there is another one
        first = int(edges[np.searchsorted(edges, start, side="right") - 1])
        last = int(edges[np.searchsorted(edges, stop)])
        self._blocks.append(Block(first, self._load(first, last)))
        return self._blocks[-1]

    def clear(self) -> None:
        """Forget the rows."""
        self._blocks.clear()
