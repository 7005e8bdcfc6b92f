"""Images in ASDF files, of Roman and JWST for two: arrays in a tree of names."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from morpheus_core.errors import InputError
from morpheus_core.extras import require_package
from morpheus_core.images.expansion import Unpacking, scratch_file
from morpheus_core.images.general_wcs import nearest_header, wcs_beside
from morpheus_core.images.image import Bands
from morpheus_core.images.lazy_images import LazyImage


class AsdfArray:
    """An array in an ASDF file, sliced lazily; a process that it is sent to opens the file again.

    What is compressed is unpacked once, to the folder for temporary files.

    Parameters
    ----------
    path : Path
        The file.
    key : str or None
        Where the array is in the tree, ``"roman.data"``. None takes the only image.

    Raises
    ------
    InputError
        If there is no such image.
    """

    def __init__(self, path: Path, key: str | None) -> None:
        self.path = path.absolute()
        self._file: Any = None
        self._scratch: Path | None = None
        self._owner = True
        self.unpacking = Unpacking()
        try:
            self._find(key)
        except BaseException:
            self.close()
            raise

    def _find(self, key: str | None) -> None:
        path = self.path
        images = {name: shape for name, shape in self._shapes() if len(shape) > 1}
        shown = ", ".join(f"[{name}] {shape}" for name, shape in images.items()) or "none"
        if key is None and len(images) != 1:
            raise InputError(
                f"{path} must hold one image, got {shown}; say which in brackets, as in "
                f"{path.name}[roman.data]"
            )
        self.key = next(iter(images)) if key is None else key
        if self.key not in images:
            raise InputError(f"[{key}] names no image of {path}, which holds {shown}")
        array = self._array()
        if self._open().get_array_compression(array) is not None:
            self._unpack(array)
        self.shape, self.dtype = tuple(map(int, array.shape)), np.dtype(array.dtype)

    def _unpack(self, array: Any) -> None:
        """Unpack an array, of whose rows none can be read alone, into a temporary file."""
        start = time.perf_counter()
        with scratch_file(f"{self.path}[{self.key}]", ".npy") as scratch:
            np.save(scratch, np.asarray(getattr(array, "value", array)))
        self._scratch = Path(scratch.name)
        self.unpacking = Unpacking.since(start, self._scratch)

    def _open(self) -> Any:
        """Return the open file."""
        import asdf

        if self._file is None:
            self._file = asdf.open(self.path, lazy_load=True, memmap=True)
        return self._file

    def _shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield the arrays of the tree, by their names."""
        return shapes_below(self._open().tree, "")

    def _array(self) -> Any:
        if self._scratch is not None:
            return np.load(self._scratch, mmap_mode="r")
        node = self._open()
        for name in self.key.split("."):
            node = node[name]
        return getattr(node, "value", node)  # of a quantity

    @property
    def wcs(self) -> Any:
        """World coordinates that the file has beside the array, or None."""
        return wcs_beside(self._open().tree, self.key)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """Return some rows, in memory."""
        rows: NDArray[Any] = np.asanyarray(self._array()[index]).copy()
        return rows

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_file": None, "_owner": False}

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._scratch is not None and self._owner:
            self._scratch.unlink(missing_ok=True)


def shapes_below(node: Any, prefix: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield names and shapes of the arrays in a tree; lists hold no images."""
    if hasattr(node, "shape") and hasattr(node, "dtype"):
        yield prefix, tuple(node.shape)
    elif isinstance(node, Mapping) or (hasattr(node, "keys") and hasattr(node, "__getitem__")):
        for key in list(node.keys()):
            if isinstance(key, str) and not key.startswith("_"):
                yield from shapes_below(node[key], f"{prefix}.{key}" if prefix else key)


class AsdfImage(LazyImage):
    """An image of an ASDF file, which is closed with it."""

    def __init__(self, source: AsdfArray, bands: Bands) -> None:
        super().__init__(source, f"{source.path}[{source.key}]", bands)
        self.path, self.unpacking = source.path, source.unpacking
        self._array = source

    def close(self) -> None:
        """Forget the rows, and close the file."""
        super().close()
        self._array.close()


def open_asdf(path: Path, key: str | None, bands: Bands, has_place: bool) -> LazyImage:
    """Open an image of an ASDF file.

    Parameters
    ----------
    path, key, bands
        The file, the name of the array, and where its bands are.
    has_place : bool
        Whether its world coordinates are of interest, which those of a mask are not.

    Raises
    ------
    MissingPackageError
        If the package asdf is not installed.
    InputError
        If there is no such image, or it cannot be read.
    """
    require_package("asdf", "asdf", f"{path}")
    if not path.is_file():
        raise InputError(f"no such file: {path}")
    try:
        source = AsdfArray(path, key)
    except InputError:
        raise
    except Exception as error:  # what is damaged raises many classes
        raise InputError(f"{path} cannot be read as ASDF: {error}") from error
    image = AsdfImage(source, bands)
    try:
        image.read(0, 1)
        if has_place and (wcs := source.wcs) is not None:
            image.wcs, image.header = wcs, nearest_header(wcs, image.shape[:2], image.name)
    except BaseException:
        image.close()
        raise
    return image
