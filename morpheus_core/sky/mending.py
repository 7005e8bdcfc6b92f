"""Headers that archives have and the standard does not: units, and cards that nothing announces."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from astropy.io import fits

from morpheus_core.errors import warn
from morpheus_core.images.image import Image
from morpheus_core.sky.world_cards import LINEAR, PROJECTION, SIP

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
#: Cards that a warning names.
MOST_CARDS = 4


def mended(header: fits.Header) -> fits.Header:
    """Return a header with units and distortions that WCSLIB reads as they are meant."""
    header = header.copy()
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
    if is_tpv_of_scales(header):
        return with_tpv_matrix(header)
    if set(SIP_ORDERS) & set(header):
        # Of an earlier fit, which SIP replaces; astropy forgets it only where it sees both.
        return without(header, PROJECTION)
    return header


def is_tpv_of_scales(header: fits.Header) -> bool:
    """Say whether a polynomial of TPV comes with CDELT, where its convention has CD."""
    return (
        all(str(header.get(f"CTYPE{axis}", "")).strip().endswith("-TPV") for axis in (1, 2))
        and any(f"CDELT{axis}" in header for axis in (1, 2))
        and not any(re.fullmatch(r"CD[12]_[12]", key) for key in header)
    )


def with_tpv_matrix(header: fits.Header) -> fits.Header:
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
    types = [str(header.get(f"CTYPE{axis}", "")).strip() for axis in (1, 2)]
    if not set(SIP_ORDERS) & set(header) or any(one.endswith("-SIP") for one in types):
        return []
    # Whatever their orders are, all that might be used.
    return [key for key in header if SIP.fullmatch(key)]


def warn_of_unannounced_sip(images: Sequence[Image]) -> None:
    """Warn of polynomials that are left out, by file and cards."""
    for image in images:
        if image.header is None:
            continue
        try:
            cards = unannounced_sip(image.header)
        except Exception:  # broken cards have many classes; `sky_of` warns of those that matter
            continue
        if cards:
            shown = ", ".join(cards[:MOST_CARDS]) + (", ..." if len(cards) > MOST_CARDS else "")
            warn(
                f"{image.name} has cards of a SIP distortion, {shown}, that its CTYPE1, "
                f"{image.header.get('CTYPE1')!r}, does not announce: they are left out; if they "
                f"hold, let CTYPE1 and CTYPE2 end in -SIP"
            )


def without(header: fits.Header, cards: re.Pattern[str]) -> fits.Header:
    """Return a header without certain cards."""
    rest = header.copy()
    for key in [key for key in rest if cards.fullmatch(key)]:
        del rest[key]
    return rest
