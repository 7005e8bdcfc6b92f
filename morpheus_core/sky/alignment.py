"""Whether several inputs show the same sky in the same pixels."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from morpheus_core.errors import InputError, warn
from morpheus_core.images.image import Image
from morpheus_core.sky.headers import readable_wcs

if TYPE_CHECKING:
    from astropy.wcs import WCS

CheckWcs = Literal["warn", "error", "ignore"]
CHECKS: tuple[CheckWcs, ...] = ("warn", "error", "ignore")

#: Pixels by which inputs may be apart.
TOLERANCE = 0.1


def check_alignment(
    images: Sequence[Image], check: CheckWcs, or_else: str = 'pass check_wcs="ignore"'
) -> None:
    """Compare the sky positions of images with those of the first that has some.

    Parameters
    ----------
    images : sequence of Image
        Of the same height and width.
    check : {"warn", "error", "ignore"}
        What to do if two are apart by more than a tenth of a pixel anywhere.
    or_else : str
        What users can do about it who do not want to resample.

    Raises
    ------
    InputError
        If that is asked for.

    Warns
    -----
    MorpheusWarning
        If that is asked for.
    """
    if check == "ignore":
        return
    known = [(image, wcs) for image in images if (wcs := readable_wcs(image)) is not None]
    for image, wcs in known[1:]:
        first, first_wcs = known[0]
        offset = largest_offset(first_wcs, wcs, image.shape[:2])
        if offset > TOLERANCE:
            message = (
                f"inputs must show the same sky in the same pixels, got {image.name} up to "
                f"{offset:.3g} pixels away from {first.name}; resample one to the grid of the "
                f"other (the package reproject does), or {or_else}"
            )
            if check == "error":
                raise InputError(message)
            warn(message)


def largest_offset(first: WCS, second: WCS, shape: tuple[int, int]) -> float:
    """Return by how many pixels two images are apart at most, at corners, edges and inside."""
    from astropy.wcs.utils import proj_plane_pixel_scales

    places = [np.linspace(0, length - 1, 5) for length in shape]
    rows, columns = np.array(list(itertools.product(*places))).T
    apart = separation(first, second, columns, rows)
    # Pixels far outside of a projection have no position.
    apart = apart[np.isfinite(apart)]
    scale = float(np.sqrt(np.prod(proj_plane_pixel_scales(first))))
    return float(apart.max(initial=0.0)) / scale


def separation(
    first: WCS, second: WCS, columns: NDArray[np.float64], rows: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the angles between the positions of pixels in two images, in degrees.

    Frames may differ if astropy knows both; otherwise they must be of the same kind, or nothing
    is known.
    """
    from astropy.coordinates import SkyCoord, angular_separation

    with suppress(Exception):  # frames that astropy does not know raise many classes
        one, other = first.pixel_to_world(columns, rows), second.pixel_to_world(columns, rows)
        if isinstance(one, SkyCoord) and isinstance(other, SkyCoord):
            return np.asarray(one.separation(other.transform_to(one.frame)).deg)
    if [*first.wcs.ctype] != [*second.wcs.ctype]:
        return np.zeros(0)
    angles = [np.radians(wcs.all_pix2world(columns, rows, 0)) for wcs in (first, second)]
    return np.asarray(np.degrees(angular_separation(*angles[0], *angles[1])))
