"""`predict` equals the brute-force loop, whatever the geometry."""

import tempfile
from fractions import Fraction
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from astropy.io import fits
from brute_force import score
from conftest import ways_of_folding
from hypothesis import given, settings
from hypothesis import strategies as st

from morpheus_core import predict
from morpheus_core.pipeline.ring import RowRing
from morpheus_core.pipeline.slabs import SlabReader

pytestmark = pytest.mark.filterwarnings("ignore::morpheus_core.MorpheusWarning")


class Oracle:
    """Predictions that depend on every pixel of a window and on the place within it."""

    def __init__(self, n_classes, dilation, offset, scale, steps, holes):
        self.n_classes, self.dilation = n_classes, dilation
        self.offset, self.scale, self.steps, self.holes = offset, scale, steps, holes

    def __call__(self, batch):
        # Integers add up to the same key whatever the memory layout of a batch.
        batch = [np.nan_to_num(windows) for windows in batch]
        keys = sum(np.int64(windows).sum(axis=(1, 2, 3)) for windows in batch)
        first = np.int64(batch[0][:, 0, 0, 0])
        height, width = (int(length * self.dilation) for length in batch[0].shape[1:3])
        place = np.arange(height * width * self.n_classes).reshape(height, width, self.n_classes)
        waves = np.sin(keys[:, None, None, None] * 0.7 + first[:, None, None, None] + place * 2.3)
        if self.steps:
            waves = np.round(waves * self.steps) / self.steps  # ties
        predictions = np.float32(self.offset + self.scale * waves)
        if self.holes:
            predictions[np.abs(np.sin(5.1 * waves + place)) < 0.03] = self.holes
        return predictions


@st.composite
def cases(draw, classes=(1, 3)):
    """Draw images, a model, a batch size and options; each number of classes is compiled anew."""
    dilation = draw(st.sampled_from([Fraction(1), Fraction(2), Fraction(1, 2), Fraction(3, 2)]))
    unit = dilation.denominator
    padding = draw(st.sampled_from([None, "reflect", "symmetric", "edge", "constant"]))

    def lengths():
        image = draw(st.integers(1, 12 // unit))
        window = draw(st.integers(1, 7 // unit if padding else min(image, 7 // unit)))
        stride = draw(st.integers(1, 9 // unit))
        return image * unit, window * unit, stride * unit

    (height, h, down), (width, w, across) = lengths(), lengths()
    map_shape = int(h * dilation), int(w * dilation)
    seed = draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    kind = draw(st.sampled_from(["none", "boolean", "weights"]))
    update_map = None
    if kind != "none":
        update_map = random.random(map_shape) * (random.random(map_shape) > 0.4)
        update_map.flat[random.integers(update_map.size)] = 1
        update_map = update_map > 0 if kind == "boolean" else update_map
    n_classes = draw(st.sampled_from(classes))
    images = []
    for dtype in draw(
        st.lists(st.sampled_from(["<f4", ">f4", ">u2", "<f8"]), min_size=1, max_size=2)
    ):
        bands = draw(st.integers(1, 3))
        images.append((random.random((height, width, bands)) * 100).astype(dtype))
    skip_blank = draw(st.booleans())
    if skip_blank:
        blank = np.s_[random.integers(height) :, random.integers(width) :]
        for image in images:
            image[blank] = np.nan if image.dtype.kind == "f" else 0
    mask = None
    if draw(st.booleans()):
        mask = np.zeros((height, width), draw(st.sampled_from([bool, ">i2", "u1"])))
        mask[random.integers(height) :, : random.integers(width + 1)] = 1
        mask[random.random(mask.shape) < 0.1] = 1
    # A leading axis of length one would be left out.
    order = draw(st.sampled_from(["last", "first"])) if height > 1 else "first"
    if order == "first":
        images = [np.moveaxis(image, -1, 0) for image in images]
    model = Oracle(
        n_classes,
        dilation,
        *draw(st.sampled_from([(0, 1), (0.999, 1e-4), (-3, 100)])),
        steps=draw(st.sampled_from([0, 2])),
        holes=draw(st.sampled_from([None, np.nan, np.inf])),
    )
    return (
        images,
        model,
        draw(st.integers(1, 30)),
        {
            "n_classes": n_classes,
            "window_shape": (h, w),
            "dilation": dilation,
            "stride": (down, across),
            "update_map": update_map,
            "edges": draw(st.sampled_from(["cover", "drop"])),
            "padding": padding,
            "nan_policy": draw(st.sampled_from(["propagate", "omit"])),
            "bands": order,
            "mask": mask,
            "skip_blank": skip_blank,
        },
    )


def predict_on_disk(model, images, **options):
    """Go from FITS files to FITS files, a row at a time."""
    with tempfile.TemporaryDirectory() as directory:
        paths = [Path(directory) / f"{index}.fits" for index in range(len(images))]
        for path, image in zip(paths, images, strict=True):
            fits.writeto(path, image)
        if options["mask"] is not None:
            fits.append(paths[0], np.asarray(options["mask"], np.int16))
            options["mask"] = f"{paths[0]}[1]"
            paths[0] = f"{paths[0]}[0]"
        hduls, arrays = predict(model, paths, out_dir=Path(directory) / "out", **options)
        arrays = [np.array(array, np.float32) for array in arrays]
        for hdul in hduls:
            hdul.close()
    return hduls, arrays


@pytest.mark.usefixtures("both_kernels")
@pytest.mark.parametrize(
    ("run", "small", "examples", "classes"),
    [
        (predict, False, 60, (1, 3)),
        (predict, True, 30, (1, 3)),
        (predict_on_disk, True, 20, (1, 3)),
        pytest.param(predict, False, 500, (1, 2, 3, 4), marks=pytest.mark.slow),
        pytest.param(predict, True, 200, (1, 2, 3, 4), marks=pytest.mark.slow),
        pytest.param(predict_on_disk, True, 100, (1, 2, 3, 4), marks=pytest.mark.slow),
    ],
)
def test_equals_brute_force(run, small, examples, classes):
    @settings(max_examples=examples)
    @given(case=cases(classes), collects=st.booleans())
    def check(case, collects):
        read_bytes = 1 if small else SlabReader._READ_BYTES
        block_values = 1 if small else RowRing._BLOCK_VALUES
        with (
            mock.patch.object(SlabReader, "_READ_BYTES", read_bytes),
            mock.patch.object(RowRing, "_BLOCK_VALUES", block_values),
            ways_of_folding(collects),
        ):
            compare(run, case)

    check()


def compare(run, case):
    images, model, batch_size, options = case
    _, (moments, votes, n) = run(
        model,
        images,
        batch_size=batch_size,
        aggregate_method=["mean_var", "rank_vote"],
        progress=False,
        **options,
    )
    mean, variance, shares, weights, visits, square = score(model, images, **options)
    weighted = options["update_map"] is not None and options["update_map"].dtype != bool

    np.testing.assert_allclose(n, weights, rtol=1e-6 if weighted else 0)
    np.testing.assert_allclose(votes, np.float32(shares), rtol=0, atol=1e-6 if weighted else 0)
    largest = np.nanmax(np.abs(mean), initial=0) if np.isfinite(mean).any() else 0
    np.testing.assert_allclose(moments[..., 0], mean, rtol=0, atol=1e-6 * largest)
    assert (np.isnan(moments[..., 1]) == np.isnan(variance)).all()
    assert not (moments[..., 1] < 0).any()
    slack = 1e-6 * variance + 4 * visits[..., None] * 2.0**-53 * square
    error = np.abs(moments[..., 1] - variance)
    assert np.all((error <= slack) | np.isnan(variance))
