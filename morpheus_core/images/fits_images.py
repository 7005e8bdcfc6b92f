"""Images in FITS files, read row by row."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from morpheus_core.errors import InputError
from morpheus_core.images.expansion import Unpacked
from morpheus_core.images.hdus import (
    choose_image,
    least_end,
    open_without_map,
    quiet,
    refuse_other_formats,
)
from morpheus_core.images.image import Bands, Layout, checked_dtype
from morpheus_core.images.row_blocks import RowBlocks
from morpheus_core.images.scales import Reading, Scale
from morpheus_core.storage.names import is_found

#: Bytes of a row of tiles that are kept unpacked; where there are more, the image is unpacked to a
#: file. One tile of 4096 x 4096 floats has as many.
KEPT_TILES = 1 << 26


class FitsImage:
    """One image of a FITS file.

    Rows come through ``.section`` of a file that is opened without a memory map: a map is refused
    for scaled integers, and its pages would count as memory of this process.

    Parameters
    ----------
    path : Path
        The file, which may be compressed as a whole (gzip, bzip2, xz) or in tiles.
    extension : int, str or None
        Which HDU: ``1``, ``"1"``, ``"SCI"``, ``"SCI,2"``. None takes the only image.
    bands : {"last", "first"}
        Where its bands are, if it has three axes.
    unpacked : Unpacked, optional
        Unpacks the file for this image and for others, and removes what it has unpacked.
    reading : Reading, optional
        How stored numbers become pixels.
    stored : Path, optional
        Where the file lies without compression of the whole, if somebody has unpacked it already.

    Raises
    ------
    InputError
        If there is no such image or it cannot be read.
    """

    header: fits.Header | None
    wcs: Any = None

    def __init__(
        self,
        path: Path,
        extension: int | str | None = None,
        bands: Bands = "last",
        unpacked: Unpacked | None = None,
        reading: Reading = Reading(),  # noqa: B008 - it is frozen
        stored: Path | None = None,
    ) -> None:
        self.path, self._bands, self._reading = path, bands, reading
        # A mask is read by the thread that cuts windows and by the one that finalizes rows.
        self._lock = threading.Lock()
        with ExitStack() as opened, quiet():
            try:
                unpacked = unpacked or opened.enter_context(Unpacked())
                self._stored = stored or self._expanded(unpacked)
                self._file = opened.enter_context(open_without_map(self._stored))
                self._stored_index = self._index = choose_image(
                    self._file, None if extension is None else str(extension), str(path)
                )
                self.name = str(path) if extension is None else f"{path}[{extension}]"
                hdu = self._file[self._index]
                self._describe(hdu)
                if isinstance(hdu, fits.CompImageHDU):
                    self._read_tiles(hdu, unpacked, opened)
            except InputError:
                raise
            except Exception as error:  # damaged headers raise half a dozen different classes
                raise InputError(f"{path} cannot be read as FITS: {error}") from error
            self.unpacking = unpacked.taken
            self._opened = opened.pop_all()

    def _expanded(self, unpacked: Unpacked) -> Path:
        """Return the file that rows are read from."""
        if not is_found(self.path):
            raise InputError(f"no such file: {self.path}")
        if self.path.is_dir():
            raise InputError(f"{self.path} is a directory; pass the FITS files in it")
        refuse_other_formats(self.path)
        return unpacked(self.path) or self.path

    def _describe(self, hdu: Any) -> None:
        """Set what every image has."""
        if any(isinstance(length, bool) for length in hdu.shape):
            raise InputError(f"{self.name} must have whole numbers of pixels, got {hdu.shape}")
        self.layout = Layout.of(hdu.shape, self._bands, self.name)
        self._check_length(hdu)
        self._section, self.header, self.primary = hdu.section, hdu.header, self._file[0].header
        self._scale = Scale.of(hdu.header, self._reading)
        self.shape = self.layout.shape
        self._blocks = RowBlocks(self._load)
        # The header does not say what type scaled integers become; a pixel does.
        self.dtype = checked_dtype(self._scale(self._first_pixel(hdu)).dtype, self.name)

    def _first_pixel(self, hdu: Any) -> NDArray[Any]:
        """Return a stored pixel; of tiles the type is known without unpacking one."""
        if isinstance(hdu, fits.CompImageHDU):
            return np.zeros(1, hdu.section.dtype)
        return np.asarray(self._section[self.layout.rows(0, 1)]).reshape(-1)[:1]

    def _read_tiles(self, hdu: Any, unpacked: Unpacked, opened: ExitStack) -> None:
        """Keep rows of tiles that were just read, or unpack all of them where one row is large.

        Whatever is wanted of a tile, all of it is unpacked.
        """
        row_axis = len(self.layout.rows(0, 1)) - 1
        height, tile_height = self.shape[0], hdu.tile_shape[row_axis]
        row_bytes = self.shape[1] * self.shape[2] * self._first_pixel(hdu).itemsize
        if min(height, tile_height) * row_bytes > KEPT_TILES:
            self._stored = unpacked.tiles(self._stored, self._index, hdu, self.name)
            file = opened.enter_context(open_without_map(self._stored))
            self._section, self._stored_index = file[0].section, 0
        elif tile_height > 1:
            edges = np.append(np.arange(0, height, tile_height), height)
            self._blocks = RowBlocks(self._load, edges)

    def _check_length(self, hdu: Any) -> None:
        """Raise if the file ends before the image does; astropy only warns, and reads the rest."""
        if isinstance(hdu, fits.CompImageHDU):
            counts = [
                -(-whole // tile) for whole, tile in zip(hdu.shape, hdu.tile_shape, strict=True)
            ]
            # Every tile has a descriptor of at least eight bytes in the table.
            if 8 * prod(counts) > hdu.fileinfo()["datSpan"]:
                raise InputError(f"{self.name} claims {prod(counts)} tiles, more than there can be")
        length, end = self._stored.stat().st_size, least_end(hdu)
        if end > length:
            raise InputError(f"{self.name} is truncated: it has {length} bytes of at least {end}")

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Read the rows from the file."""
        try:
            with self._lock:
                rows = self._blocks.read(start, stop)
        except Exception as error:
            raise InputError(
                f"{self.name}: rows {start} to {stop - 1} cannot be read: {error}"
            ) from error
        return rows

    def _load(self, start: int, stop: int) -> NDArray[Any]:
        stored = np.asarray(self._section[self.layout.rows(start, stop)])
        return self.layout.arrange(self._scale(stored))

    def stored_hdu(self) -> tuple[Path, Any]:
        """Return the file with the HDU, unpacked if the whole file was compressed, and the HDU."""
        return Path(self._file.filename()), self._file[self._index]

    def identity(self) -> dict[str, Any]:
        """Return which image it is, and size and time of the last change of its file."""
        path = self.path.resolve()
        status = path.stat()
        return {
            "path": str(path),
            "hdu": self._index,
            "bands": self._bands,
            "reading": asdict(self._reading),
            "size": status.st_size,
            "mtime_ns": status.st_mtime_ns,
        }

    def store(self, path: Path) -> dict[str, Any]:
        """Return the place of the file, which is on disk already."""
        return {
            "path": str(self._stored.resolve()),
            "name": self.name,
            "extension": self._stored_index,
            "bands": self._bands,
            "reading": asdict(self._reading),
        }

    def close(self) -> None:
        """Close the file."""
        self._opened.close()
