"""Headers that archives have and the standard does not: units, and cards that nothing announces."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from astropy.io import fits

from morpheus_core.errors import warn
from morpheus_core.images.image import Image
from morpheus_core.sky.world_cards import LINEAR, SIP

#: Orders of those polynomials; without one there are none.
SIP_ORDERS = ("A_ORDER", "B_ORDER")
#: Types of axes on the sky, before the name of a projection: Greisen & Calabretta 2002, section 2.
CELESTIAL = re.compile(r"(RA--|DEC-|[A-Z]LON|[A-Z]LAT|[A-Z]{2}LN|[A-Z]{2}LT)(-.*)?")
#: What units of angles are called besides what the standard calls them, in lower case.
ANGLES = {
    **dict.fromkeys(("deg", "degs", "degree", "degrees"), "deg"),
    **dict.fromkeys(("arcmin", "arcmins", "arcminute", "arcminutes"), "arcmin"),
    **dict.fromkeys(("arcsec", "arcsecs", "arcsecond", "arcseconds", "asec"), "arcsec"),
}
#: Parameters of axes on the sky.
PARAMETER = re.compile(r"PV([12])_(\d+)")
#: The last parameter that TAN has, of its longitude: section 2.5 of Calabretta & Greisen 2002.
LAST_OF_TAN = 4
#: Projections whose polynomials are of degrees.
POLYNOMIALS = ("TPV", "TNX", "ZPX")
#: The beginning of a card whose value has an exponent as Fortran writes it, -1.0D-04.
D_EXPONENT = re.compile(r"([A-Z0-9_-]{1,8} *= *[+-]?(?:\d+\.?\d*|\.\d+))[Dd](?=[+-]?\d)")
#: Characters of a card.
CARD = 80
#: Cards that a warning names.
MOST_CARDS = 4


def mended(header: fits.Header) -> fits.Header:
    """Return a header with numbers, units and distortions that WCSLIB reads as they are meant."""
    header = with_exponents(header)
    for axis in range(1, int(header.get("WCSAXES", header.get("NAXIS", 0))) + 1):
        unit = header.get(f"CUNIT{axis}")
        if unit is None:
            continue
        if not CELESTIAL.fullmatch(str(header.get(f"CTYPE{axis}", "")).strip()):
            del header[f"CUNIT{axis}"]  # of wavelengths, which may be as odd
        elif (angle := str(unit).strip("[]. ").lower()) in ANGLES:
            header[f"CUNIT{axis}"] = ANGLES[angle]
    if unannounced_sip(header):
        header = without(header, SIP)
    if polynomial_of_scamp(header):
        if is_sip(header):  # which is the later fit
            header = without(header, PARAMETER)
        else:
            for axis, one in zip((1, 2), types_of(header), strict=True):
                header[f"CTYPE{axis}"] = one.replace("-TAN", "-TPV")
    return with_matrix_of_degrees(header) if has_scaled_polynomial(header) else header


def with_exponents(header: fits.Header) -> fits.Header:
    """Return a copy with exponents as C writes them; of -1.0D-04, wcslib 8 reads -1.0.

    Both are valid: section 4.2.4 of the FITS standard 4.0.
    """
    text = header.tostring()
    cards = [text[start : start + CARD] for start in range(0, len(text), CARD)]
    if not any(D_EXPONENT.match(card) for card in cards):
        return header.copy()
    return fits.Header.fromstring("".join(D_EXPONENT.sub(r"\1E", card, count=1) for card in cards))


def types_of(header: fits.Header) -> list[str]:
    """Return the types of the first two axes."""
    return [str(header.get(f"CTYPE{axis}", "")).strip() for axis in (1, 2)]


def is_sip(header: fits.Header) -> bool:
    """Say whether the types of the axes announce a SIP distortion."""
    return any(one.endswith("-SIP") for one in types_of(header))


def polynomial_of_scamp(header: fits.Header) -> list[str]:
    """Return the cards of a TPV polynomial under TAN, as SCAMP wrote it until 2012.

    astropy knows it by parameters that TAN does not have. One of the first degree has none of them,
    but both linear terms, which would be a native longitude and nothing.
    """
    if not all(re.fullmatch(r".{4}-TAN(-SIP)?", one) for one in types_of(header)):
        return []
    cards = {key: found.groups() for key in header if (found := PARAMETER.fullmatch(key))}
    linear = all(header.get(f"PV{axis}_1") for axis in (1, 2))
    if linear or any(int(number) > LAST_OF_TAN for _, number in cards.values()):
        return list(cards)
    return []


def has_scaled_polynomial(header: fits.Header) -> bool:
    """Say whether a polynomial of degrees comes with CDELT, where its convention has CD."""
    return (
        all(one.endswith(tuple(f"-{name}" for name in POLYNOMIALS)) for one in types_of(header))
        and any(f"CDELT{axis}" in header for axis in (1, 2))
        and not any(re.fullmatch(r"CD[12]_[12]", key) for key in header)
    )


def with_matrix_of_degrees(header: fits.Header) -> fits.Header:
    """Return a header with CD in place of what else says scale and rotation.

    The polynomials are of degrees, https://fits.gsfc.nasa.gov/registry/tpvwcs.html; wcslib 8 takes
    them to be of what PC alone makes of pixels.
    """
    from astropy.wcs import WCS

    wcs = WCS(header, naxis=2).wcs
    matrix = wcs.get_cdelt()[:, np.newaxis] * wcs.get_pc()
    whole = without(header, LINEAR)
    for i in (1, 2):
        whole.remove(f"CROTA{i}", ignore_missing=True)
        # In degrees, as wcslib has made them.
        whole[f"CUNIT{i}"], whole[f"CRVAL{i}"] = "deg", float(wcs.crval[i - 1])
        for j in (1, 2):
            whole[f"CD{i}_{j}"] = float(matrix[i - 1, j - 1])
    return whole


def unannounced_sip(header: fits.Header) -> list[str]:
    """Return the cards of a SIP polynomial that CTYPE does not announce.

    Rectified mosaics keep those of their exposures. The type of an axis names its distortion:
    section 8.2.1 of the FITS standard 4.0.
    """
    if not set(SIP_ORDERS) & set(header) or is_sip(header):
        return []
    # Whatever their orders are, all that might be used.
    return [key for key in header if SIP.fullmatch(key)]


def warn_of_other_distortions(images: Sequence[Image]) -> None:
    """Warn of polynomials that are not read as CTYPE or astropy has it, by file and cards."""
    for image in images:
        if image.header is None:
            continue
        try:
            sip, scamp = unannounced_sip(image.header), polynomial_of_scamp(image.header)
        except Exception:  # broken cards have many classes; `sky_of` warns of those that matter
            continue
        kind = repr(image.header.get("CTYPE1"))
        if sip:
            warn(
                f"{image.name} has cards of a SIP distortion, {shown(sip)}, that its CTYPE1, "
                f"{kind}, does not announce: they are left out; if they "
                f"hold, let CTYPE1 and CTYPE2 end in -SIP"
            )
        if any(int(key.partition("_")[2]) > LAST_OF_TAN for key in scamp):
            continue  # of which astropy makes the same
        if scamp and is_sip(image.header):
            warn(
                f"{image.name} has a polynomial in {shown(scamp)} beside its SIP distortion: it is "
                f"taken for an earlier fit, and left out"
            )
        elif scamp:
            warn(
                f"{image.name} has a polynomial in {shown(scamp)} that its CTYPE1, {kind}, does "
                f"not announce: it is read as TPV, as SCAMP meant it; if it does not hold, remove "
                f"these cards"
            )


def shown(cards: Sequence[str]) -> str:
    """Return a few of the cards, for a warning."""
    return ", ".join(cards[:MOST_CARDS]) + (", ..." if len(cards) > MOST_CARDS else "")


def without(header: fits.Header, cards: re.Pattern[str]) -> fits.Header:
    """Return a header without certain cards."""
    rest = header.copy()
    for key in [key for key in rest if cards.fullmatch(key)]:
        del rest[key]
    return rest
