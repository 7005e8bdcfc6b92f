"""Which pixels stand for those beyond the border."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from morpheus_core.windows.grid import repeated_pixels


@pytest.mark.parametrize("padding", ["reflect", "symmetric", "edge"])
@given(length=st.integers(1, 9), before=st.integers(0, 30), after=st.integers(0, 30))
def test_pixels_repeat_as_numpy_pads(padding, length, before, after):
    expected = np.pad(np.arange(length), (before, after), mode=padding)
    found = repeated_pixels(-before, before + length + after, length, padding)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("padding", ["constant", None])
def test_pixels_beyond_the_border_are_none_of_the_image(padding):
    assert repeated_pixels(-2, 7, 3, padding).tolist() == [-1, -1, 0, 1, 2, -1, -1]


def test_rows_that_begin_inside_the_image():
    assert repeated_pixels(2, 4, 4, "reflect").tolist() == [2, 3, 2, 1]
    assert repeated_pixels(2, 4, 4, "symmetric").tolist() == [2, 3, 3, 2]
