"""Images as users have them, read lazily and row by row.

Arrays and FITS files become one :class:`ImageStack` of equally large images. Nothing is read
before it is asked for, and only the rows that are.
"""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning
from numpy.typing import NDArray

from morpheus_core.errors import InputError
from morpheus_core.resources import Resource

#: FITS files consist of blocks of this many bytes.
FITS_BLOCK = 2880

ModelInput = NDArray[Any] | str | os.PathLike[str]
ModelInputs = ModelInput | Sequence[ModelInput]


class Image(Protocol):
    """One input image."""

    name: str
    shape: tuple[int, int, int]
    """Height, width and bands."""
    dtype: np.dtype[Any]
    """In native byte order."""
    header: fits.Header | None
    """Where the image came with one."""

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return rows ``[start, stop)``, (rows, width, bands), in whatever byte order."""

    def identity(self) -> dict[str, Any]:
        """Return what tells this image from another, as JSON values."""

    def close(self) -> None:
        """Release what the image holds open."""


class ArrayImage:
    """An image that is in memory, or memory-mapped."""

    header = None

    def __init__(self, array: NDArray[Any], name: str) -> None:
        self.name = name
        if isinstance(array, np.ma.MaskedArray):
            raise InputError(
                f"{name} is a masked array, whose mask a model cannot see; pass "
                f"array.filled(value) instead"
            )
        self.dtype = checked_dtype(array.dtype, name)
        self.shape = checked_shape(array.shape, name)
        self._rows = np.asarray(array).reshape(self.shape)

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

    def save(self, path: Path) -> None:
        """Write the image as a .npy file, which other processes can map."""
        np.save(path, self._rows)

    def close(self) -> None:
        """Leave the user's array alone."""


class FitsImage:
    """One image of a FITS file.

    Which one may be said in brackets, as CFITSIO does: ``file.fits[1]``, ``file.fits[SCI]``,
    ``file.fits[SCI,2]``. Without brackets it is the only one.

    Rows come through ``.section`` of a file that is opened without a memory map: a map is refused
    for scaled integers, and its pages would count as memory of this process.
    """

    def __init__(self, source: str) -> None:
        self.name = source
        self.path, self._extension = split_extension(source)
        path = self.path
        if not path.exists():
            raise InputError(f"no such file: {path}")
        try:
            with warnings.catch_warnings():
                # Of truncation astropy only warns; `_check_length` does more.
                warnings.filterwarnings(
                    "ignore", "File may have been truncated", AstropyUserWarning
                )
                self._file = fits.open(path, mode="readonly", memmap=False)
                len(self._file)  # reads every header, which is where the warning comes from
        except Exception as error:  # damaged headers raise half a dozen different classes
            raise InputError(f"{path} cannot be read as FITS: {error}") from error
        try:
            self._section, self.header, self.shape, self.dtype = self._describe()
        except BaseException:
            self.close()
            raise

    def _describe(self) -> tuple[Any, fits.Header, tuple[int, int, int], np.dtype[Any]]:
        try:
            hdu = self._chosen_image()
            shape = checked_shape(hdu.shape, self.name)
            self._check_length(hdu)
            # The header does not say what type scaled integers become; a pixel does.
            dtype = checked_dtype(hdu.section[0:1].dtype, self.name)
            return hdu.section, hdu.header, shape, dtype
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"{self.path} cannot be read as a FITS image: {error}") from error

    def _check_length(self, hdu: Any) -> None:
        """Raise if the file ends before the image does; astropy only warns, and reads the rest."""
        if self.path.suffix in (".gz", ".bz2", ".xz", ".Z"):
            return  # its length says nothing of the length of what is in it
        place, length = hdu.fileinfo(), self.path.stat().st_size
        compressed = isinstance(hdu, fits.CompImageHDU)
        # Files whose last block is not filled up are common, and complete.
        end = place["datLoc"] + (place["datSpan"] - FITS_BLOCK + 1 if compressed else hdu.size)
        if end > length:
            raise InputError(f"{self.path} is truncated: it has {length} bytes of at least {end}")

    def _chosen_image(self) -> Any:
        images = {i: hdu for i, hdu in enumerate(self._file) if hdu.is_image and hdu.shape}
        if not images:
            raise InputError(f"{self.path} holds no image, only tables or empty HDUs")
        if self._extension is None and len(images) == 1:
            return next(iter(images.values()))
        candidates = ", ".join(f"[{i}] {hdu_name(hdu)} {hdu.shape}" for i, hdu in images.items())
        if self._extension is None:
            raise InputError(
                f"{self.path} must hold one image, got {len(images)}: {candidates}; say which in "
                f"brackets, as in {self.path.name}[{next(iter(images))}]"
            )
        try:
            index = self._file.index_of(extension_key(self._extension))
        except KeyError:
            index = -1
        if index not in images:
            raise InputError(
                f"[{self._extension}] names no image of {self.path}, which holds {candidates}"
            )
        return images[index]

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Read the rows from the file."""
        try:
            rows: NDArray[Any] = self._section[start:stop]
        except Exception as error:
            raise InputError(
                f"{self.path}: rows {start} to {stop} cannot be read: {error}"
            ) from error
        return rows.reshape(stop - start, *self.shape[1:])

    def identity(self) -> dict[str, Any]:
        """Return path, size and time of the last change."""
        path = self.path.resolve()
        status = path.stat()
        source = str(path) if self._extension is None else f"{path}[{self._extension}]"
        return {"path": source, "size": status.st_size, "mtime_ns": status.st_mtime_ns}

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class ImageStack(Resource):
    """Images of the same height and width; a context manager that closes them.

    Parameters
    ----------
    model_inputs : array, path, or sequence of either
        As :func:`morpheus_core.predict` takes them.

    Raises
    ------
    InputError
        If there is none, they are of two kinds or of different sizes, or one cannot be read.
    """

    def __init__(self, model_inputs: ModelInputs) -> None:
        sources = as_list(model_inputs)
        with ExitStack() as opened:
            self.images: list[Image] = []
            for index, source in enumerate(sources):
                self.images.append(open_image(source, f"model_inputs[{index}]"))
                opened.callback(self.images[-1].close)
            self._check_shapes()
            self._opened = opened.pop_all()

    def _check_shapes(self) -> None:
        first = self.images[0]
        for image in self.images[1:]:
            if image.shape[:2] != first.shape[:2]:
                raise InputError(
                    f"all inputs must have the same height and width, got {image.shape[:2]} for "
                    f"{image.name} but {first.shape[:2]} for {first.name}"
                )

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of every image."""
        return self.images[0].shape[:2]

    @property
    def paths(self) -> list[Path]:
        """The files that are being read."""
        return [image.path for image in self.images if isinstance(image, FitsImage)]

    @property
    def header(self) -> fits.Header | None:
        """The header of the first image, if it has one."""
        return self.images[0].header

    def close(self) -> None:
        """Close all images."""
        self._opened.close()


