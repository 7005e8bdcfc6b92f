"""Windows without a good pixel are not run, whoever runs the others."""

import numpy as np
import pytest
from astropy.io import fits

from morpheus_core import InputError, ModelError, MorpheusWarning, predict
from morpheus_core.images.stack import open_inputs
from morpheus_core.pipeline.strip import count_windows
from morpheus_core.run import Run
from morpheus_core.windows.grid import WindowGrid


class Counting:
    """Keeps the windows that it is shown."""

    def __init__(self):
        self.windows = 0

    def __call__(self, batch):
        self.windows += len(batch[0])
        return np.stack([batch[0][..., 0], 1 - batch[0][..., 0]], axis=-1)


def run(inputs, model=None, **options):
    options = {"stride": (5, 5), "aggregate_method": "mean_var", "progress": False, **options}
    hduls, arrays = predict(model or Counting(), inputs, 2, 32, (20, 20), **options)
    arrays = [np.array(array, np.float32) for array in arrays]
    for hdul in hduls:
        hdul.close()
    return arrays


@pytest.fixture
def mosaic():
    """An image whose upper right quarter alone shows something."""
    image = np.random.default_rng(0).random((400, 400), dtype=np.float32)
    image[200:] = np.nan
    image[:, :200] = np.nan
    return image


def test_three_quarters_of_a_blank_mosaic_are_not_run(mosaic):
    model, skipping = Counting(), Counting()
    every, _ = run(mosaic, model)
    some, n = run(mosaic, skipping, skip_blank=True)
    # 40 of 77 window rows and columns reach into the quarter: (200 + 20) / 5 - 4.
    assert (model.windows, skipping.windows) == (77**2, 40**2)
    np.testing.assert_array_equal(some, every)
    assert n[:180].any(axis=0).sum() == 215
    assert n[250:].max() == 0


def test_a_masked_quarter_is_not_run_and_has_no_statistics(mosaic):
    bad = np.isnan(mosaic)
    image = np.nan_to_num(mosaic)
    model = Counting()
    masked, n = run(image, model, mask=bad, fill_value=-1)
    every, n_every = run(image)
    assert model.windows == 40**2
    assert np.all(n[bad] == 0)
    assert np.all(masked[bad] == -1)
    np.testing.assert_array_equal(masked[~bad], every[~bad])
    np.testing.assert_array_equal(n[~bad], n_every[~bad])


def test_every_input_has_to_be_blank(mosaic):
    model = Counting()
    run([mosaic, np.where(np.isnan(mosaic), np.nan, 1.0)], model, skip_blank=True)
    assert model.windows == 40**2
    model = Counting()
    run([mosaic, np.ones((400, 400))], model, skip_blank=True)
    run([mosaic, np.ones((400, 400), int)], model, skip_blank=True)
    assert model.windows == 2 * 77**2


def test_nothing_is_left():
    model = Counting()
    with pytest.warns(MorpheusWarning, match="no window holds a good pixel"):
        blank, n = run(np.full((60, 60), np.nan, np.float32), model, skip_blank=True)
    with pytest.warns(MorpheusWarning, match="what is not zero is bad"):
        masked, n_masked = run(np.ones((60, 60)), model, mask=np.ones((60, 60)))
    assert model.windows == 0
    assert np.isnan(blank).all()
    assert np.isnan(masked).all()
    assert n.max() == n_masked.max() == 0


def test_strips_are_balanced_by_the_windows_that_are_left(mosaic, tmp_path, monkeypatch):
    plans = []
    monkeypatch.setattr(Run, "_compute", lambda self, plan: plans.append(plan) or 1 / 0)
    for count in (2, 3):
        with pytest.raises(ZeroDivisionError):
            run(mosaic, skip_blank=True, out_dir=tmp_path / str(count), cpus=count)
        starts = [strip.start for strip in plans[-1].strips]
        assert len(starts) == count
        # All windows are in the first 40 of 77 window rows.
        assert np.allclose(starts, [40 * k / count for k in range(count)], atol=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{"mask": "mask.fits[DQ]", "mask_bits": [4]}, {"skip_blank": True}],
)
def test_workers_skip_the_same_windows(mosaic, tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    dq = fits.ImageHDU(np.where(np.isnan(mosaic), 6, 2).astype(np.int16), name="DQ")
    fits.HDUList([fits.PrimaryHDU(), dq]).writeto("mask.fits")
    fits.writeto("image.fits", np.nan_to_num(mosaic) if "mask" in options else mosaic)
    serial = run("image.fits", **options)
    parallel = run("image.fits", out_dir="out", cpus=3, **options)
    for one, other in zip(serial, parallel, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_run_with_another_mask_is_not_resumed(mosaic, tmp_path):
    def fails(batch):
        if mosaic[100, 200] in batch[0][:, 0, 0, 0]:
            raise RuntimeError
        return Counting()(batch)

    image, mask = np.nan_to_num(mosaic), np.isnan(mosaic)
    with pytest.raises(ModelError):
        run(image, fails, mask=mask, out_dir=tmp_path)
    with pytest.raises(InputError, match="its mask is another one"):
        run(image, mask=~mask, out_dir=tmp_path, resume=True)
    with pytest.raises(InputError, match="its mask is another one"):
        run(image, out_dir=tmp_path, resume=True)
    model = Counting()
    resumed = run(image, model, mask=mask, out_dir=tmp_path, resume=True)
    assert 0 < model.windows < 40**2
    for one, other in zip(resumed, run(image, mask=mask), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_images_are_read_once_more_only_if_windows_may_be_left_out(mosaic):
    class Job:
        skip_blank = masked = False
        grid = WindowGrid((6, 8), (2, 2), (2, 2))

    with open_inputs(mosaic) as stack:
        stack.images[0].read = None
        assert count_windows(Job, stack).tolist() == [4, 4, 4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bands": "middle"}, "bands must be one of 'last', 'first', got 'middle'"),
        ({"check_wcs": True}, "check_wcs must be one of 'warn', 'error', 'ignore', got True"),
        ({"skip_blank": 1}, "skip_blank must be True or False, got 1"),
        ({"mask_bits": 3.5}, "mask_bits must be flags"),
        ({"mask_bits": [3]}, "mask_bits must be flags"),
        ({"mask_bits": 0}, "mask_bits must choose at least one of 63 bits, got 0"),
        ({"mask_bits": 4}, "mask_bits needs a mask of integers, got mask_bits=4 and no mask"),
        ({"output_dtype": "int16"}, "output_dtype must be one of float32, float64, got"),
        ({"output_dtype": None}, "output_dtype must be one of float32, float64, got None"),
        ({"class_names": ["a"]}, "class_names must be 2 strings, one per class, got"),
        ({"class_names": "ab"}, "class_names must be 2 strings"),
        ({"class_names": ["a", 1]}, "class_names must be 2 strings"),
        ({"class_names": ["a", "A"]}, "class_names must differ, also in capitals"),
        ({"class_names": ["a", "é"]}, "class_names must be printable ASCII"),
        ({"class_names": ["a", " b"]}, "class_names must be printable ASCII"),
        ({"class_names": ["a", ""]}, "class_names must be printable ASCII"),
        ({"class_names": ["a", "b" * 51]}, "class_names must have at most 50 characters"),
    ],
)
def test_arguments_that_make_no_sense(options, message):
    with pytest.raises(InputError, match=message):
        run(np.ones((40, 40)), **options)
