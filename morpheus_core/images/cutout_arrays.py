"""Arrays of many cut-outs, (cut-outs, height, width, bands), as one image.

They become an image in which they lie one below the other, so that it is read as any other one.
"""

from __future__ import annotations

import os
import struct
import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from morpheus_core.errors import InputError
from morpheus_core.images.hdus import split_extension
from morpheus_core.images.image import Bands
from morpheus_core.images.lazy_images import LazyImage
from morpheus_core.images.resampling import area_means

#: How names of such files end.
ARRAY_ENDS = (".npy", ".npz")
#: Bytes of the fixed part of what comes before a file in a ZIP archive, at whose end the lengths
#: of its name and of what follows are (section 4.3.7 of PKWARE's APPNOTE 6.3.10).
LOCAL_HEADER = 30


def is_array_of_cutouts(source: Any) -> bool:
    """Say whether an input holds the cut-outs of many rows: a file of numpy, or a whole array."""
    if isinstance(source, (str, os.PathLike)):
        return split_extension(os.fspath(source))[0].suffix.lower() in ARRAY_ENDS
    return isinstance(source, np.ndarray) and source.ndim == 4


class CutoutArray:
    """Cut-outs one below the other, sliced lazily; of a file, a process that gets it opens it anew.

    Parameters
    ----------
    source : ndarray or path
        (cut-outs, height, width, bands); of a file, which is mapped into memory. Arrays in ``.npz``
        are mapped where they are not compressed, and read as a whole where they are; brackets name
        one of several.
    bands : {"last", "first"}
        With "first" it is (cut-outs, bands, height, width).

    Raises
    ------
    InputError
        If it is no such array.
    """

    def __init__(self, source: Any, bands: Bands) -> None:
        self._bands, self.path, self._member = bands, None, None
        self._array: NDArray[Any] | None = None
        if isinstance(source, np.ndarray):
            self._array, self.name = source, "an array of cut-outs"
        else:
            path, self._member = split_extension(os.fspath(source))
            self.path, self.name = path.absolute(), os.fspath(source)
            if not path.is_file():
                raise InputError(f"no such file: {path}")
        try:
            array = self._open()
        except InputError:
            raise
        except Exception as error:  # what is damaged raises many classes
            raise InputError(f"{self.name} cannot be read as an array: {error}") from error
        if array.ndim != 4 or 0 in array.shape:
            order = "height, width, bands" if bands == "last" else "bands, height, width"
            raise InputError(
                f"an array of cut-outs must be (cut-outs, {order}), got {array.shape} for "
                f"{self.name}; array[..., np.newaxis] has one band"
            )
        shape = array.shape if bands == "last" else tuple(np.array(array.shape)[[0, 2, 3, 1]])
        self.count, height, width, self._n_bands = map(int, shape)
        self.size, self.dtype = (height, width), array.dtype
        self._resized: tuple[int, int] | None = None

    def resize(self, size: tuple[int, int]) -> None:
        """Let cut-outs have another height and width, by means over areas."""
        self._resized = None if size == self.size else size

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows of all cut-outs, width and bands."""
        height, width = self._resized or self.size
        return self.count * height, width, self._n_bands

    def _open(self) -> NDArray[Any]:
        if self._array is None:
            assert self.path is not None, "it is an array otherwise"
            self._array = mapped(self.path, self._member)
        return self._array

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        """Return some rows of the image."""
        height = (self._resized or self.size)[0]
        first = rows.start // height
        found = self._open()[first : -(-rows.stop // height)]
        if self._bands == "first":
            found = np.moveaxis(found, 1, -1)
        if self._resized is not None:
            found = area_means(found, self._resized)
        found = np.ascontiguousarray(found).reshape(-1, *self.shape[1:])
        return found[rows.start - first * height : rows.stop - first * height]

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_array": self._array if self.path is None else None}


class CutoutImage(LazyImage):
    """The image that cut-outs make, known again by its file, if it has one."""

    def __init__(self, source: CutoutArray) -> None:
        super().__init__(source, source.name, "last")
        self.path, self.cutouts = source.path, source

    def identity(self) -> dict[str, Any]:
        """Return size and time of the last change of the file, or what tells arrays apart."""
        if self.path is None:
            return super().identity()
        status = self.path.stat()
        return {
            "path": str(self.path.resolve()),
            "name": self.name,
            "shape": list(self.shape),
            "size": status.st_size,
            "mtime_ns": status.st_mtime_ns,
        }


def mapped(path: Path, member: str | None) -> NDArray[Any]:
    """Return the array of a file, of which pages are read when they are looked at.

    Raises
    ------
    InputError
        If it holds several, and none of them is named, or not the one that is.
    """
    if path.suffix.lower() == ".npy":
        if member is not None:
            raise InputError(f"a .npy file holds one array, got [{member}] for {path}")
        array: NDArray[Any] = np.load(path, mmap_mode="r")
        return array
    with zipfile.ZipFile(path) as file:
        names = [name.removesuffix(".npy") for name in file.namelist()]
        chosen = names[0] if member is None and len(names) == 1 else member
        if chosen not in names:
            raise InputError(
                f"{path} must hold one array, or brackets must name one, got "
                f"{', '.join(f'[{name}]' for name in names)}"
            )
        info = file.infolist()[names.index(chosen)]
        if info.compress_type != zipfile.ZIP_STORED:
            with file.open(info) as packed:
                return npy_format.read_array(packed)
    return mapped_member(path, info.header_offset)


def mapped_member(path: Path, header_offset: int) -> NDArray[Any]:
    """Return an array that lies in an archive as it would in a file of its own."""
    with path.open("rb") as file:
        file.seek(header_offset + LOCAL_HEADER - 4)
        name, extra = struct.unpack("<HH", file.read(4))
        file.seek(name + extra, os.SEEK_CUR)
        version = npy_format.read_magic(file)
        read = (
            npy_format.read_array_header_1_0
            if version == (1, 0)
            else npy_format.read_array_header_2_0
        )
        shape, is_fortran, dtype = read(file)
        if dtype.hasobject:
            raise InputError(f"arrays must be numbers, got {dtype} for {path}")
        order: Literal["C", "F"] = "F" if is_fortran else "C"
        return np.memmap(path, dtype=dtype, mode="r", offset=file.tell(), shape=shape, order=order)
