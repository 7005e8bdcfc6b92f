"""What a user writes to prepare an image as a whole, and the rows that it is given."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray

from morpheus_core.errors import InputError
from morpheus_core.images.image import Image

#: Bytes of a block of rows that a step is fitted to.
BLOCK_BYTES = 4 << 20


class ImageRows(Iterator[NDArray[Any]]):
    """The rows of an image from the first to the last, in blocks, (rows, width, bands).

    Blocks are native and C-contiguous, and a step's own. Their heights depend on nothing but the
    image.

    Parameters
    ----------
    image : Image
        The image that is read.

    Attributes
    ----------
    shape : tuple of int
        Height, width and bands of the image.
    dtype : dtype
        Of its pixels.
    """

    def __init__(self, image: Image) -> None:
        self.shape, self.dtype = image.shape, image.dtype
        height, width, bands = self.shape
        rows = max(1, BLOCK_BYTES // (width * bands * self.dtype.itemsize))
        self._blocks = (
            own_rows(image, first, min(first + rows, height)) for first in range(0, height, rows)
        )

    def __next__(self) -> NDArray[Any]:
        return next(self._blocks)


class PreparingStep(Protocol):
    """What is found out of a whole image first, and then done to its rows."""

    def fit(self, rows: ImageRows) -> Any:
        """Return what must be known of the whole image.

        Parameters
        ----------
        rows : ImageRows
            All of its rows.

        Returns
        -------
        object
            It must be picklable, and the same whenever it is found of the same pixels.
        """

    def apply(self, rows: NDArray[Any], first_row: int, state: Any) -> NDArray[Any]:
        """Return rows, (rows, width, bands), as a model is to see them.

        Parameters
        ----------
        rows : ndarray
            Some rows, from `first_row` on; they may be changed.
        first_row : int
            Which one of the image the first is.
        state : object
            What :meth:`fit` returned.

        Returns
        -------
        ndarray
            Of the same shape. What becomes of a row must not depend on which rows are given with
            it: strips cut them otherwise.
        """


PreparingFunction: TypeAlias = Callable[[NDArray[Any]], NDArray[Any]]
Preparing: TypeAlias = "PreparingStep | PreparingFunction"


def is_step(prepare: object) -> TypeGuard[PreparingStep]:
    """Say whether something is fitted and applied, and not called."""
    return hasattr(prepare, "fit") and hasattr(prepare, "apply")


def checked_preparing(prepare: Any) -> Preparing | None:
    """Return a step, a function, or None.

    Raises
    ------
    InputError
        If it is something else.
    """
    if inspect.isclass(prepare):
        raise InputError(
            f"prepare must be an object, got the class {prepare.__qualname__}; call it, "
            f"prepare={prepare.__qualname__}()"
        )
    if prepare is None or is_step(prepare) or callable(prepare):
        return prepare  # type: ignore[no-any-return]
    raise InputError(
        f"prepare must have methods fit(rows) and apply(rows, first_row, state), or be a function "
        f"of a whole image, got {prepare!r}; morpheus_core.preparing has some"
    )


def own_rows(image: Image, start: int, stop: int) -> NDArray[Any]:
    """Return a copy of rows, native and C-contiguous, that may be changed."""
    return np.array(image.read(start, stop), image.dtype, order="C")
