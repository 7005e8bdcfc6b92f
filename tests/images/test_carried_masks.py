"""Whatever carries a mask: it is honoured where `mask=` can be, else refused."""

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData, NDData
from astropy.table import Table
from astropy.utils.masked import Masked
from conftest import require

from morpheus_core import InputError, predict, predict_catalog
from morpheus_core.images.stack import open_inputs
from morpheus_core.pipeline.models import to_numpy

PIXELS = np.arange(42, dtype="f4").reshape(6, 7)
BAD = PIXELS > 39

CARRIERS = {
    "numpy.ma": np.ma.array(PIXELS, mask=BAD),
    "Masked": Masked(PIXELS, mask=BAD),
    "MaskedQuantity": Masked(PIXELS * u.adu, mask=BAD),
    "NDData": NDData(PIXELS, mask=BAD),
    "NDData of Masked": NDData(Masked(PIXELS, mask=BAD)),
    "CCDData": CCDData(PIXELS, mask=BAD, unit="adu"),
}


@pytest.mark.parametrize("source", CARRIERS.values(), ids=CARRIERS)
def test_predict_leaves_out_what_they_mark(source):
    with open_inputs(source) as stack:
        assert type(stack.images[0].read(0, 6)) is np.ndarray
        np.testing.assert_array_equal(stack.images[0].read(0, 6)[..., 0], PIXELS)
        np.testing.assert_array_equal(stack.mask.read(0, 6)[..., 0], BAD)


@pytest.mark.parametrize("source", CARRIERS.values(), ids=CARRIERS)
def test_they_are_refused_where_no_mask_is_looked_at(source):
    with pytest.raises(InputError, match=r"a mask must not have one of its own"):
        open_inputs(PIXELS, mask=source)
    with pytest.raises(InputError, match=r"images without a mask, got .* with a mask; pass its"):
        catalog(source)


def catalog(source):
    def model(batch):
        return batch[0].mean(axis=(1, 2))

    table = Table({"x": [3.0], "y": [3.0]})
    return predict_catalog(model, source, table, 1, 4, (3, 3), progress=False)


def test_a_mask_that_marks_nothing_is_no_hindrance():
    assert catalog(np.ma.array(PIXELS))["class_0"][0] == PIXELS[2:5, 2:5].mean()


@pytest.mark.parametrize("kind", [np.ma.array, Masked])
def test_slices_that_are_masked(kind):
    class Source:
        shape, dtype = PIXELS.shape, PIXELS.dtype

        def __getitem__(self, rows):
            return kind(PIXELS, mask=BAD)[rows]

    with pytest.raises(InputError, match="gives masked arrays"):
        open_inputs(Source())


@pytest.mark.parametrize("kind", [np.ma.array, Masked])
def test_masked_answers_of_a_model_are_nan(kind):
    answer = to_numpy(kind(PIXELS, mask=BAD))
    np.testing.assert_array_equal(answer, np.where(BAD, np.nan, PIXELS))


def test_flags_of_nddata_and_bits():
    flags = np.zeros(PIXELS.shape, "i4")
    flags[1, 2], flags[3, 4] = 16, 1
    source = NDData(PIXELS, mask=flags)
    for bits, marked in ((16, [[1, 2]]), (None, [[1, 2], [3, 4]])):
        mask = np.zeros(PIXELS.shape, "i4") if bits else None
        with open_inputs(source, mask=mask, mask_bits=bits) as stack:
            assert np.argwhere(stack.mask.read(0, 6)[..., 0]).tolist() == marked
    with open_inputs(source, mask_bits=16) as stack:
        assert np.argwhere(stack.mask.read(0, 6)[..., 0]).tolist() == [[1, 2]]


@pytest.mark.parametrize("source", [PIXELS, NDData(PIXELS), CARRIERS["CCDData"]])
def test_bits_without_flags(source):
    """CCDData makes booleans of whatever it is given, of which no bit can be chosen."""
    with pytest.raises(InputError, match=r"mask_bits needs a mask of integers, got mask_bits=16"):
        open_inputs(source, mask_bits=16)


@pytest.mark.slow
def test_arrays_of_xarray_with_workers(tmp_path):
    """Those in memory say that they have no graph of Dask."""
    xarray = require("xarray")
    image = xarray.DataArray(PIXELS)
    arguments = {"n_classes": 2, "batch_size": 8, "window_shape": (2, 2), "progress": False}
    serial = predict(mean, image, **arguments)[1][0]
    hduls, (votes, _) = predict(mean, image, **arguments, out_dir=tmp_path / "out", cpus=2)
    np.testing.assert_array_equal(votes, serial)
    for hdul in hduls:
        hdul.close()


def mean(batch):
    return np.concatenate([batch[0], 20 - batch[0]], axis=-1)
