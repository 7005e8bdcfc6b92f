"""The published Morpheus network over a Hubble field gives its authors' answer."""

import sys

import numpy as np
import pytest
from astropy.io import fits

from morpheus_core import predict, update_maps

pytestmark = pytest.mark.filterwarnings("ignore:.*reached by no window:UserWarning")


@pytest.fixture
def morpheus(data, monkeypatch):
    monkeypatch.syspath_prepend(str(data / "morpheus"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    import morpheus_callable

    return morpheus_callable


def classify(model, inputs, **options):
    """Aggregate as the original does: only the inner 30 x 30 pixels of each window count."""
    inner = update_maps.centre_crop((40, 40), 5)
    return predict(
        model, inputs, 5, 217, (40, 40), update_map=inner, fill_value=0, progress=False, **options
    )[1]


@pytest.mark.slow
def test_golden_crop(data, morpheus):
    with np.load(data / "morpheus" / "golden_crop.npz") as golden:
        expected = dict(golden)
    bands = [expected[f"in_{band}"] for band in "hjvz"]
    mean_var, votes, n = classify(
        morpheus.Morpheus(), bands, aggregate_method=["mean_var", "rank_vote"]
    )
    np.testing.assert_array_equal(n, expected["out_n"])
    for k, name in enumerate(morpheus.CLASSES):
        np.testing.assert_allclose(mean_var[..., k, 0], expected[f"out_{name}_mean"], atol=2e-5)
        np.testing.assert_allclose(mean_var[..., k, 1], expected[f"out_{name}_var"], atol=2e-6)
        np.testing.assert_allclose(votes[..., k], expected[f"out_{name}"], atol=1.01 / 900)


@pytest.mark.slow
def test_published_background_of_rows_of_the_field(data, morpheus):
    first, last = 60, 160
    bands = [fits.getdata(data / "goodss" / f"{band}.fits")[first:last] for band in "hjvz"]
    votes, _ = classify(morpheus.Morpheus(backend="torch"), bands)
    published = fits.getdata(data / "goodss" / "published_background.fits")[first:last, :, 0]
    inner = slice(34, last - first - 34), slice(34, 222)  # where all windows are in the rows
    agree = np.isclose(votes[inner][..., 4], published[inner], atol=1e-3)
    assert agree.mean() >= 0.995
