"""Which HDUs of exposures masks are made of, and which of them mark bad pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from astropy.io import fits

from morpheus_core.errors import InputError
from morpheus_core.exposures.files import Exposure
from morpheus_core.images.hdus import describe_hdu, find_hdu, is_image


@dataclass(frozen=True, slots=True)
class HduChoice:
    """Chooses HDUs of each exposure by the same rule.

    Attributes
    ----------
    hdus : tuple of str or None
        Numbers, names, or patterns of names, of the images that masks are made of; all by default.
    mask : str or None
        Number or name of what marks bad pixels; of a name, the HDU of the version that the image
        has.
    """

    hdus: tuple[str, ...] | None = None
    mask: str | None = None

    def chosen(self, exposure: Exposure, hdus: fits.HDUList) -> Sequence[int]:
        """Return which HDUs the file of masks will have: images that are not meant are left out.

        Raises
        ------
        InputError
            If there is no image of two dimensions among them.
        """
        planes = planes_of(hdus, range(len(hdus)))
        if exposure.extension is not None:
            index = find_hdu(hdus, exposure.extension, str(exposure.path))
            if index not in planes:
                raise InputError(
                    f"[{exposure.extension}] must be an image of two dimensions, got {listed(hdus)}"
                )
            return [index]
        if not planes:
            raise InputError(f"it must hold an image of two dimensions, got only {listed(hdus)}")
        if self.hdus is None:
            return range(len(hdus))
        meant = {index for rule in self.hdus for index in self._meant(rule, planes, hdus)}
        left = [index for index in range(len(hdus)) if index in meant or index not in planes]
        # What begins a file is an image, or has no pixels.
        return left if 0 in left else [index for index in left if index >= min(meant)]

    def _meant(self, rule: str, planes: Sequence[int], hdus: fits.HDUList) -> list[int]:
        """Return the images that a rule means."""
        found = [index for index in planes if is_meant(rule, index, hdus[index])]
        if not found:
            raise InputError(
                f"hdus must name images of two dimensions, got {rule}, which none of these has: "
                f"{listed(hdus)}"
            )
        return found

    def mask_of(self, hdus: fits.HDUList, index: int) -> int | None:
        """Return which HDU marks bad pixels of an image, or None if no mask is asked for.

        Raises
        ------
        InputError
            If there is none.
        """
        if self.mask is None:
            return None
        name = self.mask
        if not name.isdigit():
            name = f"{name},{hdus[index].ver}"
        found = find_hdu(hdus, name, "the exposure")
        if found < 0 or not is_image(hdus[found]):
            raise InputError(
                f"mask must name an image beside each that masks are made of, got {self.mask}: "
                f"{describe_hdu(index, hdus[index])} has no [{name}] beside it, only {listed(hdus)}"
            )
        return found


def is_meant(rule: str, index: int, hdu: Any) -> bool:
    """Say whether a rule means an HDU, by its number, its name, or name and version."""
    if rule.isdigit():
        return int(rule) == index
    name, _, version = rule.upper().partition(",")
    return fnmatchcase(hdu.name, name.strip()) and version.strip() in ("", str(hdu.ver))


def is_plane(hdu: Any) -> bool:
    """Say whether an HDU is an image of two dimensions, compressed or not."""
    return is_image(hdu) and len(hdu.shape) == 2 and all(hdu.shape)


def planes_of(hdus: fits.HDUList, chosen: Sequence[int]) -> list[int]:
    """Return those of some HDUs that masks are made of."""
    return [index for index in chosen if is_plane(hdus[index])]


def listed(hdus: fits.HDUList) -> str:
    """Return all HDUs of a file as text."""
    return ", ".join(map(describe_hdu, range(len(hdus)), hdus))


def checked_hdus(name: str, value: Any) -> tuple[str, ...] | None:
    """Return one or several numbers or names of HDUs.

    Raises
    ------
    InputError
        If they are something else.
    """
    if value is None:
        return None
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    kinds = all(isinstance(one, (int, str)) and not isinstance(one, bool) for one in values)
    texts = tuple(str(one) for one in values if kinds)
    if not texts or not all(texts) or any(text.startswith("-") for text in texts):
        raise InputError(
            f"{name} must be a number or a name of an HDU, as 1, SCI or CCD*, got {value!r}"
        )
    return texts
