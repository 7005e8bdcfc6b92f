"""Means over areas, beside sums over pixels that are cut into small squares."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from morpheus_core.images.resampling import area_means, overlaps

LENGTHS = st.integers(1, 30)


@given(LENGTHS, LENGTHS)
def test_each_pixel_is_shared_out(length, wanted):
    shares = overlaps(length, wanted)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    np.testing.assert_allclose(shares.sum(axis=0), wanted / length)


@pytest.mark.parametrize("shape", [(4, 6), (5, 5), (12, 7), (1, 1)])
@pytest.mark.parametrize("dtype", [np.float64, np.uint8])
def test_means_are_those_of_small_squares(shape, dtype):
    images = np.random.default_rng(0).integers(0, 256, (2, 6, 9, 3)).astype(dtype)
    small = images.repeat(shape[0], axis=1).repeat(shape[1], axis=2)
    expected = small.reshape(2, shape[0], 6, shape[1], 9, 3).mean(axis=(2, 4))
    found = area_means(images, shape)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected if dtype is np.float64 else np.rint(expected))


def test_what_touches_a_nan_is_nan_and_nothing_else_is():
    image = np.ones((6, 6, 2))
    image[0, 0, 1], image[5, 3, 0] = np.nan, np.inf
    found = area_means(image, (3, 3))
    expected = np.ones((3, 3, 2))
    expected[0, 0, 1] = expected[2, 1, 0] = np.nan
    np.testing.assert_array_equal(found, expected)
