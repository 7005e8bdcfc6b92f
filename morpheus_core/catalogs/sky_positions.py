"""Where on its image each position of a catalogue is."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from morpheus_core.errors import InputError
from morpheus_core.fits.cards import quietly_mended
from morpheus_core.images.general_wcs import is_general
from morpheus_core.images.image import Image
from morpheus_core.sky.headers import celestial_wcs, has_tables
from morpheus_core.sky.mending import mended

if TYPE_CHECKING:
    from astropy.wcs import WCS

Float64 = NDArray[np.float64]

#: Share by which pixel scales of inputs may differ.
SCALE_TOLERANCE = 0.01
#: Degrees by which inputs may be turned against each other.
ROTATION_TOLERANCE = 3
#: Pixels of one image within a pixel of another; more lie between the ends of a turn of the sky.
LONGEST_STEP = 2
#: Pixels: where the iteration that inverts a distortion ends.
CONVERGENCE = 1e-8
#: Steps from the nearest header to coordinates that it does not hold: each gains three digits.
MOST_STEPS = 8
#: Pixels by which a position may be missed on the way to the image and back.
ROUND_TRIP = 1e-3
#: Digits of positions in pixels that are more than noise: the ways back from distortions end at
#: CONVERGENCE, and a double of 360 degrees has 4e-7 pixels of 0.1 arcsec to a thousandth.
NOISE_DIGITS = 6
#: Degrees from its centre to a corner above which no circle need hold an image.
WIDE_FIELD = 45
#: Projections in which longitude is proportional to x.
CYLINDRICAL = ("CAR", "CEA", "MER")


class NoSkyPositionError(InputError):
    """An image has no world coordinates that are of use."""


class OtherScaleError(InputError):
    """Images have different pixel scales."""


class OtherOrientationError(InputError):
    """Images are turned against each other, or mirrored."""


class SkyToPixels:
    """Finds positions on the sky in the pixels of each image.

    Parameters
    ----------
    images : sequence of Image
        May differ in pointing, not in pixel scale and orientation.

    Raises
    ------
    NoSkyPositionError
        If one has no celestial world coordinates, or they are of no use.
    OtherScaleError
        If scales differ by more than 1 %.
    OtherOrientationError
        If one is mirrored, or turned by more than three degrees.
    """

    def __init__(self, images: Sequence[Image]) -> None:
        self._images = [(image, sky_wcs(image)) for image in images]
        refuse_other_scales(self._images)
        refuse_other_orientations(self._images)

    def __call__(self, longitudes: Float64, latitudes: Float64) -> list[Float64]:
        """Return positions in each image, (row and column, positions), from ICRS in degrees.

        Pixel centres are whole numbers from 0. NaN where a position is far off the image.

        Raises
        ------
        NoSkyPositionError
            If the world coordinates of an image are of no use.
        """
        from astropy.coordinates import SkyCoord

        sky = SkyCoord(longitudes, latitudes, unit="deg")
        found = []
        for image, wcs in self._images:
            try:
                found.append(pixels_of(sky, wcs, image))
            except Exception as error:  # frames and projections have many classes
                raise NoSkyPositionError(
                    f"sky positions cannot be found in {image.name}: {error}"
                ) from error
        return found


def sky_wcs(image: Image) -> WCS:
    """Return the celestial world coordinates of an image, with all its distortions.

    Of those that no header holds it is the nearest that a header does; see `general_pixels_of`.
    """
    try:
        if image.header is None:
            wcs = None
        elif image.wcs is not None and not is_general(image.wcs):
            wcs = image.wcs.celestial
        elif has_tables(image.header):
            wcs = wcs_with_tables(image)
        else:
            wcs = celestial_wcs(image.header, image.layout.fits_axes)
    except Exception as error:  # broken cards have many classes
        raise NoSkyPositionError(
            f"the sky position of {image.name} cannot be read: {error}"
        ) from error
    if wcs is None:
        raise NoSkyPositionError(
            f"sky positions need inputs with celestial world coordinates, and {image.name} has "
            f"none; give x= and y= in pixels"
        )
    return wcs


def wcs_with_tables(image: Image) -> WCS:
    """Return world coordinates whose distortion is in other HDUs of the image's file."""
    from astropy.wcs import WCS

    if image.header is None or image.path is None:
        raise ValueError(
            "its distortion is in tables of the file that it came from, which are not with it; "
            "pass the path of the file, or an HDU of the open file"
        )
    with quietly_mended(), fits.open(image.path) as file:
        return WCS(mended(image.header), file).celestial


