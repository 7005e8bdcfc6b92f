"""FITS images at addresses, ``s3://bucket/image.fits[SCI]``, of which the wanted rows are read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from morpheus_core.errors import InputError
from morpheus_core.extras import require_package
from morpheus_core.images.expansion import FORMATS, UNKNOWN_FORMATS
from morpheus_core.images.hdus import choose_image, least_end, quiet, repair_names
from morpheus_core.images.image import Bands
from morpheus_core.images.lazy_images import LazyImage
from morpheus_core.images.scales import Reading, Scale

#: An address, and perhaps an HDU in brackets.
ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+://.+?)(?:\[([^\[\]]+)\])?")
#: Bytes that are read ahead of what is asked for: headers come in small pieces. As each seek costs
#: that much, more is not better.
READ_AHEAD = 1 << 13
#: What tells one version of a file from another, where a file system knows it.
VERSION = ("ETag", "etag", "LastModified", "mtime", "created", "generation")


def is_address(source: str) -> bool:
    """Say whether a source is an address, not a path."""
    return ADDRESS.fullmatch(source) is not None


class RemoteArray:
    """An image at an address, sliced lazily; a process that it is sent to opens it for itself.

    Parameters
    ----------
    source : str
        The address, as fsspec takes it, perhaps with an HDU in brackets.
    reading : Reading
        How stored numbers are read.
    storage_options : mapping
        What fsspec needs to open it, keys for one.

    Raises
    ------
    InputError
        If there is no such image.
    """

    def __init__(self, source: str, reading: Reading, storage_options: Mapping[str, Any]) -> None:
        parts = ADDRESS.fullmatch(source)
        if parts is None:
            raise InputError(f"{source} must be an address, as in s3://bucket/image.fits")
        self._address, extension = parts.groups()
        self._options = dict(storage_options)
        self._opened: tuple[Any, fits.HDUList] | None = None
        try:
            self._find(extension, source, reading)
        except BaseException:
            self.close()
            raise

    def _find(self, extension: str | None, name: str, reading: Reading) -> None:
        hdus = self._open()
        self._index = choose_image(hdus, extension, self._address)
        hdu = hdus[self._index]
        if least_end(hdu) > self._size:
            raise InputError(
                f"{name} is truncated: it has {self._size} bytes of at least {least_end(hdu)}"
            )
        self.header, self.primary = hdu.header, hdus[0].header
        self._scale = Scale.of(hdu.header, reading)
        self.shape = tuple(map(int, hdu.shape))
        self.chunks = tuple(hdu.tile_shape) if isinstance(hdu, fits.CompImageHDU) else None
        self.dtype = self._scale(np.zeros(1, hdu.section.dtype)).dtype.newbyteorder("=")

    def _open(self) -> fits.HDUList:
        """Return the open file."""
        import fsspec

        if self._opened is None:
            system, path = fsspec.core.url_to_fs(self._address, **self._options)
            information = system.info(path)
            self._size = int(information["size"])
            self._version = {k: str(information[k]) for k in VERSION if k in information}
            file = system.open(path, "rb", block_size=READ_AHEAD, cache_type="readahead")
            refuse_packed(file, self._address)
            hdus = fits.open(file, memmap=False, do_not_scale_image_data=True)
            self._opened = file, hdus
            with quiet():
                for hdu in hdus:  # which reads every header
                    repair_names(hdu)
        return self._opened[1]

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """Read some rows."""
        with quiet():
            return self._scale(np.asarray(self._open()[self._index].section[index]))

    @property
    def file_identity(self) -> dict[str, Any]:
        """What tells the image from another, as JSON values."""
        return {
            "address": self._address,
            "hdu": self._index,
            "size": self._size,
            "version": self._version,
        }

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_opened": None}

    def close(self) -> None:
        """Close the file."""
        if self._opened is not None:
            for part in reversed(self._opened):
                part.close()
            self._opened = None


def refuse_packed(file: Any, address: str) -> None:
    """Raise if a file is compressed as a whole, of which no rows can be read."""
    beginning = file.read(8)
    file.seek(0)
    if beginning.startswith((*FORMATS, *UNKNOWN_FORMATS)):
        raise InputError(
            f"{address} is compressed as a whole, of which no rows can be read; download it first"
        )


class RemoteImage(LazyImage):
    """An image at an address, which is closed with it."""

    def __init__(self, source: RemoteArray, name: str, bands: Bands) -> None:
        super().__init__(source, name, bands)
        self.header, self.primary = source.header, source.primary
        self._array = source

    def close(self) -> None:
        """Forget the rows, and close the file."""
        super().close()
        self._array.close()


def open_remote(
    source: str, bands: Bands, reading: Reading, storage_options: Mapping[str, Any] | None
) -> RemoteImage:
    """Open an image at an address.

    Raises
    ------
    MissingPackageError
        If fsspec is not installed.
    InputError
        If there is no such image, or it cannot be read.
    """
    require_package("fsspec", "remote", source)
    try:
        array = RemoteArray(source, reading, storage_options or {})
    except InputError:
        raise
    except Exception as error:  # of networks, of keys, of what is no FITS
        raise InputError(
            f"{source} cannot be read: {type(error).__name__}: {error}; keys and end points are "
            f"passed in storage_options="
        ) from error
    return RemoteImage(array, source, bands)
