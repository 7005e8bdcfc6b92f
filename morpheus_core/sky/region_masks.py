"""Regions of DS9 and coverage maps of the Virtual Observatory as masks, a few rows at a time."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from morpheus_core.errors import InputError
from morpheus_core.extras import require_package
from morpheus_core.images.image import Bands
from morpheus_core.images.sources import ModelInput, open_image
from morpheus_core.sky.headers import readable_wcs
from morpheus_core.storage.paths import at_home

if TYPE_CHECKING:
    from astropy.wcs import WCS

Bools = NDArray[np.bool_]


def region_mask(
    path: str | os.PathLike[str], image: ModelInput, *, bands: Bands = "last"
) -> RegionMask:
    """Return regions of DS9, or a MOC, as a mask for the pixels of an image.

    Needs the packages regions and mocpy, which the extra ``regions`` brings.

    Parameters
    ----------
    path : path
        A file of DS9 regions (.reg), in sky or in image coordinates; or a MOC, multi-order coverage
        map, of FITS.
    image : array, path, HDU or NDData
        What the mask is for; regions on the sky need its world coordinates.
    bands : {"last", "first"}
        Where the bands of an image with three axes are.

    Returns
    -------
    RegionMask
        For ``mask=`` of :func:`morpheus_core.predict`: (height, width), True where the centre of a
        pixel lies in a region. Excluded regions of DS9 (with a minus) are holes in all others, also
        in those that follow. Rows are made when they are read.

    Raises
    ------
    InputError
        If the file or the image cannot be read, or holds nothing to mask.
    MissingPackageError
        If a package is not installed.
    """
    file = Path(at_home(path))
    package = "regions" if file.suffix.lower() == ".reg" else "mocpy"
    require_package(package, "regions", f"region_mask({path})")
    with closing(open_image(image, "image", bands)) as one:
        mask = RegionMask(file.absolute(), one.shape[:2], readable_wcs(one))
    mask[:1]  # what cannot be read shows now
    return mask


class RegionMask:
    """Pixels in regions, which is sliced by rows and travels as the name of its file.

    Attributes
    ----------
    shape : tuple of int
        Height and width.
    dtype : dtype
        Boolean.
    """

    dtype = np.dtype(np.bool_)

    def __init__(self, path: Path, shape: tuple[int, int], wcs: WCS | None) -> None:
        self.shape = shape
        self._path, self._wcs = path, wcs
        self._shapes: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is read from the file."""
        return {**self.__dict__, "_shapes": None}

    def __getitem__(self, rows: slice) -> Bools:
        """Return rows of the mask."""
        first, stop, _ = rows.indices(self.shape[0])
        try:
            if self._path.suffix.lower() == ".reg":
                return self._in_regions(first, stop)
            return self._in_moc(first, stop)
        except InputError:
            raise
        except Exception as error:  # both packages have many classes
            raise InputError(f"the regions {self._path} cannot be read: {error}") from error

    def _in_regions(self, first: int, stop: int) -> Bools:
        """Return which pixels are in a region and in no excluded one."""
        from regions import PixCoord

        if self._shapes is None:
            self._shapes = self._pixel_regions()
        width = self.shape[1]
        inside, holes = (np.zeros((stop - first, width), np.bool_) for _ in range(2))
        for region, included in self._shapes:
            box = region.bounding_box
            left, right = max(box.ixmin, 0), min(box.ixmax, width)
            bottom, top = max(box.iymin, first), min(box.iymax, stop)
            if left < right and bottom < top:
                y, x = np.mgrid[bottom:top, left:right]
                part = (inside if included else holes)[bottom - first : top - first, left:right]
                part |= region.contains(PixCoord(x, y))
        return inside & ~holes

    def _pixel_regions(self) -> list[tuple[Any, bool]]:
        """Read regions in pixels, and whether each is included."""
        from regions import Regions, SkyRegion

        found = []
        for region in Regions.read(self._path, format="ds9"):
            included = region.meta.pop("include", True)  # which would turn the region inside out
            if isinstance(region, SkyRegion):
                region = region.to_pixel(self._needed_wcs())
            found.append((region, bool(included)))
        if not any(included for _, included in found):
            raise InputError(
                f"{self._path} must hold a region that is not excluded, got {len(found)} that are"
            )
        return found

    def _in_moc(self, first: int, stop: int) -> Bools:
        """Return which pixels are in a coverage map."""
        from mocpy import MOC

        if self._shapes is None:
            self._shapes = MOC.from_fits(self._path)
        y, x = np.mgrid[first:stop, : self.shape[1]]
        sky = self._needed_wcs().pixel_to_world(x, y).icrs
        inside: Bools = self._shapes.contains_skycoords(sky)
        return inside

    def _needed_wcs(self) -> WCS:
        """Return the world coordinates of the image."""
        if self._wcs is None:
            raise InputError(
                f"the image must have world coordinates for {self._path}, whose regions are on the "
                f"sky; write them in image coordinates"
            )
        return self._wcs
