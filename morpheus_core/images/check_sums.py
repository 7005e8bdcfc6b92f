"""Whether files have the bytes that their CHECKSUM and DATASUM cards were made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from astropy.io import fits

from morpheus_core.errors import InputError, warn
from morpheus_core.fits.blocks import ones_complement_sum, sum_of_words
from morpheus_core.images.fits_images import FitsImage
from morpheus_core.images.hdus import quiet
from morpheus_core.images.image import Image
from morpheus_core.images.remote_images import RemoteImage

CheckSums = Literal["warn", "error", "ignore"]

#: Bytes that are read at once; a multiple of four.
READ_BYTES = 1 << 20
#: What the words of an intact HDU with a CHECKSUM add up to: section 4.4.2.7 of the FITS standard.
INTACT = (0xFFFFFFFF, 0)


def check_sums(images: Sequence[Image], check: CheckSums) -> None:
    """Compare files with their checksums, if they have some.

    The HDUs of images in files are read once for it, and none whose pixels are in memory. Files at
    addresses that are larger than what is fetched at once are left alone but for "error".

    Parameters
    ----------
    images : sequence of Image
        Open.
    check : {"warn", "error", "ignore"}
        What to do if one is not as it was.

    Raises
    ------
    InputError
        If that is asked for.

    Warns
    -----
    MorpheusWarning
        If that is asked for.
    """
    if check == "ignore":
        return
    for image in images:
        failed = failed_cards_of(image, check)
        if failed:
            message = (
                f"{image.name} is not what its {failed} was made of: the file was damaged, or "
                f"changed by a program that leaves such cards alone; fetch it again, or pass "
                f'check_sums="ignore"'
            )
            if check == "error":
                raise InputError(message)
            warn(message)


def failed_cards_of(image: Image, check: CheckSums) -> str:
    """Return which cards of the HDU of an image do not fit its bytes, if it is in a file."""
    if isinstance(image, FitsImage):
        path, hdu = image.stored_hdu()
        with path.open("rb") as file:
            return failed_cards(file, hdu)
    if isinstance(image, RemoteImage) and (image.is_whole or check == "error"):
        return failed_cards(*image.stored_hdu())
    return ""


def failed_cards(file: Any, hdu: Any) -> str:
    """Return which cards of an HDU do not fit its bytes: DATASUM, CHECKSUM, both or none."""
    place = hdu.fileinfo()
    header_start, data_start = place["hdrLoc"], place["datLoc"]
    file.seek(header_start)
    # Of tiles astropy shows another header than the one that is stored.
    with quiet():
        header = fits.Header.fromstring(file.read(data_start - header_start))
    wanted = [key for key in ("DATASUM", "CHECKSUM") if str(header.get(key, "")).strip()]
    if not wanted:
        return ""
    words = words_of(file, header_start, data_start)
    data_sum = ones_complement_sum(words_of(file, data_start, data_start + place["datSpan"]))
    fits_cards = {
        "DATASUM": str(data_sum) == str(header.get("DATASUM")).strip(),
        "CHECKSUM": ones_complement_sum(words + data_sum) in INTACT,
    }
    return " and ".join(key for key in wanted if not fits_cards[key])


def words_of(file: Any, start: int, stop: int) -> int:
    """Add up the 32-bit words of a part of a file; what is missing of the last block is zero."""
    file.seek(start)
    total = 0
    while start < stop:
        read = file.read(min(READ_BYTES, stop - start))
        if not read:
            break
        total += sum_of_words(np.frombuffer(read, np.uint8), 0)
        start += len(read)
    return total
