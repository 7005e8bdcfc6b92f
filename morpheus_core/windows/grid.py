"""Where the windows lie: integer geometry, and nothing else.

All positions are in ``(row, column)`` order. Window origins are in image pixels, and negative
inside the padding above and to the left of the image. *Output* pixels are image pixels times the
dilation. Nothing here reads a pixel or calls a model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from morpheus_core.errors import InputError

Edges = Literal["cover", "drop"]
Padding = Literal["reflect", "symmetric", "edge", "constant"]
EDGES: tuple[Edges, ...] = ("cover", "drop")
PADDINGS: tuple[Padding, ...] = ("reflect", "symmetric", "edge", "constant")


class Group(NamedTuple):
    """Consecutive window rows ``[start, stop)`` that are read and batched together."""

    start: int
    stop: int


class Strip(NamedTuple):
    """Consecutive window rows ``[start, stop)`` that one worker runs; whole groups only."""

    start: int
    stop: int


class StripRows(NamedTuple):
    """The output rows that a strip touches, in order: shared, its own, shared.

    Rows ``[start, own_start)`` and ``[own_stop, stop)`` are touched by other strips as well, so a
    strip only knows part of their sums: they are *seams*. Rows ``[own_start, own_stop)`` belong to
    the strip alone. Rows may lie in the padding, outside the image.
    """

    start: int
    own_start: int
    own_stop: int
    stop: int


class Axis(NamedTuple):
    """Window origins along one axis of the image.

    Attributes
    ----------
    origins : ndarray of int64
        First pixel of each window, ascending; negative inside the leading padding.
    before, after : int
        Pixels of padding on either side.
    """

    origins: NDArray[np.int64]
    before: int
    after: int


def place_windows(length: int, window: int, stride: int, edges: Edges, padded: bool) -> Axis:
    """Place windows along one axis.

    Parameters
    ----------
    length, window, stride : int
        Pixels of the image, of the window, and between neighbouring origins.
    edges : {"cover", "drop"}
        Whether a last window is set flush to the border where the stride does not divide.
    padded : bool
        Whether ``max(window - stride, 0)`` pixels are added on each side, so that border pixels
        are visited as often as inner ones, and then more behind until one window fits.

    Returns
    -------
    Axis
        Origins and padding. There are no origins if the window does not fit.
    """
    before = max(window - stride, 0) if padded else 0
    after = max(before, window - length - before) if padded else 0
    last = length + after - window
    origins = np.arange(-before, last + 1, stride, dtype=np.int64)
    if edges == "cover" and len(origins) and origins[-1] != last:
        origins = np.append(origins, last)
    return Axis(origins, before, after)


@dataclass(frozen=True)
class WindowGrid:
    """The windows of one image, in reading order: window rows, then windows in a row.

    Parameters
    ----------
    image_shape, window_shape, stride : tuple of int
        In pixels, in (row, column) order.
    edges : {"cover", "drop"}
        What happens where the stride does not divide the image.
    padding : {"reflect", "symmetric", "edge", "constant"}, optional
        How the image is continued beyond its borders; None does not pad.
    dilation : Fraction
        Output pixels per image pixel along each axis.

    Raises
    ------
    InputError
        If no window fits, or the dilation makes a length that is not a whole number.
    """

    image_shape: tuple[int, int]
    window_shape: tuple[int, int]
    stride: tuple[int, int]
    edges: Edges = "cover"
    padding: Padding | None = None
    dilation: Fraction = Fraction(1)

    def __post_init__(self) -> None:
        lengths = {
            "window_shape": self.window_shape,
            "stride": self.stride,
            "image shape": self.image_shape,
        }
        for name, shape in lengths.items():
            if any((length * self.dilation).denominator != 1 for length in shape):
                raise InputError(
                    f"{name} times dilation must be whole numbers, got {shape} times "
                    f"{self.dilation}; choose lengths that are multiples of "
                    f"{self.dilation.denominator}"
                )
        if not len(self):
            raise InputError(
                f"the image must be at least as large as the window, got a height and width of "
                f"{self.image_shape} and window_shape={self.window_shape}; use a smaller window, "
                f'or padding="reflect" (or "symmetric", "edge", "constant") to extend the image; '
                f"if bands were taken for rows or columns, say where they are with bands="
            )

    def __len__(self) -> int:
        """Count the windows."""
        return len(self.rows.origins) * len(self.columns.origins)

    @cached_property
    def rows(self) -> Axis:
        """Window rows: origins along the height."""
        return self._axis(0)

    @cached_property
    def columns(self) -> Axis:
        """Windows in a row: origins along the width."""
        return self._axis(1)

    def _axis(self, axis: int) -> Axis:
        return place_windows(
            self.image_shape[axis],
            self.window_shape[axis],
            self.stride[axis],
            self.edges,
            self.padding is not None,
        )

    def to_output(self, length: int) -> int:
        """Convert a length or position from image pixels to output pixels."""
        return int(length * self.dilation)

    @cached_property
    def output_shape(self) -> tuple[int, int]:
        """Height and width of the outputs."""
        height, width = self.image_shape
        return self.to_output(height), self.to_output(width)

    @cached_property
    def output_window_shape(self) -> tuple[int, int]:
        """Height and width of the prediction of one window."""
        height, width = self.window_shape
        return self.to_output(height), self.to_output(width)

    @cached_property
    def tops(self) -> NDArray[np.int64]:
        """First output row of each window row; negative inside the padding."""
        return self._output_origins(self.rows)

    @cached_property
    def lefts(self) -> NDArray[np.int64]:
        """First column of each window in a row, in planes: output columns with their padding."""
        lefts: NDArray[np.int64] = self._output_origins(self.columns) + self.image_columns.start
        return lefts

    @cached_property
    def image_columns(self) -> slice:
        """The columns of a plane that lie in the image."""
        first = self.to_output(self.columns.before)
        return slice(first, first + self.output_shape[1])

    @cached_property
    def plane_width(self) -> int:
        """Columns of a plane: the width of the output and of its padding."""
        last: int = self.image_columns.stop
        return last + self.to_output(self.columns.after)

    def _output_origins(self, axis: Axis) -> NDArray[np.int64]:
        return axis.origins * self.dilation.numerator // self.dilation.denominator

    def whole(self) -> Strip:
        """Return the strip that holds every window row."""
        return Strip(0, len(self.rows.origins))

    def groups(self, batch_size: int, strip: Strip) -> Iterator[Group]:
        """Cut a strip into groups of ``max(1, batch_size // windows per row)`` window rows.

        The groups belong to the grid: whoever runs a window row, it is batched with the same
        neighbours.
        """
        step = max(1, batch_size // len(self.columns.origins))
        assert strip.start % step == 0, "a strip begins with a group"
        for start in range(strip.start, strip.stop, step):
            yield Group(start, min(start + step, strip.stop))

    def rows_of(self, group: Group | Strip) -> tuple[int, int]:
        """Return the image rows ``[start, stop)`` that the windows of a group or strip span."""
        origins = self.rows.origins
        return int(origins[group.start]), int(origins[group.stop - 1]) + self.window_shape[0]

    def group_height(self, batch_size: int, strip: Strip) -> int:
        """Return the most image rows that the windows of one group span."""
        spans = [self.rows_of(group) for group in self.groups(batch_size, strip)]
        return max(stop - start for start, stop in spans)

    def strips(self, batch_size: int, count: int, windows: NDArray[np.int64]) -> list[Strip]:
        """Cut the grid into at most `count` strips, as equal as whole groups allow.

        `windows` counts the windows of each window row that are to be run.
        """
        groups = list(self.groups(batch_size, self.whole()))
        count = min(count, len(groups))
        before = np.concatenate([[0], np.cumsum(windows)])  # windows above each window row
        cuts = np.array([before[group.start] for group in groups])
        firsts = [0]
        for k in range(1, count):
            nearest = int(np.abs(cuts * count - before[-1] * k).argmin())
            # Every strip has a group, and leaves one for each strip after it.
            firsts.append(min(max(nearest, firsts[-1] + 1), len(groups) - count + k))
        starts = [groups[first].start for first in firsts]
        return [
            Strip(start, stop)
            for start, stop in zip(starts, [*starts[1:], groups[-1].stop], strict=True)
        ]

    def strip_rows(self, strip: Strip) -> StripRows:
        """Return which output rows a strip touches, and which of them it shares."""
        height = self.output_window_shape[0]
        start = int(self.tops[strip.start])
        own_stop = self.finished_before(strip.stop)
        stop = max(own_stop, int(self.tops[strip.stop - 1]) + height)
        if strip.stop == len(self.tops):
            stop = own_stop
        own_start = start
        if strip.start > 0:
            own_start = max(start, int(self.tops[strip.start - 1]) + height)
        return StripRows(start, min(own_start, own_stop), own_stop, stop)

    def seams(self, strips: Sequence[Strip]) -> list[tuple[int, int]]:
        """Return the runs of output rows inside the image that several of the strips touch."""
        seams: list[tuple[int, int]] = []
        for strip in strips[1:]:
            first = max(int(self.tops[strip.start]), 0)
            stop = int(self.tops[strip.start - 1]) + self.output_window_shape[0]
            stop = min(stop, self.output_shape[0])
            if seams and first <= seams[-1][1]:
                seams[-1] = (seams[-1][0], max(stop, seams[-1][1]))
            elif first < stop:
                seams.append((first, stop))
        return seams

    def rest_of(self, strip: Strip, batch_size: int, output_row: int) -> Strip:
        """Return the rest of a strip from the first group that touches `output_row` or later.

        Where none does, that is the last group.
        """
        height = self.output_window_shape[0]
        for group in self.groups(batch_size, strip):
            if self.tops[group.stop - 1] + height > output_row or group.stop == strip.stop:
                break
        return Strip(group.start, strip.stop)

    def finished_before(self, window_row: int) -> int:
        """Return the first output row that window rows from `window_row` on can still touch."""
        if window_row < len(self.tops):
            return int(self.tops[window_row])
        return self.output_shape[0] + self.to_output(self.rows.after)


def repeated_pixels(
    first: int, count: int, length: int, padding: Padding | None
) -> NDArray[np.int64]:
    """Return which pixel of an axis each pixel from `first` on repeats, as `numpy.pad` has it.

    -1 for those that are a constant.
    """
    pixels = np.arange(first, first + count)
    if padding == "edge":
        return np.clip(pixels, 0, length - 1)
    if padding == "symmetric":
        repeated = pixels % (2 * length)
        return np.minimum(repeated, 2 * length - 1 - repeated)
    if padding == "reflect":
        repeated = pixels % max(2 * (length - 1), 1)
        return length - 1 - np.abs(repeated - (length - 1))
    return np.where((pixels >= 0) & (pixels < length), pixels, -1)
