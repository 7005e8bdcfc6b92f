"""From rows of a catalogue to batches of windows, each file opened once."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morpheus_core.catalogs.cutouts import OtherSizeError, Resize, fitted
from morpheus_core.catalogs.sky_positions import (
    Float64,
    NoSkyPositionError,
    OtherOrientationError,
    OtherScaleError,
    SkyToPixels,
    is_on,
    rounded,
)
from morpheus_core.catalogs.sources import MissingFileError
from morpheus_core.catalogs.statuses import Status
from morpheus_core.catalogs.windows import (
    CatalogEdges,
    Int64,
    TooSmallError,
    WindowReader,
    borders_of,
    corners_of,
    is_inside,
    shifted,
)
from morpheus_core.errors import InputError
from morpheus_core.images.image import Image
from morpheus_core.windows.grid import Padding

logger = logging.getLogger("morpheus_core")

#: A row that is to be run: its number, its set of images, and its position.
ROW = np.dtype([("row", np.int64), ("set", np.int64), ("first", float), ("second", float)])
#: Rows that are put in order at once, so that memory does not grow with the catalogue.
CHUNK = 1 << 18


class OtherBandsError(InputError):
    """A cut-out has more or fewer bands than others."""


#: What becomes of the rows of a set of images that cannot be used, if not UNREADABLE_FILE.
STATUS_OF_ERROR: dict[type[InputError], Status] = {
    MissingFileError: Status.MISSING_FILE,
    NoSkyPositionError: Status.NO_WORLD_COORDINATES,
    OtherScaleError: Status.OTHER_SCALE,
    OtherOrientationError: Status.OTHER_ORIENTATION,
    TooSmallError: Status.TOO_SMALL,
    OtherSizeError: Status.OTHER_SIZE,
    OtherBandsError: Status.OTHER_BANDS,
}
#: Sets of images of which the log says why they cannot be used; of the others, it says how many.
MOST_COMPLAINTS = 5


@dataclass(frozen=True, slots=True)
class Skipped:
    """Rows that the model does not see."""

    rows: Int64
    status: Status

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class RowBatch:
    """Windows of rows that the model sees together.

    Attributes
    ----------
    windows : list of ndarray, each (rows, height, width, bands)
        One per input, as the model gets them.
    rows : ndarray of int64, (rows,)
        Their numbers in the catalogue.
    offsets : ndarray, (2, rows)
        Row and column of the position in the window of the first input.
    borders : ndarray of int64, (2, 2, rows)
        First row and column of that window that lie in the image, and those after the last.
    """

    windows: list[NDArray[Any]]
    rows: Int64
    offsets: Float64
    borders: Int64

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: slice | NDArray[np.bool_]) -> RowBatch:
        windows = [window[part] for window in self.windows]
        return RowBatch(windows, self.rows[part], self.offsets[:, part], self.borders[..., part])

    @property
    def kind(self) -> list[Any]:
        """What batches must have in common to be joined."""
        return [(windows.shape[1:], windows.dtype) for windows in self.windows]


@dataclass(frozen=True, slots=True)
class Cut:
    """How windows are cut.

    Attributes
    ----------
    on_sky : bool
        Whether positions are angles, not pixels.
    window_shape, batch_size, edges, padding, resize
        As in :func:`morpheus_core.predict_catalog`.
    in_middle : bool
        Whether each image is a cut-out, whose middle is the position.
    bands : tuple of int or None
        How many the cut-outs of each input have.
    """

    on_sky: bool
    window_shape: tuple[int, int]
    batch_size: int
    edges: CatalogEdges
    padding: Padding | None
    resize: Resize | None = None
    in_middle: bool = False
    bands: tuple[int, ...] | None = None


OpenSet = Callable[[int], AbstractContextManager[Sequence[Image]]]


def batches_of(rows: NDArray[Any], cut: Cut, open_set: OpenSet) -> Iterator[RowBatch | Skipped]:
    """Yield full batches, of rows that may be of several sets, and rows that have none.

    Parameters
    ----------
    rows : ndarray of ROW
        Rows of the same set must follow each other.
    cut : Cut
        How windows are cut.
    open_set : callable
        Opens the images of a set, of which one is open at a time.
    """
    waiting: list[RowBatch] = []
    for piece in pieces_of(rows, cut, open_set):
        if isinstance(piece, Skipped):
            yield piece
            continue
        if waiting and waiting[0].kind != piece.kind:
            yield joined(waiting)
            waiting = []
        waiting.append(piece)
        if sum(map(len, waiting)) >= cut.batch_size:
            batch = joined(waiting)
            yield batch[: cut.batch_size]
            waiting = [batch[cut.batch_size :]] if len(batch) > cut.batch_size else []
    if waiting:
        yield joined(waiting)


def joined(batches: Sequence[RowBatch]) -> RowBatch:
    """Return batches as one."""
    if len(batches) == 1:
        return batches[0]
    return RowBatch(
        [np.concatenate(windows) for windows in zip(*(b.windows for b in batches), strict=True)],
        np.concatenate([batch.rows for batch in batches]),
        np.concatenate([batch.offsets for batch in batches], axis=-1),
        np.concatenate([batch.borders for batch in batches], axis=-1),
    )


def pieces_of(rows: NDArray[Any], cut: Cut, open_set: OpenSet) -> Iterator[RowBatch | Skipped]:
    """Yield what becomes of the rows, set by set."""
    complaints = Complaints()
    ends = np.flatnonzero(rows["set"][1:] != rows["set"][:-1]) + 1
    for start, stop in pairwise([0, *ends, len(rows)]):
        if stop > start:
            yield from pieces_of_set(rows[start:stop], cut, open_set, complaints.add)
    complaints.end()


class Complaints:
    """Logs why the first sets of images cannot be used, and counts the others."""

    def __init__(self) -> None:
        self._counts: Counter[Status] = Counter()

    def add(self, n_rows: int, status: Status, error: InputError) -> None:
        """Take what is wrong with a set of so many rows."""
        self._counts[status] += 1
        if self._counts.total() <= MOST_COMPLAINTS:
            logger.warning("rows of the catalogue without result: %d, since %s", n_rows, error)

    def end(self) -> None:
        """Say how many there were, unless all have been told."""
        if self._counts.total() > MOST_COMPLAINTS:
            counts = ", ".join(f"{count} {one.text}" for one, count in self._counts.items())
            logger.warning("sets of images that could not be used, in all: %s", counts)


def pieces_of_set(
    rows: NDArray[Any],
    cut: Cut,
    open_set: OpenSet,
    on_error: Callable[[int, Status, InputError], object],
) -> Iterator[RowBatch | Skipped]:
    """Yield what becomes of rows of one set; one that cannot be read stops no other."""
    first, given = 0, [np.empty(0, np.int64)]
    try:
        with open_set(int(rows["set"][0])) as images:
            reader = SetReader(images, cut)
            for first in range(0, len(rows), CHUNK):
                del given[1:]
                for piece in reader.pieces(rows[first : first + CHUNK]):
                    given.append(piece.rows)
                    yield piece
    except InputError as error:
        left = np.setdiff1d(rows["row"][first:], np.concatenate(given))
        status = STATUS_OF_ERROR.get(type(error), Status.UNREADABLE_FILE)
        on_error(len(left), status, error)
        yield Skipped(left, status)


def refuse_other_bands(images: Sequence[Image], bands: tuple[int, ...] | None) -> None:
    """Raise if cut-outs have not as many bands as those of the first row."""
    for image, count in zip(images, bands or (), strict=False):
        if image.shape[2] != count:
            raise OtherBandsError(
                f"cut-outs must have as many bands as the first, {count}, got {image.shape[2]} for "
                f"{image.name}"
            )


def middles_of(image: Image, rows: int) -> Float64:
    """Return row and column of the middle of an image, (2, rows)."""
    middle = (np.array(image.shape[:2]) - 1) / 2
    return np.repeat(middle[:, np.newaxis], rows, axis=1)


class SetReader:
    """Cuts the windows of one set of images.

    Raises
    ------
    InputError
        If the images do not fit each other, or the window.
    """

    def __init__(self, images: Sequence[Image], cut: Cut) -> None:
        if cut.in_middle:
            refuse_other_bands(images, cut.bands)
            images = [fitted(image, cut.window_shape, cut.resize) for image in images]
        self._images, self._cut = images, cut
        self._to_pixels = SkyToPixels(images) if cut.on_sky else None
        if not (cut.on_sky or cut.in_middle) and len({image.shape[:2] for image in images}) > 1:
            raise InputError(
                "positions in pixels need inputs of the same height and width, got "
                + " and ".join(f"{image.shape[:2]} for {image.name}" for image in images)
            )
        if cut.edges == "shift":
            for image in images:
                shifted(np.zeros((2, 0), np.int64), image, cut.window_shape)  # only for its error
        padding = cut.padding if cut.edges == "pad" else None
        self._readers = [WindowReader(image, cut.window_shape, padding) for image in images]

    def pieces(self, rows: NDArray[Any]) -> Iterator[RowBatch | Skipped]:
        """Yield batches, in the order of the image, and the rows that are in none."""
        positions = self._positions(rows)
        there = np.all([is_on(*pair) for pair in zip(positions, self._images, strict=True)], 0)
        yield Skipped(rows["row"][~there], Status.OFF_IMAGE)
        yield from self._windows(rows["row"][there], [one[:, there] for one in positions])

    def _positions(self, rows: NDArray[Any]) -> list[Float64]:
        """Return row and column of each position in each image, (2, rows)."""
        if self._to_pixels is not None:
            found = self._to_pixels(rows["first"], rows["second"])
        elif self._cut.in_middle:
            found = [middles_of(image, len(rows)) for image in self._images]
        else:
            found = [np.array([rows["second"], rows["first"]])] * len(self._images)
        return [rounded(one) for one in found]

    def _windows(self, rows: Int64, positions: Sequence[Float64]) -> Iterator[RowBatch | Skipped]:
        cut = self._cut
        corners = [corners_of(one, cut.window_shape) for one in positions]
        if cut.edges == "shift":
            corners = [
                shifted(one, image, cut.window_shape)
                for one, image in zip(corners, self._images, strict=True)
            ]
        order = np.lexsort((corners[0][1], corners[0][0]))
        if cut.edges == "skip":
            inside = np.all(
                [
                    is_inside(one, image, cut.window_shape)
                    for one, image in zip(corners, self._images, strict=True)
                ],
                axis=0,
            )
            yield Skipped(rows[~inside], Status.AT_THE_EDGE)
            order = order[inside[order]]
        for reader, one in zip(self._readers, corners, strict=True):
            reader.expect(one[0, order])
        for start in range(0, len(order), cut.batch_size):
            part = order[start : start + cut.batch_size]
            windows = [
                reader.windows(one[:, part])
                for reader, one in zip(self._readers, corners, strict=True)
            ]
            corner = corners[0][:, part]
            offsets = positions[0][:, part] - corner
            borders = borders_of(corner, self._images[0], cut.window_shape)
            yield from without_blank(RowBatch(windows, rows[part], offsets, borders))


def without_blank(batch: RowBatch) -> Iterator[RowBatch | Skipped]:
    """Yield the rows whose windows are not NaN in every pixel, and the others apart."""
    blank = np.all([is_blank(windows) for windows in batch.windows], axis=0)
    if not blank.any():
        yield batch
        return
    yield Skipped(batch.rows[blank], Status.BLANK)
    if not blank.all():
        yield batch[~blank]


def is_blank(windows: NDArray[Any]) -> NDArray[np.bool_]:
    """Say which windows are NaN in every pixel."""
    blank = np.asarray(np.isnan(windows[:, 0, 0, 0]))  # few are, and only those are looked at
    blank[blank] = np.isnan(windows[blank]).all(axis=(1, 2, 3))
    return blank
