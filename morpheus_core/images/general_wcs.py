"""World coordinates that no FITS header holds, gwcs of Roman and JWST, and the header nearest."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from astropy.io import fits

from morpheus_core.errors import warn

#: Pixels by which a fit may be off where a polynomial of a higher degree is off by less.
GOOD_ERROR = 1e-3
#: Places along each axis that are fitted.
PLACES = 24


def is_general(wcs: Any) -> bool:
    """Say whether these have the shared interface of astropy (APE 14), and no FITS header."""
    return hasattr(wcs, "world_to_pixel") and not hasattr(wcs, "to_header")


def nearest_header(wcs: Any, shape: tuple[int, int], name: str) -> fits.Header:
    """Return a TAN header of the same positions, with a SIP polynomial if need be.

    Parameters
    ----------
    wcs : gwcs.WCS
        Others give an empty header.
    shape : tuple of int
        Height and width of the image.
    name : str
        What warnings call it.

    Warns
    -----
    MorpheusWarning
        If positions are not the same to a thousandth of a pixel, or there is no such header.
    """
    height, width = shape
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an error that is looked at below
            header = wcs.to_fits_sip(
                bounding_box=((-0.5, width - 0.5), (-0.5, height - 0.5)),
                max_pix_error=GOOD_ERROR,
                npoints=PLACES,
            )
        error = max(float(header.get(key, 0)) for key in ("SIPMXERR", "SIPIVERR"))
    except Exception as problem:  # of coordinates of other kinds, and of frames
        warn(
            f"{name} has world coordinates that a FITS header cannot hold, "
            f"{type(wcs).__name__}: they are left out of the outputs ({problem})"
        )
        return fits.Header()
    if error > GOOD_ERROR or "A_ORDER" in header:
        warn(
            f"the sky position of {name} is fitted by a SIP polynomial, which is up to "
            f"{error:.2g} pixels off, for headers; positions of catalogues are exact"
        )
    return header


def wcs_beside(tree: Any, key: str) -> Any:
    """Return the world coordinates in an ASDF tree of the array of a name, None without them.

    They are in ``meta.wcs`` beside it, as in files of Roman and JWST.
    """
    with suppress(KeyError, AttributeError, TypeError):
        node = tree
        for name in key.split(".")[:-1]:
            node = node[name]
        wcs = node["meta"]["wcs"]
        return None if isinstance(wcs, Mapping) or not is_general(wcs) else wcs
    return None
