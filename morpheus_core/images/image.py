"""One image of rows that are read when they are wanted, and how a stored array is one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from morpheus_core.errors import InputError
from morpheus_core.images.expansion import Unpacking
from morpheus_core.storage.names import is_there
from morpheus_core.storage.whole_files import save_array

Bands = Literal["last", "first"]
BANDS: tuple[Bands, ...] = ("last", "first")


class Image(Protocol):
    """One input image."""

    name: str
    shape: tuple[int, int, int]
    """Height, width and bands."""
    layout: Layout
    """How it is stored."""
    header: fits.Header | None
    """Where the image came with one."""
    primary: fits.Header | None
    """The header of the primary HDU of its file."""
    wcs: Any
    """World coordinates of which a header holds but a part, with the shared interface of astropy
    (APE 14); None where the header tells all."""
    unpacking: Unpacking
    """What the temporary files took that it is read from."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """In native byte order."""

    @property
    def path(self) -> Path | None:
        """The file it is read from, if it is."""

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return rows ``[start, stop)``, (rows, width, bands), in whatever byte order."""

    def identity(self) -> dict[str, Any]:
        """Return what tells this image from another, as JSON values."""

    def store(self, path: Path) -> dict[str, Any]:
        """Make sure that other processes can open the image, in a file at `path` if need be.

        Returns
        -------
        dict
            Where it is, as JSON values for :func:`morpheus_core.images.stack.reopen_image`.
        """

    def close(self) -> None:
        """Release what the image holds open."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a stored array is (height, width, bands).

    Attributes
    ----------
    shape : tuple of int
        Height, width and bands.
    leading : int
        Axes of length one that stand before these and are left out.
    flat : bool
        Whether the array is (height, width), without an axis of bands.
    bands_first : bool
        Whether the array is (bands, height, width).
    """

    shape: tuple[int, int, int]
    leading: int
    flat: bool
    bands_first: bool

    @classmethod
    def of(cls, shape: tuple[int, ...], bands: Bands, name: str) -> Self:
        """Find the layout of an array of a shape.

        Raises
        ------
        InputError
            If it is no image.
        """
        lengths = [int(length) for length in shape]
        leading = 0
        while len(lengths) > 2 and lengths[0] == 1:
            lengths.pop(0)
            leading += 1
        if len(lengths) not in (2, 3):
            raise InputError(
                f"an image must be (height, width), (height, width, bands), or with "
                f'bands="first" (bands, height, width), got {shape} for {name}'
            )
        if 0 in lengths:
            raise InputError(f"an image must have pixels, got shape {shape} for {name}")
        if len(lengths) == 2:
            return cls((lengths[0], lengths[1], 1), leading, True, False)
        if bands == "first":
            return cls((lengths[1], lengths[2], lengths[0]), leading, False, True)
        return cls((lengths[0], lengths[1], lengths[2]), leading, False, False)

    @property
    def fits_axes(self) -> tuple[int, int]:
        """Which axes of a FITS image columns and rows are: it counts from one, last axis first."""
        return (1, 2) if self.flat or self.bands_first else (2, 3)

    def rows(self, start: int, stop: int) -> tuple[int | slice, ...]:
        """Return the index of image rows ``[start, stop)`` in the stored array."""
        before = (slice(None),) if self.bands_first else ()
        return (*[0] * self.leading, *before, slice(start, stop))

    def stored_shape(self, rows: int) -> tuple[int, ...]:
        """Return the shape that some rows have in the stored array."""
        _, width, bands = self.shape
        if self.flat:
            return rows, width
        return (bands, rows, width) if self.bands_first else (rows, width, bands)

    def arrange(self, stored: NDArray[Any]) -> NDArray[Any]:
        """Return stored rows as (rows, width, bands)."""
        if self.bands_first:
            return np.moveaxis(stored, 0, -1)
        return stored.reshape(len(stored), *self.shape[1:])


class ArrayImage:
    """An image that is in memory, or memory-mapped.

    Parameters
    ----------
    array : ndarray
        The pixels.
    name : str
        What errors call it.
    bands : {"last", "first"}
        Where its bands are, if it has three axes.
    header : Header, optional
        What is known of it.
    path : Path, optional
        The file that the array maps or was read from.
    primary : Header, optional
        Of the primary HDU of that file.
    """

    def __init__(
        self,
        array: NDArray[Any],
        name: str,
        bands: Bands = "last",
        header: fits.Header | None = None,
        path: Path | None = None,
        primary: fits.Header | None = None,
    ) -> None:
        self.name, self.header, self.path, self.primary = name, header, path, primary
        self.wcs, self.unpacking = None, Unpacking()
        if carried_mask(array) is not None:
            raise InputError(
                f"{name} is a masked array, whose mask is not looked at here; pass its data alone, "
                f"or array.filled(value)"
            )
        self.dtype = checked_dtype(array.dtype, name)
        self.layout = Layout.of(array.shape, bands, name)
        self.shape = self.layout.shape
        whole = self.layout.rows(0, self.shape[0])
        self._rows = self.layout.arrange(np.asarray(array)[whole])

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return a view of the rows."""
        return self._rows[start:stop]

    def identity(self) -> dict[str, Any]:
        """Return shape, dtype and a digest of the pixels."""
        digest = hashlib.sha256()
        for row in self._rows:
            digest.update(np.ascontiguousarray(row).data)
        return {
            "shape": list(self.shape),
            "dtype": self._rows.dtype.str,
            "sha256": digest.hexdigest(),
        }

    def store(self, path: Path) -> dict[str, Any]:
        """Write the image as a .npy file, (bands, height, width), unless it is there already."""
        if not is_there(path):
            save_array(path, np.moveaxis(self._rows, -1, 0))
        return {"array": str(path.absolute()), "name": self.name}

    def close(self) -> None:
        """Leave the user's array alone."""


def carried_mask(array: Any) -> NDArray[np.bool_] | None:
    """Return the mask that an array brings along: one of numpy.ma, or astropy's ``Masked``."""
    if isinstance(array, np.ma.MaskedArray):
        return np.ma.getmaskarray(array)
    if isinstance(array, np.ndarray) and hasattr(array, "unmasked"):
        return np.asarray(array.mask)  # type: ignore[attr-defined]
    return None


def without_mask(array: NDArray[Any]) -> NDArray[Any]:
    """Return the data of an array that brings a mask along."""
    return np.asarray(np.ma.getdata(getattr(array, "unmasked", array)))


def checked_dtype(dtype: np.dtype[Any], name: str) -> np.dtype[Any]:
    """Return a real numeric dtype in native byte order."""
    if dtype.kind not in "biuf":
        raise InputError(f"an image must be real numbers, got dtype {dtype} for {name}")
    return dtype.newbyteorder("=")
