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
from morpheus_core.images.address_files import AddressFile
from morpheus_core.images.expansion import FORMATS, UNKNOWN_FORMATS
from morpheus_core.images.hdus import choose_image, least_end, quiet, repair_names
from morpheus_core.images.image import Bands
from morpheus_core.images.lazy_images import LazyImage
from morpheus_core.images.picture_files import PICTURE_ENDS
from morpheus_core.images.scales import Reading, Scale

#: An address, and perhaps an HDU in brackets.
ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+://.+?)(?:\[([^\[\]]+)\])?")


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
        self._hdus: fits.HDUList | None = None
        self.file = AddressFile(self._address, storage_options)
        refuse_packed(self.file, self._address)
        hdus = self._open()
        self._index = choose_image(hdus, extension, self._address)
        self._describe(hdus[self._index], source, reading)
        self.header, self.primary = self.hdu.header, hdus[0].header
        # Tiles lie one behind the other, and are small; rows of pixels are asked for at once.
        self.file.keep_no_more(ahead=self.chunks is not None)

    def _describe(self, hdu: Any, name: str, reading: Reading) -> None:
        """Set what a lazy array has."""
        if least_end(hdu) > self.file.size:
            raise InputError(
                f"{name} is truncated: it has {self.file.size} bytes of at least {least_end(hdu)}"
            )
        self._scale = Scale.of(hdu.header, reading)
        self.shape = tuple(map(int, hdu.shape))
        self.chunks = None
        if isinstance(hdu, fits.CompImageHDU):
            self.chunks = tuple(hdu.tile_shape)
            len(hdu.compressed_data)  # reads where tiles are, which is kept, too
        self.dtype = self._scale(np.zeros(1, hdu.section.dtype)).dtype.newbyteorder("=")

    def _open(self) -> fits.HDUList:
        """Return the open file."""
        if self._hdus is None:
            self.file.seek(0)
            with quiet():
                self._hdus = fits.open(self.file, memmap=False, do_not_scale_image_data=True)
                for hdu in self._hdus:  # which reads every header
                    repair_names(hdu)
        return self._hdus

    @property
    def hdu(self) -> Any:
        """The HDU of the image."""
        return self._open()[self._index]

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """Read some rows."""
        with quiet():
            return self._scale(np.asarray(self.hdu.section[index]))

    @property
    def file_identity(self) -> dict[str, Any] | None:
        """What tells the image from another, as JSON values; None where its server does not."""
        if not self.file.version:
            return None
        return {
            "address": self._address,
            "hdu": self._index,
            "size": self.file.size,
            "version": self.file.version,
        }

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_hdus": None}

    def close(self) -> None:
        """Close what reads the file."""
        if self._hdus is not None:
            self._hdus.close()
            self._hdus = None


def refuse_packed(file: AddressFile, address: str) -> None:
    """Raise if a file is compressed as a whole, of which no rows can be read."""
    beginning = file.read(8) or b""
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

    @property
    def is_whole(self) -> bool:
        """Whether all of its file is in memory."""
        return self._array.file.is_whole

    def stored_hdu(self) -> tuple[AddressFile, Any]:
        """Return the file with the HDU, and the HDU."""
        return self._array.file, self._array.hdu

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
    if source.lower().endswith(PICTURE_ENDS):
        raise InputError(f"pictures are read from files on this machine; download {source} first")
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
