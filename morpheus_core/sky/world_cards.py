"""A celestial WCS of two axes as cards, and what is done with such cards."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from morpheus_core.fits.cards import Cards, quietly_mended

if TYPE_CHECKING:
    from astropy.wcs import WCS

Matrix = NDArray[np.float64]

#: Cards of distortions that may be tables in other HDUs, which the outputs do not have.
TABLES = re.compile(r"(C[PQ]DIS|C[PQ]ERR|D[PQ]|D2IMDIS|D2IMERR|D2IM)\d+(\..*)?|D2IMEXT|AXISCORR")
#: Cards of the polynomials of the SIP convention.
SIP = re.compile(r"(A|B|AP|BP)_(ORDER|DMAX|\d+_\d+)")
#: Parameters of projections, TPV among them.
PROJECTION = re.compile(r"PV\d+_\d+")
#: Cards of any distortion but TPV.
DISTORTION = re.compile(f"{SIP.pattern}|{TABLES.pattern}")
#: Cards of the linear terms of two axes.
LINEAR = re.compile(r"CDELT[12]|(PC|CD)[12]_[12]")
PAIRS = [(i, j) for i in (1, 2) for j in (1, 2)]
#: How far from one the scale of a PC matrix may be for CDELT to be that of the pixels.
UNIT_SCALE = 1e-6


def exact_cards(wcs: WCS) -> Cards:
    """Return a celestial WCS as cards, in double precision."""
    with quietly_mended():
        header = wcs.to_header(relax=True)
    # wcslib adds a reference date of zero where there is no time to refer to.
    cards = {key: header[key] for key in header if key not in ("WCSAXES", "MJDREF")}
    # and writes twelve digits, which is less than a double has.
    for i in (1, 2):
        cards[f"CRPIX{i}"] = float(wcs.wcs.crpix[i - 1])
        cards[f"CRVAL{i}"] = float(wcs.wcs.crval[i - 1])
    cards.update(linear_terms(wcs.wcs.get_pc(), wcs.wcs.get_cdelt(), wcs.wcs.lng))
    if wcs.sip is None:
        for axis in ("CTYPE1", "CTYPE2"):  # a promise that is not kept
            cards[axis] = cards[axis].removesuffix("-SIP")
    if not all(math.isfinite(value) for value in cards.values() if isinstance(value, float)):
        raise ValueError("its world coordinates are not finite")
    return with_matrix(cards) if cards["CTYPE1"].endswith("TPV") else cards


def linear_terms(matrix: Matrix, scales: Matrix, longitude: int) -> Cards:
    """Return PC and CDELT, of which CDELT is the pixel scale, since programs take it for that.

    Parameters
    ----------
    matrix : ndarray, (2, 2)
        PC, or CD.
    scales : ndarray, (2,)
        CDELT, or ones.
    longitude : int
        Which axis is the longitude, 0 or 1; it runs to the left if one of both is mirrored.
    """
    lengths = np.hypot(matrix[:, 0], matrix[:, 1])
    if (lengths > 0).all() and (abs(lengths - 1) > UNIT_SCALE).any():
        whole = matrix * scales[:, np.newaxis]
        scales = np.hypot(whole[:, 0], whole[:, 1])
        scales[longitude] *= np.sign(np.linalg.det(whole)) or 1.0
        matrix = whole / scales[:, np.newaxis]
    cards: dict[str, Any] = {f"CDELT{i}": float(scales[i - 1]) for i in (1, 2)}
    # Adding zero takes the sign off a zero.
    cards.update({f"PC{i}_{j}": float(matrix[i - 1, j - 1]) + 0.0 for i, j in PAIRS})
    return cards


def matrix_of(cards: Cards) -> Matrix:
    """Return CD, or the product of CDELT and PC, (2, 2)."""
    pairs = [[(i, j) for j in (1, 2)] for i in (1, 2)]
    if "CD1_1" in cards:
        return np.array([[cards[f"CD{i}_{j}"] for i, j in row] for row in pairs])
    return np.array([[cards[f"PC{i}_{j}"] * cards[f"CDELT{i}"] for i, j in row] for row in pairs])


def with_matrix(cards: Cards) -> Cards:
    """Return cards with CD in place of PC and CDELT.

    The polynomials of TPV are of what CD makes of pixels; wcslib 8 takes them to be of what PC
    alone makes of them, where there is a CDELT.
    """
    matrix = matrix_of(cards)
    others = {key: value for key, value in cards.items() if not LINEAR.fullmatch(key)}
    return {**others, **{f"CD{i}_{j}": float(matrix[i - 1, j - 1]) for i, j in PAIRS}}


def wcs_of_cards(cards: Cards) -> WCS:
    """Return what cards for two axes say."""
    from astropy.wcs import WCS

    with quietly_mended():
        return WCS(fits.Header(cards))


def longitude_of(cards: Cards) -> int:
    """Return which axis is the longitude, 0 or 1."""
    return int(cards["CTYPE1"].startswith("DEC") or cards["CTYPE1"][1:4] == "LAT")


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
    linear = {key: value for key, value in linear.items() if not LINEAR.fullmatch(key)}
    constant = np.array([polynomial.get("PV1_0", 0.0), polynomial.get("PV2_0", 0.0)])
    terms = np.array(
        [
            [polynomial.get("PV1_1", 1.0), polynomial.get("PV1_2", 0.0)],
            [polynomial.get("PV2_2", 0.0), polynomial.get("PV2_1", 1.0)],
        ]
    )
    folded = terms @ matrix_of(cards)
    shift = np.linalg.solve(folded, constant)
    for i in (1, 2):
        linear[f"CTYPE{i}"] = linear[f"CTYPE{i}"].replace("TPV", "TAN")
        linear[f"CRPIX{i}"] -= float(shift[i - 1])
    return {**linear, **linear_terms(folded, np.ones(2), longitude_of(linear))}


def scaled(cards: Cards, dilation: Fraction) -> Cards:
    """Return a linear WCS for pixels that are smaller by the dilation."""
    if dilation == 1:
        return cards
    factor = float(dilation)
    changed = {}
    for i in (1, 2):
        changed[f"CRPIX{i}"] = (cards[f"CRPIX{i}"] - 0.5) * factor + 0.5
        changed[f"CDELT{i}"] = cards[f"CDELT{i}"] / factor
    return {**cards, **changed}


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
