from fractions import Fraction

import numpy as np
import pytest

from morpheus_core import InputError, checks


@pytest.mark.parametrize(
    ("value", "fraction"),
    [(1 / 3, (1, 3)), (np.float32(0.5), (1, 2)), (2, (2, 1)), (Fraction(3, 7), (3, 7))],
)
def test_dilations_are_the_fractions_that_floats_stand_for(value, fraction):
    assert checks.positive_fraction("dilation", value) == Fraction(*fraction)


@pytest.mark.parametrize(
    ("update_map", "message"),
    [
        (np.ones((3, 4)), r"\(4, 4\), got \(3, 4\)"),
        (np.full((4, 4), -1.0), "finite and >= 0, .* got -1.0"),
        (np.full((4, 4), np.nan), "finite and >= 0, .* got nan"),
        (np.zeros((4, 4)), "at least one pixel"),
        (np.full((4, 4), "x"), "dtype <U1"),
        (np.ones((4, 4), complex), "dtype complex128"),
    ],
)
def test_bad_maps_are_named(update_map, message):
    with pytest.raises(InputError, match=message):
        checks.update_map(update_map, (4, 4))
