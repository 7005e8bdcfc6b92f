"""Distortions that few programs read, TNX and ZPX of IRAF above all, as polynomials of TPV.

TPV is read by wcslib, AST, SWarp, source-extractor, SCAMP and DS9. A TNX polynomial is one of TPV
if its terms are of degree 7 at most; the radial projection of ZPX is fitted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from morpheus_core.errors import warn
from morpheus_core.fits.cards import Cards
from morpheus_core.sky.world_cards import (
    PROJECTION,
    TABLES,
    linear_tpv,
    matrix_of,
    wcs_of_cards,
    with_matrix,
    without_distortion,
)

if TYPE_CHECKING:
    from astropy.wcs import WCS

Points = NDArray[np.float64]

#: The highest degree of a polynomial of TPV.
MOST_DEGREE = 7
#: Degrees that differ less are the same.
SAME = 1e-9
#: Pixels that a fit may be wrong by.
MOST_ERROR = 0.1
#: Places along each axis that are fitted; as many between them are compared.
PLACES = 24


def is_unusual(cards: Cards) -> bool:
    """Say whether cards hold a distortion that only wcslib reads."""
    return any(TABLES.fullmatch(key) for key in cards)


def as_tpv(wcs: WCS, cards: Cards, source: fits.Header, axes: tuple[int, int]) -> Cards:
    """Return cards of the same sky positions, with a distortion that programs read.

    Parameters
    ----------
    wcs : WCS
        What the header of the input says.
    cards : dict
        The same as wcslib writes it.
    source : Header
        Of the input, with the size of its image.
    axes : tuple of int
        Which FITS axes of the image its columns and rows are.

    Warns
    -----
    MorpheusWarning
        If positions are not the same to 1e-9 degrees.
    """
    size = [source.get(f"NAXIS{axis}", 0) for axis in axes]
    if min(size) < 1 or wcs.wcs.lng != 0:
        warn(
            "the outputs get a linear sky position: the distortion of the input is of a kind that "
            "few programs read, and cannot be fitted without the size of the image"
        )
        return without_distortion(cards)
    flat = {key: value for key, value in cards.items() if not PROJECTION.fullmatch(key)}
    flat = without_distortion(flat)
    for axis in ("CTYPE1", "CTYPE2"):
        flat[axis] = f"{flat[axis][:-3]}TAN"
    fitted, compared = grids(size)
    tpv = with_matrix({**flat, **polynomials(wcs, flat, fitted)})
    error = farthest(wcs, tpv, compared)
    pixels = error / float(np.sqrt(abs(np.linalg.det(matrix_of(cards)))))
    if pixels > MOST_ERROR:
        warn(
            f"the outputs get a linear sky position: the distortion of the input, of a kind that "
            f"few programs read, is up to {pixels:.2g} pixels away from any polynomial of TPV"
        )
        return linear_tpv(tpv)
    if error > SAME:
        warn(
            f"the distortion of the input is written as a polynomial (TPV), which more programs "
            f"read; it is up to {pixels:.2g} pixels away"
        )
    return tpv


def grids(size: list[int]) -> tuple[Points, Points]:
    """Return places that are fitted, to the edges of the image, and places between them."""
    places = [np.linspace(0.5, length + 0.5, 2 * PLACES + 1) for length in size]
    fitted, compared = (
        np.stack(np.meshgrid(*(axis[start::2] for axis in places)), axis=-1).reshape(-1, 2)
        for start in (0, 1)
    )
    return fitted, compared


def farthest(wcs: WCS, cards: Cards, pixels: Points) -> float:
    """Return how far apart two descriptions are at most, in degrees along a great circle."""
    from astropy.coordinates import angular_separation

    sky = [np.radians(one.all_pix2world(pixels, 1)).T for one in (wcs, wcs_of_cards(cards))]
    apart = np.degrees(angular_separation(*sky[0], *sky[1])).max()
    return float(apart) if np.isfinite(apart) else np.inf


def polynomials(wcs: WCS, flat: Cards, pixels: Points) -> Cards:
    """Return the types of both axes, and PVi_m of the lowest degree that fits, else the highest."""
    given, wanted = plane_positions(wcs, flat, pixels)
    parameters: Cards = {key: f"{flat[key][:-3]}TPV" for key in ("CTYPE1", "CTYPE2")}
    for axis in (0, 1):
        for degree in range(1, MOST_DEGREE + 1):
            design = terms(given, axis, degree)
            size_of_term = abs(design).max(axis=0)
            coefficients = np.linalg.lstsq(design / size_of_term, wanted[:, axis], rcond=None)[0]
            coefficients /= size_of_term
            if abs(design @ coefficients - wanted[:, axis]).max() < SAME / 10:
                break
        names = [f"PV{axis + 1}_{index}" for index, _, _ in powers(degree)]
        parameters.update(zip(names, map(float, coefficients), strict=True))
    return parameters


def plane_positions(wcs: WCS, flat: Cards, pixels: Points) -> tuple[Points, Points]:
    """Return x, y without distortion and ξ, η with it, in degrees on the tangent plane.

    Pixels count from one, (places, 2).
    """
    moved = wcs_of_cards(flat).wcs_world2pix(wcs.all_pix2world(pixels, 1), 1)
    reference = np.array([flat["CRPIX1"], flat["CRPIX2"]])
    matrix = matrix_of(flat)
    return (pixels - reference) @ matrix.T, (moved - reference) @ matrix.T


def powers(degree: int) -> Iterator[tuple[int, int, int]]:
    """Yield the number m of each PVi_m, and the powers of the own and of the other coordinate.

    After each odd degree a number is left out, which is that of a power of the radius: see
    https://fits.gsfc.nasa.gov/registry/tpvwcs.html.
    """
    index = 0
    for total in range(degree + 1):
        for other in range(total + 1):
            yield index, total - other, other
            index += 1
        index += total % 2


def terms(points: Points, axis: int, degree: int) -> NDArray[Any]:
    """Return the terms of the polynomial of an axis at some points, (points, terms)."""
    own, other = points[:, axis], points[:, 1 - axis]
    return np.stack([own**i * other**j for _, i, j in powers(degree)], axis=-1)
