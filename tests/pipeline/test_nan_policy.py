"""NaN of images that spreads in what a model says."""

import re
import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from morpheus_core import (
    InputError,
    ModelError,
    MorpheusWarning,
    map_exposures,
    predict,
    predict_catalog,
    run_strip,
    stitch,
)
from morpheus_core.pipeline.nan_policy import NanWatch, holds_nan

IMAGE = np.ones((20, 20), np.float32)
IMAGE[3, 4] = np.nan
ARGUMENTS = {
    "n_classes": 1, "batch_size": 8, "window_shape": (5, 5), "stride": (5, 5),
    "aggregate_method": "mean_var", "progress": False,
}  # fmt: skip


def normalizing(batch):
    """Spread the NaN of a pixel over its window."""
    return batch[0] - batch[0].mean(axis=(1, 2), keepdims=True)


def per_pixel(batch):
    return batch[0] * 2


def without_an_axis_of_classes(batch):
    return batch[0][..., 0]


def test_it_warns_once_and_sums_up():
    with pytest.warns(MorpheusWarning) as caught:
        predict(normalizing, np.concatenate([IMAGE, IMAGE]), **ARGUMENTS)
    first, last = (str(one.message) for one in caught)
    assert first.startswith("NaN spreads: 1 of 8 windows of a batch hold NaN, in 0.50% of their")
    assert "12.50% of what the model says" in first
    assert last.startswith("2 of 32 windows (6.25%) have more NaN in their predictions")


@pytest.mark.parametrize("workers", [{}, pytest.param({"cpus": 2}, marks=pytest.mark.slow)])
def test_it_raises(tmp_path, workers):
    with pytest.raises(Exception, match="NaN spreads"):
        predict(normalizing, IMAGE, **ARGUMENTS, on_nan="raise", out_dir=tmp_path, **workers)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (normalizing, {"on_nan": "ignore"}),
        (per_pixel, {"on_nan": "raise"}),
        (without_an_axis_of_classes, {"on_nan": "raise"}),
    ],
)
def test_it_is_quiet(model, options):
    predict(model, IMAGE, **ARGUMENTS, **options)


SUMMED_UP = r"^2 of 32 windows \(6.25%\) have more NaN in their predictions than in .*fill_nan"


@pytest.mark.parametrize("workers", [{"cpus": 2}, {"strips": 2}])
def test_what_strips_have_seen_is_summed_up_once(tmp_path, workers):
    with pytest.warns(MorpheusWarning) as caught:
        hduls, _ = predict(
            normalizing, np.concatenate([IMAGE, IMAGE]), **ARGUMENTS, out_dir=tmp_path, **workers
        )
    for hdul in hduls:
        hdul.close()
    told = [str(one.message) for one in caught if "windows (" in str(one.message)]
    assert len(told) == 1
    assert re.match(SUMMED_UP, told[0])


def test_the_process_that_stitches_sums_up(tmp_path):
    path = tmp_path / "image.fits"
    fits.writeto(path, np.concatenate([IMAGE, IMAGE]))
    predict(normalizing, path, **ARGUMENTS, out_dir=tmp_path / "out", begin_only=True, strips=2)
    for index in range(2):
        with pytest.warns(MorpheusWarning, match="NaN spreads"):
            run_strip(tmp_path / "out", index, progress=False)
    with pytest.warns(MorpheusWarning, match=SUMMED_UP):
        hduls, _ = stitch(tmp_path / "out")
    for hdul in hduls:
        hdul.close()


@pytest.mark.parametrize("cpus", [None, pytest.param(2, marks=pytest.mark.slow)])
def test_what_exposures_have_seen_is_summed_up_once(tmp_path, cpus):
    paths = [tmp_path / name for name in ("a.fits", "b.fits", "c.fits")]
    for path, image in zip(paths, (IMAGE, IMAGE, np.ones_like(IMAGE)), strict=True):
        fits.writeto(path, image)
    with pytest.warns(MorpheusWarning) as caught:
        map_exposures(normalizing, paths, 1, 8, (5, 5), (5, 5), progress=False, cpus=cpus)
    told = [str(one.message) for one in caught if "windows (" in str(one.message)]
    assert len(told) == 1
    assert told[0].startswith(f"2 of 48 windows (4.17%) of exposure {paths[0]}")
    assert str(paths[1]) in told[0]
    assert str(paths[2]) not in told[0]


@pytest.mark.parametrize("cpus", [None, pytest.param(2, marks=pytest.mark.slow)])
def test_rows_of_catalogues(tmp_path, cpus):
    rows = Table({"x": [4.0, 15.0], "y": [3.0, 15.0]})
    arguments = (IMAGE, rows, 1, 8, (5, 5))

    def mean(batch):
        return batch[0].mean(axis=(1, 2))

    with pytest.warns(MorpheusWarning, match="not finite"):
        table = predict_catalog(mean, *arguments, work_dir=tmp_path, cpus=cpus, progress=False)
    assert list(table["status"]) == ["not finite", "ok"]
    with pytest.raises(Exception, match="NaN spreads"):
        predict_catalog(
            mean, *arguments, work_dir=tmp_path, cpus=cpus, progress=False, on_nan="raise"
        )
    with pytest.raises(InputError, match="on_nan must be one of 'warn', 'raise', got"):
        predict_catalog(mean, *arguments, on_nan="ignore")


def test_arguments():
    with pytest.raises(InputError, match="on_nan must be one of 'warn', 'raise', 'ignore'"):
        predict(per_pixel, IMAGE, **ARGUMENTS, on_nan="omit")
    with pytest.raises(InputError, match="on_nan must be one of 'warn', 'raise', 'ignore'"):
        map_exposures(per_pixel, "x.fits", 1, 8, (5, 5), on_nan="omit")


@pytest.mark.parametrize("dtype", [int, float])
@pytest.mark.parametrize("shape", [(2, 3), (2, 4, 4), (2, 4, 4, 3)])
def test_models_that_say_nothing_but_nan_of_a_window(dtype, shape):
    scores = np.ones(shape)
    scores[1] = np.nan
    with pytest.raises(ModelError, match=r"nothing else, of 1 of 2 windows .* that hold none; are"):
        NanWatch("raise").look([np.ones((2, 4, 4, 1), dtype)], scores)


def test_the_models_own_nan_in_some_pixels_is_no_spreading():
    scores = np.ones((2, 4, 4, 3))
    scores[:, 1:, 1:] = np.nan
    NanWatch("raise").look([np.ones((2, 4, 4, 1))], scores)


def test_broken_networks_are_told_of():
    with pytest.warns(MorpheusWarning, match=r"nothing else, of 8 of 8 windows|^16 of 16 windows"):
        predict(lambda batch: batch[0] * np.nan, np.ones((20, 20), "f4"), **ARGUMENTS)


def test_scores_of_whole_windows():
    with pytest.raises(ModelError, match=r"50.00% of what the model says"):
        NanWatch("raise").look([np.stack([IMAGE, IMAGE * 0 + 1])[..., np.newaxis][:, :, :]][:1],
                               np.array([[np.nan], [1.0]]))  # fmt: skip


@pytest.mark.parametrize("order", ["C", "F", "strided"])
@pytest.mark.parametrize(
    ("value", "found"), [(np.nan, True), (np.inf, False), (-np.inf, False), (3e38, False)]
)
def test_nan_is_found(order, value, found):
    array = np.ones((4, 6), np.float32, order="F" if order == "F" else "C")
    array = array[:, ::2] if order == "strided" else array
    array[1, 1] = array[2, 2] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert holds_nan(array) is found
