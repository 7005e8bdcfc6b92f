from pathlib import Path

import numpy as np
import pytest

from morpheus_core import InputError, predict, update_maps


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


def test_kept_border_weighs_next_to_nothing():
    update_map = update_maps.centre_crop((6, 8), (1, 3), keep_border=True)
    assert update_map.dtype == np.float64
    assert (update_map == 1).sum() == 4 * 2
    assert (update_map[0] == 3 * [1e-12] + 2 * [1e-6] + 3 * [1e-12]).all()
    assert (update_map[1] == 3 * [1e-6] + 2 * [1] + 3 * [1e-6]).all()


def windows_named(batch):
    """Score a window by the value of its first pixel, and its pixels that are NaN by NaN."""
    (windows,) = batch
    firsts = np.nan_to_num(windows[:, :1, :1], nan=7)
    scores = firsts + 0 * windows
    return np.concatenate([scores, scores - 1], axis=-1).astype(np.float32)


def kept(image, methods="mean_var", **options):
    update_map = update_maps.centre_crop((8, 8), 2, keep_border=True)
    settings = {"stride": (4, 4), "update_map": update_map, "on_nan": "ignore", "progress": False}
    return predict(
        windows_named, image, 2, 4, (8, 8), aggregate_method=methods, **settings, **options
    )[1]


@pytest.mark.usefixtures("both_kernels")
class TestKeptBorder:
    """Each pixel has the answer of the window in whose centre it lies, or of those there are."""

    image = np.arange(16.0 * 16).reshape(16, 16).astype(np.float32)

    def test_edge_of_the_image_needs_no_padding(self):
        mean, n = kept(self.image)
        assert mean[0, 0, 0, 0] == self.image[0, 0]
        assert n[0, 0] == np.float32(1e-12)
        # Along the edge that window decides whose centre lies there.
        np.testing.assert_allclose(mean[0, 6:10, 0, 0], self.image[0, 4], rtol=1e-5)
        # Where four windows overlap the one whose centre it is decides.
        np.testing.assert_allclose(mean[6:10, 6:10, 0, 0], self.image[4, 4], rtol=1e-5)
        np.testing.assert_allclose(n[6:10, 6:10], 1, rtol=1e-5)

    @pytest.mark.parametrize("nan_policy", ["propagate", "omit"])
    def test_nan_in_a_border_leaves_the_pixel_to_the_centre(self, nan_policy):
        def border_fails(batch):
            scores = windows_named(batch)
            scores[:, :2] = scores[:, -2:] = scores[:, :, :2] = scores[:, :, -2:] = np.nan
            return scores

        update_map = update_maps.centre_crop((8, 8), 2, keep_border=True)
        _, (mean, votes, n) = predict(
            border_fails, self.image, 2, 4, (8, 8), stride=(4, 4), update_map=update_map,
            aggregate_method=["mean_var", "rank_vote"], nan_policy=nan_policy, progress=False,
        )  # fmt: skip
        inner = np.s_[2:-2, 2:-2]
        assert (n[inner] == 1).all()
        assert (votes[inner][..., 0] == 1).all()
        tops = 4 * ((np.arange(2, 14) - 2) // 4)
        np.testing.assert_array_equal(mean[inner][..., 0, 0], self.image[np.ix_(tops, tops)])
        edge = mean[0, :, 0, 0]  # no centre reaches it
        assert np.isnan(edge).all()
        assert (n[0] == 0).all() if nan_policy == "omit" else (n[0] > 0).all()

    def test_nan_in_a_centre_spoils_its_pixel(self):
        image = self.image.copy()
        image[7, 7] = np.nan
        mean, n = kept(image)
        assert np.isnan(mean[7, 7]).all()
        assert n[7, 7] == pytest.approx(1)
        assert np.isnan(mean[..., 0, 0]).sum() == 1

    def test_strips_agree_to_the_byte(self, tmp_path):
        image = np.tile(self.image, (4, 1))
        image[7::9, 7] = np.nan
        alone = kept(image, ["mean_var", "rank_vote"], padding="reflect")
        hdus, strips = predict(
            windows_named, image, 2, 4, (8, 8), stride=(4, 4), padding="reflect",
            update_map=update_maps.centre_crop((8, 8), 2, keep_border=True), on_nan="ignore",
            aggregate_method=["mean_var", "rank_vote"], out_dir=tmp_path, strips=3, progress=False,
        )  # fmt: skip
        for whole, part in zip(alone, strips, strict=True):
            np.testing.assert_array_equal(whole, part)
        for hdul in hdus:
            hdul.close()


@pytest.mark.parametrize("width", [600, 700])
def test_kept_border_gives_the_masks_of_maximask(width):
    """What MaxiMask 1.4.1 wrote of exposures, put together of what it said of windows.

    The exposures are shared/data's m13.fits, wrapped, with noise and hot pixels; classes are HP,
    BBG and BG, and in no pixel is there any other. In columns 400 to 499 of 700, where centres of
    windows overlap, MaxiMask has the answers of its last windows, and we have means.
    """
    corners = [[row, column] for row in (0, 200) for column in sorted({0, 200, width - 400})]
    path = Path(__file__).parent / "exposures" / f"maximask_600x{width}.npz"
    with np.load(path) as stored:
        windows = np.unpackbits(stored["windows"]).reshape(3, len(corners), 400, 400)
        exposure = np.unpackbits(stored["exposure"]).reshape(3, 600, width)
    positions = np.arange(600.0 * width).reshape(600, width)

    def answers(batch):
        firsts = batch[0][:, 0, 0, 0].astype(int)
        numbers = [corners.index([first // width, first % width]) for first in firsts]
        return np.moveaxis(windows[:, numbers], 0, -1).astype(np.float32)

    update_map = update_maps.centre_crop((400, 400), 100, keep_border=True)
    _, (mean, _) = predict(
        answers, positions, 3, 4, (400, 400), stride=(200, 200), update_map=update_map,
        aggregate_method="mean_var", progress=False,
    )  # fmt: skip
    differs = (np.moveaxis(mean[..., 0], -1, 0) > 0.5) != exposure
    assert not differs[..., :400].any()
    assert not differs[..., 500:].any()
    assert differs.any() == (width == 700)
    assert differs.mean() < 4e-4