def refuse_other_scales(images: Sequence[tuple[Image, WCS]]) -> None:
    """Raise if the pixel scale of an image differs from that of the first along an axis."""
    from astropy.wcs.utils import proj_plane_pixel_scales

    scales = [proj_plane_pixel_scales(wcs) for _, wcs in images]
    for (image, _), scale in zip(images, scales, strict=True):
        if np.abs(scale / scales[0] - 1).max() > SCALE_TOLERANCE:
            mine, others = ('{:.6g}" x {:.6g}"'.format(*one * 3600) for one in (scale, scales[0]))
            raise OtherScaleError(
                f"pixel scales of all inputs must agree to {SCALE_TOLERANCE:.0%}, got {mine} for "
                f"{image.name} and {others} for {images[0][0].name}; resample one to the scale of "
                f"the other (the package reproject does)"
            )


def refuse_other_orientations(images: Sequence[tuple[Image, WCS]]) -> None:
    """Raise if an image is turned against the first, or mirrored, at the centre of that one."""
    (first, first_wcs), *others = images
    for image, wcs in others:
        turn = turn_between(first_wcs, wcs, first.shape[:2])
        if np.isnan(turn) or abs(turn) > ROTATION_TOLERANCE:
            how = "mirrored" if np.isnan(turn) else f"turned by {abs(turn):.3g} degrees"
            raise OtherOrientationError(
                f"inputs must agree in orientation to {ROTATION_TOLERANCE} degrees, got "
                f"{image.name} {how} against {first.name}; resample one to the grid of the other "
                f"(the package reproject does)"
            )


def turn_between(first: WCS, second: WCS, shape: tuple[int, int]) -> float:
    """Return by how many degrees the second image is turned, NaN if it is mirrored.

    Both are compared at the centre of the first, without distortions, which mean nothing beyond
    the borders of the second. 0 where one has no pixels for that part of the sky, or is cut there.
    """
    from astropy.coordinates import SkyCoord
    from astropy.wcs.utils import wcs_to_celestial_frame

    step = np.array([[0, 1, 0], [0, 0, 1]])  # none, along columns, along rows
    pixels = np.array(shape)[::-1, np.newaxis] / 2 + step
    try:
        angles = np.array(first.wcs_pix2world(*pixels, 0))[axes_of(first)]
        sky = SkyCoord(*angles, unit="deg", frame=wcs_to_celestial_frame(first))
        there = sky.transform_to(wcs_to_celestial_frame(second)).spherical
        asked = np.array([there.lon.deg, there.lat.deg])[axes_of(second)]
        found = np.array(second.wcs_world2pix(*asked, 0))
    except Exception:  # frames and projections have many classes, and positions say more of it
        return 0.0
    steps = found[:, 1:] - found[:, :1]
    if not np.abs(steps).max() < LONGEST_STEP:
        return 0.0
    (along_x, down_x), (along_y, down_y) = steps
    if along_x * down_y < down_x * along_y:
        return np.nan
    return float(np.degrees(np.arctan2(along_y - down_x, along_x + down_y)))


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
    if len(near) == 0:
        return pixels
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # of what diverges, which is found below
        if is_general(image.wcs):
            pixels[:, near] = general_pixels_of(sky[near], wcs, image)[::-1]
        else:
            asked = angles[:, near]
            found = header_pixels_of(asked, wcs)
            missed = separations(angles_at(found, wcs), asked)
            found = np.where(missed < ROUND_TRIP * pixel_scale(wcs), found, np.nan)[::-1]
            pixels[:, near] = turned(found, wcs, image)
    return pixels


