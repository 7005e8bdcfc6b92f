"""What outputs inherit from the header of an input: their place on the sky, and the observation.

FITS counts axes the other way round: NAXIS1 is the last numpy axis. An output of (height, width,
class) therefore has its sky position on axes 2 and 3.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from astropy.io import fits

from morpheus_core.errors import warn
from morpheus_core.fits.cards import Cards, quietly_mended
from morpheus_core.images.image import Image
from morpheus_core.sky.mending import mended, without
from morpheus_core.sky.polynomials import as_tpv, is_unusual
from morpheus_core.sky.world_cards import (
    SIP,
    TABLES,
    exact_cards,
    scaled,
    shifted_key,
    wcs_of_cards,
    without_distortion,
)

if TYPE_CHECKING:
    from astropy.wcs import WCS


@dataclass(frozen=True, slots=True)
class Sky:
    """Where output pixels are on the sky, as cards for axes 1 and 2.

    Attributes
    ----------
    linear : dict
        Without distortion, which cannot be moved to other axes.
    plane : dict
        For outputs of two dimensions: with the distortion of the input, if it can be kept.
    """

    linear: Cards = field(default_factory=dict)
    plane: Cards = field(default_factory=dict)

    def cards(self, axes: Mapping[str, str]) -> fits.Header:
        """Return the cards of an output.

        Parameters
        ----------
        axes : mapping of str
            Names and meanings of the axes after height and width, in numpy order.
        """
        header = fits.Header()
        sky = self.linear if axes else self.plane
        leading = len(axes)
        if sky:
            header["WCSAXES"] = leading + 2
        for axis, (name, meaning) in enumerate(reversed(list(axes.items())), start=1):
            header[f"CTYPE{axis}"] = (name, meaning)
            if sky:  # programs that read any axis expect a scale of every one: an index from 0
                header[f"CRPIX{axis}"], header[f"CRVAL{axis}"] = 1.0, 0.0
                header[f"CDELT{axis}"] = 1.0
        for key, value in sky.items():
            header[shifted_key(key, leading)] = value
        return header


def sky_of(source: fits.Header | None, dilation: Fraction, axes: tuple[int, int] = (1, 2)) -> Sky:
    """Return the celestial WCS of a header, scaled by the dilation.

    Output pixel ``p'`` and input pixel ``p`` (both one-based) are related by ``p' - 0.5 =
    (p - 0.5) dilation``, because pixel edges, not centres, lie at half-integers; see Greisen &
    Calabretta 2002, A&A 395, 1061. A header without a celestial WCS gives no cards.

    Parameters
    ----------
    source : Header or None
        Of an image.
    dilation : Fraction
        Output pixels per input pixel.
    axes : tuple of int
        Which FITS axes of the image its columns and rows are.

    Warns
    -----
    MorpheusWarning
        If outputs get another sky position than the input.
    """
    if source is None:
        return Sky()
    try:
        wcs = celestial_wcs(source, axes)
        if wcs is None:
            return Sky()
        if wcs.wcs.lng == 1 and str(source.get("CTYPE1")).endswith("TPV"):
            raise ValueError("TPV with latitude on the first axis is read in different ways")
        plane = exact_cards(wcs)
        if is_unusual(plane):
            plane = as_tpv(wcs, plane, source, axes)
            wcs = wcs_of_cards(plane)
        linear = without_distortion(plane)
        distorted = linear != plane
        if dilation != 1:
            plane = linear
        sky = Sky(scaled(linear, dilation), scaled(plane, dilation))
        verify(sky, wcs, dilation)
    except Exception as error:  # wcslib and astropy reject broken cards with many classes
        warn(f"the outputs get no sky position: {error}")
        return Sky()
    if has_tables(source):
        warn("the distortion tables of the input are left out of the outputs' sky position")
    if distorted and dilation == 1:
        warn(
            "the output gets a linear sky position: the distortion of the input cannot be kept "
            "with axes for classes; n keeps it"
        )
    elif distorted:
        warn(
            "the outputs get a linear sky position: the distortion of the input is not kept with "
            f"dilation={dilation}"
        )
    return sky


def with_planes(cards: fits.Header) -> fits.Header:
    """Return the cards of an image for planes of it, (plane, height, width).

    Warns
    -----
    MorpheusWarning
        If that leaves out a distortion, which is only allowed where there are two axes.
    """
    planes = cards.copy()
    if "WCSAXES" not in cards:
        return planes
    exact = {key: cards[key] for key in cards if key not in ("HISTORY", "COMMENT", "")}
    linear = without_distortion(exact)
    for key in exact.keys() - linear.keys():
        del planes[key]
    for key, value in linear.items():
        planes[key] = value  # and its comment stays
    if linear != exact:
        warn("planes of classes get a linear sky position; a single image keeps the distortion")
    planes["WCSAXES"] = 3
    planes["CTYPE3"] = ("CLASS", "index of the plane, from 0")
    planes["CRPIX3"], planes["CRVAL3"], planes["CDELT3"] = 1.0, 0.0, 1.0
    return planes


def verify(sky: Sky, wcs: WCS, dilation: Fraction) -> None:
    """Raise unless the cards can be read, and say what they should.

    Raises
    ------
    Exception
        Of whatever class.
    """
    from astropy.wcs import WCS

    pixels = np.array([[0.0, 0.0], [100.0, 3.0], [7.0, 200.0]])
    with quietly_mended():
        moved = WCS(sky.cards({"CLASS": ""})).celestial.wcs_pix2world(pixels, 0)
        linear = WCS(fits.Header(sky.linear)).wcs_pix2world(pixels, 0)
        plane = WCS(sky.cards({})).all_pix2world(pixels, 0)
    agree = np.allclose(moved, linear, rtol=0, atol=1e-8, equal_nan=True)
    if dilation == 1:
        expected = wcs.all_pix2world(pixels, 0)
        agree = agree and np.allclose(plane, expected, rtol=0, atol=1e-8, equal_nan=True)
    if not agree:
        raise ValueError("astropy cannot write this kind of world coordinates")


def celestial_wcs(source: fits.Header, axes: tuple[int, int] = (1, 2)) -> WCS | None:
    """Return the celestial part of a header's world coordinates, if there is one.

    Parameters
    ----------
    source : Header
        Of an image.
    axes : tuple of int
        Which FITS axes of the image its columns and rows are.

    Raises
    ------
    Exception
        Of whatever class, if the cards are broken or speak of other axes.
    """
    from astropy.wcs import WCS

    with quietly_mended():
        header = mended(without(source, TABLES) if has_tables(source) else source)
        on_sky = sky_axes(header)
        if not on_sky:
            return None
        if on_sky != set(axes):
            raise ValueError(
                f"they are of FITS axes {' and '.join(map(str, sorted(on_sky)))} of the input, "
                f"whose columns and rows are taken from axes {axes[0]} and {axes[1]}; if its bands "
                f"are elsewhere, say so with bands="
            )
        # Distortions are only allowed where there are two axes.
        return WCS(header, naxis=2) if on_sky == {1, 2} else WCS(header).celestial


def sky_axes(header: fits.Header) -> set[int]:
    """Return the FITS axes that are longitude and latitude."""
    from astropy.wcs import WCS

    wcs = WCS(without(header, SIP)).wcs
    return {wcs.lng + 1, wcs.lat + 1} if min(wcs.lng, wcs.lat) >= 0 else set()


def has_tables(source: fits.Header) -> bool:
    """Say whether a distortion is a table in another HDU."""
    return any(
        key.startswith("D2IM")
        or (re.fullmatch(r"C[PQ]DIS\d", key) and str(source[key]).upper() == "LOOKUP")
        for key in source
    )


def readable_wcs(image: Image) -> WCS | None:
    """Return the celestial world coordinates of an image, if it has some that can be read."""
    try:
        return None if image.header is None else celestial_wcs(image.header, image.layout.fits_axes)
    except Exception:  # broken cards have many classes; `sky_of` warns of those that matter
        return None


def wcs_of(
    header: fits.Header | None, dilation: Fraction = Fraction(1), axes: tuple[int, int] = (1, 2)
) -> WCS | None:
    """Return the celestial coordinates of output pixels, if a header tells them."""
    from astropy.wcs import WCS

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `predict` has given them, when files depended on it
        cards = sky_of(header, dilation, axes).cards({})
        return WCS(cards) if cards else None
