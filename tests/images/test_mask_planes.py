"""Planes of masks by the names that their headers give them."""

import numpy as np
import pytest
from astropy.io import fits

from morpheus_core import InputError, predict

SHAPE = (12, 14)


@pytest.fixture
def mask(tmp_path):
    """Each plane marks a row: its bit."""
    flags = np.zeros(SHAPE, np.int32)
    planes = {"BAD": 0, "SAT": 1, "CLIPPED": 3, "DETECTED_NEGATIVE": 9}
    for number in planes.values():
        flags[number] = 1 << number
    hdu = fits.ImageHDU(flags, name="MASK")
    for name, number in planes.items():
        hdu.header[f"HIERARCH MP_{name}"] = number
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / "calexp.fits")
    return f"{tmp_path / 'calexp.fits'}[MASK]"


def bad_rows(mask, bits):
    def model(batch):
        return np.ones((len(batch[0]), 1))

    _, (_, n) = predict(
        model, np.zeros(SHAPE), 1, 64, (3, 3), aggregate_method="mean_var", progress=False,
        mask=mask, mask_bits=bits,
    )  # fmt: skip
    return np.flatnonzero((n == 0).all(axis=1)).tolist()


@pytest.mark.parametrize(
    ("bits", "rows"),
    [
        ("BAD", [0]),
        ("BAD|SAT", [0, 1]),
        ("sat, clipped", [1, 3]),
        ("DETECTED_NEGATIVE+BAD", [0, 9]),
        ("~BAD|SAT", [3, 9]),
        ("BAD|BAD", [0]),
        ("1,2", [0, 1]),
    ],
)
def test_planes_are_named(mask, bits, rows):
    assert bad_rows(mask, bits) == rows


def test_a_plane_that_is_not_there(mask):
    with pytest.raises(InputError, match="of the planes BAD, SAT, CLIPPED, DETECTED_NEGATIVE, got"):
        bad_rows(mask, "BAD|EDGE")


def test_names_that_no_header_knows():
    with pytest.raises(InputError, match="names planes, BAD, and no header of a mask says"):
        bad_rows(np.zeros(SHAPE, int), "BAD")
