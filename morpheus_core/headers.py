"""What the headers of the outputs say: where their pixels are on the sky.

FITS counts axes the other way round: NAXIS1 is the last numpy axis. An output of (height, width,
class) therefore has its sky position on axes 2 and 3.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from astropy.io import fits

from morpheus_core.errors import MorpheusWarning


def product_header(sky: dict[str, Any], axes: Mapping[str, str]) -> fits.Header:
    """Make the header of an output.

    Parameters
    ----------
    sky : dict
        What :func:`celestial_cards` returns.
    axes : mapping of str
        Names and meanings of the axes after height and width, in numpy order.

    Returns
    -------
    Header
        World coordinates only; the cards that describe the data are the writer's.
    """
    header = fits.Header()
    leading = len(axes)
    if sky:
        header["WCSAXES"] = leading + 2
    for axis, (name, meaning) in enumerate(reversed(list(axes.items())), start=1):
        header[f"CTYPE{axis}"] = (name, meaning)
        if sky:  # programs that read any axis expect a scale of every one: here an index from 0
            header[f"CRPIX{axis}"], header[f"CRVAL{axis}"], header[f"CDELT{axis}"] = 1.0, 0.0, 1.0
    for key, value in sky.items():
        header[shifted_key(key, leading)] = value
    return header


def celestial_cards(source: fits.Header | None, dilation: Fraction) -> dict[str, Any]:
    """Return the linear celestial WCS of a header as cards for axes 1 and 2, scaled by `dilation`.

    Output pixel ``p'`` and input pixel ``p`` (both one-based) are related by ``p' - 0.5 =
    (p - 0.5) dilation``, because pixel edges, not centres, lie at half-integers; see Greisen &
    Calabretta 2002, A&A 395, 1061. A header without a celestial WCS gives no cards.
    """
    from astropy.utils.exceptions import AstropyWarning
    from astropy.wcs import WCS

    if source is None:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)  # of cards that were mended
        try:
            wcs = WCS(source).celestial
        except Exception as error:  # wcslib and astropy reject broken cards with many classes
            warn(f"the outputs get no sky position: {error}")
            return {}
        if not wcs.has_celestial:
            return {}
        if wcs.sip is not None:
            warn(
                "the outputs get a linear sky position: the SIP distortion of the input is left out"
            )
            wcs.sip = None
            wcs.wcs.ctype = [name.removesuffix("-SIP") for name in wcs.wcs.ctype]
        factor = float(dilation)
        wcs.wcs.crpix = (wcs.wcs.crpix - 0.5) * factor + 0.5
        if wcs.wcs.has_cd():
            wcs.wcs.cd = wcs.wcs.cd / factor
        else:
            wcs.wcs.cdelt = wcs.wcs.cdelt / factor
        header = wcs.to_header()
    # wcslib adds a reference date of zero where there is no time to refer to.
    return {key: header[key] for key in header if key not in ("WCSAXES", "MJDREF")}


def warn(message: str) -> None:
    """Warn of a sky position that is not that of the input."""
    warnings.warn(message, MorpheusWarning, stacklevel=2)


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
