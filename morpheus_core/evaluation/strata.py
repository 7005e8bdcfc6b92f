"""Parts of the data that are looked at apart: by intervals of a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morpheus_core.errors import InputError

#: The distance to the nearest edge of the result, as the value of a pixel.
BORDER = "border"
#: What the row of everything is called.
ALL = "all"


@dataclass(frozen=True, slots=True)
class Strata:
    """Intervals of a value, each with its lower and without its upper end.

    Attributes
    ----------
    source : object
        Where values are: an image, a column, or `BORDER`.
    edges : tuple of float
        Of the intervals, one more than these.
    """

    source: Any
    edges: tuple[float, ...]

    @property
    def names(self) -> list[str]:
        """What the intervals are called."""
        ends = list(map("{:g}".format, self.edges))
        return [f"{low} to {high}" for low, high in pairwise(ends)]

    def of(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """Return the interval of each value; one more than there are for any other value."""
        found = np.searchsorted(self.edges, values, side="right") - 1
        inside = (found >= 0) & (found < len(self.edges) - 1) & ~np.isnan(values)
        return np.where(inside, found, len(self.edges) - 1)


def checked_strata(strata: Any) -> Strata | None:
    """Return what users ask for by a pair of values and the edges of intervals.

    Raises
    ------
    InputError
        If it is no such pair.
    """
    if strata is None:
        return None
    source, edges = strata if is_pair(strata) else (None, ())
    try:
        ends = np.asarray(edges, float)
    except (TypeError, ValueError):
        ends = np.empty(0)
    if source is None or ends.ndim != 1 or len(ends) < 2 or not (np.diff(ends) > 0).all():
        raise InputError(
            f'strata must be a pair of values and increasing edges, as in ("{BORDER}", [0, 20, '
            f"100]), got {strata!r}"
        )
    return Strata(source, tuple(ends.tolist()))


def is_pair(value: Any) -> bool:
    """Say whether a value is a list or tuple of two."""
    return isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2


def border_distance(first: int, rows: int, shape: tuple[int, int]) -> NDArray[np.int64]:
    """Return how many pixels lie between each pixel of some rows and the nearest edge."""
    height, width = shape
    y, x = np.arange(first, first + rows)[:, np.newaxis], np.arange(width)
    return np.minimum(np.minimum(y, height - 1 - y), np.minimum(x, width - 1 - x))