def header_pixels_of(asked: Float64, wcs: WCS) -> Float64:
    """Return columns and rows, (2, positions), of angles in the frame of a header."""
    return np.array(wcs.all_world2pix(*asked[axes_of(wcs)], 0, tolerance=CONVERGENCE, quiet=True))


def general_pixels_of(sky: Any, wcs: WCS, image: Image) -> Float64:
    """Return columns and rows by world coordinates that no header holds, from the nearest header.

    Only the way from pixels to the sky is asked of them: the other one may be an approximation,
    or missing.
    """
    from astropy.wcs.utils import wcs_to_celestial_frame

    frame = wcs_to_celestial_frame(wcs)

    def nearest(places: Any) -> Float64:
        there = places.transform_to(frame).spherical
        return header_pixels_of(np.array([there.lon.deg, there.lat.deg]), wcs)

    last = np.array(image.shape[1::-1])[:, np.newaxis] - 0.5
    asked = found = nearest(sky)
    for _ in range(MOST_STEPS):
        inside = np.clip(found, -0.5, last)  # beyond, they may know of no sky
        step = asked - nearest(image.wcs.pixel_to_world(*inside))
        found = inside + step
        if not (np.abs(step) > CONVERGENCE).any():
            break
    return found


def axes_of(wcs: WCS) -> list[int]:
    """Return which axes longitude and latitude are; latitude may be the first."""
    return [wcs.wcs.lng, wcs.wcs.lat]


def angles_at(pixels: Sequence[Float64] | Float64, wcs: WCS) -> Float64:
    """Return longitudes and latitudes in degrees, (2, positions), of columns and rows."""
    return np.array(wcs.all_pix2world(*pixels, 0))[axes_of(wcs)]


def turned(pixels: Float64, wcs: WCS, image: Image) -> Float64:
    """Return rows and columns on that turn of a cylinder which the image shows.

    An image of all the sky may begin anywhere, and a position is found within half a turn of the
    reference pixel alone.
    """
    if wcs.wcs.ctype[wcs.wcs.lng][-3:] not in CYLINDRICAL or wcs.has_distortion:
        return pixels
    turn = np.linalg.solve(wcs.pixel_scale_matrix, 360.0 * (np.arange(2) == wcs.wcs.lng))[::-1]
    for moved in (pixels + turn[:, np.newaxis], pixels - turn[:, np.newaxis]):
        pixels = np.where(is_on(moved, image) & ~is_on(pixels, image), moved, pixels)
    return pixels


def rounded(positions: Float64) -> Float64:
    """Return positions in pixels without the noise of the way from pixels to the sky and back.

    It must not decide on which side of its pixel a position is.
    """
    return np.asarray(np.round(positions, NOISE_DIGITS))


def is_on(positions: Float64, image: Image) -> NDArray[np.bool_]:
    """Say which rows and columns lie on a pixel of an image; half-way is on the lower one."""
    lengths = np.array(image.shape[:2])[:, np.newaxis]
    return np.asarray(np.all((positions > -0.5) & (positions <= lengths - 0.5), axis=0))


def is_near(angles: Float64, wcs: WCS, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Say which positions may be on an image; to look for the others takes long."""
    rows, columns = (length * np.array([0, 0.5, 1]) - 0.5 for length in shape)
    border = angles_at([axis.ravel() for axis in np.meshgrid(columns, rows)], wcs)
    reach = separations(border, border[:, 4:5])  # from the centre
    if not np.isfinite(reach).all() or reach.max() > WIDE_FIELD:
        return np.ones(angles.shape[1], bool)
    return np.asarray(separations(angles, border[:, 4:5]) < 1.1 * reach.max())


def separations(first: Float64, second: Float64) -> Float64:
    """Return the angles between positions, in degrees."""
    from astropy.coordinates import angular_separation

    return np.asarray(np.degrees(angular_separation(*np.radians(first), *np.radians(second))))
