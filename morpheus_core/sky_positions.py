"""Where on its image each position of a catalogue is."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from morpheus_core.errors import InputError
from morpheus_core.headers import celestial_wcs, has_tables
from morpheus_core.images import Image

if TYPE_CHECKING:
    from astropy.wcs import WCS

Float64 = NDArray[np.float64]

#: Share by which pixel scales of inputs may differ.
SCALE_TOLERANCE = 0.01
#: Pixels: where the iteration that inverts a distortion ends.
CONVERGENCE = 1e-8
#: Pixels by which a position may be missed on the way to the image and back.
ROUND_TRIP = 1e-3
#: Degrees from its centre to a corner above which no circle need hold an image.
WIDE_FIELD = 45
#: Sign, whole part and its unit, minutes, seconds: "-10:22:25.7", "0h00m0.41s", "10 22 25".
SEXAGESIMAL = re.compile(
    r"([+-]?)\s*(\d+)\s*([:hd°\s])\s*(\d+)(?:\s*[:m'\s]\s*(\d+(?:\.\d*)?)\s*[s\"]?|\s*m?)"
)


def parse_angles(texts: Sequence[Any], degrees_per_hour: float) -> Float64:
    """Return angles in degrees, NaN where a text is none.

    Parameters
    ----------
    texts : sequence of str
        Degrees, ``"0.0017"``, or sexagesimal: ``"00:00:00.41"``, ``"0h0m0.41s"``, ``"0d0m6s"``.
    degrees_per_hour : float
        What the unit of the whole part of sexagesimal text is, unless that says "d": 15 where it is
        hours.
    """
    return np.array([parse_angle(str(text), degrees_per_hour) for text in texts], float)


def parse_angle(text: str, degrees_per_hour: float) -> float:
    """Return one angle in degrees, or NaN."""
    parts = SEXAGESIMAL.fullmatch(text.strip())
    if parts is None:
        try:
            return float(text)
        except ValueError:
            return np.nan
    sign, whole, unit, minutes, seconds = parts.groups()
    if int(minutes) > 59 or float(seconds or 0) >= 60:
        return np.nan
    unit_size = {"h": 15.0, "d": 1.0, "°": 1.0}.get(unit, degrees_per_hour)
    angle = (int(whole) + int(minutes) / 60 + float(seconds or 0) / 3600) * unit_size
    return -angle if sign == "-" else angle


class SkyToPixels:
    """Finds positions on the sky in the pixels of each image.

    Parameters
    ----------
    images : sequence of Image
        May differ in pointing, not in pixel scale.

    Raises
    ------
    InputError
        If one has no celestial world coordinates, or scales differ by more than 1 %.
    """

    def __init__(self, images: Sequence[Image]) -> None:
        self._images = [(image, sky_wcs(image)) for image in images]
        refuse_other_scales(self._images)

    def __call__(self, longitudes: Float64, latitudes: Float64) -> list[Float64]:
        """Return positions in each image, (row and column, positions), from ICRS in degrees.

        Pixel centres are whole numbers from 0. NaN where a position is far off the image.
        """
        from astropy.coordinates import SkyCoord

        sky = SkyCoord(longitudes, latitudes, unit="deg")
        return [pixels_of(sky, wcs, image) for image, wcs in self._images]


def sky_wcs(image: Image) -> WCS:
    """Return the celestial world coordinates of an image, with all its distortions."""
    from astropy.wcs import WCS

    try:
        if image.header is None:
            wcs = None
        elif image.path is not None and has_tables(image.header):  # in other HDUs of the file
            with warnings.catch_warnings(), fits.open(image.path) as file:
                warnings.simplefilter("ignore")  # of cards that were mended
                wcs = WCS(image.header, file).celestial
        else:
            wcs = celestial_wcs(image.header, image.layout.fits_axes)
    except Exception as error:  # broken cards have many classes
        raise InputError(f"the sky position of {image.name} cannot be read: {error}") from error
    if wcs is None:
        raise InputError(
            f"sky positions need inputs with celestial world coordinates, and {image.name} has "
            f"none; give x= and y= in pixels"
        )
    return wcs


def refuse_other_scales(images: Sequence[tuple[Image, WCS]]) -> None:
    """Raise if the pixel scale of an image differs from that of the first."""
    scales = [pixel_scale(wcs) for _, wcs in images]
    for (image, _), scale in zip(images, scales, strict=True):
        if abs(scale / scales[0] - 1) > SCALE_TOLERANCE:
            raise InputError(
                f"pixel scales of all inputs must agree to {SCALE_TOLERANCE:.0%}, got "
                f'{scale * 3600:.6g}" for {image.name} and {scales[0] * 3600:.6g}" for '
                f"{images[0][0].name}; resample one to the scale of the other (the package "
                f"reproject does)"
            )


def pixel_scale(wcs: WCS) -> float:
    """Return the side of a pixel in degrees."""
    from astropy.wcs.utils import proj_plane_pixel_scales

    return float(np.sqrt(np.prod(proj_plane_pixel_scales(wcs))))


def pixels_of(sky: Any, wcs: WCS, image: Image) -> Float64:
    """Return rows and columns, (2, positions), NaN where there are none."""
    from astropy.wcs.utils import wcs_to_celestial_frame

    there = sky.transform_to(wcs_to_celestial_frame(wcs)).spherical
    angles = np.array([there.lon.deg, there.lat.deg])
    pixels = np.full(angles.shape, np.nan)
    near = np.flatnonzero(is_near(angles, wcs, image.shape[:2]))
    if len(near):
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # of what diverges, which is found below
            asked = angles[:, near]
            found = wcs.all_world2pix(*asked, 0, tolerance=CONVERGENCE, quiet=True)
            missed = separations(np.array(wcs.all_pix2world(*found, 0)), asked)
        found = np.where(missed < ROUND_TRIP * pixel_scale(wcs), found, np.nan)
        pixels[:, near] = found[::-1]  # rows first
    return pixels


def is_near(angles: Float64, wcs: WCS, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Say which positions may be on an image: far from it distortions mean nothing."""
    rows, columns = (length * np.array([0, 0.5, 1]) - 0.5 for length in shape)
    border = np.array(wcs.all_pix2world(*map(np.ravel, np.meshgrid(columns, rows)), 0))
    reach = separations(border, border[:, 4:5])  # from the centre
    if not np.isfinite(reach).all() or reach.max() > WIDE_FIELD:
        return np.ones(angles.shape[1], bool)
    return np.asarray(separations(angles, border[:, 4:5]) < 1.1 * reach.max())


def separations(first: Float64, second: Float64) -> Float64:
    """Return the angles between positions, in degrees."""
    from astropy.coordinates import angular_separation

    return np.asarray(np.degrees(angular_separation(*np.radians(first), *np.radians(second))))
