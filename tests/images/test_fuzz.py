"""Damaged files: one clear error, or the numbers that astropy reads from them."""

import signal
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from morpheus_core import InputError, predict
from morpheus_core.images.stack import open_inputs

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


def what_astropy_reads(path):
    with fits.open(path, memmap=False) as file:
        images = [hdu for hdu in file if hdu.is_image and hdu.shape]
        (hdu,) = images
        return np.squeeze(hdu.data)


def what_we_read(path):
    with open_inputs(path) as stack:
        return np.squeeze(stack.images[0].read(0, stack.shape[0]))


def count_open_files():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def outcome(path):
    """Return whether a damaged file is read, after comparing it with what astropy reads."""
    try:
        rows = what_we_read(path)
    except InputError:
        return False
    np.testing.assert_array_equal(rows, what_astropy_reads(path))
    return True


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["float", "scaled", "cube", "extensions", "tiles"])
def test_damaged_files_are_refused_or_read_as_astropy_reads_them(tmp_path, kind):
    random = np.random.default_rng(list(kind.encode()))
    content = originals()[kind]
    path = tmp_path / "damaged.fits"
    signal.alarm(120)  # a file that makes reading hang
    try:
        open_files, read = None, 0
        for _ in range(150):
            path.write_bytes(damaged(content, random))
            read += outcome(path)
            run(path)
            if open_files is None:
                open_files = count_open_files()
        assert count_open_files() <= open_files
        assert 40 < read < 360  # both happen
    finally:
        signal.alarm(0)


def run(path):
    """Predict from a damaged file, into memory."""
    try:
        hduls, _ = predict(
            lambda batch: np.nanmean(np.float32(batch[0]), axis=-1),
            path,
            1,
            64,
            (2, 3),
            stride=(2, 3),
            aggregate_method="mean_var",
            progress=False,
        )
    except InputError:
        return
    for hdul in hduls:
        hdul.close()
