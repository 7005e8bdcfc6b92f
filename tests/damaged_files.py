"""Small valid FITS files of every kind, and damage to files."""

from io import BytesIO

import numpy as np
from astropy.io import fits

VALUES = [b"0", b"-1", b"1", b"3", b"12", b"1000000000", b"99999999999", b"T", b"F", b"''"]
VALUES += [b"'x'", b"1E400", b"NaN", b"", b"2.5", b"-32", b"64", b"16", b"'RICE_1'", b"'IMAGE'"]


def originals():
    """Return the bytes of small valid files of every kind."""
    random = np.random.default_rng(0)
    image = random.random((12, 14)).astype(np.float32)
    sky = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRPIX1": 3.0})
    kinds = {
        "float": [fits.PrimaryHDU(image, sky)],
        "scaled": [fits.PrimaryHDU((image * 60_000).astype(np.uint16))],
        "cube": [fits.PrimaryHDU(np.stack([image, image], axis=-1))],
        "extensions": [fits.PrimaryHDU(), fits.ImageHDU(image, sky, name="SCI")],
        "tiles": [fits.PrimaryHDU(), fits.CompImageHDU((image * 1000).astype(np.int16))],
    }
    return {name: to_bytes(hdus) for name, hdus in kinds.items()}


def to_bytes(hdus):
    file = BytesIO()
    fits.HDUList(hdus).writeto(file)
    return file.getvalue()


def damaged(content, random):
    """Change a card, a byte or the length of a file."""
    content = bytearray(content)
    cards = [at for at in range(0, len(content), 80) if content[at + 8 : at + 10] == b"= "]
    at = int(random.choice(cards))
    kind = random.integers(7)
    if kind < 3:
        content[at + 10 : at + 80] = random.choice(VALUES).rjust(20).ljust(70)
    elif kind == 3:
        content[at : at + 8] = random.choice([b"NAXIS3  ", b"BZERO   ", b"BLANK   ", b"XYZ     "])
    elif kind == 4:
        content[at : at + 80] = b" " * 80
    elif kind == 5:
        content[at + random.integers(80)] = random.integers(256)
    else:
        del content[random.integers(len(content)) :]
    return bytes(content)
