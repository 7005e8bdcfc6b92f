"""Damaged files: one clear error, or the numbers that astropy reads from them."""

import signal
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from damaged_files import damaged, originals

from morpheus_core import InputError, predict
from morpheus_core.images.stack import open_inputs


def what_astropy_reads(path):
    with fits.open(path, memmap=False) as file:
        images = [hdu for hdu in file if hdu.is_image and hdu.shape]
        (hdu,) = images
        return np.squeeze(hdu.data)


def what_we_read(path):
    with open_inputs(path) as stack:
        return np.squeeze(stack.images[0].read(0, stack.shape[0]))


def count_open_files():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def outcome(path):
    """Return whether a damaged file is read, after comparing it with what astropy reads."""
    try:
        rows = what_we_read(path)
    except InputError:
        return False
    np.testing.assert_array_equal(rows, what_astropy_reads(path))
    return True


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["float", "scaled", "cube", "extensions", "tiles"])
@pytest.mark.parametrize("count", [50, pytest.param(150, marks=pytest.mark.slow)])
def test_damaged_files_are_refused_or_read_as_astropy_reads_them(tmp_path, kind, count):
    random = np.random.default_rng(list(kind.encode()))
    content = originals()[kind]
    path = tmp_path / "damaged.fits"
    signal.alarm(120)  # a file that makes reading hang
    try:
        open_files, read = None, 0
        for _ in range(count):
            path.write_bytes(damaged(content, random))
            read += outcome(path)
            run(path)
            if open_files is None:
                open_files = count_open_files()
        assert count_open_files() <= open_files
        assert count // 10 < read < count - count // 10  # both happen
    finally:
        signal.alarm(0)


def run(path):
    """Predict from a damaged file, into memory."""
    try:
        hduls, _ = predict(
            lambda batch: np.nanmean(np.float32(batch[0]), axis=-1),
            path,
            1,
            64,
            (2, 3),
            stride=(2, 3),
            aggregate_method="mean_var",
            progress=False,
        )
    except InputError:
        return
    for hdul in hduls:
        hdul.close()
