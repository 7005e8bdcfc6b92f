"""The windows of objects that were found on a map are those of their pixels, by either position."""

import numpy as np
import pytest
from astropy.io import fits
from conftest import require
from sky_headers import ROTATED, SIP, sky_header

from morpheus_core import find_candidates, predict, predict_catalog

IMAGE = np.zeros((60, 70), "f4")
#: Corners, and sides that are odd and even: centroids on pixels, and half-way between two.
for row, column, height, width in [(5, 8, 2, 2), (20, 31, 3, 4), (41, 50, 1, 2), (30, 9, 5, 3)]:
    IMAGE[row : row + height, column : column + width] = 1


def sources(batch):
    return np.concatenate([batch[0], 1 - batch[0]], axis=-1)


@pytest.mark.parametrize("shape", [(8, 8), (7, 7), (6, 9)])
@pytest.mark.parametrize("distortion", [{}, SIP], ids=["rotated", "SIP"])
@pytest.mark.filterwarnings("ignore:the output gets a linear sky position")
def test_the_same_place_gives_the_same_window(distortion, shape):
    require("scipy")
    header = sky_header(ROTATED)
    header.update(distortion)
    hdu = fits.ImageHDU(IMAGE, header)
    results = predict(sources, hdu, 2, 64, (5, 5), stride=(5, 5), progress=False)
    found = find_candidates(results, "class_0", 0.5)
    assert len(found) == 4

    def windows(**columns):
        seen = []

        def model(batch):
            seen.extend(window[..., 0] for window in batch[0])
            return np.zeros((len(batch[0]), 1))

        index = np.arange(IMAGE.size, dtype="f8").reshape(IMAGE.shape)
        image = fits.ImageHDU(index, header)
        predict_catalog(model, image, found, 1, 64, shape, progress=False, **columns)
        return sorted(window[0, 0] for window in seen)

    by_pixel = windows(x="x", y="y")
    assert by_pixel == windows(ra="ra", dec="dec")
    # The first row of a window of n rows around p is ceil(p - n / 2).
    rows, columns = (
        np.ceil(np.round(np.asarray(found[name]), 6) - length / 2).astype(int)
        for name, length in zip(("y", "x"), shape, strict=True)
    )
    rows, columns = (
        np.clip(first, 0, size - length)
        for first, size, length in zip((rows, columns), IMAGE.shape, shape, strict=True)
    )
    assert by_pixel == sorted(rows * IMAGE.shape[1] + columns)
