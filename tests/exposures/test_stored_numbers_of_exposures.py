"""What stored integers of exposures stand for is what the model gets."""

import numpy as np
import pytest
from astropy.io import fits

from morpheus_core import map_exposures

STORED = np.random.default_rng(0).integers(-30000, 30000, (12, 10)).astype("i2")


@pytest.mark.parametrize("tiles", [False, True])
@pytest.mark.parametrize(
    "cards", [{"BZERO": 32768}, {"BSCALE": 0.5, "BZERO": 7}, {"BLANK": int(STORED[3, 4])}]
)
def test_pixels(tmp_path, tiles, cards):
    hdu = fits.CompImageHDU(STORED) if tiles else fits.ImageHDU(STORED)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / "a.fits")
    with fits.open(tmp_path / "a.fits", mode="update", disable_image_compression=True) as file:
        file[1].header.update(cards)
    expected = STORED * cards.get("BSCALE", 1.0) + cards.get("BZERO", 0)
    expected[cards.get("BLANK", 40000) == STORED] = np.nan

    def share(batch):
        pixels = (batch[0].astype(float) + 40000) / 120000
        return np.concatenate([pixels, 1 - pixels], axis=-1)

    (outcome,) = map_exposures(
        share, tmp_path / "a.fits", 2, 64, (2, 2), stride=(2, 2), thresholds=None, progress=False
    )
    assert outcome.error is None
    with fits.open(outcome.output) as file:
        found = file[1].data[0] * 120000 - 40000
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.05)
