import numpy as np
import pytest

from morpheus_core import InputError, update_maps


def test_centre_crop_keeps_the_inner_30_of_40():
    update_map = update_maps.centre_crop((40, 40), 5)
    assert update_map.dtype == bool
    assert update_map.sum() == 900
    assert update_map[5:35, 5:35].all()


def test_centre_crop_takes_rows_and_columns():
    assert update_maps.centre_crop((6, 8), (1, 3)).sum() == 4 * 2


@pytest.mark.parametrize("border", [-1, 3, (0, 4)])
def test_centre_crop_must_leave_something(border):
    with pytest.raises(InputError, match="leave some of the window"):
        update_maps.centre_crop((6, 8), border)


@pytest.mark.parametrize("make", [update_maps.gaussian, update_maps.hann])
@pytest.mark.parametrize("shape", [(5, 5), (4, 7), (1, 1), (64, 40)])
def test_weights_are_positive_symmetric_and_peak_in_the_middle(make, shape):
    weights = make(shape)
    assert weights.shape == shape
    assert weights.min() > 0
    np.testing.assert_allclose(weights, weights[::-1, ::-1], rtol=1e-12)
    assert weights.max() == weights[shape[0] // 2, shape[1] // 2]


def test_gaussian_width_is_a_fraction_of_the_window():
    profile = update_maps.gaussian((81, 81), sigma=0.125)[40]
    assert profile[40] == 1
    assert profile[40 + 10] == pytest.approx(np.exp(-0.5 * (10 / (0.125 * 81)) ** 2))


@pytest.mark.parametrize("sigma", [0, -1, float("nan")])
def test_gaussian_needs_a_width(sigma):
    with pytest.raises(InputError, match="sigma must be > 0"):
        update_maps.gaussian((5, 5), sigma)


def test_gaussian_that_vanishes_in_the_corners_is_refused():
    with pytest.raises(InputError, match="corners no weight"):
        update_maps.gaussian((200, 200), 0.005)
    with pytest.raises(InputError, match="corners no weight"):  # in float32, as n is
        update_maps.gaussian((40, 40), 0.045)
