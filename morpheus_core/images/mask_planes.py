"""Planes of masks by their names, which cards of the mask's header tell: ``MP_SAT = 1``."""

from __future__ import annotations

import re
from collections.abc import Sequence

from astropy.io import fits

from morpheus_core.errors import InputError
from morpheus_core.images.image import Image

#: How the cards begin that say which bit a plane is, in the pipelines of Rubin and HSC.
PREFIX = "MP_"


def bits_of(names: str, parts: Sequence[Image]) -> int:
    """Return the bits of planes, ``"BAD|SAT"``, or of all others, ``"~DETECTED"``.

    Parameters
    ----------
    names : str
        The planes, with ``|``, ``+`` or ``,`` between.
    parts : sequence of Image
        Masks, of whose headers the first that names planes counts.

    Raises
    ------
    InputError
        If the headers know no such planes.
    """
    headers = [part.header for part in parts if part.header is not None]
    known = next(filter(None, map(planes_in, headers)), {})
    if not known:
        raise InputError(
            f"mask_bits names planes, {names}, and no header of a mask says by cards MP_... which "
            f"bits they are; give numbers"
        )
    wanted = re.findall(r"\w+", names.upper())
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise InputError(f"mask_bits must be of the planes {', '.join(known)}, got {names}")
    bits = sum({1 << known[name] for name in wanted})
    return ~bits if names.lstrip().startswith("~") else bits


def planes_in(header: fits.Header) -> dict[str, int]:
    """Return the number of each plane's bit that a header names."""
    return {
        key.removeprefix(PREFIX): value
        for key, value in header.items()
        if key.startswith(PREFIX) and isinstance(value, int)
    }
