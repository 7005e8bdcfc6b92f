"""Calls that morpheus-core 0.1.13 answered wrongly."""

import numpy as np
import pytest
from astropy.io import fits

from morpheus_core import ModelError, predict


def random_model(n_classes):
    def model(batch):
        seeds = batch[0].reshape(len(batch[0]), -1).sum(axis=1)
        shape = (*batch[0].shape[1:3], n_classes)
        return np.stack([np.random.default_rng(int(seed)).random(shape) for seed in seeds])

    return model


def image(height, width):
    return np.arange(height * width).reshape(height, width)


def votes(shape, window_shape, stride, **options):
    return predict(
        random_model(3),
        image(*shape),
        3,
        16,
        window_shape,
        stride=stride,
        progress=False,
        **options,
    )[1]


def test_every_pixel_is_classified_where_the_stride_does_not_divide():
    """225 of 1,517 pixels were zero, without a warning."""
    shares, n = votes((37, 41), (10, 10), (4, 4))
    assert (n > 0).all()
    np.testing.assert_allclose(shares.sum(axis=-1), 1, rtol=1e-6)


def test_an_image_smaller_than_the_window():
    """The result was all zeros."""
    with pytest.raises(ValueError, match="at least as large as the window"):
        votes((9, 41), (10, 10), (1, 1))
    shares, n = votes((9, 41), (10, 10), (1, 1), padding="reflect")
    assert (n == 100).all()
    np.testing.assert_allclose(shares.sum(axis=-1), 1, rtol=1e-6)


def test_votes_sum_to_one():
    """Votes were up to 11 for a (10, 8) window and stride (3, 2)."""
    shares, n = votes((31, 29), (10, 8), (3, 2))
    assert (n > 0).all()
    assert shares.max() <= 1
    np.testing.assert_allclose(shares.sum(axis=-1), 1, rtol=1e-6)


@pytest.mark.filterwarnings("ignore::morpheus_core.MorpheusWarning")
def test_a_stride_wider_than_the_window():
    """This was an IndexError."""
    shares, n = votes((31, 29), (10, 8), (11, 11))
    assert n.max() == 1
    assert (n[:, -1] > 0).any()  # a last window reaches the border
    np.testing.assert_allclose(shares[n > 0].sum(axis=-1), 1, rtol=1e-6)
    assert np.isnan(shares[n == 0]).all()


def test_unsigned_integer_images(tmp_path):
    """This was a ValueError."""
    path = tmp_path / "camera.fits"
    fits.writeto(path, image(30, 30).astype(np.uint16) + 40_000)
    types = []

    def model(batch):
        types.append(batch[0].dtype)
        return batch[0]

    _, (mean_var, _) = predict(
        model, str(path), 1, 16, (10, 10), aggregate_method="mean_var", progress=False
    )
    assert set(types) == {np.dtype(np.uint16)}
    np.testing.assert_array_equal(mean_var[..., 0, 0], image(30, 30) + 40_000)


def test_one_class_for_three():
    """This was accepted silently."""
    with pytest.raises(ModelError, match=r"n_classes=3; expected \(1, 10, 8, 3\)"):
        predict(lambda b: b[0] * 1.0, image(10, 8), 3, 16, (10, 8), progress=False)
