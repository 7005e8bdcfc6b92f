"""Whether images are of the sky that a package was made for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args

import numpy as np
from astropy.io import fits

from morpheus_core.errors import InputError, warn
from morpheus_core.images.image import Image
from morpheus_core.packages.package import card_of
from morpheus_core.packages.schema import SCALE_TOLERANCE, Band, Card
from morpheus_core.sky.headers import readable_wcs

CheckSky = Literal["error", "warn", "ignore"]
SKY_CHECKS: tuple[CheckSky, ...] = get_args(CheckSky)
#: Cards that name filters; instruments with two wheels have one of each.
FILTER_CARDS = ("FILTER", "FILTER1", "FILTER2", "FILTNAM", "FILTNAM1", "BAND")


def check_sky(model: Any, images: Sequence[Image], check: CheckSky) -> None:
    """Compare headers with the description of a packaged model.

    What a header does not say is not compared, and models without a package know of no sky.

    Raises
    ------
    InputError
        If that is asked for, and bands, pixel scale, filter or unit are others.

    Warns
    -----
    MorpheusWarning
        If that is asked for.
    """
    card = card_of(model)
    if card is None or check == "ignore":
        return
    for difference in differences(card, images):
        message = (
            f"{difference}; pass images like those that the network was trained on, or "
            f'check_sky="ignore"'
        )
        if check == "error":
            raise InputError(message)
        warn(message)


def differences(card: Card, images: Sequence[Image]) -> Iterator[str]:
    """Yield in which ways images are not of the sky of a package."""
    count = sum(image.shape[2] for image in images)
    if count != len(card.bands):
        names = ", ".join(band.name for band in card.bands)
        yield f"the package {card.name} takes {len(card.bands)} bands, {names}, got {count}"
        return
    first = 0
    for image in images:
        bands = card.bands[first : first + image.shape[2]]
        first += image.shape[2]
        yield from other_scale(card, image)
        if image.header is not None:
            for band in bands if len(bands) == 1 else ():  # a header of many says little of each
                yield from other_filter(card, band, image, image.header)
            yield from other_unit(card, bands, image, image.header)


def other_scale(card: Card, image: Image) -> Iterator[str]:
    """Yield that pixels are larger or smaller."""
    expected = None if card.sky is None else card.sky.pixel_scale
    wcs = None if expected is None else readable_wcs(image)
    if expected is None or wcs is None:
        return
    from astropy.wcs.utils import proj_plane_pixel_scales

    scale = 3600 * float(np.sqrt(np.prod(proj_plane_pixel_scales(wcs))))
    tolerance = (card.sky and card.sky.tolerance) or SCALE_TOLERANCE
    if abs(scale / expected - 1) > tolerance:
        yield (
            f"the package {card.name} is for pixels of {expected:g} arc seconds, within "
            f"{tolerance:.0%}, got {scale:.4g} in {image.name}"
        )


def other_filter(card: Card, band: Band, image: Image, header: fits.Header) -> Iterator[str]:
    """Yield that an image was taken through another filter."""
    found = [str(header[key]).strip() for key in FILTER_CARDS if header.get(key)]
    if band.filters is None or not found:
        return
    if not {name.upper() for name in band.filters} & {name.upper() for name in found}:
        yield (
            f"band {band.name} of the package {card.name} is filter {' or '.join(band.filters)}, "
            f"got {' '.join(found)} in {image.name}"
        )


def other_unit(
    card: Card, bands: Sequence[Band], image: Image, header: fits.Header
) -> Iterator[str]:
    """Yield that pixels are in another unit."""
    found = str(header.get("BUNIT") or "").strip()
    for band in bands:
        if found and band.unit is not None and not same_unit(band.unit, found):
            yield (
                f"band {band.name} of the package {card.name} is in units of {band.unit}, got "
                f"{found} in {image.name}"
            )


def same_unit(one: str, other: str) -> bool:
    """Say whether two texts mean a unit alike; what astropy does not know is compared as text."""
    from astropy import units

    if one.replace(" ", "").lower() == other.replace(" ", "").lower():
        return True
    first, second = (units.Unit(unit, parse_strict="silent") for unit in (one, other))
    known = not any(isinstance(unit, units.UnrecognizedUnit) for unit in (first, second))
    return known and bool(first == second)
