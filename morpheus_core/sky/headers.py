"""What outputs inherit from the header of an input: their place on the sky, and the observation.

FITS counts axes the other way round: NAXIS1 is the last numpy axis. An output of (height, width,
class) therefore has its sky position on axes 2 and 3.
"""

from __future__ import annotations

import math
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
from morpheus_core.sky.mending import SIP, mended, without

if TYPE_CHECKING:
    from astropy.wcs import WCS

#: Cards of distortions that may be tables in other HDUs, which the outputs do not have.
TABLES = re.compile(r"(C[PQ]DIS|C[PQ]ERR|D[PQ]|D2IMDIS|D2IMERR|D2IM)\d+(\..*)?|D2IMEXT|AXISCORR")
#: Cards of any distortion but TPV.
DISTORTION = re.compile(f"{SIP.pattern}|{TABLES.pattern}")


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


def exact_cards(wcs: WCS) -> Cards:
    """Return a celestial WCS as cards, in double precision."""
    with quietly_mended():
        header = wcs.to_header(relax=True)
    # wcslib adds a reference date of zero where there is no time to refer to.
    cards = {key: header[key] for key in header if key not in ("WCSAXES", "MJDREF")}
    # and writes twelve digits, which is less than a double has.
    matrix = wcs.wcs.get_pc()
    scale = wcs.wcs.get_cdelt()
    for i in (1, 2):
        cards[f"CRPIX{i}"] = float(wcs.wcs.crpix[i - 1])
        cards[f"CRVAL{i}"] = float(wcs.wcs.crval[i - 1])
        cards[f"CDELT{i}"] = float(scale[i - 1])
        for j in (1, 2):
            cards[f"PC{i}_{j}"] = float(matrix[i - 1, j - 1])
    if wcs.sip is None:
        for axis in ("CTYPE1", "CTYPE2"):  # a promise that is not kept
            cards[axis] = cards[axis].removesuffix("-SIP")
    if not all(math.isfinite(value) for value in cards.values() if isinstance(value, float)):
        raise ValueError("its world coordinates are not finite")
    return cards


def without_distortion(cards: Cards) -> Cards:
    """Return the linear part of a WCS: the linear terms of TPV, and nothing of the others."""
    linear = {key: value for key, value in cards.items() if not DISTORTION.fullmatch(key)}
    for axis in ("CTYPE1", "CTYPE2"):
        linear[axis] = linear[axis].removesuffix("-SIP")
    if linear["CTYPE1"].endswith("TPV"):
        linear = linear_tpv(linear)
    return linear


def linear_tpv(cards: Cards) -> Cards:
    """Fold the constant and linear terms of a TPV polynomial into a TAN projection.

    With intermediate coordinates x, y: ξ = PV1_0 + PV1_1 x + PV1_2 y and η = PV2_0 + PV2_1 y +
    PV2_2 x, see https://fits.gsfc.nasa.gov/registry/tpvwcs.html.
    """
    polynomial = {key: value for key, value in cards.items() if re.match(r"PV[12]_", key)}
    linear = {key: value for key, value in cards.items() if key not in polynomial}
    matrix = np.array([[cards[f"PC{i}_{j}"] * cards[f"CDELT{i}"] for j in (1, 2)] for i in (1, 2)])
    constant = np.array([polynomial.get("PV1_0", 0.0), polynomial.get("PV2_0", 0.0)])
    terms = np.array(
        [
            [polynomial.get("PV1_1", 1.0), polynomial.get("PV1_2", 0.0)],
            [polynomial.get("PV2_2", 0.0), polynomial.get("PV2_1", 1.0)],
        ]
    )
    folded = terms @ matrix
    shift = np.linalg.solve(folded, constant)
    for i in (1, 2):
        linear[f"CTYPE{i}"] = linear[f"CTYPE{i}"].replace("TPV", "TAN")
        linear[f"CRPIX{i}"] -= float(shift[i - 1])
        linear[f"CDELT{i}"] = 1.0
        for j in (1, 2):
            linear[f"PC{i}_{j}"] = float(folded[i - 1, j - 1])
    return linear


def scaled(cards: Cards, dilation: Fraction) -> Cards:
    """Return a linear WCS for pixels that are smaller by the dilation."""
    factor = float(dilation)
    changed = {}
    for i in (1, 2):
        changed[f"CRPIX{i}"] = (cards[f"CRPIX{i}"] - 0.5) * factor + 0.5
        changed[f"CDELT{i}"] = cards[f"CDELT{i}"] / factor
    return cards if dilation == 1 else {**cards, **changed}


def shifted_key(key: str, leading: int) -> str:
    """Rename the card of an axis that `leading` axes now precede, ``PC1_2`` → ``PC2_3``."""
    matrix = re.fullmatch(r"(PC|CD)(\d+)_(\d+)", key)
    if matrix:
        return f"{matrix[1]}{int(matrix[2]) + leading}_{int(matrix[3]) + leading}"
    axis = re.fullmatch(r"(CRPIX|CDELT|CUNIT|CTYPE|CRVAL|CNAME|CRDER|CSYER)(\d+)", key)
    if axis:
        return f"{axis[1]}{int(axis[2]) + leading}"
    parameter = re.fullmatch(r"(PV|PS)(\d+)_(\d+)", key)
    if parameter:
        return f"{parameter[1]}{int(parameter[2]) + leading}_{parameter[3]}"
    return key
