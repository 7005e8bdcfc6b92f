"""What users pass as one image: a file, an HDU, an array, an NDData, or what is sliced lazily."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from morpheus_core.errors import InputError, warn
from morpheus_core.fits.cards import OBSERVATION
from morpheus_core.images.asdf_images import open_asdf
from morpheus_core.images.fits_images import FitsImage
from morpheus_core.images.general_wcs import is_general, nearest_header
from morpheus_core.images.hdus import (
    describe_hdu,
    has_rows_and_columns,
    is_image,
    quiet,
    split_extension,
)
from morpheus_core.images.image import ArrayImage, Bands, Image, carried_mask, without_mask
from morpheus_core.images.lazy_images import LazyArray, LazyImage, is_lazy, open_lazy
from morpheus_core.images.picture_files import is_picture, open_picture
from morpheus_core.images.remote_images import is_address, open_remote
from morpheus_core.images.scales import Reading, loaded_pixels

if TYPE_CHECKING:
    from astropy.nddata import NDData

#: What an open FITS file consists of; tables only to be refused.
HDU_CLASSES = (
    fits.PrimaryHDU,
    fits.ImageHDU,
    fits.CompImageHDU,
    fits.BinTableHDU,
    fits.TableHDU,
)


@dataclass(frozen=True, slots=True)
class StoredHdu:
    """An HDU of a file that lies somewhere without compression of the whole."""

    path: Path
    index: int
    stored: Path


ModelInput: TypeAlias = "NDArray[Any] | str | os.PathLike[str] | fits.ImageHDU | NDData | LazyArray"


def open_image(
    source: ModelInput,
    name: str,
    bands: Bands,
    reading: Reading | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Image:
    """Open one input, of whatever kind; what mask it brings along is left to :func:`own_mask`.

    Parameters
    ----------
    source, name, bands
        The input, what errors call it, and where its bands are.
    reading : Reading, optional
        How stored numbers of FITS images are read; by default as the user opened them.
    storage_options : mapping, optional
        What fsspec needs to open an address.
    """
    if isinstance(source, np.ndarray):
        return ArrayImage(without_mask(source), name, bands)
    if isinstance(source, (str, os.PathLike)):
        if is_address(os.fspath(source)):
            address = os.fspath(source)
            return open_remote(address, bands, reading or Reading(), storage_options)
        path, extension = split_extension(os.fspath(source))
        if path.suffix.lower() == ".asdf":
            return open_asdf(path, extension, bands, has_place=reading is None)
        if is_picture(path):
            return open_picture(path, extension, bands)
        return FitsImage(path, extension, bands, reading=reading or Reading())
    if isinstance(source, StoredHdu):
        return FitsImage(
            source.path, source.index, bands, reading=reading or Reading(), stored=source.stored
        )
    if isinstance(source, fits.HDUList):
        return open_hdu(only_image(source, name), name, bands, reading)
    if isinstance(source, HDU_CLASSES):
        return open_hdu(source, name, bands, reading)
    if is_nddata(source):
        image = open_image(source.data, name, bands)
        image.header = header_of(source, name)
        if is_general(source.wcs):
            image.header.update(nearest_header(source.wcs, image.shape[:2], name))
        if has_lookup_tables(source.wcs) or is_general(source.wcs):
            image.wcs = source.wcs
        return image
    if is_lazy(source):
        return open_lazy(source, name, bands)
    raise InputError(
        f"{name} must be an array, the path of a file, an image HDU, an NDData, or have "
        f"shape, dtype and slices, got {type(source).__name__}"
    )


def only_image(hdus: fits.HDUList, name: str) -> Any:
    """Return the only image of an open file."""
    images = {i: hdu for i, hdu in enumerate(hdus) if has_rows_and_columns(hdu)}
    if len(images) != 1:
        candidates = ", ".join(map(describe_hdu, images.keys(), images.values())) or "none"
        raise InputError(f"{name} must hold one image, got {candidates}; pass the HDU, hdul[1]")
    return next(iter(images.values()))


def open_hdu(hdu: Any, name: str, bands: Bands, reading: Reading | None) -> Image:
    """Open an HDU: from its file row by row, unless its data were read or changed already."""
    if not is_image(hdu) or not hdu.shape:
        raise InputError(f"{name} must be an image, got an HDU that is {describe_hdu(0, hdu)[4:]}")
    place = hdu.fileinfo()
    path = Path(str(place["file"].name)) if place and place["file"].name else None
    reading = reading or Reading.of(hdu)
    if path is None or not path.is_file():
        return ArrayImage(loaded_pixels(hdu, reading), name, bands, hdu.header)
    with quiet(), fits.open(path, memmap=False) as file:
        offsets = [other.fileinfo()["hdrLoc"] for other in file]
        primary = file[0].header
    if place["hdrLoc"] not in offsets:
        raise InputError(f"{name} is an HDU of {path}, which has changed; open the file again")
    index = offsets.index(place["hdrLoc"])
    if "data" in vars(hdu):
        pixels = loaded_pixels(hdu, reading)
        return ArrayImage(pixels, f"{path}[{index}]", bands, hdu.header, path, primary)
    image = FitsImage(path, index, bands, reading=reading)
    image.header = hdu.header
    return image


def is_nddata(source: object) -> TypeGuard[NDData]:
    """Say whether an input is an NDData, without loading its package, which takes long."""
    package = sys.modules.get("astropy.nddata")
    return package is not None and isinstance(source, package.NDData)


def header_of(source: NDData, name: str) -> fits.Header:
    """Return what an NDData knows of itself, with its world coordinates."""
    header = fits.Header()
    if isinstance(source.meta, fits.Header) and source.wcs is None:
        header = source.meta.copy()
    else:  # what else the cards say of the pixels may be out of date
        for key in {"INHERIT", *OBSERVATION} & set(source.meta):
            with suppress(ValueError):  # no value of a card
                header[key] = source.meta[key]
    if hasattr(source.wcs, "to_header"):
        header.update(source.wcs.to_header(relax=True))
        if has_lookup_tables(source.wcs):
            warn(f"the distortion tables of {name} are left out of the outputs' sky position")
    return header


def has_lookup_tables(wcs: Any) -> bool:
    """Say whether an astropy WCS has distortions that no header holds."""
    tables = ("cpdis1", "cpdis2", "det2im1", "det2im2")
    return any(getattr(wcs, name, None) is not None for name in tables)


def own_mask(source: ModelInput, bands: Bands) -> list[Image]:
    """Return the mask that an NDData or a masked array brings along; integers are flags."""
    marks: Any = source.mask if is_nddata(source) else carried_mask(source)
    if marks is None:
        return []
    name = "the mask of an NDData" if is_nddata(source) else "the mask of an array"
    if is_lazy(marks):
        return [open_lazy(marks, name, bands)]
    flags = np.asarray(marks)
    if flags.dtype.kind not in "iu":
        flags = flags != 0
    if flags.ndim == 0:
        whole: Any = source
        flags = np.broadcast_to(flags, whole.data.shape)
    return [ArrayImage(flags, name, bands)]


def brings_mask(source: ModelInput) -> bool:
    """Say whether an input marks pixels as bad."""
    return any(
        isinstance(mask, LazyImage) or mask.read(0, mask.shape[0]).any()
        for mask in own_mask(source, "last")
    )


def warn_of_other_order(image: Image, bands: Bands) -> None:
    """Warn if the axis at the other end looks like that of the bands."""
    height, width, count = image.shape
    other = height if bands == "last" else width
    if other < min(count, width if bands == "last" else height):
        way_out = "first" if bands == "last" else "last"
        warn(
            f"{image.name} is read as {height} rows, {width} columns and {count} bands; if that "
            f'is not what it is, pass bands="{way_out}"'
        )