def as_list(model_inputs: ModelInputs) -> list[ModelInput]:
    """Return the inputs as a list of one kind; a lone array or path is a list of one."""
    if isinstance(model_inputs, (np.ndarray, str, os.PathLike)):
        return [model_inputs]
    if not isinstance(model_inputs, (list, tuple)):
        raise InputError(
            f"model_inputs must be an array, a path, or a list of arrays or of paths, "
            f"got {type(model_inputs).__name__}"
        )
    if not model_inputs:
        raise InputError("model_inputs must name at least one image, got an empty list")
    for index, source in enumerate(model_inputs):
        if not isinstance(source, (np.ndarray, str, os.PathLike)):
            raise InputError(
                f"model_inputs must be arrays or paths, got {type(source).__name__} for "
                f"model_inputs[{index}]"
            )
        if isinstance(source, np.ndarray) != isinstance(model_inputs[0], np.ndarray):
            raise InputError(
                f"model_inputs must be all arrays or all paths, got {_kind(model_inputs[0])} for "
                f"model_inputs[0] but {_kind(source)} for model_inputs[{index}]"
            )
    return list(model_inputs)


def _kind(source: ModelInput) -> str:
    return "an array" if isinstance(source, np.ndarray) else "a path"


def open_image(source: ModelInput, name: str) -> Image:
    """Open one input."""
    if isinstance(source, np.ndarray):
        return ArrayImage(source, name)
    return FitsImage(os.fspath(source))


def split_extension(source: str) -> tuple[Path, str | None]:
    """Split ``file.fits[SCI,2]`` into path and extension, unless that is a file's name."""
    parts = re.fullmatch(r"(.+)\[([^\[\]]+)\]", source)
    if parts is None or Path(source).exists():
        return Path(source), None
    return Path(parts[1]), parts[2]


def extension_key(extension: str) -> int | str | tuple[str, int]:
    """Return what astropy calls an extension: a number, a name, or a name and a version."""
    name, _, version = extension.partition(",")
    if version.strip().isdigit():
        return name.strip(), int(version)
    return int(extension) if extension.isdigit() else extension.strip()


def hdu_name(hdu: Any) -> str:
    """Return the name of an HDU, and its version if it is not the first."""
    version = f",{hdu.ver}" if hdu.ver > 1 else ""
    return f"{hdu.name or 'unnamed'}{version}"


def checked_shape(shape: tuple[int, ...], name: str) -> tuple[int, int, int]:
    """Return (height, width, bands) of an image of two or three dimensions."""
    if len(shape) not in (2, 3):
        raise InputError(
            f"an image must be (height, width) or (height, width, bands), got {shape} for {name}"
        )
    if 0 in shape:
        raise InputError(f"an image must have pixels, got shape {shape} for {name}")
    height, width, *bands = (int(length) for length in shape)
    return height, width, bands[0] if bands else 1


def checked_dtype(dtype: np.dtype[Any], name: str) -> np.dtype[Any]:
    """Return a real numeric dtype in native byte order."""
    if dtype.kind not in "biuf":
        raise InputError(f"an image must be real numbers, got dtype {dtype} for {name}")
    return dtype.newbyteorder("=")
