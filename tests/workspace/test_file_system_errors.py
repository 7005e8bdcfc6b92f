"""Servers that forget files, full quotas and broken disks, as fsync and close tell of them."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import morpheus_core as package
from morpheus_core import OutputError

IMAGE = np.random.default_rng(5).random((60, 30)).astype(np.float32)
OPTIONS = {
    "n_classes": 2,
    "batch_size": 9,
    "window_shape": (10, 8),
    "stride": (2, 3),
    "aggregate_method": "mean_var",
    "progress": False,
    "strips": 3,
}


def model(batch):
    return np.concatenate([batch[0], 1 - batch[0]], axis=-1)


def predict(out_dir, **options):
    hduls, _ = package.predict(model, IMAGE, out_dir=out_dir, **OPTIONS, **options)
    for hdul in hduls:
        hdul.close()
    return {path.name: fits.getdata(path).tobytes() for path in Path(out_dir).iterdir()}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return predict(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("number", [errno.ESTALE, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("name", ["fsync", "close"])
def test_errors_end_a_run_that_goes_on_right(tmp_path, expected, monkeypatch, name, number, apart):
    """The error comes once, at the first such call of a run, then at its second, and so on."""
    real, calls, failures = getattr(os, name), [], 0

    def failing(descriptor):
        place = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        real(descriptor)
        if str(tmp_path) in place and "lock" not in place:
            calls.append(place)
            if len(calls) == at:
                raise OSError(number, os.strerror(number), place)

    for at in range(1, 40, 5):
        calls.clear()
        out_dir = tmp_path / str(at)
        with monkeypatch.context() as patch:
            patch.setattr(os, name, failing)
            try:
                found = predict(out_dir, rows_apart=apart)
            except OutputError as error:
                assert os.strerror(number) in str(error)  # noqa: PT017 - some calls do not fail
                found, failures = None, failures + 1
        if found is None:
            for path in out_dir.glob("*.fits"):  # what has its name is right
                assert fits.getdata(path).tobytes() == expected[path.name]
            found = predict(out_dir, rows_apart=apart, resume=True)
        assert found == expected
        if len(calls) < at:
            break
    assert failures
